/* ring.h: one bounded byte ring in shared memory with one producer and one consumer.
 *
 * A lane is such a ring (a worker produces, the distributor consumes); a watcher ring is another (the distributor
 * produces, the watcher consumes). Nobody waits in here, and no lock exists: full is an answer. Either side may be killed
 * between any two instructions; the next producer or consumer opens the ring and goes on from the last published word.
 *
 * Who writes what
 *   producer: data behind tail, tail blocks, tail word, base (only while the ring is empty)
 *   consumer: head blocks, head word, the consumer_flags byte of a record; SEAL and TRIM in the tail word of a lane
 *
 * Rewind: a producer that finds the ring empty starts again at offset 0, so that a ring with little backlog stays in a few
 * pages (and in the cache) however much passes through it.
 * Trim: what a burst has left behind is given back by the consumer, chunk by chunk: it names a chunk, sets TRIM by CAS on
 * an EMPTY ring, punches the chunk, clears TRIM. A producer that was writing meanwhile fails its CAS, learns of the chunk
 * and writes its record anew elsewhere; it never waits. Each trim also adds one to TRIMS, which stays until the next
 * publication: a producer that slept through a whole trim, in the middle of writing into the chunk, must not find the word
 * that it remembers.
 */
#ifndef MPB_RING_H
#define MPB_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "stop_point.h"

struct mpb_producer {
    struct mpb_ring *ring;
    char *data;
    uint64_t cap;    /* bytes, a power of two */
    uint64_t limit;  /* records, 0 = no such bound */
    uint64_t word;   /* tail word as last published by us, or as found */
    uint64_t pos;    /* where the next record goes; ahead of word only in a distributor's batch */
    uint64_t base;
    uint64_t head;   /* consumer's position when we last looked */
    uint64_t taken;  /* records the consumer had taken when we last looked */
    uint64_t num[MPB_NUMBERS];
    _Atomic uint64_t *trim; /* lane.trim; NULL where nobody else trims */
};

struct mpb_place {
    uint64_t pad; /* bytes of PAD at the present offset, 0 = none */
    uint64_t off; /* offset of the record */
    uint64_t end; /* position behind the record */
};

struct mpb_record {
    const char *payload;
    uint64_t pos; /* where the record begins, a PAD before it skipped */
    uint64_t end;
    uint64_t ts;
    uint64_t seq;
    uint32_t len;
    uint16_t kind;
    uint8_t flags;
    uint8_t consumer_flags;
};

struct mpb_consumer {
    struct mpb_ring *ring;
    const char *data;
    uint64_t cap;
    uint64_t word; /* head word as last committed */
    uint64_t cur;  /* where the next record begins */
    uint64_t num[MPB_NUMBERS];
};

enum mpb_take { TAKE_NONE, TAKE_RECORD, TAKE_CORRUPT };

/* A record must be contiguous wherever head stands, so half a ring is the guaranteed maximum. */
static inline uint64_t mpb_max_payload(uint64_t cap) { return cap / 2 - 32 - MPB_RECORD_HEADER; }
static inline uint64_t mpb_record_bytes(uint64_t len) { return MPB_RECORD_HEADER + ((len + 7) & ~UINT64_C(7)); }
static inline uint64_t mpb_pos(uint64_t word) { return word & ~(MPB_FLAGS | MPB_TRIMS); }

void mpb_producer_open(struct mpb_producer *p, struct mpb_ring *ring, char *data, uint64_t cap, uint64_t limit,
                       _Atomic uint64_t *trim);

/* Finds room for a payload of len bytes behind p->pos. MPB_OK, MPB_FULL or MPB_TOO_LARGE. Writes nothing. */
enum mpb_refusal mpb_reserve(struct mpb_producer *p, uint64_t len, struct mpb_place *place);

/* Writes the record (two parts, as callers often hold a prefix and a body) and moves p->pos; invisible until published. */
void mpb_write(struct mpb_producer *p, const struct mpb_place *place, uint16_t kind, uint8_t flags, uint64_t ts,
               uint64_t seq, const void *a, uint64_t alen, const void *b, uint64_t blen);

/* Publishes p->pos with the numbers num[] (copied to p->num). By CAS, for lanes: false when the word was changed by somebody
 * else (SEAL, TRIM, or a foreign writer), then p->word is what was found and nothing is visible. */
bool mpb_publish_cas(struct mpb_producer *p, const uint64_t num[MPB_NUMBERS]);
/* By a plain store, for the one writer of a watcher ring. */
void mpb_publish(struct mpb_producer *p, const uint64_t num[MPB_NUMBERS]);

/* One whole put into a lane: reserve, stamp, write, publish, and once more each time a trim got in between. */
enum mpb_refusal mpb_put(struct mpb_producer *p, uint16_t kind, bool coarse_clock, const void *a, uint64_t alen,
                         const void *b, uint64_t blen);

void mpb_consumer_open(struct mpb_consumer *c, struct mpb_ring *ring, const char *data, uint64_t cap);

/* The record at c->cur, which is moved behind it. end: a position that was read from the tail word (acquire), base: read
 * after it. Every header field is loaded once and then checked against end and cap; TAKE_CORRUPT leaves c->cur alone. */
enum mpb_take mpb_next(struct mpb_consumer *c, uint64_t end, uint64_t base, struct mpb_record *r);

/* Moves head to pos with these numbers, and the mirror of records taken to taken. */
void mpb_commit(struct mpb_consumer *c, uint64_t pos, const uint64_t num[MPB_NUMBERS], uint64_t taken);

/* Whether a producer that found the ring full should be woken: a quarter of it is free, so that the two do not take turns
 * for every batch. With a bound by count any progress will do. */
bool mpb_has_room(struct mpb_ring *ring, uint64_t cap, uint64_t limit);

/* For onlookers: a word and the block that belongs to it. False when it would not stand still for eight looks. */
bool mpb_read_numbers(struct mpb_word *w, uint64_t *word, uint64_t num[MPB_NUMBERS]);

/* Where a consumer goes on behind bytes that make no sense: all that is published now, and the sequence number of the last
 * record of it, so that what is skipped is counted exactly. False when a busy producer allowed no such look. */
bool mpb_skip_published(struct mpb_ring *ring, uint64_t *end, uint64_t *seq);

/* Consumer of an empty lane: reserves chunk [from, to) of the data for punching. False when the ring is not empty, or a
 * put got in between. While true, the producer keeps out of the chunk; mpb_trim_end opens it again. */
bool mpb_trim_begin(struct mpb_consumer *c, _Atomic uint64_t trim[2], uint64_t from, uint64_t to);
void mpb_trim_end(struct mpb_ring *ring);

#endif
