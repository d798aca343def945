/* fuzz_ring.c: one ring whose control words, data and base say anything: mpb_next, mpb_skip_published, mpb_put, trims.
 *
 * The data lie alone on the heap, so that one byte before or behind them is AddressSanitizer's. Required besides: reading
 * comes to an end, and a record lies inside the data.
 */
#define _GNU_SOURCE 1
#include "input.h"
#include "ring.h"

#define CAP (UINT64_C(64) << 10)

static volatile uint64_t used;

static void read_all(struct mpb_consumer *c, char *data, uint64_t end, uint64_t base)
{
    struct mpb_record r;
    enum mpb_take got;
    for (uint64_t n = 0; (got = mpb_next(c, end, base, &r)) == TAKE_RECORD; n++) {
        REQUIRE(n <= CAP / MPB_RECORD_HEADER, "a ring without end");
        REQUIRE(r.payload >= data + MPB_RECORD_HEADER && r.payload + r.len <= data + CAP, "outside: %u bytes", r.len);
        REQUIRE(r.end == c->cur && r.end - r.pos == mpb_record_bytes(r.len), "positions");
        used += sum_of(r.payload, r.len);
    }
    if (got == TAKE_CORRUPT) {
        uint64_t seq;
        if (!mpb_skip_published(c->ring, &c->cur, &seq)) c->cur = end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, bytes + size};
    static char payload[CAP];
    struct mpb_ring *ring = aligned_alloc(128, sizeof *ring);
    char *data = aligned_alloc(8, CAP);
    REQUIRE(ring && data, "memory");
    memset((void *)ring, 0, sizeof *ring);
    memset(data, 0, CAP);
    _Atomic uint64_t trim[2] = {0, 0};
    struct mpb_producer p;
    struct mpb_consumer c;
    uint64_t limit = take(&in, 1) % 4 ? 0 : 20;
    mpb_producer_open(&p, ring, data, CAP, limit, trim);
    mpb_consumer_open(&c, ring, data, CAP);
    for (int step = 0; step < 400 && in.at < in.end; step++) {
        uint64_t op = take(&in, 1);
        switch (op % 10) {
        case 0:
        case 1: mpb_put(&p, (uint16_t)op, false, payload, take(&in, 2) % (op & 16 ? CAP : 600), NULL, 0); break;
        case 2: damage(&in, data, CAP); break;
        case 3: damage(&in, (char *)ring, sizeof *ring); break;
        case 4: { /* where the next record is read */
            uint64_t off = (c.cur - atomic_load(&ring->tail.aux)) & (CAP - 1) & ~UINT64_C(7);
            damage(&in, data + off, CAP - off < 32 ? CAP - off : 32);
            break;
        }
        case 5: mpb_producer_open(&p, ring, data, CAP, limit, trim); break;
        case 6: mpb_consumer_open(&c, ring, data, CAP); break;
        case 7:
            if (op & 16) damage(&in, (char *)trim, sizeof trim);
            else if (mpb_trim_begin(&c, trim, (op >> 5) * 8192, (op >> 5) * 8192 + 8192) && op & 32) mpb_trim_end(ring);
            break;
        case 8: mpb_commit(&c, c.cur, c.num, op & 16 ? take(&in, 8) : c.num[0]); break;
        default: read_all(&c, data, mpb_pos(atomic_load(&ring->tail.word)), atomic_load(&ring->tail.aux));
        }
    }
    read_all(&c, data, mpb_pos(atomic_load(&ring->tail.word)), atomic_load(&ring->tail.aux));
    mpb_has_room(ring, CAP, limit);
    free(data);
    free((void *)ring);
    return 0;
}
