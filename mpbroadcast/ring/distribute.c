/* distribute.c: rounds of the distributor; the steps are numbered as in the protocol. */
#define _GNU_SOURCE 1
#include "distribute.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "wait.h"

#define LOAD(p, order) atomic_load_explicit((p), memory_order_##order)
#define STORE(p, v, order) atomic_store_explicit((p), (v), memory_order_##order)

#define SLICE_NS UINT64_C(200000000)    /* longest sleep: bounds the delay of a put killed between publish and bell */
#define NAP_NS UINT64_C(100000)         /* while traffic flows: producers then ring nothing */
#define NAP_WORTH 16u                   /* records in a round that make a nap better than a doorbell */
#define CLOCK_SLACK_NS UINT64_C(1000000000)
#define KEEP_BYTES (UINT64_C(256) << 10) /* of an idle ring that stay mapped */
#define TRIM_EVERY_NS UINT64_C(200000000) /* a producer comes back to offset 0 only after some 64 KiB: no hurry */

static void clear_trims(struct mpb_distributor *d)
{
    /* A distributor that was killed while it punched left TRIM set; the chunk is only memory that reads as zero. */
    for (uint32_t i = 0; i < d->seg->nlanes; i++)
        if (LOAD(&d->seg->lanes[i].ring.tail.word, relaxed) & MPB_TRIM) mpb_trim_end(&d->seg->lanes[i].ring);
}

static void open_lane(struct mpb_distributor *d, uint32_t i)
{
    struct mpb_segment *seg = d->seg;
    struct mpb_lane_in *l = &d->lanes[i];
    mpb_consumer_open(&l->in, &seg->lanes[i].ring, seg->lane_data + (uint64_t)i * seg->lane_cap, seg->lane_cap);
    memcpy(l->num, l->in.num, sizeof l->num);
    l->taken = l->end = l->in.cur;
    l->seen = l->num[LH_FORWARDED];
    l->touched = seg->lane_cap; /* unknown what a predecessor left behind */
}

static void open_slot(struct mpb_distributor *d, uint32_t j)
{
    struct mpb_segment *seg = d->seg;
    struct mpb_slot *slot = &seg->slots[j];
    struct mpb_slot_out *s = &d->slots[j];
    mpb_producer_open(&s->out, &slot->ring, seg->slot_data + (uint64_t)j * seg->slot_cap, seg->slot_cap,
                      LOAD(&slot->limit, relaxed), NULL);
    const _Atomic uint64_t *pos = mpb_decided(seg, j, s->out.word);
    for (uint32_t i = 0; i < seg->nlanes; i++) s->decided[i] = LOAD(&pos[i], relaxed);
    s->start_ts = LOAD(&slot->start_ts, relaxed);
    s->wait = LOAD(&slot->policy, relaxed) == POLICY_WAIT;
    s->touched = seg->slot_cap;
    s->active = true;
    s->stopping = s->full = s->dirty = false;
}

bool mpb_distributor_open(struct mpb_distributor *d, struct mpb_segment *seg)
{
    memset(d, 0, sizeof *d);
    d->seg = seg;
    d->lanes = calloc(seg->nlanes, sizeof *d->lanes);
    d->slots = calloc(seg->nslots, sizeof *d->slots);
    d->decided = calloc((size_t)seg->nslots * seg->nlanes, sizeof *d->decided);
    d->heap = calloc(seg->nlanes, sizeof *d->heap);
    if (!d->lanes || !d->slots || !d->decided || !d->heap) {
        mpb_distributor_close(d);
        return false;
    }
    clear_trims(d);
    for (uint32_t i = 0; i < seg->nlanes; i++) open_lane(d, i);
    for (uint32_t j = 0; j < seg->nslots; j++) {
        d->slots[j].decided = d->decided + (size_t)j * seg->nlanes;
        uint32_t state = LOAD(&seg->slots[j].state, acquire);
        if (state == SLOT_ACTIVE || state == SLOT_STOPPING) open_slot(d, j);
    }
    d->t0 = mpb_now();
    return true;
}

