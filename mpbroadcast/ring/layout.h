/* layout.h: every byte of a segment. No algorithm lives here; ring.h has those of one ring, distribute.h those of the
 * distributor.
 *
 *   segment  (one sealed memfd, mapped by every process that takes part)
 *   +--------+------------+------------+------------------+------------------+-------------------+
 *   | header | lane       | slot       | decided          | lane data        | watcher ring data |
 *   | 4 KiB  | control[n] | control[m] | positions[m][2][n] | [n][lane_bytes] | [m][slot_bytes]   |
 *   +--------+------------+------------+------------------+------------------+-------------------+
 *
 *   record   (8-byte aligned; a record never wraps, a PAD fills what is left before the end)
 *   +---------+----------+----------+------------------+--------+---------+---------+- - - -+
 *   | u32 len | u16 kind | u8 flags | u8 consumer_flags | u64 ts | u64 seq | payload | pad8  |
 *   +---------+----------+----------+------------------+--------+---------+---------+- - - -+
 *     only these first 8 bytes exist in a PAD record
 *
 *   position word   63 ... 58   57 ............. 3    2      1      0
 *                   | TRIMS   | position (x 8)   | TRIM | SEAL | PARITY |
 *
 * A position counts bytes since the ring was made; it never goes back (2^58 bytes last for years of flood). Its address in
 * the data is (pos - base) & mask. PARITY names which of the two blocks of numbers beside the word belongs to this
 * position, so that position and numbers change in one store. SEAL (lane tails): nothing is published any more. TRIM (lane
 * tails): the consumer is giving one chunk of free memory back to the kernel; TRIMS counts how often it began to since the
 * last publication; see trim in ring.h. In the tail of a watcher ring the three low bits count commits, modulo 8.
 */
#ifndef MPB_LAYOUT_H
#define MPB_LAYOUT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define MPB_MAGIC UINT64_C(0x31747361636d706d) /* "mpmcast1", little-endian */
#define MPB_LAYOUT_VERSION 2u

#define MPB_HEADER_BYTES 4096u
#define MPB_MAX_LANES 1024u
#define MPB_MAX_SLOTS 256u
#define MPB_MIN_RING_BYTES (UINT64_C(64) << 10)
#define MPB_MAX_RING_BYTES (UINT64_C(1) << 30)

#define MPB_PARITY UINT64_C(1)
#define MPB_SEAL UINT64_C(2)
#define MPB_TRIM UINT64_C(4)
#define MPB_FLAGS UINT64_C(7)
#define MPB_TRIMS_ONE (UINT64_C(1) << 58)
#define MPB_TRIMS (UINT64_C(63) << 58)

#define MPB_RECORD_HEADER 24u
#define MPB_PAD_HEADER 8u
#define MPB_KIND_PAD 0xffffu
#define MPB_NUMBERS 6u

/* One position word with its two blocks of numbers; it has one writer at a time. */
struct mpb_word {
    alignas(128) _Atomic uint64_t word;
    _Atomic uint64_t aux; /* beside a tail: base. beside a head: how many records were taken, a mirror for count bounds */
    _Atomic uint64_t blk[2][MPB_NUMBERS];
};

struct mpb_ring {
    struct mpb_word tail; /* written by the producer */
    struct mpb_word head; /* written by the consumer */
};

enum mpb_lane_tail { LT_ACCEPTED, LT_LAST_TS };                      /* ACCEPTED = sequence of the last record */
enum mpb_lane_head { LH_FORWARDED, LH_CORRUPT, LH_LOST, LH_CLOCK };   /* FORWARDED = sequence of the last record taken */
enum mpb_slot_tail { ST_FORWARDED, ST_DROPPED, ST_OUTSIDE };          /* FORWARDED = sequence of the last record */
enum mpb_slot_head { SH_HANDLED, SH_FAILED, SH_GIVEN_UP, SH_FILTERED, SH_LOST };

enum mpb_refusal { MPB_OK, MPB_FULL, MPB_TOO_LARGE, MPB_STOPPED, MPB_NO_LANE, MPB_INVALID, MPB_REFUSALS };

struct mpb_lane {
    struct mpb_ring ring;
    alignas(128) _Atomic uint32_t bell; /* of a producer that waits for room */
    _Atomic uint32_t want_room;
    _Atomic uint64_t trim[2]; /* from, to: offsets of the chunk that is being given back while TRIM is set */
    alignas(128) _Atomic uint64_t refused[8]; /* by enum mpb_refusal; the owner adds, anyone reads */
    _Atomic uint64_t owner;  /* pid << 40 | start time in ticks: one word, so that a claim is one compare-and-swap */
    _Atomic uint32_t claims; /* how many processes have owned this lane so far */
    _Atomic uint32_t problem_count;
    char owner_name[32];
    char problem[256]; /* the last refused event, in words, for the distributor's log; torn text does no harm */
};

/* Who owns a lane. Ticks are field 22 of /proc/PID/stat, 100 a second: 40 bits last for centuries; a pid has 22. */
#define MPB_OWNER(pid, ticks) ((uint64_t)(pid) << 40 | ((uint64_t)(ticks) & MPB_OWNER_TICKS))
#define MPB_OWNER_TICKS ((UINT64_C(1) << 40) - 1)
#define MPB_OWNER_PID(owner) ((uint32_t)((owner) >> 40))

enum mpb_slot_state {
    SLOT_FREE, SLOT_CLAIMED, SLOT_REGISTERED, SLOT_ACTIVE, SLOT_STOPPING, SLOT_CLOSED, SLOT_ENDED, SLOT_ABANDONED
};
enum mpb_policy { POLICY_WAIT, POLICY_DROP }; /* apimachinery's WaitIfChannelFull, DropIfChannelFull */

