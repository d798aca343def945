/* watch.pml: registration and end of a watch by time stamps, while events are put and the distributor is killed.
 *
 * Invariants
 *   W1  A record whose put returned before watch() was called is never delivered to that watch (B2, B3).
 *   W2  A record whose put began after watch() returned, and returned before stop() was called, is delivered: the consumer
 *       has read it when it is told the end.
 *   W3  A record whose put began after stop() returned is never delivered.
 *   W4  A stopped watch is told its end: STOPPING becomes CLOSED whatever dies.
 *   W5  No record is delivered twice.
 *
 * Bounds: one watch, PRODUCERS producers with PUTS records each, one kill of the distributor before any step, one record in
 * a batch, a ring with room for all. Stamps are a counter as in rounds.pml.
 */
#ifndef PUTS
#define PUTS 2
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#define N (PRODUCERS * PUTS)
#define ID(p, k) ((p) * PUTS + (k))
#define BIT(id) (1 << (id))

mtype = { CLAIMED, REGISTERED, ACTIVE, STOPPING, CLOSED };

mtype state = CLAIMED;
byte clock = 1;
byte tail[PRODUCERS], head[PRODUCERS], ts[N];
byte start_ts, stop_ts;
byte decided[PRODUCERS];    /* in the block of the ring's tail, changes together with ring_tail */
byte in_ring, ring_tail; /* the records as a set */

byte returned;              /* sets of puts */
byte pre, must, late;       /* before watch(); between; after stop() */
byte begun_in_watch;
bit watch_returned, stop_returned, stop_called, told_end;
byte got; /* by the consumer, with CONSUMER */
bit dead;

#define READ_CLOCK(into) into = clock; clock++

/* A call begins at the latest moment it can, and returns at the earliest: what holds then holds for all others. */
proctype producer(byte me) {
  byte k, stamp;
  do
  :: d_step {
       k < PUTS ->
       if :: watch_returned -> begun_in_watch = begun_in_watch | BIT(ID(me, k)) :: else -> skip fi;
       if :: stop_returned -> late = late | BIT(ID(me, k)) :: else -> skip fi;
       READ_CLOCK(stamp)
     }
     d_step {
       ts[ID(me, k)] = stamp;
       tail[me]++;
       returned = returned | BIT(ID(me, k));
       if :: !stop_called -> must = must | (begun_in_watch & BIT(ID(me, k))) :: else -> skip fi;
       stamp = 0;
       k++
     }
  :: k == PUTS -> break
  od
}

inline to_stopping() { if :: state == REGISTERED || state == ACTIVE -> state = STOPPING :: else -> skip fi }

proctype watching() {
#ifdef START_LATE
  d_step { pre = returned; state = REGISTERED }
  d_step { READ_CLOCK(start_ts); watch_returned = 1 }
#else
  d_step { pre = returned; READ_CLOCK(start_ts) }
  d_step { state = REGISTERED; watch_returned = 1 }
#endif
#ifdef STOP_TS_LATE
  d_step { stop_called = 1; to_stopping() }
  d_step { READ_CLOCK(stop_ts); stop_returned = 1 }
#else
  d_step { stop_called = 1; READ_CLOCK(stop_ts) }
  d_step { to_stopping(); stop_returned = 1 }
#endif
}

#ifdef CONSUMER
proctype consumer() {
  byte t, spurious;
  mtype s;
  do
  :: atomic { spurious < 2 -> spurious++ } /* the futex wait may return for no reason */
     goto look
  :: got != (1 << ring_tail) - 1 || state == CLOSED ->
look:
#ifdef TAIL_BEFORE_STATE
     t = ring_tail;
#else
     s = state;
#endif
     atomic {
#ifdef TAIL_BEFORE_STATE
       s = state;
#else
       t = ring_tail;
#endif
       if
       :: got != (1 << t) - 1 -> got = (1 << t) - 1 /* reads all that is there; in_ring is checked at its commit */
       :: got == (1 << t) - 1 && s == CLOSED -> told_end = 1; assert(t == ring_tail); break /* W2 */
       :: else
       fi;
       s = 0;
       t = 0
     }
  od
}
#endif

inline close() {
  atomic {
    assert((must & ~in_ring) == 0); /* W2 */
    state = CLOSED;
#ifndef CONSUMER
    told_end = 1;
#endif
    open = 0
  }
}