void mpb_distributor_close(struct mpb_distributor *d)
{
    free(d->lanes);
    free(d->slots);
    free(d->decided);
    free(d->heap);
    memset(d, 0, sizeof *d);
}

/* ---- step 7 and 8: commits ------------------------------------------------------------------------------------- */

static void commit_slot(struct mpb_distributor *d, uint32_t j)
{
    struct mpb_slot_out *s = &d->slots[j];
    struct mpb_slot *slot = &d->seg->slots[j];
    _Atomic uint64_t *pos = mpb_decided(d->seg, j, ~s->out.word); /* the block that the next word will name */
    for (uint32_t i = 0; i < d->lanes_n; i++) STORE(&pos[i], s->decided[i], relaxed);
    mpb_publish(&s->out, s->out.num);
    s->dirty = false;
    mpb_ring_bell(&slot->bell);
}

static void commit_lane(struct mpb_distributor *d, uint32_t i, uint64_t pos)
{
    struct mpb_lane_in *l = &d->lanes[i];
    struct mpb_lane *lane = &d->seg->lanes[i];
    mpb_commit(&l->in, pos, l->num, l->num[LH_FORWARDED]);
    l->dirty = false;
    /* seq_cst: pairs with the store of want_room by a producer that waits; it looked at head after that store, and we look
     * at the flag after head moved, so one of us sees the other. */
    if (LOAD(&lane->want_room, seq_cst) && mpb_has_room(&lane->ring, l->in.cap, d->seg->lane_limit))
        mpb_ring_bell(&lane->bell);
}

/* Heads follow what EVERY ring has decided, in batch order: what lies before head is never needed again. */
static void move_heads(struct mpb_distributor *d)
{
    uint32_t to = d->batch_n;
    for (uint32_t j = 0; j < d->seg->nslots; j++)
        if (d->slots[j].active && d->slots[j].at < to) to = d->slots[j].at;
    for (uint32_t k = d->batch_moved; k < to; k++) {
        struct mpb_lane_in *l = &d->lanes[d->batch_lane[k]];
        l->num[LH_FORWARDED] = d->batch[k].seq;
        l->taken = d->batch[k].end;
        l->dirty = true;
    }
    d->moved += to - d->batch_moved;
    d->batch_moved = to;
    if (to == d->batch_n) d->batch_n = d->batch_moved = 0;
    for (uint32_t i = 0; i < d->lanes_n; i++)
        if (d->lanes[i].dirty) commit_lane(d, i, d->lanes[i].taken);
}

/* ---- step 6: decide and copy --------------------------------------------------------------------------------------- */

static bool may_wait(struct mpb_distributor *d, uint32_t j)
{
    struct mpb_slot_out *s = &d->slots[j];
    /* seq_cst: part of the sleep's ready(), after the sleeping bit was set; whoever stops the slot or begins to drain stores
     * before it looks at the bell. An acquire load may overtake the bit on arm64, and the news would wait for the slice. */
    return s->wait && !s->stopping && LOAD(&d->seg->slots[j].state, seq_cst) == SLOT_ACTIVE &&
           mpb_now() < LOAD(&d->seg->header->drain_deadline, seq_cst);
}

static void decide(struct mpb_distributor *d, uint32_t j)
{
    struct mpb_slot_out *s = &d->slots[j];
    struct mpb_place place;
    s->full = false;
    for (; s->at < d->batch_n; s->at++) {
        const struct mpb_record *r = &d->batch[s->at];
        uint64_t *decided = &s->decided[d->batch_lane[s->at]];
        if (r->pos < *decided) continue; /* this ring decided it before a distributor died */
        if (r->ts < s->start_ts || r->ts >= s->stop_ts) {
            s->out.num[ST_OUTSIDE]++;
        } else if (mpb_reserve(&s->out, r->len, &place) == MPB_OK) {
            mpb_write(&s->out, &place, r->kind, r->flags, r->ts, s->out.num[ST_FORWARDED] + 1, r->payload, r->len, NULL, 0);
            s->out.num[ST_FORWARDED]++;
            if (place.off + mpb_record_bytes(r->len) > s->touched) s->touched = place.off + mpb_record_bytes(r->len);
        } else if (may_wait(d, j) && r->len <= mpb_max_payload(d->seg->slot_cap)) {
            s->full = true;
            break;
        } else {
            s->out.num[ST_DROPPED]++; /* decided for ever: no restart brings it back */
        }
        *decided = r->end;
        s->dirty = true;
    }
}

