/* claim.h: a mapped segment, who lives in it, and how a process comes to a lane or a slot of its own. */
#ifndef MPB_CLAIM_H
#define MPB_CLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "layout.h"
#include "ring.h"

/* What belongs to this process alone. It lives on a MADV_WIPEONFORK page: a child, also one of a raw clone(2), reads zeros
 * and so claims for itself; it can never write into its parent's lane. */
struct mpb_private {
    uint32_t pid; /* of the process that opened a reader here: getpid() without the system call */
    uint32_t has_locks; /* seg->lock_fd was opened by this process */
    uint32_t has_lane;
    uint32_t lane_index;
    uint32_t waiting; /* a thread sleeps on the lane's bell */
    uint64_t no_lane_until; /* all lanes were taken: when it is worth looking again */
    uint64_t last_time; /* of the last event, see mpb_event_time */
    struct mpb_producer lane;
};

struct mpb_segment {
    char *base;
    size_t size;
    struct mpb_header *header;
    struct mpb_lane *lanes;
    struct mpb_slot *slots;
    _Atomic uint64_t *decided; /* [slots][2][lanes] */
    char *lane_data;
    char *slot_data;
    uint32_t nlanes, nslots;
    uint64_t lane_cap, slot_cap, lane_limit;
    bool coarse_clock;
    bool writable;
    bool reserved; /* a file whose blocks are all there: punched holes might not be had again */
    int fd; /* see mpb_descriptor */
    int first_fd; /* its number when the file was mapped; helpers have theirs under the same */
    uint64_t file_dev, file_ino; /* of the file: a descriptor's number may be another file's by now */
    int lock_fd; /* an open file description of this process alone, see mpb_locks */
    struct mpb_private *mine;
    struct mpb_segment *next; /* all of this process, for the atfork handler */
};

struct mpb_sizes {
    uint32_t lanes, slots;
    uint64_t lane_bytes, slot_bytes, lane_limit;
};

uint64_t mpb_total_bytes(const struct mpb_sizes *s);

/* Fills the header of a fresh, zeroed file of mpb_total_bytes. */
void mpb_format(void *map, const struct mpb_sizes *s, const uint8_t token[16], const char *name);

/* Maps fd into seg (zeroed by the caller). Returns NULL, or why not, in words. */
const char *mpb_map(struct mpb_segment *seg, int fd, bool writable);
void mpb_unmap(struct mpb_segment *seg);

/* The number of a descriptor of the segment's file; -1: none. A daemon closes every descriptor it has, and the number may
 * then be another file's: it is looked at before each use, and when it is gone a new one is taken from a helper. The caller
 * of mpb_map closes it, after mpb_is_ours. */
int mpb_descriptor(struct mpb_segment *seg);
bool mpb_is_ours(const struct mpb_segment *seg, int fd);

/* Kernel byte locks (F_OFD_SETLK) on a description of this process alone. The kernel frees them after the last thread of a
 * killed process has left its memory, and never while it is stopped. 0, or an errno (EAGAIN: somebody holds it; EBADF: this process has no descriptor of the segment any more). */
int mpb_lock(struct mpb_segment *seg, uint32_t byte, bool wait);
int mpb_unlock(struct mpb_segment *seg, uint32_t byte);
/* Free, or held by this very process, or unknown for want of a descriptor: pid and start time then decide alone. */
bool mpb_lock_is_free(struct mpb_segment *seg, uint32_t byte);

/* Start time of a process in ticks since boot (field 22 of /proc/PID/stat); 0 when it is gone, a zombie, or unreadable. */
uint64_t mpb_start_ticks(uint32_t pid);
bool mpb_alive(uint32_t pid, uint64_t start);

/* The producer of this process, claimed at its first call. NULL: every lane has a living owner. */
struct mpb_producer *mpb_my_lane(struct mpb_segment *seg);

/* The same for puts: a process that found no lane looks again only after some milliseconds, so that its refusals are cheap. */
struct mpb_producer *mpb_my_lane_or_later(struct mpb_segment *seg);

/* Drops the lane after it was found sealed or written by a stranger. */
void mpb_forget_lane(struct mpb_segment *seg);

/* Counts a refusal, at the lane of this process or, without one, in the header; text may be NULL. */
void mpb_refuse(struct mpb_segment *seg, enum mpb_refusal why, const char *text, size_t len);

/* A free slot, claimed and emptied, its lock held by this process; -1: none. */
int mpb_claim_slot(struct mpb_segment *seg);

/* REGISTERED or ACTIVE -> STOPPING, with the time, if the slot is still of that generation. False: it is not, or it was stopped
 * before; then a slot that was used again in the meantime is not touched, however long the caller was held up. */
bool mpb_stop_slot(struct mpb_segment *seg, uint32_t j, uint32_t generation);
_Atomic uint64_t *mpb_decided(struct mpb_segment *seg, uint32_t slot, uint64_t parity);

void mpb_atfork_install(void);

#endif
