/* trim.pml: the distributor gives a chunk of an empty lane back to the kernel while its producer may be writing.
 *
 * Invariants
 *   T1  What is published is never punched: each record is read as it was written.
 *   T2  A producer never waits for a trim: it writes its record elsewhere, or finds the lane full.
 *   T3  At the end everything published has been read, and TRIM is not set, whatever was killed.
 *
 * Bounds: a lane of four units whose upper half is the chunk, PUTS records of one unit, TRIMS trims, one kill of the
 * distributor before any step, also between the two pages of the chunk. The producer may be slow at any step.
 */
#ifndef PUTS
#define PUTS 3
#endif
#ifndef TRIMS
#define TRIMS 2
#endif
#define CAP 4
#define FROM 2 /* the chunk is [FROM, CAP) */

#define TAIL 0  /* position * 8 + trims since the last publication * 2 + TRIM */
#define SHIFT 1 /* base: offset = (position + SHIFT) mod CAP */
#define HEAD 2
#define DATA 3
#define CELLS (DATA + CAP)
#define BUFFERS 2

#include "memory.h"

#define POS(w) ((w) >> 3)
#define TRIM 1
#define TRIMS_OF(w) (((w) >> 1) & 3)
#define OFF(p, s) (((p) + (s)) % CAP)

bit dead[BUFFERS];
byte published_at[PUTS];
byte trims;
bit ended;

proctype producer() {
  byte word, pos, shift, head, k, off;
  bit done;
  atomic { word = mem[TAIL]; pos = POS(word); shift = mem[SHIFT] }
  do
  :: k < PUTS ->
     atomic { head = mem[HEAD]; off = OFF(pos, shift) }
     if
     :: pos - head >= CAP -> goto next /* full */
     :: pos == head -> /* empty: rewind, which also leads out of the chunk */
        if
        :: atomic { (word & TRIM) && off >= FROM -> shift = (CAP - pos % CAP) % CAP; off = 0 }
           store_relaxed(0, SHIFT, shift)
#ifdef IGNORE_CHUNK
        :: true
#else
        :: !(word & TRIM) || off < FROM
#endif
        fi
     :: pos != head && pos - head < CAP ->
        if
        :: (word & TRIM) && off >= FROM -> goto next /* the C pads over the chunk; here: no room */
        :: else
        fi
     fi;
     store_relaxed(0, DATA + off, k + 1);
     atomic {
       cas_seq(0, TAIL, word, (pos + 1) * 8 + (word & TRIM), done);
       if
       :: done -> published_at[pos] = k + 1; word = (pos + 1) * 8 + (word & TRIM); pos++
       :: else -> word = mem[TAIL]
       fi
     }
     if
     :: !done -> goto again /* a trim got in between: write it anew */
     :: else
     fi;
next:
     atomic { k++; off = 0; done = 0 }
again:
     skip
  :: k == PUTS -> break
  od;
  ended = 1
}

inline trim() {
  atomic { word = mem[TAIL]; done = 0 }
  if
  :: !(word & TRIM) && POS(word) == cur && TRIMS_OF(word) < 3 ->
#ifdef PUNCH_FIRST
     mem[DATA + 2] = 0;
     mem[DATA + 3] = 0;
#endif
#ifdef TRIM_NO_CAS
     d_step { mem[TAIL] = (mem[TAIL] | TRIM) + 2; done = 1 }
#else
#ifdef NO_TRIMS
     cas_seq(1, TAIL, word, word | TRIM, done);
#else
     cas_seq(1, TAIL, word, (word | TRIM) + 2, done);
#endif
#endif
     if
     :: done ->
#ifndef PUNCH_FIRST
        mem[DATA + 2] = 0; /* by the kernel, page by page */
        mem[DATA + 3] = 0;
#endif
        d_step { mem[TAIL] = mem[TAIL] & 254 }
     :: else
     fi
  :: else
  fi;
  atomic { word = 0; done = 0 }
}

proctype distributor(bit first) {
  byte cur, end, shift, got, word;
  bit done;
  {
    atomic { first || dead[1]; cur = mem[HEAD] }
#ifndef NO_CLEAR
    d_step { mem[TAIL] = mem[TAIL] & 254 } /* a predecessor was killed while it punched */
#endif
    do
    :: atomic { POS(mem[TAIL]) != cur -> end = POS(mem[TAIL]) }
       shift = mem[SHIFT];
       do
       :: cur < end -> atomic { got = mem[DATA + OFF(cur, shift)]; assert(got == published_at[cur]); got = 0; cur++ } /* T1 */
       :: cur == end -> break
       od;
       atomic { end = 0; shift = 0; store_seq(1, HEAD, cur) }
    :: atomic { POS(mem[TAIL]) == cur && trims < TRIMS && !ended -> trims++ }
       trim()
    od
  } unless { first && dead[1] }
}

active proctype kill_distributor() { dead[1] = 1 }

active proctype at_the_end() { timeout -> assert(ended && mem[HEAD] == POS(mem[TAIL]) && !(mem[TAIL] & TRIM)) } /* T2, T3 */

init { atomic { mem[SHIFT] = FROM; run producer(); run distributor(1); run distributor(0) } }