static bool any_room(void *arg)
{
    struct mpb_distributor *d = arg;
    struct mpb_place place;
    for (uint32_t j = 0; j < d->seg->nslots; j++) {
        struct mpb_slot_out *s = &d->slots[j];
        if (s->active && s->full &&
            (!may_wait(d, j) || mpb_reserve(&s->out, d->batch[s->at].len, &place) == MPB_OK))
            return true;
    }
    return false;
}

/* Some ring with policy WAIT is full. Everything decided so far is committed; sleep until one of them has room. */
static void wait_for_room(struct mpb_distributor *d, uint64_t deadline)
{
    for (uint32_t j = 0; j < d->seg->nslots; j++)
        if (d->slots[j].active && d->slots[j].full) STORE(&d->seg->slots[j].want_room, 1u, seq_cst);
    uint64_t now = mpb_now(), left = deadline > now ? deadline - now : 0;
    mpb_bell_sleep(&d->seg->header->bell, any_room, d, left < SLICE_NS ? left : SLICE_NS);
    for (uint32_t j = 0; j < d->seg->nslots; j++)
        if (d->slots[j].active && d->slots[j].full) STORE(&d->seg->slots[j].want_room, 0u, relaxed);
}

/* True when the whole batch is decided by every ring. */
static bool settle_batch(struct mpb_distributor *d)
{
    bool full = false;
    for (uint32_t j = 0; j < d->seg->nslots; j++) {
        if (!d->slots[j].active) continue;
        decide(d, j);
        full |= d->slots[j].full;
    }
    STOP_POINT("dist.decided");
    for (uint32_t j = 0; j < d->seg->nslots; j++)
        if (d->slots[j].active && d->slots[j].dirty) commit_slot(d, j);
    STOP_POINT("dist.between_commits");
    move_heads(d);
    return !full;
}

/* ---- step 5: merge --------------------------------------------------------------------------------------------------- */

static bool before(const struct mpb_distributor *d, uint32_t a, uint32_t b)
{
    uint64_t x = d->lanes[a].next.ts, y = d->lanes[b].next.ts;
    return x < y || (x == y && a < b);
}

static void sift_down(struct mpb_distributor *d, uint32_t at)
{
    uint32_t lane = d->heap[at];
    for (uint32_t child; (child = 2 * at + 1) < d->heap_n; at = child) {
        if (child + 1 < d->heap_n && before(d, d->heap[child + 1], d->heap[child])) child++;
        if (!before(d, d->heap[child], lane)) break;
        d->heap[at] = d->heap[child];
    }
    d->heap[at] = lane;
}

/* The next record of a lane, checked, into l->next. A corrupt lane is skipped to the end of what was published: the damage
 * stays in it, and the number beside its tail tells how many records went with it. */
static void peek(struct mpb_lane_in *l)
{
    enum mpb_take got = mpb_next(&l->in, l->end, l->base, &l->next);
    l->have = got == TAKE_RECORD && l->next.seq == l->seen + 1;
    if (l->have) {
        uint64_t off = ((l->next.end - 1 - l->base) & (l->in.cap - 1)) + 1;
        if (off > l->touched) l->touched = off;
        l->seen = l->next.seq;
    } else if (got != TAKE_NONE) {
        if (!mpb_skip_published(l->in.ring, &l->end, &l->skip_seq)) l->skip_seq = l->seen; /* found out next time */
        l->in.cur = l->end;
        l->seen = l->skip_seq;
        l->skip = true;
    }
}

