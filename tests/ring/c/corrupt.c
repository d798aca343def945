/* corrupt.c: scribbled-on segments, for AddressSanitizer and UndefinedBehaviorSanitizer.
 *
 * Each round makes a segment, uses it, flips bytes in one of its parts (header, lane control, slot control, decided
 * positions, lane data, ring data), and then lets producers, a distributor, a successor of it and readers work on it until
 * it is drained. Checked: no crash, no access out of bounds, no hang (a bound on the number of steps, and alarm()). When the
 * damage was in one lane: every record of the other lanes arrives, and the numbers add up.
 *
 *   corrupt FIRST_SEED ROUNDS SECONDS     stops at whichever comes first
 */
#define _GNU_SOURCE 1
#include "common.h"

#define LANES 3u
#define SLOTS 2u
#define CAP (UINT64_C(64) << 10)
#define MANY_STEPS 20000

static uint64_t state_of_random;

static uint64_t next_random(void)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 7;
    state_of_random ^= state_of_random << 17;
    return state_of_random;
}

static uint64_t below(uint64_t n) { return next_random() % n; }

/* ---- one ring between two pages that nobody may touch ---------------------------------------------------------------- */

static void scribble(char *at, uint64_t size)
{
    for (uint64_t n = 1 + below(8); n-- > 0;) {
        uint64_t where = below(size);
        switch (below(4)) {
        case 0: at[where] = (char)next_random(); break;
        case 1: at[where] = (char)0xff; break;
        case 2: at[where] ^= (char)(1 << below(8)); break;
        default:
            where &= ~UINT64_C(7);
            uint64_t word = below(2) ? next_random() : UINT64_MAX - below(64);
            if (where + 8 <= size) memcpy(at + where, &word, 8);
        }
    }
}

static uint64_t sum_of(const struct mpb_record *r)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < r->len; i++) sum += (unsigned char)r->payload[i];
    return sum;
}