inline look_at_slot() {
  atomic {
    s = state;
    if
    :: s == REGISTERED ->
       mine[0] = cur[0];
#if PRODUCERS > 1
       mine[1] = cur[1];
#endif
       open = 1;
       from = start_ts
    :: s == STOPPING && !open -> /* stopped before it was ever seen: nothing is decided but what a predecessor did */
       open = 1;
       from = start_ts;
       mine[0] = decided[0];
#if PRODUCERS > 1
       mine[1] = decided[1];
#endif
    :: else
    fi
  }
  if
  :: s == REGISTERED ->
     atomic {
       decided[0] = mine[0];
#if PRODUCERS > 1
       decided[1] = mine[1]
#endif
     }
#ifdef ACTIVE_BY_STORE
     atomic { state = ACTIVE; s = ACTIVE }
#else
     atomic { if :: state == REGISTERED -> state = ACTIVE :: else fi; s = state }
#endif
  :: else
  fi;
  atomic { stopping = (s == STOPPING); until = (stopping -> stop_ts : 255); s = 0 }
}

#if PRODUCERS > 1
#define UNREAD (head[0] < tail[0] || head[1] < tail[1])
#else
#define UNREAD (head[0] < tail[0])
#endif

inline next_record() { /* the smallest stamp before T0 */
    lane = 255;
    if :: cur[0] < end[0] && ts[ID(0, cur[0])] < t0 -> lane = 0 :: else fi;
#if PRODUCERS > 1
    if
    :: cur[1] < end[1] && ts[ID(1, cur[1])] < t0 && (lane == 255 || ts[ID(1, cur[1])] < ts[ID(0, cur[0])]) -> lane = 1
    :: else
    fi
#endif
}

inline commit_ring() {
    id = ID(lane, cur[lane]);
    if
#ifdef NO_START_FILTER
    :: ts[id] < until ->
#else
    :: ts[id] >= from && ts[id] < until ->
#endif
       assert(!(pre & BIT(id)));     /* W1 */
       assert(!(late & BIT(id)));    /* W3 */
       assert(!(in_ring & BIT(id))); /* W5 */
       in_ring = in_ring | BIT(id);
       ring_tail++
    :: else
    fi;
    decided[lane] = cur[lane] + 1;
    mine[lane] = cur[lane] + 1
}

inline round() {
#ifdef SLOTS_BEFORE_T0
  look_at_slot();
  atomic { READ_CLOCK(t0) }
#else
  atomic { READ_CLOCK(t0) }
  look_at_slot();
#endif
  end[0] = tail[0];
#if PRODUCERS > 1
  end[1] = tail[1];
#endif
#ifdef CLOSE_BEFORE_COMMIT
  if :: stopping && t0 > until -> close() :: else fi;
#endif
  do
  :: atomic {
       next_record();
       if
       :: lane == 255 -> break
       :: lane != 255 && open && mine[lane] <= cur[lane] -> commit_ring() /* its head follows in a step of its own */
       :: else
       fi
     }
     atomic { head[lane] = cur[lane] + 1; cur[lane]++; lane = 0; id = 0 }
  od;
#ifdef CLOSE_EARLY
  if :: stopping -> close() :: else fi;
#else
  if :: stopping && t0 > until && state == STOPPING -> close() :: else fi;
#endif
  atomic { s = 0; t0 = 0; until = 0; stopping = 0; end[0] = 0; lane = 0; id = 0 }
}

proctype distributor(bit first) {
  byte cur[PRODUCERS], end[PRODUCERS], mine[PRODUCERS];
  byte t0, from, until, lane, id;
  mtype s;
  bit open, stopping;
  {
    atomic { first || dead; /* LOCK_DIST */
      cur[0] = head[0];
      mine[0] = decided[0];
#if PRODUCERS > 1
      cur[1] = head[1];
      mine[1] = decided[1];
#endif
      open = (state == ACTIVE || state == STOPPING);
      from = start_ts
    }
    do
    :: UNREAD || state == REGISTERED || state == STOPPING -> round()
    od
  } unless { first && dead }
}

#ifndef NO_KILL
active proctype kill_distributor() { dead = 1 }
#endif

active proctype at_the_end() { timeout -> assert(told_end) } /* W4 */

init {
  atomic {
    run producer(0);
#if PRODUCERS > 1
    run producer(1);
#endif
    run watching();
#ifdef CONSUMER
    run consumer();
#endif
    run distributor(1);
#ifndef NO_KILL
    run distributor(0)
#endif
  }
}
