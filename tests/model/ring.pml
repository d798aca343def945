/* ring.pml: put, take and seal of one lane, with rewind, the count bound, and a kill of either side at any step.
 *
 * Invariants
 *   R1  The position in a word and the numbers in the block that it names belong together, at every moment: a successor
 *       of a killed process finds right numbers, and so does an onlooker who read the same word twice.
 *   R2  What is taken at a position is what was published at that position, whatever was written, rewound or killed.
 *   R3  put answers True <=> the record is delivered; False <=> nobody ever sees it. (A killed put gave no answer.)
 *   R4  At the end, everything that was published has been taken, once each.
 *   R5  tail - taken never exceeds the bound, and head <= taken <= tail. (taken is written before head: between a kill of
 *       the consumer there and its successor's next commit, tail - head may exceed the bound by what that commit held.)
 *   R6  A put is refused for want of room only if something was in the ring, or on its way out, when it looked.
 *
 * Bounds: records of one unit, CAP of them; PUTS attempts; one kill of the producer and one of the consumer, a successor
 * for each; a commit of head covers one or more records.
 */
#ifndef CAP
#define CAP 2
#endif
#ifndef PUTS
#define PUTS 3
#endif
#ifndef LIMIT
#define LIMIT CAP
#endif

#define TAIL 0   /* position * 4 + SEAL * 2 + PARITY */
#define TBLK 1   /* two blocks of one number: accepted */
#define BASE 3
#define HEAD 4
#define HBLK 5
#define TAKEN 7
#define STATE 8  /* 0 running, 1 draining */
#define DATA 9
#define CELLS (DATA + CAP)
#define BUFFERS 4

#include "memory.h"

#define POS(w) ((w) >> 2)
#define PARITY(w) ((w) & 1)
#define NEXT(w, pos) ((pos) * 4 + 1 - PARITY(w))
#define SEAL 2

#define NONE 0
#define TRUE_ 1
#define FALSE_ 2

bit dead[BUFFERS];
bit drained_state, consumer_idle, finished;
byte attempts;
byte answer[PUTS + 1];   /* by attempt, 1.. */
byte published_at[PUTS]; /* which attempt's record was published at a position; 0 = none */
byte taken_n;

#ifdef ONE_BLOCK
#define OTHER(w) PARITY(w)
#else
#define OTHER(w) (1 - PARITY(w))
#endif
#ifdef SEPCOUNT
#define BLOCK(w) 0
#define NEXT_BLOCK(w) 0
#else
#define BLOCK(w) PARITY(w)
#define NEXT_BLOCK(w) OTHER(w)
#endif

#define PUBLISHED done = 1; published_at[pos] = id; word = NEXT(word, pos + 1); pos++; accepted++

/* One access to shared memory in each step; what is private goes along with it. */
proctype producer(byte me) {
  byte word, pos, base, head, taken, accepted, id;
  bit done, must_fit;
  {
    atomic {
      word = mem[TAIL];
      pos = POS(word);
      accepted = LOAD(me, TBLK + BLOCK(word));
      base = LOAD(me, BASE);
      head = POS(mem[HEAD]);
      taken = LOAD(me, TAKEN);
      assert(accepted == pos) /* R1 */
    }
    do
    :: atomic {
         attempts < PUTS -> attempts++; id = attempts; done = 0; must_fit = 0;
         if :: LOAD(me, STATE) != 0 -> goto answered /* relaxed: only the early way out */ :: else fi
       }
       if
       :: atomic {
            head = POS(mem[HEAD]);
            must_fit = (consumer_idle && head == pos && DRAINED(2) && DRAINED(3));
          }
          atomic {
            taken = LOAD(me, TAKEN);
            if :: pos + 1 - head > CAP || accepted - taken >= LIMIT -> assert(!must_fit); /* R6 */ goto answered :: else fi;
            must_fit = 0
          }
          if
#ifdef REWIND_UNREAD
          :: atomic { pos - head <= 1 -> base = pos; store_relaxed(me, BASE, base) }
#else
          :: atomic { pos == head -> base = pos; store_relaxed(me, BASE, base) }
#endif
          :: pos != head
          fi
       :: atomic { pos + 1 - head <= CAP && accepted - taken < LIMIT -> skip } /* room, and no 64 KiB border */
       fi;
       store_relaxed(me, DATA + (pos - base) % CAP, id);
       store_release(me, TBLK + NEXT_BLOCK(word), accepted + 1);
#ifdef PUBLISH_RELAXED
       atomic { store_relaxed(me, TAIL, NEXT(word, pos + 1)); PUBLISHED }
#else
#ifdef PUBLISH_RELEASE
       atomic { store_release(me, TAIL, NEXT(word, pos + 1)); PUBLISHED }
#else
       atomic {
         cas_seq(me, TAIL, word, NEXT(word, pos + 1), done);
         if :: done -> PUBLISHED :: else fi
       }
#endif
#endif
answered:
       atomic { answer[id] = (done -> TRUE_ : FALSE_); id = 0 }
    :: atomic { attempts == PUTS -> finished = 1; break }
    od
  } unless { dead[me] }
  if
  :: atomic { me == 0 && GONE(0) -> run producer(1) }
  :: me == 1 || (!dead[0] && attempts == PUTS)
  fi
}