struct mpb_slot {
    struct mpb_ring ring;
    alignas(128) _Atomic uint32_t bell; /* of the consumer */
    _Atomic uint32_t want_room;         /* the distributor waits for this ring */
    _Atomic uint32_t state;      /* one word with the generation, see mpb_stop_slot: who stops a watch changes both or none */
    _Atomic uint32_t generation;
    _Atomic uint32_t policy;
    _Atomic uint32_t managed; /* has a helper: shutdown waits for it, and nobody takes the slot when it dies. 2: see adopt.h */
    _Atomic uint64_t limit; /* records at most, 0 = bytes alone bound it */
    _Atomic uint64_t prefix; /* records that watch_with_prefix wrote; part of forwarded */
    _Atomic uint64_t start_ts;
    _Atomic uint64_t stop_ts;
    _Atomic uint64_t registered_at; /* Unix nanoseconds, for people */
    alignas(128) _Atomic uint64_t consumer_start;
    _Atomic uint32_t consumer_pid;
    _Atomic uint32_t spare_pid;
    _Atomic uint64_t spare_start;
    _Atomic uint64_t try_pos; /* sequence of the record that is suspected of ending its consumers */
    _Atomic uint32_t try_count; /* how strongly, in shares; see watcher.py */
    _Atomic uint32_t crash_mark; /* how the consumer ended: a signal's number, or what marks.py says; 0 = none */
    _Atomic uint32_t workers;  /* how many processes have worked here */
    _Atomic uint32_t streak;   /* the same since the last one that lasted a minute; sets the back-off */
    _Atomic uint32_t finished; /* the consumer has flushed and gone */
    char name[64];
    _Atomic uint64_t handling_ns; /* time spent in the handler */
    _Atomic uint64_t handed;      /* highest sequence number ever handed to a handler: up to there a record may come again */
    _Atomic uint64_t cells[55];   /* histogram and what a sink counts; see counters.py */
};

enum mpb_state { STATE_RUNNING = 1, STATE_DRAINING, STATE_DRAINED };

struct mpb_header {
    uint64_t magic;
    uint32_t version;
    uint32_t lanes;
    uint32_t slots;
    uint32_t coarse_clock; /* the clock's tick is over 20 ns: a put waits for the next one */
    uint64_t lane_bytes;
    uint64_t slot_bytes;
    uint64_t total_bytes;
    uint64_t lane_limit; /* records per lane, 0 = bytes alone bound it */
    uint64_t time_namespace; /* inode of /proc/self/ns/time: CLOCK_MONOTONIC differs between them */
    uint64_t created_at;     /* Unix nanoseconds */
    uint8_t token[16];
    char name[64];
    alignas(128) _Atomic uint32_t state;
    alignas(128) _Atomic uint32_t bell; /* of the distributor */
    _Atomic uint32_t distributors;      /* how many have worked here, for stats */
    _Atomic uint32_t dist_streak;       /* the same since the last one that lasted a minute; sets the back-off */
    _Atomic uint64_t dist_start;
    _Atomic uint32_t dist_pid;
    _Atomic uint32_t dist_spare_pid;
    _Atomic uint64_t dist_spare_start;
    _Atomic uint64_t owner_start;
    _Atomic uint32_t owner_pid;
    _Atomic uint32_t owner_gone; /* the distributor has seen the application dead */
    _Atomic uint64_t grace_ns;
    _Atomic uint64_t round_ts;       /* everything stamped before this has been forwarded */
    _Atomic uint64_t drain_deadline; /* CLOCK_MONOTONIC; after it no full ring is waited for */
    alignas(128) _Atomic uint64_t refused[8]; /* by processes without a lane */
    _Atomic uint64_t retired[16];             /* numbers of watcher slots that were used again */
    alignas(128) _Atomic uint64_t claimed[MPB_MAX_LANES / 64]; /* bit i: lane i was claimed once; never cleared */
    uint8_t boot_id[16]; /* of a segment in a file: the boot its stamps belong to; see adopt.h */
};

/* Bytes of the segment that are locked with F_OFD_SETLK, each one kind of life sign. */
enum mpb_lock {
    LOCK_OWNER, LOCK_DIST, LOCK_LANE, LOCK_SLOT = LOCK_LANE + MPB_MAX_LANES,
    LOCK_START = LOCK_SLOT + MPB_MAX_SLOTS, /* of a segment in a file: one program at a time looks whether it may have it */
    LOCK_RESCUE /* one helper at a time starts a distributor that died together with its spare */
};

_Static_assert(sizeof(struct mpb_word) == 128, "a position word and its numbers share two cache lines with nothing else");
_Static_assert(offsetof(struct mpb_lane, bell) == 256, "the bell is away from the position words");
_Static_assert(sizeof(struct mpb_lane) == 768, "lane control");
_Static_assert(offsetof(struct mpb_slot, bell) == 256, "the bell is away from the position words");
_Static_assert(sizeof(struct mpb_slot) == 1024, "slot control");
_Static_assert(offsetof(struct mpb_slot, state) % 8 == 0 &&
               offsetof(struct mpb_slot, generation) == offsetof(struct mpb_slot, state) + 4, "state and generation are one word");
_Static_assert(sizeof(struct mpb_header) <= MPB_HEADER_BYTES, "the header is one page");
_Static_assert(offsetof(struct mpb_header, magic) == 0 && offsetof(struct mpb_header, version) == 8,
               "another version of this library can always read these two");
_Static_assert(MPB_REFUSALS <= 8, "refused[] has a place for each reason");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "atomics in shared memory must be lock-free");

#endif
