/* wait.c: doorbells on futexes, as protocol section 2 has them.
 *
 * A bell is one u32: bit 0 = somebody sleeps, the rest a sequence that is new at every sleep. Checked exhaustively with
 * ringers that may die or stop at any step: clear-then-wake, wake-then-clear, and the same without a new sequence per
 * sleep each lose the wake-up of ANOTHER ringer; the order below does not. */
#define _GNU_SOURCE 1
#include "wait.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "stop_point.h"

uint64_t mpb_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void mpb_nap(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&t, NULL);
}

void mpb_bell_sleep(_Atomic uint32_t *bell, bool (*ready)(void *), void *arg, uint64_t timeout_ns)
{
    if (ready(arg) || timeout_ns == 0) return;
    uint32_t old = atomic_load_explicit(bell, memory_order_relaxed), w;
    /* A NEW sequence at every sleep: a ringer that was stopped half way through an earlier ring still holds a CAS on the
     * word of that sleep, which must not match this one. seq_cst: pairs with the load in mpb_ring_bell. */
    do w = ((old >> 1) + 1u) << 1 | 1u;
    while (!atomic_compare_exchange_weak_explicit(bell, &old, w, memory_order_seq_cst, memory_order_relaxed));
    STOP_POINT("sleep.before_look");
    if (!ready(arg)) {
        struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
        /* Not FUTEX_PRIVATE: the ringer lives in another process. EAGAIN, EINTR, ETIMEDOUT and 0 all mean: look again. */
        syscall(SYS_futex, bell, FUTEX_WAIT, w, &t, NULL, 0);
    }
    /* Awake: ringers need not bother. Relaxed would do, the next sleep makes its own word; seq_cst keeps one story. */
    atomic_fetch_and_explicit(bell, ~1u, memory_order_seq_cst);
}

void mpb_bell_wake(_Atomic uint32_t *bell)
{
    /* The value changes but STAYS odd: who is about to wait gets EAGAIN, and if this process dies or is stopped before
     * the wake, the next ringer still sees a sleeper and does it again. */
    uint32_t w = atomic_fetch_add_explicit(bell, 2u, memory_order_seq_cst) + 2u;
    STOP_POINT("bell.before_wake");
    syscall(SYS_futex, bell, FUTEX_WAKE, 1, NULL, NULL, 0);
    STOP_POINT("bell.after_wake");
    /* Only now spare the others the syscall. A stale CAS cannot match: each sleep and each ring made a new value. */
    atomic_compare_exchange_strong_explicit(bell, &w, w & ~1u, memory_order_seq_cst, memory_order_relaxed);
}
