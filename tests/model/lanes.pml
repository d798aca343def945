/* lanes.pml: a lane goes from a dead owner to a new one, while the distributor takes from it.
 *
 * Invariants
 *   L1  A lane never has two owners that both live and both may write: DEAD needs the kernel lock AND pid with start time.
 *   L2  The new owner writes behind what the dead one published; those records go out, in their order, unchanged.
 *   L3  When nothing moves any more, every published record has been taken: the claimed bit, set before the first put,
 *       leads the distributor to the lane even if the owner is killed right after.
 *
 * The kernel lock is free once the owner is dead and its stores are visible; it may also be lost by a living owner that
 * closed all its descriptors (a daemon, between two calls). The other process may be blind: in another pid namespace, so that the owner's
 * pid means nothing to it. Not both in one run: then nothing is left to tell (see README).
 * With FORK, a child of the owner puts as well: its private page is empty (MADV_WIPEONFORK), so it claims for itself.
 *
 * Bounds: one lane, two processes, PUTS records each, the first owner is killed before any step.
 */
#ifndef PUTS
#define PUTS 2
#endif
#define CAP (2 * PUTS)

#define TAIL 0
#define TBLK 1
#define CLAIMED 3
#define OWNER 4   /* pid of the owner, 1.. */
#define DATA 5
#define CELLS (DATA + CAP)
#define BUFFERS 3

#include "memory.h"

#define POS(w) ((w) >> 2)
#define PARITY(w) ((w) & 1)
#define NEXT(w, pos) ((pos) * 4 + 1 - PARITY(w))
#define NOBODY 255

bit dead[BUFFERS];
byte lock = NOBODY;    /* LOCK_LANE: who holds it */
bit blind;
bit owns[2], ended[2];
byte published_at[CAP];
byte taken_n;

/* What the kernel says of a lock. */
#define LOCK_FREE (lock == NOBODY || GONE(lock))
#define PID_LIVES(p) (!blind && !GONE(p))

proctype worker(byte me) {
  byte word, pos, accepted, k;
  bit done;
  {
#ifdef CHILD_INHERITS
    if
    :: me == 1 -> atomic { owns[0] -> word = mem[TAIL]; pos = POS(word); accepted = LOAD(me, TBLK + PARITY(word)) }
    :: else
    fi;
    if
    :: me == 1 -> goto claimed
    :: else
    fi;
#endif
#ifdef ONLY_PID
    atomic { LOAD(me, OWNER) == 0 || !PID_LIVES(LOAD(me, OWNER) - 1) -> lock = me }
#else
    atomic { LOCK_FREE -> lock = me } /* F_OFD_SETLK; a failure looks at another lane */
#ifndef ONLY_LOCK
    LOAD(me, OWNER) == 0 || !PID_LIVES(LOAD(me, OWNER) - 1);
#endif
#endif
    atomic {
      assert(me == 0 || !owns[0] || dead[0]); /* L1 */
      assert(me == 1 || !owns[1] || dead[1]); /* L1 */
      owns[me] = 1;
      word = mem[TAIL];
      pos = POS(word);
      accepted = LOAD(me, TBLK + PARITY(word));
      assert(accepted == pos) /* L2 */
    }
    store_relaxed(me, OWNER, me + 1);
#ifndef CLAIM_BIT_LATE
    d_step { DRAINED(me); mem[CLAIMED] = 1 }
#endif
claimed:
    do
    :: k < PUTS && pos < CAP ->
       store_relaxed(me, DATA + pos, 10 * (me + 1) + k);
       store_release(me, TBLK + 1 - PARITY(word), accepted + 1);
       atomic {
         cas_seq(me, TAIL, word, NEXT(word, pos + 1), done);
         if
         :: done -> published_at[pos] = 10 * (me + 1) + k; word = NEXT(word, pos + 1); pos++; accepted++
         :: else -> break /* a foreign writer: forget the lane */
         fi
       }
       k++;
#ifdef CLAIM_BIT_LATE
       d_step { DRAINED(me); mem[CLAIMED] = 1 }
#endif
    :: else -> break
    od;
    ended[me] = 1
  } unless { dead[me] }
}

proctype distributor() {
  byte cur, end, got;
  do
  :: atomic { mem[CLAIMED] && POS(mem[TAIL]) != cur -> end = POS(mem[TAIL]) }
     do
     :: cur < end ->
        atomic { got = LOAD(2, DATA + cur); assert(got == published_at[cur] && got != 0); cur++; taken_n = cur } /* L2 */
     :: cur == end -> break
     od
  od
}

#ifdef DAEMON
active proctype closes_descriptors() { atomic { lock == 0 && mem[OWNER] == 1 && !dead[0] -> lock = NOBODY } }
#endif
#ifndef NO_KILL
active proctype kill_owner() { atomic { !ended[0] -> dead[0] = 1 } }
#endif

active proctype at_the_end() { timeout -> assert(taken_n == POS(mem[TAIL])) } /* L3 */

init {
  atomic {
#ifdef BLIND
    blind = 1;
#endif
    run worker(0);
#ifndef ALONE
    run worker(1);
#endif
    run distributor()
  }
}