/* Strictly before T0: an equal stamp may still have company that is not published yet. */
static bool due(const struct mpb_distributor *d, struct mpb_lane_in *l)
{
    if (!l->have || d->t0 == UINT64_MAX) return l->have;
    if (l->next.ts > d->t0 + CLOCK_SLACK_NS) {
        l->next.ts = d->t0 - 1; /* a stamp from the future would hold up its lane for as long */
        l->num[LH_CLOCK]++;
    }
    return l->next.ts < d->t0;
}

static void fill_batch(struct mpb_distributor *d)
{
    uint64_t bytes = 0;
    while (d->heap_n && d->batch_n < MPB_BATCH && bytes < MPB_BATCH_BYTES) {
        struct mpb_lane_in *l = &d->lanes[d->heap[0]];
        d->batch_lane[d->batch_n] = d->heap[0];
        d->batch[d->batch_n++] = l->next;
        bytes += l->next.len;
        peek(l);
        if (!due(d, l)) d->heap[0] = d->heap[--d->heap_n];
        if (d->heap_n) sift_down(d, 0);
    }
    for (uint32_t j = 0; j < d->seg->nslots; j++) d->slots[j].at = 0;
}

/* ---- steps 1 to 4: what this round looks at -------------------------------------------------------------------------- */

static void look_at_slot(struct mpb_distributor *d, uint32_t j)
{
    struct mpb_slot_out *s = &d->slots[j];
    struct mpb_slot *slot = &d->seg->slots[j];
    uint32_t state = LOAD(&slot->state, acquire);
    if (state == SLOT_REGISTERED) {
        STOP_POINT("dist.registered");
        open_slot(d, j);
        s->touched = d->seg->slot_cap;
        for (uint32_t i = 0; i < d->seg->nlanes; i++) s->decided[i] = d->lanes[i].taken;
        uint32_t lanes_n = d->lanes_n;
        d->lanes_n = d->seg->nlanes; /* all of them this once: the other block still holds the zeros of the claim */
        commit_slot(d, j);
        commit_slot(d, j);
        d->lanes_n = lanes_n;
        STOP_POINT("dist.before_active");
        /* CAS: stop() may have come first. release: the decided positions are there before a successor sees ACTIVE. */
        uint32_t expected = SLOT_REGISTERED;
        atomic_compare_exchange_strong_explicit(&slot->state, &expected, SLOT_ACTIVE, memory_order_seq_cst,
                                                memory_order_acquire);
        state = LOAD(&slot->state, acquire);
    }
    s->wait = LOAD(&slot->policy, relaxed) == POLICY_WAIT; /* a watcher that takes over a slot may say otherwise */
    s->out.limit = LOAD(&slot->limit, relaxed);
    s->stopping = s->active && state == SLOT_STOPPING;
    s->active = s->active && (state == SLOT_ACTIVE || state == SLOT_STOPPING);
    if (state == SLOT_STOPPING && !s->active) { /* stopped before this distributor ever saw it active */
        open_slot(d, j);
        s->stopping = true;
    }
    s->stop_ts = s->stopping ? LOAD(&slot->stop_ts, relaxed) : UINT64_MAX;
    if (s->stopping && s->stop_ts > d->t0 + CLOCK_SLACK_NS) s->stop_ts = d->t0 - 1; /* nonsense; nobody stops in the future */
}

static uint64_t look_at_tail(struct mpb_distributor *d, uint32_t i)
{
    _Atomic uint64_t *tail = &d->seg->lanes[i].ring.tail.word;
    /* DRAINING: seal every lane. seq_cst fetch_or pairs with the producer's CAS: a put either is before it, and this end
     * covers it, or fails. Without the seal a put could succeed behind the last look and never be delivered. */
    if (d->sealed) return mpb_pos(atomic_fetch_or_explicit(tail, MPB_SEAL, memory_order_seq_cst));
    return mpb_pos(LOAD(tail, seq_cst)); /* acquire for the records, seq_cst against our own T0 */
}

