/* race.c: producers, a distributor and consumers as threads of one process, for ThreadSanitizer.
 *
 * Checked: no data race (the sanitizer says so), every accepted record arrives once at the watcher that is waited for and
 * at most once at the one that drops, each lane in its order, a put that began after another had returned never arrives
 * before it, sums of all numbers, watches that come and go, memory given back meanwhile, an onlooker reading numbers.
 *
 *   race SEED PUTS_PER_PRODUCER
 */
#define _GNU_SOURCE 1
#include <pthread.h>

#include "common.h"

#define PRODUCERS 4
#define LANE_BYTES (UINT64_C(1) << 20)

/* A causal clock of our own: taken before a put begins and after it has returned. */
static _Atomic uint64_t causal = 1;

struct message {
    uint32_t producer, number;
    uint64_t began; /* the causal clock then */
    uint32_t len, sum;
    unsigned char bytes[];
};

static struct mpb_segment seg;
static uint64_t seed, puts_each;
static _Atomic uint64_t accepted[PRODUCERS], refused_full;
static _Atomic uint64_t *returned[PRODUCERS]; /* causal clock when put n had returned; 0: not yet */
static _Atomic int producing = PRODUCERS;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void *produce(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    uint64_t random = seed * 977 + me * 31 + 1;
    struct mpb_producer lane;
    mpb_producer_open(&lane, &seg.lanes[me].ring, seg.lane_data + me * seg.lane_cap, seg.lane_cap, 0, seg.lanes[me].trim);
    struct message *m = malloc(sizeof *m + 200000);
    for (uint32_t n = 0; n < puts_each; n++) {
        m->producer = me;
        m->number = n;
        m->len = (uint32_t)(next_random(&random) % 100 == 0 ? next_random(&random) % 150000 : next_random(&random) % 900);
        m->sum = 0;
        for (uint32_t i = 0; i < m->len; i++) m->sum += m->bytes[i] = (unsigned char)(n + i);
        for (;;) {
            m->began = atomic_fetch_add(&causal, 1);
            enum mpb_refusal answer = mpb_put(&lane, 7, false, m, sizeof *m + m->len, NULL, 0);
            if (answer == MPB_OK) {
                mpb_ring_bell(&seg.header->bell);
                break;
            }
            CHECK(answer == MPB_FULL, "refused: %d", answer);
            atomic_fetch_add(&refused_full, 1);
            usleep(200);
        }
        atomic_store(&returned[me][n], atomic_fetch_add(&causal, 1));
        atomic_fetch_add(&accepted[me], 1);
        if (next_random(&random) % 4000 == 0) usleep(250000); /* long enough for a trim */
    }
    free(m);
    if (atomic_fetch_sub(&producing, 1) == 1) drain(&seg);
    return NULL;
}

static void *distribute(void *arg)
{
    (void)arg;
    for (;;) { /* a new one now and then, as after a death between batches */
        struct mpb_distributor *d = malloc(sizeof *d);
        CHECK(mpb_distributor_open(d, &seg), "memory");
        enum mpb_run done = mpb_distribute(d, mpb_now() + 30000000);
        mpb_distributor_close(d);
        free(d);
        if (done == RUN_DRAINED) return NULL;
    }
}

struct watcher {
    int slot;
    bool all; /* policy WAIT, from the beginning: nothing may be missing */
    uint64_t got;
};

static uint64_t take_all(int slot, bool all, uint64_t *random)
{
    struct mpb_reader r;
    struct mpb_record rec;
    uint64_t got = 0, latest_began = 0;
    uint32_t next[PRODUCERS] = {0}, unsettled = 0;
    struct message *m = malloc(sizeof *m + 200000);
    mpb_reader_open(&r, &seg, (uint32_t)slot);
    for (;;) {
        enum mpb_read answer = mpb_read(&r, &rec);
        if (answer == READ_END) break;
        if (answer == READ_NONE) {
            mpb_settle_through(&r, r.seen, OUTCOME_HANDLED);
            unsettled = 0;
            mpb_bell_sleep(&seg.slots[slot].bell, mpb_reader_has_news, &r, 50000000);
            continue;
        }
        CHECK(answer == READ_RECORD, "read: %d", answer);
        CHECK(rec.kind == 7 && rec.len >= sizeof *m, "kind %u len %u", rec.kind, rec.len);
        memcpy(m, rec.payload, rec.len);
        uint32_t sum = 0;
        for (uint32_t i = 0; i < m->len; i++) sum += m->bytes[i];
        CHECK(m->producer < PRODUCERS && rec.len == sizeof *m + m->len && sum == m->sum, "garbage");
        CHECK(m->number >= next[m->producer], "producer %u: %u after %u", m->producer, m->number, next[m->producer]);
        CHECK(!all || m->number == next[m->producer], "producer %u: %u is missing", m->producer, next[m->producer]);
        next[m->producer] = m->number + 1;
        /* happens-before: whatever arrived earlier had not begun after this one had returned. */
        uint64_t back = atomic_load(&returned[m->producer][m->number]);
        CHECK(!back || latest_began < back, "a put that began later came first");
        if (m->began > latest_began) latest_began = m->began;
        got++;
        if (++unsettled > next_random(random) % 200) {
            mpb_settle_through(&r, r.seen, OUTCOME_HANDLED);
            unsettled = 0;
        }
    }
    mpb_settle_through(&r, r.seen, OUTCOME_HANDLED);
    mpb_reader_close(&r);
    free(m);
    return got;
}

