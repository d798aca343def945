/* room.pml: policy WAIT, both ways. A producer waits for room in its lane, the distributor for room in a ring, the consumer
 * for records; each sleeps on its own bell, and each is woken by a want_room flag or by news.
 *
 * Invariants
 *   M1  When nothing moves any more, nobody sleeps while what it waits for is there: no time-out is modelled.
 *   M2  Then every record has been taken, or the watch was stopped; a stopped watch holds nobody up.
 *   M3  The head of the lane has moved over everything then: the producer that waited got all its records in.
 *
 * Who changes the slot's state, or the header's, rings the distributor afterwards; the distributor's ready() must read that
 * state with a seq_cst load. An acquire load may pass an earlier seq_cst store or RMW on aarch64 (LDAPR): STATE_ACQUIRE.
 *
 * Bounds: RECORDS records, a lane and a ring of one record each, one stop of the watch at any moment.
 */
#ifndef RECORDS
#define RECORDS 3
#endif

#define LTAIL 0
#define LHEAD 1
#define RTAIL 2
#define RHEAD 3
#define LWANT 4
#define RWANT 5
#define STATE 6 /* 0 active, 1 stopping */
#define BELL 7  /* of producer, distributor, consumer */
#define CELLS 10
#define BUFFERS 4

#define PRODUCER 0
#define DISTRIBUTOR 1
#define CONSUMER 2
#define STOPPER 3

#include "memory.h"

bit in_futex[3];
bit done[3];

inline ring_bell(p, whose) {
  if
  :: LOAD(p, BELL + whose) & 1 ->
     d_step { DRAINED(p); mem[BELL + whose] = (mem[BELL + whose] + 2) % 64; w = mem[BELL + whose] }
     d_step { in_futex[whose] = 0 }
     d_step { if :: mem[BELL + whose] == w -> mem[BELL + whose] = w & 254 :: else -> skip fi; w = 0 }
  :: else
  fi
}

/* One sleeper on each word, and nobody but it starts a sleep: its CAS loop is one step here. */
inline set_sleeping(p) {
  d_step { DRAINED(p); mem[BELL + p] = ((((mem[BELL + p] >> 1) + 1) << 1) | 1) % 64; w = mem[BELL + p] }
}

inline futex_wait(p) {
  d_step { DRAINED(p); in_futex[p] = (mem[BELL + p] == w); w = 0 }
  !in_futex[p]
}

inline awake(p) { d_step { DRAINED(p); mem[BELL + p] = mem[BELL + p] & 254; w = 0 } }

proctype producer() {
  byte k, before, w;
  do
  :: k < RECORDS ->
     before = LOAD(PRODUCER, LHEAD); /* before the attempt */
     if
     :: k - LOAD(PRODUCER, LHEAD) < 1 ->
        atomic { store_seq(PRODUCER, LTAIL, k + 1); k++ }
        ring_bell(PRODUCER, DISTRIBUTOR)
     :: else ->
#ifdef WANT_AFTER_LOOK
        set_sleeping(PRODUCER);
        if
        :: LOAD(PRODUCER, LHEAD) == before -> store_seq(PRODUCER, LWANT, 1); futex_wait(PRODUCER)
        :: else
        fi;
#else
#ifdef WANT_RELAXED /* and nothing behind it that would drain the buffer before the look */
        d_step { mem[BELL + PRODUCER] = ((((mem[BELL + PRODUCER] >> 1) + 1) << 1) | 1) % 64; w = mem[BELL + PRODUCER] }
        store_relaxed(PRODUCER, LWANT, 1);
#else
        store_seq(PRODUCER, LWANT, 1);
        set_sleeping(PRODUCER);
#endif
        if
        :: LOAD(PRODUCER, LHEAD) == before -> futex_wait(PRODUCER)
        :: else
        fi;
#endif
        awake(PRODUCER);
        store_relaxed(PRODUCER, LWANT, 0)
     fi
  :: k == RECORDS -> break
  od;
  done[PRODUCER] = 1
}