static void begin_round(struct mpb_distributor *d)
{
    struct mpb_header *h = d->seg->header;
    d->t0 = mpb_now();
    /* Nothing below may be read before T0: a tail from before T0 could miss a put that a later stamp depends on. */
#if defined(__x86_64__)
    __builtin_ia32_lfence();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
    d->sealed = LOAD(&h->state, seq_cst) != STATE_RUNNING;
    for (uint32_t j = 0; j < d->seg->nslots; j++) look_at_slot(d, j);
    for (uint32_t i = 0; i < d->seg->nlanes; i++)
        if (LOAD(&h->claimed[i / 64], seq_cst) >> (i % 64) & 1) d->lanes_n = d->lanes_n > i ? d->lanes_n : i + 1;
    uint32_t look = d->sealed ? d->seg->nlanes : d->lanes_n; /* an unclaimed lane may be claimed this moment: seal it too */
    d->lanes_n = look;
    d->heap_n = 0;
    if (d->sealed) d->t0 = UINT64_MAX; /* nothing can be published any more, so there is nothing to wait for */
    for (uint32_t i = 0; i < look; i++) {
        struct mpb_lane_in *l = &d->lanes[i];
        l->end = look_at_tail(d, i);
        STOP_POINT("dist.looked_at_tail");
        /* relaxed, after the acquire of the tail: base cannot change while there is something to read. */
        l->base = LOAD(&d->seg->lanes[i].ring.tail.aux, relaxed);
        if (!l->have && l->in.cur != l->end) peek(l);
        if (due(d, l)) d->heap[d->heap_n++] = i;
    }
    for (uint32_t at = d->heap_n / 2; at-- > 0;) sift_down(d, at);
    d->moved = 0;
    d->in_round = true;
}

/* ---- step 8's rest, 10 and 11 ----------------------------------------------------------------------------------------- */

static void close_slot(struct mpb_distributor *d, uint32_t j, uint32_t from, uint32_t to)
{
    struct mpb_slot *slot = &d->seg->slots[j];
    STOP_POINT("dist.before_close");
    /* release: the last records are committed before the consumer, which reads the state first, can see the end. */
    atomic_compare_exchange_strong_explicit(&slot->state, &from, to, memory_order_seq_cst, memory_order_relaxed);
    d->slots[j].active = false;
    mpb_ring_bell(&slot->bell);
}

static void end_round(struct mpb_distributor *d)
{
    for (uint32_t i = 0; i < d->lanes_n; i++) {
        struct mpb_lane_in *l = &d->lanes[i];
        if (!l->skip) continue;
        l->num[LH_CORRUPT]++;
        if (l->skip_seq > l->num[LH_FORWARDED]) l->num[LH_LOST] += l->skip_seq - l->num[LH_FORWARDED];
        l->num[LH_FORWARDED] = l->skip_seq;
        l->taken = l->in.cur;
        l->skip = false;
        commit_lane(d, i, l->taken);
    }
    for (uint32_t j = 0; j < d->seg->nslots; j++)
        if (d->slots[j].stopping && d->t0 > d->slots[j].stop_ts) close_slot(d, j, SLOT_STOPPING, SLOT_CLOSED);
    STORE(&d->seg->header->round_ts, d->t0, release); /* for flush: everything stamped before is in the rings */
    d->in_round = false;
}

static bool all_empty(const struct mpb_distributor *d)
{
    for (uint32_t i = 0; i < d->lanes_n; i++)
        if (d->lanes[i].taken != d->lanes[i].end) return false;
    return true;
}

static void finish(struct mpb_distributor *d)
{
    for (uint32_t j = 0; j < d->seg->nslots; j++) {
        for (;;) { /* again when stop() came between the look and the change */
            uint32_t state = LOAD(&d->seg->slots[j].state, acquire);
            if (state != SLOT_REGISTERED && state != SLOT_ACTIVE && state != SLOT_STOPPING) break;
            close_slot(d, j, state, SLOT_ENDED);
        }
    }
    STOP_POINT("dist.before_drained");
    STORE(&d->seg->header->state, STATE_DRAINED, seq_cst);
}

