/* settle.pml: a consumer takes records, settles them in any order, and dies; the poison rule.
 *
 * Invariants
 *   S1  A record that was settled, as far as a successor can see it (head beyond it, or its mark), is never handled again.
 *   S2  A successor repeats only what was in flight: handed out, and not settled.
 *   S3  Each record is counted once: at the end handled + given up = RECORDS, and head is behind the last.
 *   S4  The record that crashes its handler is given up after CRASHES crashes that it caused as the first unsettled record,
 *       and never before; no innocent record is given up.
 *   S5  A kill (SIGKILL, SIGTERM) never counts as a crash.
 *
 * Bounds: RECORDS records, WINDOW of them in flight, KILLS kills before any step; POISON = number of the record that crashes
 * its handler (0: none). CRASH_IDLE: the handler may also crash between records. DEFERRED: the handler settles during a later call, as a sink with requests under way does.
 */
#ifndef RECORDS
#define RECORDS 3
#endif
#ifndef WINDOW
#define WINDOW 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef POISON
#define POISON 0
#endif
#define CRASHES 3

byte head;                /* records settled in order; changes together with the numbers of its block */
byte handled, given_up;
bit mark[RECORDS + 1];    /* consumer_flags & SETTLED */
bit crash_mark;
byte try_pos, try_count;
byte handed;              /* by the present worker, the highest; in the slot, so that its successor can read it */

bit settled[RECORDS + 1]; /* what a successor can see as settled */
bit in_flight[RECORDS + 1];
byte times[RECORDS + 2];  /* handed to a handler */
bit done[RECORDS + 1];    /* the handler is through with it */
byte blamed;              /* crashes of the poison record while it was the first unsettled one */
byte idle_crashes;         /* CRASH_IDLE: the handler crashes while nothing is in flight */
bit kill_now, consumer_lives, finished;

inline commit_prefix() { /* one store of the word */
  d_step {
    i = head + 1;
    do
    :: i <= RECORDS && (outcome[i] != 0) && i < next ->
       if :: outcome[i] == 1 -> handled++ :: else -> given_up++ fi;
       settled[i] = 1;
       in_flight[i] = 0;
       outcome[i] = 0;
       head = i;
       i++
    :: else -> break
    od;
    i = 0
  }
}

inline settle(r, how) {
  d_step { assert(outcome[r] == 0); outcome[r] = how; done[r] = 1 }
#ifdef HEAD_OVER_ALL
  d_step { /* the mutant: head simply follows what was settled last */
    i = head + 1;
    do
    :: i <= r ->
       if :: how == 1 -> handled++ :: else -> given_up++ fi;
       outcome[i] = 0; settled[i] = 1; in_flight[i] = 0; i++
    :: else -> break
    od;
    if :: head < r -> head = r :: else -> skip fi;
    i = 0
  }
#else
  if
  :: r == head + 1 -> commit_prefix()
  :: else ->
#ifdef NO_MARK
     settled[r] = 1
#else
     d_step { mark[r] = how; settled[r] = 1; in_flight[r] = 0 }
#endif
  fi
#endif
}

inline hand_out(r) {
  atomic {
    assert(!settled[r]);                   /* S1 */
    assert(times[r] == 0 || in_flight[r]); /* S2 */
    times[r] = (times[r] < 10 -> times[r] + 1 : 10);
    in_flight[r] = 1;
    out[r] = 1;
    if :: handed < r -> handed = r :: else fi
  }
}

#ifdef BLAME_UNHANDED
#define TO_BLAME true
#else
#define TO_BLAME (handed > head)
#endif

proctype consumer() {
  byte outcome[RECORDS + 1];
  bit out[RECORDS + 1];
  byte next, careful, i, r;
  {
    atomic { next = head + 1; careful = 0; consumer_lives = 1 }
    if
    :: crash_mark -> crash_mark = 0;
       if
       :: !TO_BLAME -> skip /* the dead worker had not handed it out */
#ifdef COUNT_ANY
       :: TO_BLAME -> atomic { try_pos = head + 1; try_count++ }
#else
       :: TO_BLAME && try_pos == head + 1 -> try_count++
       :: TO_BLAME && try_pos != head + 1 -> atomic { try_pos = head + 1; try_count = 1 }
#endif
       fi;
       handed = 0;
       careful = head + WINDOW + 1;
       if
       :: try_pos == head + 1 && try_count >= CRASHES && head < RECORDS ->
          atomic {
            assert(head + 1 == POISON && blamed >= CRASHES); /* S4 */
            next = head + 2
          }
          settle(head + 1, 2)
       :: else
       fi
    :: else ->
       handed = 0;
#ifndef FORGET_CARE
       if
       :: try_count > 0 && try_pos == head + 1 -> careful = head + WINDOW + 1 /* a kill does not end the suspicion */
       :: else
       fi
#endif
    fi;
    do
    :: /* step over what a predecessor settled out of order */
       atomic { next <= RECORDS && mark[next] -> outcome[next] = mark[next]; next++ }
       commit_prefix()
    :: atomic { next <= RECORDS && !mark[next] &&
         (next - head <= WINDOW) &&
#ifdef CARELESS
         true ->
#else
         (next > careful || next == head + 1) ->
#endif
         r = next; next++ }
       hand_out(r);
       if
       :: r == POISON ->
          d_step { if :: r == head + 1 -> blamed++ :: else -> skip fi; crash_mark = 1; kill_now = 1 }
       :: else
       fi;
#ifndef DEFERRED
       atomic { out[r] = 0 }
       settle(r, 1);
#endif
       r = 0
#ifdef DEFERRED
    :: atomic { r == 0 && next > head + 1 && out[head + 1] -> out[head + 1] = 0; r = head + 1 }
       settle(r, 1);
       r = 0
    :: atomic { r == 0 && next > head + 2 && head + 2 <= RECORDS && out[head + 2] -> out[head + 2] = 0; r = head + 2 }
       settle(r, 1);
       r = 0
#endif
#ifdef CRASH_IDLE
    :: d_step { next == head + 1 && idle_crashes < CRASHES -> idle_crashes++; crash_mark = 1; kill_now = 1 }
#endif
    :: head == RECORDS -> atomic { finished = 1; break }
    od
  } unless { kill_now }
  consumer_lives = 0
}

active proctype kernel() { /* a spare takes over as soon as the lock is free */
  do
  :: atomic { kill_now && !consumer_lives -> kill_now = 0; run consumer() }
  :: finished -> break
  od
}

#if KILLS > 0
active proctype killer() {
  byte n;
  do
  :: atomic { n < KILLS && consumer_lives && !kill_now && !finished -> kill_now = 1; n++ }
#ifdef KILL_COUNTS
     crash_mark = 1
#endif
  :: finished || n == KILLS -> break
  od
}
#endif

active proctype at_the_end() {
  timeout ->
  assert(finished && head == RECORDS && handled + given_up == RECORDS); /* S3 */
  assert(done[1] && done[RECORDS - 1] && done[RECORDS]); /* S3 */
  assert(given_up == (POISON != 0)) /* S4 */
}

init { atomic { run consumer() } }
