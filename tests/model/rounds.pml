/* rounds.pml: rounds of the distributor over two lanes and two rings with policy DROP, killed before any step, and restarted.
 *
 * Invariants
 *   O1  If put A returned before put B began, every ring decides A before B.
 *   O2  What a ring has decided about a record (copied, dropped) is decided once: no duplicate, and no drop comes back.
 *   O3  Head moves only over what every ring has decided: nothing is lost.
 *   O4  At the end each ring has decided every published record, and its numbers say so.
 *   O5  Two distributors never work at a time: DIST is a kernel lock.
 *
 * What is private to the distributor is one step; every look at shared memory and every commit is a step of its own.
 * Committed words are seq_cst stores, and a successor begins after the kernel saw the death, so no store buffer matters
 * here (ring.pml has them). Stamps are a counter: each look at the clock is later than the last one (a tick finer than a
 * put), or, with COARSE, the same until the clock ticks.
 *
 * Bounds: two producers with PUTS (the second: PUTS1) records each, batches of up to BATCH records, rings of ROOM records whose consumers may
 * make room at any moment, KILLS kills of the distributor.
 */
#ifndef PUTS
#define PUTS 2
#endif
#ifndef BATCH
#define BATCH 2
#endif
#ifndef ROOM
#define ROOM 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef TICKS
#define TICKS 4
#endif
#ifndef PUTS1
#define PUTS1 PUTS
#endif
#define LANES 2
#define RINGS 2
#define N (LANES * PUTS)
#define ID(lane, k) ((lane) * PUTS + (k))
#define BIT(id) (1 << (id))
#define NONE 255

byte clock = 1;
byte tail[LANES], head[LANES];
byte ts[N];                  /* in the records */
byte returned, before[N];    /* sets of puts: those that have returned; those that had when a put began */

typedef Block { byte pos[LANES]; byte forwarded; byte dropped }
typedef Ring { Block blk[2]; bit parity; byte head; byte has }
Ring ring[RINGS];            /* has: set of records copied */
byte decided[RINGS];         /* set of records committed as copied or dropped */
byte copied_last[RINGS * LANES]; /* for LASTPOS: position behind the last record of a lane that was copied */
bit dead[3];
byte working;
byte lock = NONE;            /* LOCK_DIST */

#ifdef COARSE
#define READ_CLOCK(into) into = clock
#else
#define READ_CLOCK(into) into = clock; clock++
#endif

#define MINE (me == 0 -> PUTS : PUTS1)

proctype producer(byte me) {
  byte k, stamp;
  do
  :: k < MINE ->
     /* Begins at the latest moment it can and returns at the earliest: what holds then holds for all others. The stamp is
      * read after room was found, before the publication. */
     atomic { before[ID(me, k)] = returned; READ_CLOCK(stamp) }
     atomic {
       ts[ID(me, k)] = stamp;
       tail[me]++;
#if defined(COARSE) && !defined(NO_COMMIT_WAIT)
       skip
     }
     atomic {
       clock != stamp;
#endif
       returned = returned | BIT(ID(me, k));
       k++;
       stamp = 0
     }
  :: k == MINE -> break
  od
}

#ifdef COARSE
active proctype ticker() {
  do
  :: clock < TICKS + 2 -> clock++
  :: else -> break
  od
}
#endif

inline pick() { /* merge: the smallest (ts, lane) stamped before T0 */
  pick_lane = NONE;
  i = 0;
  do
  :: i < LANES ->
     if
#ifdef NOT_STRICT
     :: cur[i] < end[i] && ts[ID(i, cur[i])] <= t0 &&
#else
     :: cur[i] < end[i] && ts[ID(i, cur[i])] < t0 &&
#endif
#ifdef NO_MERGE
        pick_lane == NONE -> pick_lane = i
#else
        (pick_lane == NONE || ts[ID(i, cur[i])] < ts[ID(pick_lane, cur[pick_lane])]) -> pick_lane = i
#endif
     :: else -> skip
     fi;
     i++
  :: else -> break
  od
}

inline fill_batch() {
  atomic {
    n = 0;
    do
    :: n < BATCH ->
       pick();
       if
       :: pick_lane == NONE -> break
       :: else -> batch[n] = pick_lane; batch_pos[n] = cur[pick_lane]; cur[pick_lane]++; n++
       fi
    :: else -> break
    od;
    pick_lane = 0;
    i = 0
  }
}

inline decide(w) { /* reads the consumer's head once for the batch; a later look could only find more room */
  d_step {
    room = ROOM - (out[w].forwarded - ring[w].head);
    new[w] = 0;
    copy[w] = 0;
    i = 0;
    do
    :: i < n ->
       id = ID(batch[i], batch_pos[i]);
       if
       :: batch_pos[i] < out[w].pos[batch[i]] -> skip /* decided before a crash */
       :: else ->
          assert((before[id] & ~(decided[w] | new[w])) == 0); /* O1 */
          if
          :: room > 0 -> copy[w] = copy[w] | BIT(id); out[w].forwarded++; room--
          :: else -> out[w].dropped++
          fi;
          out[w].pos[batch[i]] = batch_pos[i] + 1;
          new[w] = new[w] | BIT(id)
       fi;
       i++
    :: else -> break
    od;
    id = 0;
    i = 0;
    room = 0
  }
}