/* ready() of the distributor's sleep: every load is seq_cst and comes after the sleeping bit was set. */
static bool has_news(void *arg)
{
    struct mpb_distributor *d = arg;
    struct mpb_header *h = d->seg->header;
    if (LOAD(&h->state, seq_cst) != STATE_RUNNING) return true;
    for (uint32_t w = 0; w * 64 < d->seg->nlanes; w++) {
        uint64_t bits = LOAD(&h->claimed[w], seq_cst);
        for (; bits; bits &= bits - 1) {
            uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);
            if (i >= d->seg->nlanes) break; /* a bit that nobody set on purpose */
            if (mpb_pos(LOAD(&d->seg->lanes[i].ring.tail.word, seq_cst)) != d->lanes[i].taken) return true;
        }
    }
    for (uint32_t j = 0; j < d->seg->nslots; j++) {
        uint32_t state = LOAD(&d->seg->slots[j].state, seq_cst);
        if (state == SLOT_REGISTERED || state == SLOT_STOPPING) return true;
    }
    return false;
}

/* Gives back what a burst has left in lanes and rings that are empty now. */
static void trim(struct mpb_distributor *d, uint64_t now)
{
    if (now < d->next_trim || d->seg->reserved) return;
    d->next_trim = now + TRIM_EVERY_NS;
    for (uint32_t i = 0; i < d->lanes_n; i++) {
        struct mpb_lane_in *l = &d->lanes[i];
        struct mpb_lane *lane = &d->seg->lanes[i];
        while (l->touched > KEEP_BYTES) {
            /* A sixteenth, so that TRIMS can count all chunks of a ring; never so much that a burst lacks the room. */
            uint64_t chunk = l->in.cap >> 4 > KEEP_BYTES ? l->in.cap >> 4 : KEEP_BYTES;
            uint64_t from = (l->touched - 1) & ~(chunk - 1), to = from + chunk;
            if (from < KEEP_BYTES) from = KEEP_BYTES;
            if (to > l->in.cap) to = l->in.cap;
            if (from >= to || !mpb_trim_begin(&l->in, lane->trim, from, to)) break;
            STOP_POINT("dist.trimming");
            madvise((char *)l->in.data + from, to - from, MADV_REMOVE);
            mpb_trim_end(&lane->ring);
            l->touched = from;
        }
    }
    for (uint32_t j = 0; j < d->seg->nslots; j++) {
        struct mpb_slot_out *s = &d->slots[j];
        /* We are the only writer of this ring, so an empty one is all ours. acquire: the consumer has read everything. */
        if (!s->active || s->touched <= KEEP_BYTES || s->out.cap <= KEEP_BYTES ||
            mpb_pos(LOAD(&d->seg->slots[j].ring.head.word, acquire)) != s->out.pos)
            continue;
        s->out.base = s->out.pos; /* rewind first: what stays mapped is where the next records go */
        STORE(&d->seg->slots[j].ring.tail.aux, s->out.base, relaxed);
        uint64_t to = (s->touched + 4095) & ~UINT64_C(4095);
        madvise(s->out.data + KEEP_BYTES, (to < s->out.cap ? to : s->out.cap) - KEEP_BYTES, MADV_REMOVE);
        s->touched = 0;
    }
}

static void rest(struct mpb_distributor *d, uint64_t deadline)
{
    uint64_t now = mpb_now();
    if (now >= deadline) return;
    if (d->moved >= NAP_WORTH) { /* traffic flows: let it gather, without a bell to ring for anybody */
        mpb_nap(NAP_NS);
        return;
    }
    trim(d, now);
    mpb_bell_sleep(&d->seg->header->bell, has_news, d, deadline - now < SLICE_NS ? deadline - now : SLICE_NS);
}

enum mpb_run mpb_distribute(struct mpb_distributor *d, uint64_t deadline)
{
    for (;;) {
        if (!d->in_round) begin_round(d);
        if (!d->batch_n) fill_batch(d);
        if (d->batch_n) {
            if (!settle_batch(d)) wait_for_room(d, deadline);
        } else {
            end_round(d);
            if (d->sealed && all_empty(d)) {
                finish(d);
                return RUN_DRAINED;
            }
            if (!d->sealed) rest(d, deadline);
        }
        if (mpb_now() >= deadline) return RUN_TICK;
    }
}