static void one_ring(void)
{
    struct mpb_ring *ring = aligned_alloc(128, sizeof *ring);
    char *data = mmap(NULL, CAP + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(data != MAP_FAILED, "memory");
    data += 4096;
    mprotect(data, CAP, PROT_READ | PROT_WRITE);
    static char bytes[70000];
    static volatile uint64_t used;
    _Atomic uint64_t trim[2] = {0, 0};
    memset(ring, 0, sizeof *ring);
    struct mpb_producer p;
    struct mpb_consumer c;
    struct mpb_record r;
    mpb_producer_open(&p, ring, data, CAP, 0, trim);
    mpb_consumer_open(&c, ring, data, CAP);
    for (int step = 0; step < 200; step++) {
        switch (below(8)) {
        case 0: scribble(data, CAP); break;
        case 1:
            scribble((char *)ring, sizeof *ring);
            break;
        case 2: /* offsets in the last bytes, and odd ones, for the next record that is read or written */
            mpb_put(&p, 1, false, bytes, 100, NULL, 0);
            atomic_store(&ring->tail.aux, (below(2) ? c.cur : mpb_pos(atomic_load(&ring->tail.word))) + below(16));
            if (below(2)) {
                mpb_producer_open(&p, ring, data, CAP, 0, trim);
                mpb_put(&p, 1, false, bytes, 100, NULL, 0);
            }
            break;
        case 3: mpb_producer_open(&p, ring, data, CAP, below(2) * 100, trim); break;
        case 4:
            if (below(4) == 0) scribble((char *)trim, sizeof trim);
            mpb_consumer_open(&c, ring, data, CAP);
            break;
        default: mpb_put(&p, 1, false, bytes, below(below(4) ? 600 : sizeof bytes), NULL, 0);
        }
        uint64_t end = mpb_pos(atomic_load(&ring->tail.word)), base = atomic_load(&ring->tail.aux);
        enum mpb_take got;
        int reads = 0;
        while ((got = mpb_next(&c, end, base, &r)) == TAKE_RECORD) {
            used += sum_of(&r);
            CHECK(++reads <= (int)(CAP / 8), "a ring without end");
        }
        if (got == TAKE_CORRUPT) c.cur = end;
        if (below(2)) mpb_commit(&c, c.cur, c.num, below(3) ? 0 : next_random());
    }
    free(ring);
    munmap(data - 4096, CAP + 8192);
}

/* ---- a whole segment --------------------------------------------------------------------------------------------------- */

struct account {
    uint64_t accepted[LANES];
    uint32_t next[SLOTS][LANES];
};

/* Lanes by a name that no few flips turn into another's. */
static const uint32_t names[LANES] = {0x1b873593, 0xcc9e2d51, 0x85ebca6b};

static bool put(struct mpb_segment *seg, uint32_t lane, uint32_t number, uint64_t len)
{
    static char bytes[40000];
    struct mpb_producer p;
    mpb_producer_open(&p, &seg->lanes[lane].ring, seg->lane_data + lane * seg->lane_cap, seg->lane_cap, seg->lane_limit,
                      seg->lanes[lane].trim);
    uint32_t head[2] = {names[lane], number};
    return mpb_put(&p, 3, false, head, sizeof head, bytes, len) == MPB_OK;
}

static int read_some(struct mpb_reader *r, struct account *a, int slot, int clean_from)
{
    struct mpb_record rec;
    for (int n = 0; n < 5000; n++) {
        enum mpb_read got = mpb_read(r, &rec);
        if (got != READ_RECORD) return got;
        uint32_t head[2] = {0, 0}, lane = 0;
        if (rec.len >= sizeof head) memcpy(head, rec.payload, sizeof head);
        while (lane < LANES && names[lane] != head[0]) lane++;
        (void)sum_of(&rec);
        if (clean_from >= 0 && lane < LANES && (int)lane != clean_from) {
            CHECK(head[1] == a->next[slot][lane], "lane %u: %u where %u was due", lane, head[1], a->next[slot][lane]);
            a->next[slot][lane]++;
        }
        if (below(3) == 0) mpb_settle(r, rec.seq - below(4), OUTCOME_HANDLED);
        if (below(8) == 0) mpb_settle_through(r, rec.seq, OUTCOME_FAILED);
    }
    return READ_NONE;
}

static void run(struct mpb_segment *seg, struct account *a, struct mpb_reader *readers, int clean_from, int steps)
{
    struct mpb_distributor *d = malloc(sizeof *d);
    CHECK(mpb_distributor_open(d, seg), "memory");
    int step = 0;
    for (; step < steps; step++) {
        uint64_t now = mpb_now();
        if (mpb_distribute(d, now + (below(16) ? 0 : 20000)) == RUN_DRAINED) break;
        for (unsigned j = 0; j < SLOTS; j++) {
            read_some(&readers[j], a, (int)j, clean_from);
            mpb_settle_through(&readers[j], readers[j].seen, OUTCOME_HANDLED);
        }
    }
    CHECK(step < MANY_STEPS, "not drained");
    mpb_distributor_close(d);
    free(d);
}

static void one_segment(void)
{
    struct mpb_segment seg;
    struct account a = {0};
    int fd = make_segment(&seg, LANES, SLOTS, CAP, CAP);
    void *guard = mmap(seg.base + seg.size, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    seg.lane_limit = below(4) ? 0 : 50;
    atomic_store(&seg.header->claimed[0], UINT64_C(7));
    struct mpb_reader readers[SLOTS];
    for (unsigned j = 0; j < SLOTS; j++) {
        watch(&seg, below(2) ? POLICY_WAIT : POLICY_DROP);
        mpb_reader_open(&readers[j], &seg, j);
    }
    int part = (int)below(7), lane = part >= 5 ? 0 : -1; /* damage in lane 0 alone: the others must not notice */
    if (lane == 0) /* then nothing else may go missing either */
        for (unsigned j = 0; j < SLOTS; j++) atomic_store(&seg.slots[j].policy, POLICY_WAIT);
    for (unsigned phase = 0; phase < 2; phase++) {
        for (unsigned n = (unsigned)below(200); n-- > 0;) {
            uint32_t i = (uint32_t)below(LANES);
            if (put(&seg, i, (uint32_t)a.accepted[i], below(below(20) ? 700 : 30000))) a.accepted[i]++;
        }
        run(&seg, &a, readers, lane, (int)below(12));
        for (unsigned n = (unsigned)below(20); n-- > 0;) {
            uint32_t i = (uint32_t)below(LANES);
            if (put(&seg, i, (uint32_t)a.accepted[i], below(700))) a.accepted[i]++;
        }
        if (phase) break;
        switch (part) {
        case 0: scribble(seg.base + 256, MPB_HEADER_BYTES - 256); break; /* what lies before is read once, at mapping */
        case 1: scribble((char *)seg.lanes, sizeof *seg.lanes * LANES); break;
        case 2: scribble((char *)seg.slots, sizeof *seg.slots * SLOTS); break;
        case 3: scribble((char *)seg.decided, SLOTS * 2 * LANES * 8); break;
        case 4: scribble(seg.slot_data, CAP * SLOTS); break;
        case 5: scribble((char *)seg.lanes, offsetof(struct mpb_lane, trim)); break;
        default: { /* where unread records are, as a rule */
            struct mpb_ring *ring = &seg.lanes[0].ring;
            uint64_t off = (mpb_pos(atomic_load(&ring->head.word)) - atomic_load(&ring->tail.aux)) & (CAP - 1);
            if (below(4) == 0) off = 0;
            scribble(seg.lane_data + off, below(2) && off < CAP - 2048 ? 2048 : CAP - off);
        }
        }
        for (unsigned j = 0; below(2) && j < SLOTS; j++) { /* a new consumer */
            if (lane == 0) mpb_settle_through(&readers[j], readers[j].seen, OUTCOME_HANDLED);
            mpb_reader_close(&readers[j]);
            mpb_reader_open(&readers[j], &seg, j);
        }
    }
    if (part == 6 && below(2)) { /* a stamp beyond all time, first seen while draining */
        struct mpb_ring *ring = &seg.lanes[0].ring;
        uint64_t head = mpb_pos(atomic_load(&ring->head.word)), off = (head - atomic_load(&ring->tail.aux)) & (CAP - 1);
        if (head != mpb_pos(atomic_load(&ring->tail.word)) && off <= CAP - 16) memset(seg.lane_data + off + 8, 0xff, 8);
    }
    atomic_store(&seg.header->state, STATE_DRAINING);
    if (lane != 0) atomic_store(&seg.header->drain_deadline, mpb_now());
    run(&seg, &a, readers, lane, MANY_STEPS);
    for (unsigned j = 0; j < SLOTS; j++) {
        int got = READ_NONE;
        for (int n = 0; n < 100 && got != READ_END; n++) {
            got = read_some(&readers[j], &a, (int)j, lane);
            mpb_settle_through(&readers[j], readers[j].seen, OUTCOME_HANDLED);
        }
        if (lane == 0) {
            CHECK(got == READ_END, "the watch does not end");
            for (uint32_t i = 1; i < LANES; i++)
                CHECK(a.next[j][i] == a.accepted[i], "lane %u: %u of %lu arrived", i, a.next[j][i], (unsigned long)a.accepted[i]);
        }
        mpb_reader_close(&readers[j]);
    }
    for (uint32_t i = 0; part == 6 && i < LANES; i++) { /* its data alone was hit: what was lost is known exactly */
        struct mpb_word *head = &seg.lanes[i].ring.head;
        uint64_t accepted = number_in(&seg.lanes[i].ring.tail, LT_ACCEPTED);
        CHECK(accepted == a.accepted[i], "accepted");
        CHECK(number_in(head, LH_FORWARDED) == accepted, "lane %u: forwarded or lost %lu of %lu", i,
              (unsigned long)number_in(head, LH_FORWARDED), (unsigned long)accepted);
        CHECK(number_in(head, LH_LOST) <= accepted && (i == 0 || number_in(head, LH_LOST) == 0), "lost");
    }
    for (unsigned j = 0; part == 6 && j < SLOTS; j++) {
        struct mpb_word *tail = &seg.slots[j].ring.tail;
        uint64_t got = number_in(tail, ST_FORWARDED) + number_in(tail, ST_OUTSIDE), all = 0;
        for (uint32_t i = 0; i < LANES; i++) all += a.accepted[i];
        uint64_t lost = number_in(&seg.lanes[0].ring.head, LH_LOST);
        CHECK(got + lost == all, "got %lu, lost %lu, of %lu", (unsigned long)got, (unsigned long)lost, (unsigned long)all);
    }
    if (guard != MAP_FAILED) munmap(guard, 4096);
    mpb_unmap(&seg);
    close(fd);
}

static void one_header(void)
{
    struct mpb_segment seg = {0};
    int fd = make_segment(&seg, LANES, SLOTS, CAP, CAP);
    scribble(seg.base, 256);
    struct mpb_segment again = {0};
    if (!mpb_map(&again, fd, below(2))) {
        CHECK(again.size == seg.size && again.nlanes <= MPB_MAX_LANES && again.nslots <= MPB_MAX_SLOTS, "sizes");
        CHECK(again.slot_data + again.nslots * again.slot_cap <= again.base + again.size, "beyond the end");
        mpb_unmap(&again);
    }
    mpb_unmap(&seg);
    close(fd);
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;
    uint64_t end = mpb_now() + (argc > 3 ? strtoull(argv[3], NULL, 10) : 10) * 1000000000u, round = 0;
    setvbuf(stderr, NULL, _IOLBF, 0);
    for (; round < rounds && mpb_now() < end; round++) {
        char line[64];
        int n = snprintf(line, sizeof line, "seed %lu\n", (unsigned long)(first + round));
        if (getenv("VERBOSE")) CHECK(write(2, line, (size_t)n) == n, "write");
        state_of_random = (first + round) * UINT64_C(0x9e3779b97f4a7c15) | 1;
        alarm(20); /* a hang ends here, and the seed says where */
        one_ring();
        one_segment();
        one_header();
    }
    printf("ok rounds=%lu\n", (unsigned long)round);
    return 0;
}
