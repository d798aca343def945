/* shutdown.pml: a watch is registered while the broadcaster is shut down.
 *
 * Invariant
 *   E1  When the header says DRAINED, a watch whose register() answered True is ENDED, so nobody waits on it for ever;
 *       if it answered False its slot is given back, or marked as one that nobody reads.
 *
 * Bounds: one slot, one registration, one shutdown, one kill of the distributor before any step.
 */
#define SLOT 0   /* 0 claimed, 1 registered, 2 active, 3 ended, 4 free */
#define STATE 1  /* 0 running, 1 draining, 2 drained */
#define CELLS 2
#define BUFFERS 3

#include "memory.h"

bit dead[BUFFERS];
byte answer; /* 1 True, 2 False */
bit finished; /* nobody will read this slot: whoever closes it may free it */

active proctype registrant() { /* buffer 0 */
  bit done;
#ifdef LOOK_BEFORE
  answer = (LOAD(0, STATE) == 0 -> 1 : 2);
#endif
#ifdef REGISTER_RELAXED
  store_release(0, SLOT, 1);
#else
  cas_seq(0, SLOT, 0, 1, done);
#endif
#ifndef LOOK_BEFORE
  answer = (LOAD(0, STATE) == 0 -> 1 : 2);
#endif
  if
  :: answer == 2 -> d_step { DRAINED(0); if :: mem[SLOT] == 1 || mem[SLOT] == 3 -> mem[SLOT] = 4 :: else -> finished = 1 fi }
  :: else
  fi
}

active proctype shutdown() { d_step { if :: mem[STATE] == 0 -> mem[STATE] = 1 :: else -> skip fi } }

proctype distributor(bit first) { /* buffer 1 or 2 */
  byte s, me = 2 - first;
  bit done;
  {
    first || dead[1];
    do
    :: mem[STATE] == 2 -> break
    :: mem[SLOT] == 1 -> cas_seq(me, SLOT, 1, 2, done)
    :: mem[STATE] == 1 -> /* finish() */
       do
       :: s = mem[SLOT];
          if
          :: s == 1 || s == 2 -> cas_seq(me, SLOT, s, 3, done)
          :: else -> break
          fi
       od;
       store_seq(me, STATE, 2);
       break
    od
  } unless { first && dead[1] }
}

active proctype kill_distributor() { dead[1] = 1 }

active proctype at_the_end() {
  timeout ->
  assert(mem[STATE] == 2);
  assert(answer != 1 || mem[SLOT] == 3); /* E1 */
  assert(answer != 2 || mem[SLOT] == 4 || finished)
}

init { atomic { run distributor(1); run distributor(0) } }
