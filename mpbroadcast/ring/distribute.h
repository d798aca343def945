/* distribute.h: the distributor: merges the lanes by time stamp and copies every record to each watcher ring.
 *
 * One at a time exists, fenced by the kernel lock LOCK_DIST; whoever holds it may open the distributor and go on where
 * the last one was killed. The order inside one batch makes that exact:
 *   decide and copy for each ring  ->  commit each ring (content and decisions in one store)  ->  commit the lanes' heads
 * A death before a ring's commit leaves nothing of the batch in it; a death before the heads' commit leaves decisions with
 * positions beyond head, and the next distributor skips, ring by ring, what that ring has decided.
 */
#ifndef MPB_DISTRIBUTE_H
#define MPB_DISTRIBUTE_H

#include "claim.h"
#include "ring.h"

#define MPB_BATCH 256u
#define MPB_BATCH_BYTES (UINT64_C(256) << 10)

struct mpb_lane_in {
    struct mpb_consumer in;
    struct mpb_record next; /* the first record that no batch took yet, if have */
    uint64_t end;           /* tail as this round saw it */
    uint64_t base;
    uint64_t seen;    /* sequence of the last record read */
    uint64_t taken;   /* where head may go: end of the last record that every ring decided */
    uint64_t skip_seq; /* sequence of the last record in a corrupt stretch */
    uint64_t touched; /* highest offset used since the last trim */
    uint64_t num[MPB_NUMBERS];
    bool have, dirty, skip; /* skip: the rest, up to end, is corrupt */
};

struct mpb_slot_out {
    struct mpb_producer out;
    uint64_t *decided; /* [lanes], private until the commit */
    uint64_t start_ts, stop_ts, touched;
    uint32_t at; /* records of the batch decided so far */
    bool active, stopping, wait, full, dirty;
};

struct mpb_distributor {
    struct mpb_segment *seg;
    struct mpb_lane_in *lanes;
    struct mpb_slot_out *slots;
    uint64_t *decided;
    uint32_t *heap, heap_n; /* lanes with a record stamped before t0, smallest (ts, lane) on top */
    uint32_t lanes_n;       /* lanes ever claimed: [0, lanes_n) */
    struct mpb_record batch[MPB_BATCH];
    uint32_t batch_lane[MPB_BATCH];
    uint32_t batch_n, batch_moved; /* batch_moved: heads have been moved past these */
    uint64_t t0, moved, next_trim;
    bool in_round, sealed;
};

enum mpb_run { RUN_TICK, RUN_DRAINED };

/* False: out of memory. Needs LOCK_DIST held. */
bool mpb_distributor_open(struct mpb_distributor *d, struct mpb_segment *seg);
void mpb_distributor_close(struct mpb_distributor *d);

/* Distributes until deadline (CLOCK_MONOTONIC), sleeping while there is nothing to do. */
enum mpb_run mpb_distribute(struct mpb_distributor *d, uint64_t deadline);

#endif