inline commit_ring(w) {
  d_step { /* killed after this: the old pair of word and block is valid */
    ring[w].blk[1 - ring[w].parity].pos[0] = out[w].pos[0];
    ring[w].blk[1 - ring[w].parity].pos[1] = out[w].pos[1];
    ring[w].blk[1 - ring[w].parity].forwarded = out[w].forwarded;
    ring[w].blk[1 - ring[w].parity].dropped = out[w].dropped
  }
  d_step {
    assert((decided[w] & new[w]) == 0); /* O2 */
    ring[w].parity = 1 - ring[w].parity;
    decided[w] = decided[w] | new[w];
    ring[w].has = ring[w].has | copy[w];
    i = 0;
    do
    :: i < LANES * PUTS ->
       if
       :: copy[w] & BIT(i) -> copied_last[w * LANES + i / PUTS] = i % PUTS + 1
       :: else -> skip
       fi;
       i++
    :: else -> break
    od;
    i = 0;
    new[w] = 0;
    copy[w] = 0
  }
}

inline commit_head(l) {
  d_step {
    i = head[l];
    do
    :: i < cur[l] -> assert((decided[0] & BIT(ID(l, i))) && (decided[1] & BIT(ID(l, i)))); i++ /* O3 */
    :: else -> break
    od;
    i = 0;
    head[l] = cur[l]
  }
}

inline open_ring(w) {
  out[w].pos[0] = ring[w].blk[ring[w].parity].pos[0];
  out[w].pos[1] = ring[w].blk[ring[w].parity].pos[1];
  out[w].forwarded = ring[w].blk[ring[w].parity].forwarded;
  out[w].dropped = ring[w].blk[ring[w].parity].dropped;
#ifdef LASTPOS
  out[w].pos[0] = copied_last[w * LANES];
  out[w].pos[1] = copied_last[w * LANES + 1]
#else
  assert(out[w].forwarded + out[w].dropped == out[w].pos[0] + out[w].pos[1]) /* O4 */
#endif
}

#define DUE (cur[0] < tail[0] || cur[1] < tail[1])

proctype distributor(byte me) {
  byte cur[LANES], end[LANES], batch[BATCH], batch_pos[BATCH], new[RINGS], copy[RINGS];
  byte t0, n, i, id, pick_lane, room;
  Block out[RINGS];
  {
#ifndef TWOD
    atomic { lock == NONE -> lock = me; working++; assert(working == 1) } /* F_OFD_SETLKW; O5 */
#endif
    d_step {
      cur[0] = head[0];
      cur[1] = head[1];
      open_ring(0);
      open_ring(1)
    }
    do
    :: DUE ->
#ifdef T0LATE
       end[0] = tail[0];
       end[1] = tail[1];
       atomic { READ_CLOCK(t0) }
#else
       atomic { READ_CLOCK(t0) }
       end[1] = tail[1];
       end[0] = tail[0];
#endif
       do
       :: true ->
          fill_batch();
          if
          :: n == 0 -> break
          :: else
          fi;
#ifdef HEAD_FIRST
          commit_head(0);
          commit_head(1);
#endif
          decide(0);
#ifdef HEAD_BETWEEN
          commit_ring(0);
          commit_head(0);
          commit_head(1);
          decide(1);
          commit_ring(1);
#else
          decide(1);
          commit_ring(0);
          commit_ring(1);
          commit_head(0);
          commit_head(1)
#endif
       od;
       atomic { t0 = 0; end[0] = 0; end[1] = 0 }
    od
  } unless { dead[me] };
  d_step { lock == me -> lock = NONE; working-- }
}

proctype consumer(byte w) { /* takes when it likes */
  do
  :: ring[w].head < ring[w].blk[ring[w].parity].forwarded -> ring[w].head++
  :: ring[w].head >= 1 -> break
  od
}

#if KILLS > 0
active proctype kill_distributor() {
  dead[0] = 1
#if KILLS > 1
  ; dead[1] = 1
#endif
}
#endif

active proctype at_the_end() {
  byte w, l, i;
  timeout ->
  d_step {
    do
    :: w < RINGS ->
       l = 0;
       do
       :: l < LANES ->
          i = 0;
          do
          :: i < tail[l] && ts[ID(l, i)] < clock -> assert(decided[w] & BIT(ID(l, i))); i++ /* O4 */
          :: else -> break
          od;
          l++
       :: else -> break
       od;
       w++
    :: else -> break
    od
  }
}

init {
  atomic {
#ifdef READY /* published before it all begins: lane 0, 1, 1, 0 */
    tail[0] = 2;
    tail[1] = 2;
    ts[ID(0, 0)] = 1;
    ts[ID(1, 0)] = 2;
    ts[ID(1, 1)] = 3;
    ts[ID(0, 1)] = 4;
    before[ID(1, 0)] = BIT(ID(0, 0));
    before[ID(1, 1)] = before[ID(1, 0)] | BIT(ID(1, 0));
    before[ID(0, 1)] = before[ID(1, 1)] | BIT(ID(1, 1));
    clock = 5;
#else
    run producer(0);
    run producer(1);
#endif
#if ROOM < 4
    run consumer(0);
    run consumer(1);
#endif
#if KILLS > 1
    run distributor(2);
#endif
#if KILLS > 0 || defined(TWOD)
    run distributor(1);
#endif
    run distributor(0)
  }
}