proctype consumer(byte me) {
  byte word, cur, end, base, got, state;
  {
    atomic { word = mem[HEAD]; cur = POS(word); assert(LOAD(me, HBLK + PARITY(word)) == cur) } /* R1 */
    do
    :: /* Idle until there is something to do: otherwise the model would spin. */
       atomic { consumer_idle = (POS(mem[TAIL]) == cur) }
       atomic { POS(mem[TAIL]) != cur || mem[STATE] != 0 -> consumer_idle = 0; state = mem[STATE] }
#ifdef BASE_FIRST
       base = LOAD(me, BASE);
#endif
       if
#if defined(NOSEAL) || defined(WATCHER_RING)
       :: state != 0 -> end = POS(mem[TAIL])
#else
       :: d_step { state != 0 && DRAINED(me) -> mem[TAIL] = mem[TAIL] | SEAL; end = POS(mem[TAIL]) }
#endif
       :: state == 0 -> end = POS(mem[TAIL])
       fi;
#ifndef BASE_FIRST
       base = LOAD(me, BASE);
#endif
       do
       :: cur < end ->
#ifdef HEAD_EARLY
          store_release(me, HBLK + OTHER(word), cur + 1);
          store_relaxed(me, TAKEN, cur + 1);
          atomic { store_seq(me, HEAD, NEXT(word, cur + 1)); word = NEXT(word, cur + 1) }
#endif
          atomic {
            got = LOAD(me, DATA + (cur - base) % CAP);
            assert(got == published_at[cur] && got != 0); /* R2 */
            cur++;
            got = 0
          }
       :: cur > POS(word) || cur == end -> break /* some of them, or all */
       od;
       if
       :: cur > POS(word) ->
          store_release(me, HBLK + OTHER(word), cur);
#ifndef TAKEN_LATE
          store_relaxed(me, TAKEN, cur);
#endif
          atomic { store_seq(me, HEAD, NEXT(word, cur)); word = NEXT(word, cur) }
#ifdef TAKEN_LATE
          store_relaxed(me, TAKEN, cur);
#endif
       :: else
       fi;
       atomic {
         base = 0;
         if
         :: state != 0 && cur == end -> drained_state = 1; taken_n = cur; break
         :: else -> end = 0; state = 0
         fi
       }
    od
  } unless { dead[me] }
  if
  :: atomic { me == 2 && GONE(2) && !drained_state -> consumer_idle = 0; run consumer(3) }
  :: me == 3 || drained_state
  fi
}

/* shutdown(), at any moment */
#ifdef WATCHER_RING
/* One plain writer, no seal: PUBLISH_RELEASE is enough for the records; seq_cst is for the doorbell. */
active proctype shutdown() { atomic { attempts == PUTS && finished && DRAINED(0) && DRAINED(1) -> mem[STATE] = 1 } }
#else
active proctype shutdown() { mem[STATE] = 1 }
#endif

/* A kill comes before any step, or after the last one. */
#ifdef KILL_PRODUCER
active proctype kill_producer() { dead[0] = 1 }
#endif
#ifdef KILL_CONSUMER
active proctype kill_consumer() { dead[2] = 1 }
#endif

/* In every state that memory is ever in. */
active proctype invariant() {
end:
  if
#ifndef SEPCOUNT
  :: mem[TBLK + PARITY(mem[TAIL])] != POS(mem[TAIL]) -> assert(false) /* R1 */
#endif
  :: mem[HBLK + PARITY(mem[HEAD])] != POS(mem[HEAD]) -> assert(false) /* R1 */
  :: POS(mem[TAIL]) > mem[TAKEN] + LIMIT -> assert(false) /* R5 */
#ifdef STRICT_LIMIT
  :: POS(mem[TAIL]) > POS(mem[HEAD]) + LIMIT -> assert(false) /* R5, more than it promises */
#endif
#ifndef TAKEN_LATE
  :: mem[TAKEN] < POS(mem[HEAD]) -> assert(false) /* R5 */
#endif
  :: mem[TAKEN] > POS(mem[TAIL]) -> assert(false) /* R5 */
  fi
}

#ifdef ONLOOKER
active proctype onlooker() {
  byte w, n, again;
  w = mem[TAIL];
  n = mem[TBLK + BLOCK(w)];
#ifdef LOOK_ONCE
  assert(n == POS(w)) /* R1 */
#else
  again = mem[TAIL];
  assert(w != again || n == POS(w)) /* R1 */
#endif
}
#endif

/* When nothing can happen any more. */
active proctype at_the_end() {
  byte i, p;
  timeout ->
  d_step {
    assert(drained_state && taken_n == POS(mem[TAIL])); /* R4 */
    i = 1;
    do
    :: i <= PUTS ->
       p = 0;
       do
       :: p < PUTS && published_at[p] != i -> p++
       :: else -> break
       od;
       assert(answer[i] != TRUE_ || p < taken_n); /* R3 */
       assert(answer[i] != FALSE_ || p == PUTS); /* R3 */
       i++
    :: else -> break
    od
  }
}

init { atomic { run producer(0); run consumer(2) } }
