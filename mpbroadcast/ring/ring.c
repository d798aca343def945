/* ring.c: the algorithm of one ring. See ring.h for the picture, layout.h for the bytes. */
#include "ring.h"

#include <string.h>

#include "wait.h"

#define LOAD(p, order) atomic_load_explicit((p), memory_order_##order)
#define STORE(p, v, order) atomic_store_explicit((p), (v), memory_order_##order)

/* A rewind is tried where a put crosses such a border: often enough to keep an idle ring in a few pages, seldom enough
 * that the consumer's cache line is left alone. */
#define REWIND_STEP (UINT64_C(64) << 10)

/* One access, so that a header that somebody scribbles on is judged and used as the same value. Relaxed: the acquire load
 * of the tail word ordered it. */
static uint64_t load64(const char *p) { return LOAD((const _Atomic uint64_t *)(const void *)p, relaxed); }
static void store64(char *p, uint64_t v) { STORE((_Atomic uint64_t *)(void *)p, v, relaxed); }

/* acquire: pairs with the release in write_block. An onlooker that reads a number of a later commit then also sees, when
 * it looks at the word again, that the word has moved on. */
static void read_block(struct mpb_word *w, uint64_t word, uint64_t num[MPB_NUMBERS])
{
    for (unsigned i = 0; i < MPB_NUMBERS; i++) num[i] = LOAD(&w->blk[word & MPB_PARITY][i], acquire);
}

/* Fills the block that no valid word names. A kill in here leaves the old pair of word and block valid.
 * release: pairs with read_block; the word that retired this block was stored before. Free on x86. */
static void write_block(struct mpb_word *w, uint64_t word, const uint64_t num[MPB_NUMBERS])
{
    for (unsigned i = 0; i < MPB_NUMBERS; i++) STORE(&w->blk[~word & MPB_PARITY][i], num[i], release);
}

bool mpb_read_numbers(struct mpb_word *w, uint64_t *word, uint64_t num[MPB_NUMBERS])
{
    for (int i = 0; i < 8; i++) {
        /* acquire: pairs with the publishing store or CAS; the block it names was filled before. */
        *word = LOAD(&w->word, acquire);
        read_block(w, *word, num);
        if (LOAD(&w->word, acquire) == *word) return true;
    }
    return false;
}

bool mpb_skip_published(struct mpb_ring *ring, uint64_t *end, uint64_t *seq)
{
    uint64_t word, num[MPB_NUMBERS];
    for (int i = 0; i < 64; i++)
        if (mpb_read_numbers(&ring->tail, &word, num)) {
            *end = mpb_pos(word);
            *seq = num[0]; /* LT_ACCEPTED, ST_FORWARDED: the sequence of the last record in either kind of ring */
            return true;
        }
    return false;
}

void mpb_producer_open(struct mpb_producer *p, struct mpb_ring *ring, char *data, uint64_t cap, uint64_t limit,
                       _Atomic uint64_t *trim)
{
    *p = (struct mpb_producer){.ring = ring, .data = data, .cap = cap, .limit = limit, .trim = trim};
    /* acquire: pairs with the last publication of the producer before us; its block and base are then ours to read. */
    p->word = LOAD(&ring->tail.word, acquire);
    p->pos = mpb_pos(p->word);
    p->base = LOAD(&ring->tail.aux, relaxed) & ~UINT64_C(7); /* whatever is in there: offsets stay aligned */
    read_block(&ring->tail, p->word, p->num);
    p->head = mpb_pos(LOAD(&ring->head.word, acquire));
    p->taken = LOAD(&ring->head.aux, relaxed);
}

/* acquire: pairs with the release in mpb_commit; the consumer has read what we are about to overwrite. Without it our
 * bytes could land in a record that is still being copied. seq_cst, because a distributor that is about to sleep for want
 * of room looks here after it has set want_room. */
