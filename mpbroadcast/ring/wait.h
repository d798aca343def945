/* wait.h: doorbells. A sleeper sleeps on a word of its own; whoever has news rings it, at no cost while nobody sleeps. */
#ifndef MPB_WAIT_H
#define MPB_WAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t mpb_now(void);

/* Sleeps until the bell rings or timeout_ns have passed; returns at once when ready(arg) holds. May return early. */
void mpb_bell_sleep(_Atomic uint32_t *bell, bool (*ready)(void *), void *arg, uint64_t timeout_ns);

void mpb_bell_wake(_Atomic uint32_t *bell); /* the slow half of ring_bell: somebody sleeps */

/* Pairs with the store of the sleeping bit in mpb_bell_sleep: the ringer has published with a seq_cst store or CAS before
 * it loads here, the sleeper sets the bit with a seq_cst CAS before it looks for news. One of the two sees the other.
 * With weaker orders both could look past each other, and the news would wait for the end of the slice. */
static inline void mpb_ring_bell(_Atomic uint32_t *bell)
{
    if (atomic_load_explicit(bell, memory_order_seq_cst) & 1u) mpb_bell_wake(bell);
}

void mpb_nap(uint64_t ns);

#endif