static void *consume(void *arg)
{
    struct watcher *w = arg;
    uint64_t random = seed + 5 + (uint64_t)w->slot;
    w->got = take_all(w->slot, w->all, &random);
    return NULL;
}

/* Watches that are registered and stopped while everything runs. */
static void *come_and_go(void *arg)
{
    (void)arg;
    uint64_t random = seed + 99;
    while (atomic_load(&seg.header->state) == STATE_RUNNING) {
        int j = watch(&seg, POLICY_DROP);
        usleep(next_random(&random) % 20000);
        stop_watching(&seg, j);
        take_all(j, false, &random);
        struct mpb_slot *slot = &seg.slots[j];
        uint64_t forwarded = number_in(&slot->ring.tail, ST_FORWARDED), handled = number_in(&slot->ring.head, SH_HANDLED);
        CHECK(forwarded == handled, "forwarded %lu, handled %lu", (unsigned long)forwarded, (unsigned long)handled);
        uint32_t state = SLOT_CLOSED;
        if (!atomic_compare_exchange_strong(&slot->state, &state, SLOT_FREE)) break; /* ENDED: all is over */
    }
    return NULL;
}

static void *look_on(void *arg)
{
    (void)arg;
    uint64_t word, num[MPB_NUMBERS], before[PRODUCERS] = {0};
    while (atomic_load(&seg.header->state) != STATE_DRAINED) {
        for (uint32_t i = 0; i < PRODUCERS; i++)
            if (mpb_read_numbers(&seg.lanes[i].ring.tail, &word, num)) {
                CHECK(num[LT_ACCEPTED] >= before[i], "accepted went back");
                before[i] = num[LT_ACCEPTED];
            }
        usleep(100);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    puts_each = argc > 2 ? strtoull(argv[2], NULL, 10) : 20000;
    alarm(300);
    make_segment(&seg, PRODUCERS, 4, LANE_BYTES, LANE_BYTES);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        returned[i] = calloc(puts_each, sizeof *returned[i]);
        atomic_fetch_or(&seg.header->claimed[0], UINT64_C(1) << i);
    }
    struct watcher waited = {.slot = watch(&seg, POLICY_WAIT), .all = true}, dropping = {.slot = watch(&seg, POLICY_DROP)};
    pthread_t threads[PRODUCERS + 5];
    unsigned n = 0;
    pthread_create(&threads[n++], NULL, distribute, NULL);
    pthread_create(&threads[n++], NULL, consume, &waited);
    pthread_create(&threads[n++], NULL, consume, &dropping);
    pthread_create(&threads[n++], NULL, come_and_go, NULL);
    pthread_create(&threads[n++], NULL, look_on, NULL);
    for (uintptr_t i = 0; i < PRODUCERS; i++) pthread_create(&threads[n++], NULL, produce, (void *)i);
    for (unsigned i = 0; i < n; i++) pthread_join(threads[i], NULL);

    uint64_t total = 0, forwarded = 0;
    for (unsigned i = 0; i < PRODUCERS; i++) {
        total += accepted[i];
        CHECK(number_in(&seg.lanes[i].ring.tail, LT_ACCEPTED) == accepted[i], "accepted");
        CHECK(number_in(&seg.lanes[i].ring.head, LH_CORRUPT) == 0, "corrupt");
        forwarded += number_in(&seg.lanes[i].ring.head, LH_FORWARDED);
    }
    struct mpb_ring *d = &seg.slots[dropping.slot].ring;
    CHECK(total == PRODUCERS * puts_each && forwarded == total, "%lu of %lu", (unsigned long)forwarded, (unsigned long)total);
    CHECK(waited.got == total, "the watcher that is waited for got %lu of %lu", (unsigned long)waited.got, (unsigned long)total);
    CHECK(dropping.got + number_in(&d->tail, ST_DROPPED) == total, "the other got %lu", (unsigned long)dropping.got);
    printf("ok puts=%lu full=%lu dropped=%lu\n", (unsigned long)total, (unsigned long)refused_full,
           (unsigned long)number_in(&d->tail, ST_DROPPED));
    return 0;
}
