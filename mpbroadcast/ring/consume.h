/* consume.h: the consuming end of a watcher ring: take many, settle in any order.
 *
 * Between take and settle a record is in flight. Head moves over the settled prefix only, so a consumer that dies repeats
 * what was in flight and nothing else; a record that was settled out of order carries its outcome in consumer_flags, and
 * is stepped over by the next consumer.
 */
#ifndef MPB_CONSUME_H
#define MPB_CONSUME_H

#include "claim.h"
#include "ring.h"

enum mpb_outcome { OUTCOME_NONE, OUTCOME_HANDLED, OUTCOME_FAILED, OUTCOME_GIVEN_UP, OUTCOME_FILTERED, OUTCOMES };

struct mpb_in_flight {
    uint64_t pos, end, seq, lost; /* lost: records that a corrupt stretch before this one took along */
    char *flags;                  /* its consumer_flags byte; NULL: a corrupt stretch, settled by nature */
    uint8_t outcome;
};

struct mpb_reader {
    struct mpb_segment *seg;
    struct mpb_slot *slot;
    struct mpb_consumer in;
    struct mpb_in_flight *flight; /* a ring buffer of flight_cap, a power of two */
    uint32_t flight_cap, flight_first, flight_n;
    uint64_t seen; /* sequence of the last record read */
    uint64_t last_ts;
    bool napped;
};

enum mpb_read { READ_RECORD, READ_NONE, READ_END, READ_NO_MEMORY };

void mpb_reader_open(struct mpb_reader *r, struct mpb_segment *seg, uint32_t slot);
void mpb_reader_close(struct mpb_reader *r);

/* The next record, now in flight. READ_END: the watch is closed and everything in its ring was read. */
enum mpb_read mpb_read(struct mpb_reader *r, struct mpb_record *rec);

/* Settles record seq. False: no such record is in flight. */
bool mpb_settle(struct mpb_reader *r, uint64_t seq, enum mpb_outcome outcome);

/* Settles everything up to and including seq in one commit. */
void mpb_settle_through(struct mpb_reader *r, uint64_t seq, enum mpb_outcome outcome);

bool mpb_reader_has_news(void *reader);

#endif