/* Decides record k for the one ring, then moves the lane's head over it. */
proctype distributor() {
  byte k, w, t;
  bit early, go;
  do
  :: k < RECORDS ->
     if
     :: LOAD(DISTRIBUTOR, LTAIL) == k -> /* nothing: sleep for news */
        set_sleeping(DISTRIBUTOR);
        if
        :: LOAD(DISTRIBUTOR, LTAIL) == k -> futex_wait(DISTRIBUTOR)
        :: else
        fi;
        awake(DISTRIBUTOR)
     :: LOAD(DISTRIBUTOR, LTAIL) > k ->
        do
        :: t - LOAD(DISTRIBUTOR, RHEAD) < 1 -> /* room: copy and commit */
           atomic { store_seq(DISTRIBUTOR, RTAIL, t + 1); t++ }
           ring_bell(DISTRIBUTOR, CONSUMER);
           break
        :: LOAD(DISTRIBUTOR, STATE) == 1 -> break /* may not wait: counted as dropped */
        :: else ->
           store_seq(DISTRIBUTOR, RWANT, 1);
#ifdef STATE_ACQUIRE
           early = (LOAD(DISTRIBUTOR, STATE) == 1); /* passes the seq_cst RMW below */
           set_sleeping(DISTRIBUTOR);
           go = early;
#else
           set_sleeping(DISTRIBUTOR);
           go = (LOAD(DISTRIBUTOR, STATE) == 1);
#endif
           if
           :: !go -> go = (t - LOAD(DISTRIBUTOR, RHEAD) < 1)
           :: else
           fi;
           if
           :: !go -> futex_wait(DISTRIBUTOR)
           :: else
           fi;
           awake(DISTRIBUTOR);
           store_relaxed(DISTRIBUTOR, RWANT, 0);
           atomic { early = 0; go = 0 }
        od;
        atomic { k++; }
#ifdef HEAD_RELAXED
        store_release(DISTRIBUTOR, LHEAD, k);
#else
        store_seq(DISTRIBUTOR, LHEAD, k);
#endif
        if
        :: LOAD(DISTRIBUTOR, LWANT) -> ring_bell(DISTRIBUTOR, PRODUCER)
        :: else
        fi
     fi
  :: k == RECORDS -> break
  od;
  done[DISTRIBUTOR] = 1
}

proctype consumer() {
  byte h, w;
  do
  :: LOAD(CONSUMER, RTAIL) != h ->
     h++;
#ifdef HEAD_RELAXED
     store_release(CONSUMER, RHEAD, h);
#else
     store_seq(CONSUMER, RHEAD, h);
#endif
     if
     :: LOAD(CONSUMER, RWANT) -> ring_bell(CONSUMER, DISTRIBUTOR)
     :: else
     fi
  :: LOAD(CONSUMER, RTAIL) == h ->
     set_sleeping(CONSUMER);
     if
     :: LOAD(CONSUMER, RTAIL) == h -> futex_wait(CONSUMER)
     :: else
     fi;
     awake(CONSUMER)
#ifdef STOP
  :: true -> break /* its process dies, or never reads again; somebody stops the watch */
#endif
  od;
#ifdef STOP
  store_seq(STOPPER, STATE, 1);
#ifndef STOP_WITHOUT_BELL
  ring_bell(STOPPER, DISTRIBUTOR)
#endif
#endif
}

active proctype at_the_end() {
  timeout ->
  d_step {
#ifdef STOP
    assert(mem[STATE] == 1 || mem[RHEAD] == RECORDS);
#else
    assert(mem[RHEAD] == RECORDS); /* M2 */
#endif
    assert(done[PRODUCER] && done[DISTRIBUTOR] && mem[LHEAD] == RECORDS) /* M1, M3 */
  }
}

init { atomic { run producer(); run distributor(); run consumer() } }