static void look_at_head(struct mpb_producer *p)
{
    p->head = mpb_pos(LOAD(&p->ring->head.word, seq_cst));
    p->taken = LOAD(&p->ring->head.aux, relaxed);
}

/* Every unread byte is gone, so the same position may stand for another offset. The store is ordered before the next
 * publication, and a consumer reads base only after it has seen such a publication: it cannot change under it. */
static void rewind_to(struct mpb_producer *p, uint64_t offset)
{
    p->base = p->pos - offset;
    STORE(&p->ring->tail.aux, p->base, relaxed);
}

/* The chunk under TRIM, plus room for a PAD header before it: positions up to it stay usable. */
static bool in_chunk(const struct mpb_producer *p, uint64_t off, uint64_t bytes, uint64_t *behind)
{
    if (!(p->word & MPB_TRIM) || !p->trim) return false;
    /* relaxed: the acquire part of the failed CAS that showed us TRIM ordered these. */
    uint64_t from = LOAD(&p->trim[0], relaxed), to = LOAD(&p->trim[1], relaxed) & ~UINT64_C(7);
    *behind = to;
    return off < to && from < off + bytes + MPB_PAD_HEADER;
}

/* Offsets only: where a record of that size goes when the write position is at p->pos. */
static void place_record(const struct mpb_producer *p, uint64_t bytes, struct mpb_place *place)
{
    uint64_t off = (p->pos - p->base) & (p->cap - 1), pad = 0, behind;
    for (int tries = 0; tries < 3; tries++) {
        if (off + bytes > p->cap) {
            pad += p->cap - off;
            off = 0;
        }
        if (!in_chunk(p, off, bytes, &behind)) break;
        pad += behind - off;
        off = behind & (p->cap - 1);
    }
    *place = (struct mpb_place){.pad = pad, .off = off, .end = p->pos + pad + bytes};
}

enum mpb_refusal mpb_reserve(struct mpb_producer *p, uint64_t len, struct mpb_place *place)
{
    if (len > mpb_max_payload(p->cap)) return MPB_TOO_LARGE;
    uint64_t bytes = mpb_record_bytes(len), off = (p->pos - p->base) & (p->cap - 1), behind;
    bool full_count = p->limit && p->num[0] - p->taken >= p->limit;
    place_record(p, bytes, place);
    if (place->pad || place->end - p->head > p->cap || full_count || (off ^ (off + bytes)) >= REWIND_STEP) {
        look_at_head(p);
        if (p->limit && p->num[0] - p->taken >= p->limit) return MPB_FULL;
        if (p->head == p->pos) {
            rewind_to(p, 0);
            if (in_chunk(p, 0, bytes, &behind)) rewind_to(p, p->cap / 2); /* one half is always clear of a chunk */
            place_record(p, bytes, place);
        }
        if (place->end - p->head > p->cap) return MPB_FULL;
    }
    return place->off + bytes > p->cap ? MPB_FULL : MPB_OK; /* never, unless somebody scribbled on trim[] */
}

void mpb_write(struct mpb_producer *p, const struct mpb_place *place, uint16_t kind, uint8_t flags, uint64_t ts,
               uint64_t seq, const void *a, uint64_t alen, const void *b, uint64_t blen)
{
    uint64_t len = alen + blen;
    if (place->pad) {
        char *pad = p->data + ((p->pos - p->base) & (p->cap - 1));
        store64(pad, (place->pad - MPB_PAD_HEADER) | (uint64_t)MPB_KIND_PAD << 32);
    }
    char *at = p->data + place->off;
    store64(at, len | (uint64_t)kind << 32 | (uint64_t)flags << 48);
    store64(at + 8, ts);
    store64(at + 16, seq);
    memcpy(at + MPB_RECORD_HEADER, a, alen);
    if (blen) memcpy(at + MPB_RECORD_HEADER + alen, b, blen);
    p->pos = place->end;
}

