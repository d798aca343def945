/* common.h: what the C tests share: a segment in memory, numbered payloads, a check that prints and ends. */
#ifndef MPB_TEST_COMMON_H
#define MPB_TEST_COMMON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "claim.h"
#include "consume.h"
#include "distribute.h"
#include "ring.h"
#include "wait.h"

#define CHECK(what, ...)                                                                                               \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #what);                                         \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static inline int make_segment(struct mpb_segment *seg, uint32_t lanes, uint32_t slots, uint64_t lane_bytes, uint64_t slot_bytes)
{
    struct mpb_sizes s = {lanes, slots, lane_bytes, slot_bytes, 0};
    int fd = memfd_create("ring-test", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)mpb_total_bytes(&s)) == 0, "memory");
    void *map = mmap(NULL, MPB_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    mpb_format(map, &s, (const uint8_t *)"0123456789abcdef", "test");
    munmap(map, MPB_HEADER_BYTES);
    const char *why = mpb_map(seg, fd, true);
    CHECK(!why, "%s", why);
    return fd;
}

static inline int watch(struct mpb_segment *seg, enum mpb_policy policy)
{
    int j = mpb_claim_slot(seg);
    CHECK(j >= 0, "no slot");
    struct mpb_slot *slot = &seg->slots[j];
    atomic_store(&slot->policy, policy);
    atomic_store(&slot->start_ts, mpb_now());
    atomic_store(&slot->state, SLOT_REGISTERED);
    mpb_ring_bell(&seg->header->bell);
    return j;
}

static inline void stop_watching(struct mpb_segment *seg, int j)
{
    uint32_t state = SLOT_ACTIVE;
    atomic_store(&seg->slots[j].stop_ts, mpb_now());
    if (!atomic_compare_exchange_strong(&seg->slots[j].state, &state, SLOT_STOPPING)) {
        state = SLOT_REGISTERED;
        atomic_compare_exchange_strong(&seg->slots[j].state, &state, SLOT_STOPPING);
    }
    mpb_ring_bell(&seg->header->bell);
}

static inline void drain(struct mpb_segment *seg)
{
    uint32_t state = STATE_RUNNING;
    atomic_compare_exchange_strong(&seg->header->state, &state, STATE_DRAINING);
    mpb_ring_bell(&seg->header->bell);
}

static inline uint64_t number_in(struct mpb_word *w, unsigned i)
{
    uint64_t word, num[MPB_NUMBERS];
    CHECK(mpb_read_numbers(w, &word, num), "numbers at rest");
    return num[i];
}

#endif
