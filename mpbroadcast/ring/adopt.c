/* adopt.c: see adopt.h. Nobody else works on the segment meanwhile, except workers of the dead program that still live:
 * they go on recording into their lanes. */
#define _GNU_SOURCE 1
#include "adopt.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "claim.h"
#include "ring.h"
#include "wait.h"

#define LOAD(p, order) atomic_load_explicit((p), memory_order_##order)
#define STORE(p, v, order) atomic_store_explicit((p), (v), memory_order_##order)

/* Whether CLOCK_MONOTONIC is another one than when the segment was last used. What says so is wiped first, so that a kill
 * in the middle of the restamping leads to another restamping. */
static bool clock_changed(int fd, const uint8_t boot_id[16])
{
    struct stat file, ns;
    if (fstat(fd, &file) != 0 || file.st_size < (off_t)MPB_HEADER_BYTES) return false; /* mpb_map says why not */
    struct mpb_header *h = mmap(NULL, MPB_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (h == MAP_FAILED) return false;
    uint64_t now_ns = stat("/proc/self/ns/time", &ns) == 0 ? (uint64_t)ns.st_ino : 0;
    bool known = h->magic == MPB_MAGIC && h->version == MPB_LAYOUT_VERSION;
    bool changed = known && (memcmp(h->boot_id, boot_id, 16) != 0 || h->time_namespace != now_ns);
    if (changed) {
        memset(h->boot_id, 0, sizeof h->boot_id);
        h->time_namespace = now_ns;
    }
    munmap(h, MPB_HEADER_BYTES);
    return changed;
}

/* Locks cannot be seen where a daemon has closed its descriptors, so pids are asked, too; they mean something on the boot
 * that they were written on. */
static uint32_t living_user(const struct mpb_segment *seg)
{
    struct mpb_header *h = seg->header;
    uint32_t owner = LOAD(&h->owner_pid, relaxed), dist = LOAD(&h->dist_pid, relaxed);
    if (mpb_alive(owner, LOAD(&h->owner_start, relaxed))) return owner;
    if (mpb_alive(dist, LOAD(&h->dist_start, relaxed))) return dist;
    for (uint32_t j = 0; j < seg->nslots; j++) {
        struct mpb_slot *slot = &seg->slots[j];
        uint32_t pid = LOAD(&slot->consumer_pid, relaxed), spare = LOAD(&slot->spare_pid, relaxed);
        if (LOAD(&slot->state, relaxed) == SLOT_FREE || !LOAD(&slot->managed, relaxed)) continue;
        if (mpb_alive(pid, LOAD(&slot->consumer_start, relaxed))) return pid;
        if (mpb_alive(spare, LOAD(&slot->spare_start, relaxed))) return spare;
    }
    return 0;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Calls for each unread record of a lane; an unreadable stretch ends it: the distributor skips and counts that. */
static uint64_t each_stamp(struct mpb_segment *seg, uint32_t i, uint64_t newest, uint64_t now, bool write)
{
    struct mpb_ring *ring = &seg->lanes[i].ring;
    struct mpb_consumer c;
    struct mpb_record r;
    char *data = seg->lane_data + (uint64_t)i * seg->lane_cap;
    mpb_consumer_open(&c, ring, data, seg->lane_cap);
    uint64_t end = mpb_pos(LOAD(&ring->tail.word, acquire)), base = LOAD(&ring->tail.aux, relaxed), most = 0;
    while (mpb_next(&c, end, base, &r) == TAKE_RECORD) {
        most = larger(most, r.ts);
        if (write) {
            uint64_t behind = newest - r.ts; /* newest is the largest of all */
            uint64_t ts = behind + 1 < now ? now - 1 - behind : 1;
            memcpy(data + (r.payload - data) - MPB_RECORD_HEADER + 8, &ts, sizeof ts);
        }
    }
    return most;
}

static uint64_t moved(uint64_t ts, uint64_t newest, uint64_t now)
{
    uint64_t behind = newest > ts ? newest - ts : 0;
    return behind + 1 < now ? now - 1 - behind : 1;
}

/* Moves every stamp by the same span, so that the newest lies just before now: order among old records stays, and nothing
 * that comes is stamped before them. */
static void restamp(struct mpb_segment *seg)
{
    uint64_t newest = 0, now = mpb_now();
    for (uint32_t i = 0; i < seg->nlanes; i++) newest = larger(newest, each_stamp(seg, i, 0, now, false));
    for (uint32_t j = 0; j < seg->nslots; j++)
        if (LOAD(&seg->slots[j].state, relaxed) != SLOT_FREE)
            newest = larger(newest, larger(LOAD(&seg->slots[j].start_ts, relaxed), LOAD(&seg->slots[j].stop_ts, relaxed)));
    for (uint32_t i = 0; i < seg->nlanes; i++) each_stamp(seg, i, newest, now, true);
    for (uint32_t j = 0; j < seg->nslots; j++) {
        struct mpb_slot *slot = &seg->slots[j];
        STORE(&slot->start_ts, moved(LOAD(&slot->start_ts, relaxed), newest, now), relaxed);
        STORE(&slot->stop_ts, moved(LOAD(&slot->stop_ts, relaxed), newest, now), relaxed);
    }
}

static void open_lane_again(struct mpb_segment *seg, uint32_t i, bool changed)
{
    struct mpb_lane *lane = &seg->lanes[i];
    uint64_t owner = LOAD(&lane->owner, relaxed);
    bool lives = !mpb_lock_is_free(seg, LOCK_LANE + i) ||
                 (!changed && mpb_alive(MPB_OWNER_PID(owner), owner & MPB_OWNER_TICKS));
    /* seq_cst: what a living worker publishes after this is read by the distributor that comes. */
    uint64_t word = atomic_fetch_and_explicit(&lane->ring.tail.word, ~MPB_SEAL, memory_order_seq_cst) & ~MPB_SEAL;
    if (lives) return;
    STORE(&lane->owner, 0u, relaxed);
    STORE(&lane->want_room, 0u, relaxed);
    if (!changed) return;
    /* The next owner must not stamp by the last stamp of another clock. Same position, other block, as any publication. */
    _Atomic uint64_t *from = lane->ring.tail.blk[word & MPB_PARITY], *to = lane->ring.tail.blk[~word & MPB_PARITY];
    for (unsigned n = 0; n < MPB_NUMBERS; n++) STORE(&to[n], LOAD(&from[n], relaxed), relaxed);
    STORE(&to[LT_LAST_TS], 0u, relaxed);
    STORE(&lane->ring.tail.word, mpb_pos(word) | (~word & MPB_PARITY), seq_cst);
}

static void open_slot_again(struct mpb_slot *slot)
{
    uint32_t state = LOAD(&slot->state, relaxed);
    STORE(&slot->consumer_pid, 0u, relaxed);
    STORE(&slot->consumer_start, 0u, relaxed);
    STORE(&slot->spare_pid, 0u, relaxed);
    STORE(&slot->spare_start, 0u, relaxed);
    STORE(&slot->streak, 0u, relaxed);
    STORE(&slot->want_room, 0u, relaxed);
    if (state == SLOT_FREE || state == SLOT_CLAIMED || !LOAD(&slot->managed, relaxed)) return; /* freed as its reader died */
    bool empty = mpb_pos(LOAD(&slot->ring.tail.word, relaxed)) == mpb_pos(LOAD(&slot->ring.head.word, relaxed));
    STORE(&slot->managed, MPB_MANAGED_LEFT, relaxed);
    if ((LOAD(&slot->finished, relaxed) || state == SLOT_CLOSED) && empty) {
        STORE(&slot->state, SLOT_FREE, release);
        return;
    }
    STORE(&slot->finished, 0u, relaxed);
    /* A shutdown that was cut short: what was decided stays decided, and the slot goes on from there. */
    if (state == SLOT_ENDED || state == SLOT_ABANDONED) STORE(&slot->state, SLOT_ACTIVE, release);
}

static void open_header_again(struct mpb_header *h)
{
    STORE(&h->owner_pid, 0u, relaxed);
    STORE(&h->owner_start, 0u, relaxed);
    STORE(&h->owner_gone, 0u, relaxed);
    STORE(&h->dist_pid, 0u, relaxed);
    STORE(&h->dist_start, 0u, relaxed);
    STORE(&h->dist_spare_pid, 0u, relaxed);
    STORE(&h->dist_spare_start, 0u, relaxed);
    STORE(&h->dist_streak, 0u, relaxed);
    STORE(&h->round_ts, 0u, relaxed);
    STORE(&h->drain_deadline, UINT64_MAX, relaxed);
    STORE(&h->state, STATE_RUNNING, seq_cst);
}

const char *mpb_adopt(int fd, const uint8_t boot_id[16], uint32_t *living)
{
    struct mpb_segment seg = {.lock_fd = -1};
    *living = 0;
    bool changed = clock_changed(fd, boot_id);
    const char *why = mpb_map(&seg, fd, true);
    if (why) return why;
    if (!changed && (*living = living_user(&seg)) != 0) {
        mpb_unmap(&seg);
        return "a living process uses it";
    }
    if (changed) restamp(&seg);
    for (uint32_t j = 0; j < seg.nslots; j++) open_slot_again(&seg.slots[j]);
    for (uint32_t i = 0; i < seg.nlanes; i++) open_lane_again(&seg, i, changed);
    open_header_again(seg.header);
    memcpy(seg.header->boot_id, boot_id, sizeof seg.header->boot_id); /* last: now its stamps are of this clock */
    mpb_unmap(&seg);
    return NULL;
}
