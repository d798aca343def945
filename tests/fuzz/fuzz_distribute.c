/* fuzz_distribute.c: a whole segment of which anything may be damaged at any time: the distributor's round, its successor,
 * mpb_read and settling.
 *
 * Required besides what the sanitizers say: it is drained in the end; and where the damage is in one lane alone, everything
 * of the other lanes arrives, once and in order.
 */
#define _GNU_SOURCE 1
#include "segment.h"

static void step(struct world *w, struct input *in)
{
    uint64_t op = take(in, 1), which = op >> 4;
    uint32_t j = (uint32_t)which % SLOTS;
    switch (op % 16) {
    case 0:
    case 1:
    case 2: put(w, (uint32_t)which % LANES, take(in, 2) % (which & 8 ? 40000 : 700)); break;
    case 3: /* a burst */
        for (uint64_t n = take(in, 1); n-- > 0;) put(w, (uint32_t)(which + n) % LANES, n * 3);
        break;
    case 4:
    case 5: damage_lane(in, &w->seg, w->one_lane ? DAMAGED : (uint32_t)which % LANES); break;
    case 6:
        if (!w->one_lane) damage_slot(in, &w->seg, j);
        break;
    case 7: /* what lies before is read once, when it is mapped */
        if (!w->one_lane) damage(in, w->seg.base + 256, MPB_HEADER_BYTES - 256);
        break;
    case 8: new_distributor(w); break;
    case 9: new_reader(w, j); break;
    case 10:
        if (w->one_lane) break;
        atomic_store(&w->seg.slots[j].stop_ts, which & 8 ? take(in, 8) : mpb_now());
        atomic_store(&w->seg.slots[j].state, (uint32_t)(SLOT_REGISTERED + which % 6));
        break;
    case 11:
        if (!w->one_lane) atomic_store(&w->seg.slots[j].policy, (uint32_t)which & 1);
        break;
    case 12: read_some(w, j, which); break;
    case 13: settle_all(w, j); break;
    default: distribute(w);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, bytes + size};
    static struct world w;
    memset(&w, 0, sizeof w);
    uint64_t options = take(&in, 1);
    w.one_lane = options & 1;
    w.fd = fresh_segment();
    const char *why = mpb_map(&w.seg, w.fd, true);
    REQUIRE(!why, "%s", why);
    w.seg.lane_limit = options & 2 ? 50 : 0;
    atomic_store(&w.seg.header->claimed[0], (UINT64_C(1) << LANES) - 1);
    for (uint32_t j = 0; j < SLOTS; j++) {
        watch(&w, j, false);
        mpb_reader_open(&w.readers[j], &w.seg, j);
    }
    REQUIRE(mpb_distributor_open(&w.dist, &w.seg), "memory");
    for (int n = 0; n < 300 && in.at < in.end; n++) step(&w, &in);
    drain(&w);
    close_readers(&w);
    mpb_unmap(&w.seg);
    close(w.fd);
    return 0;
}