bool mpb_publish_cas(struct mpb_producer *p, const uint64_t num[MPB_NUMBERS])
{
    uint64_t found = p->word, next = p->pos | (~p->word & MPB_PARITY) | (p->word & MPB_TRIM); /* TRIMS starts at 0 again */
    write_block(&p->ring->tail, p->word, num);
    STOP_POINT("put.before_publish");
    /* seq_cst, as release: record, block and base are visible to whoever acquires the new word. As the store half of the
     * doorbell: pairs with the ready() loads of a distributor that goes to sleep. As a CAS: pairs with the distributor's
     * fetch_or of SEAL (and CAS of TRIM): the put is before it and will be read, or fails and was never visible.
     * acquire on failure: shows the chunk of a TRIM. */
    if (!atomic_compare_exchange_strong_explicit(&p->ring->tail.word, &found, next, memory_order_seq_cst,
                                                 memory_order_acquire)) {
        p->word = found;
        return false;
    }
    STOP_POINT("put.after_publish");
    p->word = next;
    memcpy(p->num, num, sizeof p->num);
    return true;
}

void mpb_publish(struct mpb_producer *p, const uint64_t num[MPB_NUMBERS])
{
    /* Counts, where PARITY alone would do, as a commit of decisions without a record keeps the position: an onlooker must
     * not take the second next word for the one it has seen. */
    uint64_t next = p->pos | ((p->word + 1) & MPB_FLAGS);
    write_block(&p->ring->tail, p->word, num);
    STOP_POINT("ring.before_publish");
    /* seq_cst: release for the records, and the store half of the watcher's doorbell. One writer, so no CAS. */
    STORE(&p->ring->tail.word, next, seq_cst);
    STOP_POINT("ring.after_publish");
    p->word = next;
    if (num != p->num) memcpy(p->num, num, sizeof p->num);
}

enum mpb_refusal mpb_put(struct mpb_producer *p, uint16_t kind, bool coarse_clock, const void *a, uint64_t alen,
                         const void *b, uint64_t blen)
{
    uint64_t num[MPB_NUMBERS] = {p->num[LT_ACCEPTED] + 1};
    for (int tries = 0; tries < 64; tries++) { /* a trim takes microseconds and needs an empty ring: two rounds in practice */
        struct mpb_place place;
        uint64_t start = p->pos, before = p->word;
        enum mpb_refusal refusal = mpb_reserve(p, alen + blen, &place);
        if (refusal != MPB_OK) return refusal;
        /* After room was found and before the copy: every record that was published before this stamp is in its lane by
         * now, which the merge by stamps needs. max(): the clock of another CPU may lie a little behind. */
        uint64_t ts = mpb_now();
        if (ts < p->num[LT_LAST_TS]) ts = p->num[LT_LAST_TS];
        num[LT_LAST_TS] = ts;
        STOP_POINT("put.before_copy");
        mpb_write(p, &place, kind, 0, ts, num[LT_ACCEPTED], a, alen, b, blen);
        if (mpb_publish_cas(p, num)) {
            while (coarse_clock && mpb_now() == ts) { /* commit wait: a later put elsewhere must get a later stamp */
            }
            return MPB_OK;
        }
        p->pos = start;
        if ((p->word ^ before) & ~(MPB_TRIM | MPB_TRIMS)) return MPB_STOPPED; /* sealed, or a foreign writer: this lane is not ours */
    }
    return MPB_FULL;
}

void mpb_consumer_open(struct mpb_consumer *c, struct mpb_ring *ring, const char *data, uint64_t cap)
{
    *c = (struct mpb_consumer){.ring = ring, .data = data, .cap = cap};
    c->word = LOAD(&ring->head.word, acquire); /* pairs with the last commit of the consumer before us */
    c->cur = mpb_pos(c->word);
    read_block(&ring->head, c->word, c->num);
}

