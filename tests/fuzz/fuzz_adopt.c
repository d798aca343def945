/* fuzz_adopt.c: a segment in a file that a dead program left behind, damaged, is taken over by mpb_adopt and drained.
 *
 * Required besides what the sanitizers say: it is refused in words, or drained in the end; and where the damage is in one
 * lane alone, everything of the other lanes arrives, also when the clock is another one by now.
 */
#define _GNU_SOURCE 1
#include "adopt.h"
#include "segment.h"

static void before_its_death(struct world *w, struct input *in)
{
    for (uint32_t j = 0; j < SLOTS; j++) watch(w, j, true);
    atomic_store(&w->seg.header->claimed[0], (UINT64_C(1) << LANES) - 1);
    REQUIRE(mpb_distributor_open(&w->dist, &w->seg), "memory");
    distribute(w); /* the watches have begun */
    for (uint64_t n = take(in, 1) % 64; n-- > 0;) {
        uint64_t op = take(in, 1);
        if (op % 8 == 7) distribute(w);
        else put(w, (uint32_t)op % LANES, op & 128 ? take(in, 2) % 20000 : op * 2);
    }
    if (take(in, 1) & 1) atomic_store(&w->seg.header->state, STATE_DRAINING);
    mpb_distributor_close(&w->dist);
}

/* As if all of it had happened by a clock that was far ahead of this one. */
static void by_another_clock(struct world *w)
{
    const uint64_t ahead = UINT64_C(1) << 55;
    for (uint32_t i = 0; i < LANES; i++) {
        struct mpb_ring *ring = &w->seg.lanes[i].ring;
        uint64_t end = mpb_pos(atomic_load(&ring->tail.word)), ts;
        struct mpb_consumer c;
        struct mpb_record r;
        mpb_consumer_open(&c, ring, w->seg.lane_data + i * CAP, CAP);
        while (mpb_next(&c, end, atomic_load(&ring->tail.aux), &r) == TAKE_RECORD) {
            ts = r.ts + ahead;
            memcpy((char *)r.payload - MPB_RECORD_HEADER + 8, &ts, sizeof ts);
        }
        for (unsigned b = 0; b < 2; b++) atomic_fetch_add(&ring->tail.blk[b][LT_LAST_TS], ahead);
    }
    for (uint32_t j = 0; j < SLOTS; j++) atomic_fetch_add(&w->seg.slots[j].start_ts, ahead);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, bytes + size};
    static struct world w;
    memset(&w, 0, sizeof w);
    uint64_t options = take(&in, 1);
    uint8_t boot[16] = "this boot";
    uint32_t living;
    w.one_lane = options & 1;
    w.fd = fresh_segment();
    const char *why = mpb_map(&w.seg, w.fd, true);
    REQUIRE(!why, "%s", why);
    memcpy(w.seg.header->boot_id, options & 2 ? "another boot\0\0\0" : (char *)boot, 16);
    before_its_death(&w, &in);
    if (options & 2) by_another_clock(&w);
    for (int n = 0; n < 100 && in.at < in.end; n++) {
        uint64_t op = take(&in, 1);
        if (w.one_lane || op % 4 < 2) damage_lane(&in, &w.seg, w.one_lane ? DAMAGED : (uint32_t)(op >> 4) % LANES);
        else if (op % 4 == 2) damage_slot(&in, &w.seg, (uint32_t)(op >> 4) % SLOTS);
        else damage(&in, w.seg.base, op & 16 ? 256 : MPB_HEADER_BYTES);
    }
    mpb_unmap(&w.seg);
    why = mpb_adopt(w.fd, boot, &living);
    if (!why && options & 4) why = mpb_adopt(w.fd, boot, &living); /* killed at its end, and once more */
    REQUIRE(!why || !w.one_lane, "%s", why);
    if (!why) {
        why = mpb_map(&w.seg, w.fd, true);
        REQUIRE(!why, "adopted, and then: %s", why);
        REQUIRE(w.seg.nlanes <= MPB_MAX_LANES && w.seg.nslots <= MPB_MAX_SLOTS, "sizes");
        REQUIRE(w.seg.slot_data + w.seg.nslots * w.seg.slot_cap <= w.seg.base + w.seg.size, "beyond the end");
        REQUIRE(atomic_load(&w.seg.header->state) == STATE_RUNNING, "it does not run");
        for (uint32_t i = 0; i < LANES; i++) put(&w, i, 10); /* a new program goes on behind the old one's records */
        for (uint32_t j = 0; j < SLOTS; j++) mpb_reader_open(&w.readers[j], &w.seg, j);
        REQUIRE(mpb_distributor_open(&w.dist, &w.seg), "memory");
        drain(&w);
        close_readers(&w);
        mpb_unmap(&w.seg);
    }
    close(w.fd);
    return 0;
}
