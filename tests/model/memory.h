/* memory.h: shared memory with a store buffer for each process. Included by the models; needs CELLS and BUFFERS.
 *
 * A store of a process first goes into its own buffer, and becomes visible to others when the process `memory` moves it to
 * mem[]. A process reads its own buffer first. That is x86 (TSO). With WEAK, entries may also become visible out of order,
 * as on aarch64: never two for the same cell, and a release store only when everything before it is visible.
 * A seq_cst store and every read-modify-write waits until the buffer of its process is empty, then acts on mem[] at once.
 * A killed process stops, its buffer does not: what was stored becomes visible, as on hardware. Who learns of the death
 * from the kernel (a lock that became free) sees an empty buffer: GONE.
 */
#define SB 4

typedef Buffer { byte cell[SB]; byte val[SB]; bit rel[SB]; byte n }

byte mem[CELLS];
Buffer sb[BUFFERS];

#define DRAINED(p) (sb[p].n == 0)
#define GONE(p) (dead[p] && DRAINED(p))

#define SB_HAS(p, i, c) (sb[p].n > i && sb[p].cell[i] == (c))
#define LOAD(p, c) \
  (SB_HAS(p, 3, c) -> sb[p].val[3] : (SB_HAS(p, 2, c) -> sb[p].val[2] : \
  (SB_HAS(p, 1, c) -> sb[p].val[1] : (SB_HAS(p, 0, c) -> sb[p].val[0] : mem[c]))))

inline store(p, c, v, release) {
  d_step {
    sb[p].n < SB;
    sb[p].cell[sb[p].n] = c;
    sb[p].val[sb[p].n] = v;
    sb[p].rel[sb[p].n] = release;
    sb[p].n++
  }
}
#define store_relaxed(p, c, v) store(p, c, v, 0)
#define store_release(p, c, v) store(p, c, v, 1)

inline store_seq(p, c, v) {
  d_step { DRAINED(p); mem[c] = v }
}

inline cas_seq(p, c, expected, v, done) {
  d_step {
    DRAINED(p);
    done = (mem[c] == (expected));
    if
    :: done -> mem[c] = v
    :: else -> skip
    fi
  }
}

inline settle_entry(p, i) {
  mem[sb[p].cell[i]] = sb[p].val[i];
  if :: i < 1 -> sb[p].cell[0] = sb[p].cell[1]; sb[p].val[0] = sb[p].val[1]; sb[p].rel[0] = sb[p].rel[1] :: else -> skip fi;
  if :: i < 2 -> sb[p].cell[1] = sb[p].cell[2]; sb[p].val[1] = sb[p].val[2]; sb[p].rel[1] = sb[p].rel[2] :: else -> skip fi;
  if :: i < 3 -> sb[p].cell[2] = sb[p].cell[3]; sb[p].val[2] = sb[p].val[3]; sb[p].rel[2] = sb[p].rel[3] :: else -> skip fi;
  sb[p].cell[3] = 0;
  sb[p].val[3] = 0;
  sb[p].rel[3] = 0;
  sb[p].n--
}

#define SAME(p, i, j) (sb[p].cell[i] == sb[p].cell[j])
#define MAY_PASS1(p) (sb[p].n > 1 && !sb[p].rel[1] && !SAME(p, 1, 0))
#define MAY_PASS2(p) (sb[p].n > 2 && !sb[p].rel[2] && !SAME(p, 2, 0) && !SAME(p, 2, 1))
#define MAY_PASS3(p) (sb[p].n > 3 && !sb[p].rel[3] && !SAME(p, 3, 0) && !SAME(p, 3, 1) && !SAME(p, 3, 2))

#ifdef WEAK
#define DRAIN_ONE(p) \
  :: d_step { sb[p].n > 0 -> settle_entry(p, 0) } \
  :: d_step { MAY_PASS1(p) -> settle_entry(p, 1) } \
  :: d_step { MAY_PASS2(p) -> settle_entry(p, 2) } \
  :: d_step { MAY_PASS3(p) -> settle_entry(p, 3) }
#else
#define DRAIN_ONE(p) :: d_step { sb[p].n > 0 -> settle_entry(p, 0) }
#endif

active proctype memory() {
end:
  do
  DRAIN_ONE(0)
#if BUFFERS > 1
  DRAIN_ONE(1)
#endif
#if BUFFERS > 2
  DRAIN_ONE(2)
#endif
#if BUFFERS > 3
  DRAIN_ONE(3)
#endif
  od
}
