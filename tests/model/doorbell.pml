/* doorbell.pml: sleep and ring_bell on one futex word. Ringers may stop for ever (killed, or SIGSTOP) before any step.
 *
 * Invariant
 *   D1  When nothing moves any more, a sleeper that sleeps has seen everything whose ringer came back from ring_bell.
 *       No time-out is modelled: the rule holds without the slice. Only news whose own ringer stopped between its
 *       publication and the end of ring_bell may wait for the slice.
 *
 * Bounds: RINGERS ringers with NEWS publications each, each may stop once; one sleeper with as many sleeps as it takes.
 */
#ifndef RINGERS
#define RINGERS 2
#endif
#ifndef NEWS
#define NEWS 2
#endif
#ifdef TWO_SLEEPERS
#define SLEEPERS 2
#else
#define SLEEPERS 1
#endif

#define BELL 0
#define PUB 1 /* one cell for each ringer: how much it has published */
#define CELLS (PUB + RINGERS)
#define BUFFERS (RINGERS + SLEEPERS)
#define ME_SLEEPER(s) (RINGERS + s)

#include "memory.h"

bit dead[RINGERS];
bit in_futex[SLEEPERS];
byte seen[SLEEPERS * RINGERS];
byte rung[RINGERS]; /* published before a ring_bell that has returned */

inline futex_wake() { /* one waiter; which one is the kernel's choice */
  if
  :: d_step { in_futex[0] -> in_futex[0] = 0 }
#ifdef TWO_SLEEPERS
  :: d_step { in_futex[1] -> in_futex[1] = 0 }
  :: d_step { !in_futex[0] && !in_futex[1] -> skip }
#else
  :: d_step { !in_futex[0] -> skip }
#endif
  fi
}

proctype ringer(byte me) {
  byte k, w;
  {
    do
    :: k < NEWS ->
#ifdef PUBLISH_RELAXED
       atomic { k++; store_release(me, PUB + me, k) }
#else
       atomic { store_seq(me, PUB + me, k + 1); k++ }
#endif
       if
       :: LOAD(me, BELL) & 1 ->
#ifdef CLEAR_THEN_WAKE
          d_step { DRAINED(me); mem[BELL] = mem[BELL] & 254 }
          futex_wake();
#else
#ifdef WAKE_THEN_CLEAR
          futex_wake();
          d_step { DRAINED(me); mem[BELL] = mem[BELL] & 254 }
#else
          d_step { DRAINED(me); mem[BELL] = mem[BELL] + 2; w = mem[BELL] }
          futex_wake();
          d_step {
            if
            :: mem[BELL] == w -> mem[BELL] = w & 254
            :: else -> skip
            fi;
            w = 0
          }
#endif
#endif
       :: else
       fi;
       rung[me] = k
    :: k == NEWS -> break
    od
  } unless { dead[me] }
}

#define NEWS_OF(s, r) (LOAD(ME_SLEEPER(s), PUB + r) != seen[(s) * RINGERS + r])

inline take(s, r) { seen[(s) * RINGERS + r] = LOAD(ME_SLEEPER(s), PUB + r) }

inline look(s) { /* ready(): one load after the other */
  ready = NEWS_OF(s, 0);
  if :: !ready && RINGERS > 1 -> ready = NEWS_OF(s, 1) :: else fi
#if RINGERS > 2
  ; if :: !ready -> ready = NEWS_OF(s, 2) :: else fi
#endif
}

proctype sleeper(byte s) {
  byte old, w;
  bit ready, done;
  do
  :: take(s, 0);
     take(s, 1);
#if RINGERS > 2
     take(s, 2);
#endif
#ifdef LOOK_FIRST
     look(s);
#endif
     atomic { old = LOAD(ME_SLEEPER(s), BELL); done = 0 }
     do
     :: !done ->
        atomic {
#ifdef NO_NEW_SEQUENCE
          w = old | 1;
#else
          w = ((((old >> 1) + 1) << 1) | 1);
#endif
#ifdef SLEEP_RELAXED
          store_release(ME_SLEEPER(s), BELL, w); done = 1
#else
          cas_seq(ME_SLEEPER(s), BELL, old, w, done);
          if :: !done -> old = mem[BELL] :: else fi
#endif
        }
     :: done -> break
     od;
#ifndef LOOK_FIRST
     look(s);
#endif
     if
     :: !ready ->
        d_step { /* the kernel compares and queues in one */
          DRAINED(ME_SLEEPER(s));
          in_futex[s] = (mem[BELL] == w)
        }
end:    !in_futex[s]
     :: ready
     fi;
     d_step { DRAINED(ME_SLEEPER(s)); mem[BELL] = mem[BELL] & 254; ready = 0; done = 0; old = 0; w = 0 }
  od
}

proctype stopper(byte r) { dead[r] = 1 }

active proctype at_the_end() {
  byte s, r;
  timeout ->
  d_step {
    do
    :: s < SLEEPERS ->
       r = 0;
       do
       :: r < RINGERS -> assert(!(in_futex[s] && seen[s * RINGERS + r] < rung[r])); r++ /* D1 */
       :: else -> break
       od;
       s++
    :: else -> break
    od
  }
}

init {
  byte i;
  atomic {
    do
    :: i < RINGERS -> run ringer(i); run stopper(i); i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < SLEEPERS -> run sleeper(i); i++
    :: else -> break
    od
  }
}