enum mpb_take mpb_next(struct mpb_consumer *c, uint64_t end, uint64_t base, struct mpb_record *r)
{
    uint64_t cur = c->cur;
    for (int pads = 0; cur != end; pads++) {
        uint64_t off = (cur - base) & (c->cap - 1) & ~UINT64_C(7), left = end - cur;
        if (left > c->cap || (left & 7) || pads > 2) return TAKE_CORRUPT;
        uint64_t head = load64(c->data + off);
        uint32_t len = (uint32_t)head;
        uint16_t kind = (uint16_t)(head >> 32);
        if (kind == MPB_KIND_PAD) {
            uint64_t bytes = (uint64_t)len + MPB_PAD_HEADER;
            if ((bytes & 7) || bytes >= left) return TAKE_CORRUPT; /* a PAD is never the last thing published */
            cur += bytes;
            continue;
        }
        uint64_t bytes = mpb_record_bytes(len);
        if (len > mpb_max_payload(c->cap) || bytes > left || off + bytes > c->cap) return TAKE_CORRUPT;
        *r = (struct mpb_record){
            .payload = c->data + off + MPB_RECORD_HEADER,
            .pos = cur,
            .end = cur + bytes,
            .ts = load64(c->data + off + 8),
            .seq = load64(c->data + off + 16),
            .len = len,
            .kind = kind,
            .flags = (uint8_t)(head >> 48),
            .consumer_flags = (uint8_t)(head >> 56),
        };
        c->cur = r->end;
        return TAKE_RECORD;
    }
    return TAKE_NONE;
}

void mpb_commit(struct mpb_consumer *c, uint64_t pos, const uint64_t num[MPB_NUMBERS], uint64_t taken)
{
    uint64_t next = pos | (~c->word & MPB_PARITY);
    write_block(&c->ring->head, c->word, num);
    STORE(&c->ring->head.aux, taken, relaxed);
    STOP_POINT("commit.before_publish");
    /* seq_cst: release, as the producer overwrites these bytes once it sees the new head; and the store half of
     * want_room: a producer that waits has set its flag before it looked at head, we look at the flag after this. */
    STORE(&c->ring->head.word, next, seq_cst);
    STOP_POINT("commit.after_publish");
    c->word = next;
    memcpy(c->num, num, sizeof c->num);
}

bool mpb_has_room(struct mpb_ring *ring, uint64_t cap, uint64_t limit)
{
    if (limit) return true;
    /* seq_cst: head as the store half of want_room, see mpb_commit; tail stands still while its producer waits. */
    uint64_t head = mpb_pos(LOAD(&ring->head.word, seq_cst)), tail = mpb_pos(LOAD(&ring->tail.word, relaxed));
    return tail - head <= cap - cap / 4;
}

bool mpb_trim_begin(struct mpb_consumer *c, _Atomic uint64_t trim[2], uint64_t from, uint64_t to)
{
    uint64_t tail = LOAD(&c->ring->tail.word, acquire);
    if ((tail & (MPB_SEAL | MPB_TRIM)) || mpb_pos(tail) != mpb_pos(c->word) || (tail & MPB_TRIMS) == MPB_TRIMS) return false;
    STORE(&trim[0], from, relaxed);
    STORE(&trim[1], to, relaxed);
    /* seq_cst CAS: pairs with the producer's CAS. If it succeeds, nothing was published since the ring was seen empty, and
     * a producer that is writing into the chunk right now will fail its own CAS and write again outside of it. */
    return atomic_compare_exchange_strong_explicit(&c->ring->tail.word, &tail, (tail | MPB_TRIM) + MPB_TRIMS_ONE,
                                                   memory_order_seq_cst, memory_order_relaxed);
}

void mpb_trim_end(struct mpb_ring *ring)
{
    /* seq_cst: the chunk is punched before the producer may use it again. */
    atomic_fetch_and_explicit(&ring->tail.word, ~MPB_TRIM, memory_order_seq_cst);
}
