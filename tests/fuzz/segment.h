/* segment.h: a small segment with numbered records, its distributor and its readers, for fuzz targets.
 *
 * Three lanes, two watcher rings, 64 KiB each. The payload of a record begins with the name of its lane and its number, so
 * that a reader knows what it was due.
 */
#ifndef MPB_FUZZ_SEGMENT_H
#define MPB_FUZZ_SEGMENT_H

#include <sys/mman.h>
#include <unistd.h>

#include "claim.h"
#include "consume.h"
#include "distribute.h"
#include "input.h"
#include "wait.h"

#define LANES 3u
#define SLOTS 2u
#define CAP (UINT64_C(64) << 10)
#define DAMAGED 0u /* the lane that is damaged where only one is */

/* No few changes turn one into another. */
static const uint32_t names[LANES] = {0x1b873593, 0xcc9e2d51, 0x85ebca6b};

struct world {
    struct mpb_segment seg;
    struct mpb_distributor dist;
    struct mpb_reader readers[SLOTS];
    uint32_t put[LANES], got[SLOTS][LANES];
    bool one_lane; /* damage is done to lane DAMAGED alone: the others must not notice */
    int fd;
};

static volatile uint64_t used;

static inline int fresh_segment(void)
{
    struct mpb_sizes s = {LANES, SLOTS, CAP, CAP, 0};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && ftruncate(fd, (off_t)mpb_total_bytes(&s)) == 0, "memory");
    void *map = mmap(NULL, MPB_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(map != MAP_FAILED, "memory");
    mpb_format(map, &s, (const uint8_t *)"0123456789abcdef", "fuzz");
    munmap(map, MPB_HEADER_BYTES);
    return fd;
}

static inline void watch(struct world *w, uint32_t j, bool managed)
{
    struct mpb_slot *slot = &w->seg.slots[j];
    atomic_store(&slot->policy, POLICY_WAIT);
    atomic_store(&slot->managed, managed);
    atomic_store(&slot->start_ts, mpb_now());
    atomic_store(&slot->state, SLOT_REGISTERED);
}

static inline void put(struct world *w, uint32_t lane, uint64_t len)
{
    static char rest[CAP];
    struct mpb_segment *seg = &w->seg;
    struct mpb_producer p;
    uint32_t head[2] = {names[lane], w->put[lane]};
    mpb_producer_open(&p, &seg->lanes[lane].ring, seg->lane_data + lane * CAP, CAP, seg->lane_limit, seg->lanes[lane].trim);
    if (mpb_put(&p, 3, false, head, sizeof head, rest, len) == MPB_OK) w->put[lane]++;
}

/* Reads what is there; in a world with one damaged lane the records of the others come one after the other. */
static inline enum mpb_read read_some(struct world *w, uint32_t j, uint64_t settle)
{
    struct mpb_record r;
    enum mpb_read got;
    for (int n = 0; (got = mpb_read(&w->readers[j], &r)) == READ_RECORD && n < 5000; n++) {
        const char *ring = w->seg.slot_data + j * CAP;
        REQUIRE(r.payload >= ring + MPB_RECORD_HEADER && r.payload + r.len <= ring + CAP, "outside: %u bytes", r.len);
        used += sum_of(r.payload, r.len);
        uint32_t head[2] = {0, 0}, lane = 0;
        if (r.len >= sizeof head) memcpy(head, r.payload, sizeof head);
        while (lane < LANES && names[lane] != head[0]) lane++;
        if (w->one_lane && lane < LANES && lane != DAMAGED) {
            REQUIRE(head[1] == w->got[j][lane], "lane %u: %u where %u was due", lane, head[1], w->got[j][lane]);
            w->got[j][lane]++;
        }
        if (settle & 1) mpb_settle(&w->readers[j], r.seq - (settle >> 1 & 3), OUTCOME_HANDLED);
    }
    return got;
}

static inline void settle_all(struct world *w, uint32_t j) { mpb_settle_through(&w->readers[j], w->readers[j].seen, OUTCOME_HANDLED); }

static inline enum mpb_run distribute(struct world *w) { return mpb_distribute(&w->dist, 0); } /* 0: one step, no sleep */

static inline void new_distributor(struct world *w)
{
    mpb_distributor_close(&w->dist);
    REQUIRE(mpb_distributor_open(&w->dist, &w->seg), "memory");
}

static inline void new_reader(struct world *w, uint32_t j)
{
    if (w->one_lane) settle_all(w, j); /* what is in flight would come again */
    mpb_reader_close(&w->readers[j]);
    mpb_reader_open(&w->readers[j], &w->seg, j);
}

static inline void damage_lane(struct input *in, struct mpb_segment *seg, uint32_t lane)
{
    uint64_t where = take(in, 1), off;
    char *data = seg->lane_data + lane * CAP;
    struct mpb_ring *ring = &seg->lanes[lane].ring;
    switch (where % 3) {
    case 0: damage(in, (char *)&seg->lanes[lane], sizeof seg->lanes[lane]); return;
    case 1: /* where it is read next */
        off = (mpb_pos(atomic_load(&ring->head.word)) - atomic_load(&ring->tail.aux)) & (CAP - 1) & ~UINT64_C(7);
        damage(in, data + off, CAP - off < 96 ? CAP - off : 96);
        return;
    default: damage(in, data, CAP);
    }
}

static inline void damage_slot(struct input *in, struct mpb_segment *seg, uint32_t j)
{
    uint64_t where = take(in, 1), off;
    char *data = seg->slot_data + j * CAP;
    struct mpb_ring *ring = &seg->slots[j].ring;
    switch (where % 4) {
    case 0: damage(in, (char *)&seg->slots[j], 512); return; /* without the cells, which are only counted in */
    case 1:
        off = (mpb_pos(atomic_load(&ring->head.word)) - atomic_load(&ring->tail.aux)) & (CAP - 1) & ~UINT64_C(7);
        damage(in, data + off, CAP - off < 96 ? CAP - off : 96);
        return;
    case 2: damage(in, (char *)seg->decided, SLOTS * 2 * LANES * 8); return;
    default: damage(in, data, CAP);
    }
}

/* Drains it, which must come to an end. Where one lane was damaged everything of the others has arrived by then. */
static inline void drain(struct world *w)
{
    struct mpb_header *h = w->seg.header;
    atomic_store(&h->state, STATE_DRAINING);
    if (!w->one_lane) atomic_store(&h->drain_deadline, mpb_now());
    int steps = 0;
    while (distribute(w) != RUN_DRAINED) {
        REQUIRE(++steps < 20000, "never drained");
        for (uint32_t j = 0; j < SLOTS; j++) {
            read_some(w, j, 0);
            settle_all(w, j);
        }
    }
    for (uint32_t j = 0; j < SLOTS; j++) {
        enum mpb_read got = READ_NONE;
        for (int n = 0; n < 100 && got != READ_END; n++) {
            got = read_some(w, j, 0);
            settle_all(w, j);
        }
        if (!w->one_lane) continue;
        REQUIRE(got == READ_END, "the watch does not end");
        for (uint32_t i = 0; i < LANES; i++)
            REQUIRE(i == DAMAGED || w->got[j][i] == w->put[i], "lane %u: %u of %u arrived", i, w->got[j][i], w->put[i]);
    }
}

static inline void close_readers(struct world *w)
{
    for (uint32_t j = 0; j < SLOTS; j++) mpb_reader_close(&w->readers[j]);
    mpb_distributor_close(&w->dist);
}

#endif
