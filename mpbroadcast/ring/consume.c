/* consume.c: reading and settling a watcher ring. */
#include "consume.h"

#include <stdlib.h>
#include <string.h>

#include "wait.h"

#define LOAD(p, order) atomic_load_explicit((p), memory_order_##order)

void mpb_reader_open(struct mpb_reader *r, struct mpb_segment *seg, uint32_t slot)
{
    memset(r, 0, sizeof *r);
    r->seg = seg;
    r->slot = &seg->slots[slot];
    mpb_consumer_open(&r->in, &r->slot->ring, seg->slot_data + (uint64_t)slot * seg->slot_cap, seg->slot_cap);
    for (unsigned i = SH_HANDLED; i <= SH_LOST; i++) r->seen += r->in.num[i]; /* each settled record is in one of them */
}

void mpb_reader_close(struct mpb_reader *r)
{
    free(r->flight);
    memset(r, 0, sizeof *r);
}

static struct mpb_in_flight *flight_at(struct mpb_reader *r, uint32_t i)
{
    return &r->flight[(r->flight_first + i) & (r->flight_cap - 1)];
}

static bool flight_push(struct mpb_reader *r, struct mpb_in_flight f)
{
    if (r->flight_n == r->flight_cap) {
        uint32_t cap = r->flight_cap ? r->flight_cap * 2 : 1024;
        struct mpb_in_flight *grown = malloc((size_t)cap * sizeof *grown);
        if (!grown) return false;
        for (uint32_t i = 0; i < r->flight_n; i++) grown[i] = *flight_at(r, i);
        free(r->flight);
        r->flight = grown;
        r->flight_cap = cap;
        r->flight_first = 0;
    }
    r->flight_n++;
    *flight_at(r, r->flight_n - 1) = f;
    return true;
}

/* Moves head over the settled prefix, in one commit. */
static void commit_prefix(struct mpb_reader *r)
{
    uint64_t num[MPB_NUMBERS], pos = 0, taken = 0;
    memcpy(num, r->in.num, sizeof num);
    while (r->flight_n) {
        struct mpb_in_flight *f = flight_at(r, 0);
        if (f->outcome == OUTCOME_NONE) break;
        num[SH_LOST] += f->lost;
        if (f->flags) num[f->outcome - OUTCOME_HANDLED + SH_HANDLED]++;
        pos = f->end;
        r->flight_first = (r->flight_first + 1) & (r->flight_cap - 1);
        r->flight_n--;
    }
    if (!pos) return;
    for (unsigned i = SH_HANDLED; i <= SH_LOST; i++) taken += num[i];
    mpb_commit(&r->in, pos, num, taken);
    /* seq_cst: pairs with the distributor's store of want_room before its look at head. */
    if (LOAD(&r->slot->want_room, seq_cst)) mpb_ring_bell(&r->seg->header->bell);
}

enum mpb_read mpb_read(struct mpb_reader *r, struct mpb_record *rec)
{
    for (;;) {
        /* State BEFORE tail: a slot is closed after its last record was committed, so an empty ring that is looked at
         * after CLOSED was seen stays empty. The other way round the last records could be missed. */
        uint32_t state = LOAD(&r->slot->state, acquire);
        uint64_t tail = mpb_pos(LOAD(&r->slot->ring.tail.word, acquire)), base = LOAD(&r->slot->ring.tail.aux, relaxed);
        uint64_t start = r->in.cur;
        if (start == tail) return state >= SLOT_CLOSED ? READ_END : READ_NONE;
        enum mpb_take got = mpb_next(&r->in, tail, base, rec);
        if (got != TAKE_RECORD || rec->seq != r->seen + 1) {
            uint64_t end, seq, lost;
            if (!mpb_skip_published(&r->slot->ring, &end, &seq)) end = tail, seq = r->seen; /* found out next time */
            lost = seq > r->seen ? seq - r->seen : 0;
            if (!flight_push(r, (struct mpb_in_flight){start, end, seq, lost, NULL, OUTCOME_FAILED})) {
                r->in.cur = start;
                return READ_NO_MEMORY;
            }
            r->in.cur = end;
            r->seen = seq;
            commit_prefix(r);
            continue;
        }
        uint8_t settled = rec->consumer_flags < OUTCOMES ? rec->consumer_flags : OUTCOME_NONE;
        char *flags = (char *)rec->payload - MPB_RECORD_HEADER + 7;
        struct mpb_in_flight f = {rec->pos, rec->end, rec->seq, 0, flags, settled};
        if (!flight_push(r, f)) {
            r->in.cur = start;
            return READ_NO_MEMORY;
        }
        r->seen = rec->seq;
        r->last_ts = rec->ts;
        if (settled == OUTCOME_NONE) return READ_RECORD;
        commit_prefix(r); /* a predecessor settled it out of order before it died */
    }
}

bool mpb_settle(struct mpb_reader *r, uint64_t seq, enum mpb_outcome outcome)
{
    uint32_t low = 0, high = r->flight_n;
    while (low < high) { /* sequences ascend; gaps exist only behind corrupt stretches */
        uint32_t mid = low + (high - low) / 2;
        if (flight_at(r, mid)->seq < seq) low = mid + 1;
        else high = mid;
    }
    while (low < r->flight_n && flight_at(r, low)->seq == seq && !flight_at(r, low)->flags) low++;
    if (low == r->flight_n) return false;
    struct mpb_in_flight *f = flight_at(r, low);
    if (f->seq != seq || f->outcome != OUTCOME_NONE) return false;
    f->outcome = (uint8_t)outcome;
    STOP_POINT("settle.before_mark");
    if (low == 0) commit_prefix(r);
    /* release: what the handler did is done before a successor may step over the record. */
    else atomic_store_explicit((_Atomic uint8_t *)(void *)f->flags, (uint8_t)outcome, memory_order_release);
    return true;
}

void mpb_settle_through(struct mpb_reader *r, uint64_t seq, enum mpb_outcome outcome)
{
    for (uint32_t i = 0; i < r->flight_n && flight_at(r, i)->seq <= seq; i++)
        if (flight_at(r, i)->outcome == OUTCOME_NONE) flight_at(r, i)->outcome = (uint8_t)outcome;
    commit_prefix(r);
}

/* ready() of the consumer's sleep: seq_cst, after the sleeping bit was set. */
bool mpb_reader_has_news(void *reader)
{
    struct mpb_reader *r = reader;
    return LOAD(&r->slot->state, seq_cst) >= SLOT_CLOSED ||
           mpb_pos(LOAD(&r->slot->ring.tail.word, seq_cst)) != r->in.cur;
}
