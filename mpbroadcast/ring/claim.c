/* claim.c: mapping a segment, kernel locks, lanes and slots. */
#define _GNU_SOURCE 1
#include "claim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "stop_point.h"
#include "wait.h"

#define LOAD(p, order) atomic_load_explicit((p), memory_order_##order)
#define STORE(p, v, order) atomic_store_explicit((p), (v), memory_order_##order)
#define PAGE UINT64_C(4096)
#define LOOK_AGAIN_NS UINT64_C(10000000) /* a look at all lanes costs a system call each */

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static struct mpb_segment *all_segments;

struct parts {
    uint64_t lanes, slots, decided, lane_data, slot_data, total;
};

static uint64_t pages(uint64_t n) { return (n + PAGE - 1) & ~(PAGE - 1); }

static struct parts parts_of(const struct mpb_sizes *s)
{
    struct parts p;
    p.lanes = MPB_HEADER_BYTES;
    p.slots = p.lanes + (uint64_t)s->lanes * sizeof(struct mpb_lane);
    p.decided = p.slots + (uint64_t)s->slots * sizeof(struct mpb_slot);
    p.lane_data = pages(p.decided + (uint64_t)s->slots * 2 * s->lanes * sizeof(uint64_t));
    p.slot_data = p.lane_data + (uint64_t)s->lanes * s->lane_bytes;
    p.total = p.slot_data + (uint64_t)s->slots * s->slot_bytes;
    return p;
}

uint64_t mpb_total_bytes(const struct mpb_sizes *s) { return parts_of(s).total; }

static uint64_t time_namespace(void)
{
    struct stat st;
    return stat("/proc/self/ns/time", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static bool clock_is_coarse(void)
{
    struct timespec t;
    return clock_getres(CLOCK_MONOTONIC, &t) == 0 && (t.tv_sec || t.tv_nsec > 20);
}

void mpb_format(void *map, const struct mpb_sizes *s, const uint8_t token[16], const char *name)
{
    struct mpb_header *h = map;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    h->version = MPB_LAYOUT_VERSION;
    h->lanes = s->lanes;
    h->slots = s->slots;
    h->lane_bytes = s->lane_bytes;
    h->slot_bytes = s->slot_bytes;
    h->lane_limit = s->lane_limit;
    h->total_bytes = mpb_total_bytes(s);
    h->coarse_clock = clock_is_coarse();
    h->time_namespace = time_namespace();
    h->created_at = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    memcpy(h->token, token, sizeof h->token);
    snprintf(h->name, sizeof h->name, "%s", name);
    STORE(&h->drain_deadline, UINT64_MAX, relaxed);
    STORE(&h->state, STATE_RUNNING, relaxed);
    h->magic = MPB_MAGIC; /* last: a file without it was never finished */
}

static bool power_of_two(uint64_t n) { return n >= MPB_MIN_RING_BYTES && n <= MPB_MAX_RING_BYTES && (n & (n - 1)) == 0; }

/* The header may come from another user's hand: each field is loaded once, checked, and used from our copy alone. */
static const char *read_sizes(const struct mpb_header *h, uint64_t file_bytes, struct mpb_sizes *s)
{
    if (file_bytes < MPB_HEADER_BYTES || h->magic != MPB_MAGIC) return "this is not a segment of mpbroadcast";
    if (h->version != MPB_LAYOUT_VERSION) return "this segment was made by another version of mpbroadcast";
    *s = (struct mpb_sizes){h->lanes, h->slots, h->lane_bytes, h->slot_bytes, h->lane_limit};
    if (s->lanes < 1 || s->lanes > MPB_MAX_LANES || s->slots < 1 || s->slots > MPB_MAX_SLOTS ||
        !power_of_two(s->lane_bytes) || !power_of_two(s->slot_bytes) || mpb_total_bytes(s) != file_bytes)
        return "the header of this segment makes no sense";
    uint64_t ns = time_namespace();
    if (h->time_namespace && ns && h->time_namespace != ns)
        return "this segment belongs to another time namespace, where the clock differs";
    return NULL;
}

const char *mpb_map(struct mpb_segment *seg, int fd, bool writable)
{
    struct stat st;
    struct mpb_sizes s;
    if (fstat(fd, &st) != 0) return "the segment's file descriptor is not open";
    uint64_t bytes = (uint64_t)st.st_size;
    if (bytes < MPB_HEADER_BYTES) return "this is not a segment of mpbroadcast";
    if (writable && access("/proc/self/fd", X_OK) != 0) return "/proc is not mounted here; it tells who is alive";
    char *map = mmap(NULL, bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (map == MAP_FAILED)
        return errno == ENOMEM ? "the segment cannot be mapped: the address space is limited here (ulimit -v); lane_bytes,"
                                 " watcher_bytes, max_processes and max_watchers make it smaller"
                               : "the segment cannot be mapped";
    const char *why = read_sizes((struct mpb_header *)(void *)map, bytes, &s);
    struct mpb_private *mine = why ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!why && (mine == MAP_FAILED || madvise(mine, PAGE, MADV_WIPEONFORK) != 0))
        why = "this kernel has no MADV_WIPEONFORK (Linux 4.14), which fork safety needs";
    if (why) {
        if (mine != MAP_FAILED) munmap(mine, PAGE);
        munmap(map, bytes);
        return why;
    }
    madvise(map, bytes, MADV_DONTDUMP); /* a core dump would otherwise write out the whole virtual size */
    struct parts p = parts_of(&s);
    *seg = (struct mpb_segment){
        .base = map, .size = bytes, .header = (void *)map, .lanes = (void *)(map + p.lanes),
        .slots = (void *)(map + p.slots), .decided = (void *)(map + p.decided), .lane_data = map + p.lane_data,
        .slot_data = map + p.slot_data, .nlanes = s.lanes, .nslots = s.slots, .lane_cap = s.lane_bytes,
        .slot_cap = s.slot_bytes, .lane_limit = s.lane_limit,
        .coarse_clock = ((struct mpb_header *)(void *)map)->coarse_clock != 0, .writable = writable, .reserved = (uint64_t)st.st_blocks * 512 >= bytes, .fd = fd, .first_fd = fd,
        .file_dev = st.st_dev, .file_ino = st.st_ino,
        .lock_fd = -1, .mine = mine, .next = all_segments,
    };
    all_segments = seg;
    return NULL;
}

void mpb_unmap(struct mpb_segment *seg)
{
    if (!seg->base) return;
    for (struct mpb_segment **at = &all_segments; *at; at = &(*at)->next)
        if (*at == seg) {
            *at = seg->next;
            break;
        }
    if (mpb_is_ours(seg, seg->lock_fd)) close(seg->lock_fd);
    munmap(seg->mine, PAGE);
    munmap(seg->base, seg->size);
    seg->base = NULL;
    seg->lock_fd = -1;
}

bool mpb_is_ours(const struct mpb_segment *seg, int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == seg->file_dev && st.st_ino == seg->file_ino;
}

/* Opens what a link in /proc/PID/fd points to, if it is our file. Looked at first: opening alone can do something to a
 * stranger's file, such as a FIFO. Above 2: a daemon puts /dev/null there next. */
static int open_ours(const struct mpb_segment *seg, uint32_t pid, int number)
{
    char path[48];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%u/fd/%d", pid, number);
    if (!pid || stat(path, &st) != 0 || st.st_dev != seg->file_dev || st.st_ino != seg->file_ino) return -1;
    int fd = open(path, (seg->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (!mpb_is_ours(seg, fd)) { /* changed meanwhile */
        if (fd >= 0) close(fd);
        return -1;
    }
    if (fd > 2) return fd;
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    close(fd);
    return higher;
}

int mpb_descriptor(struct mpb_segment *seg)
{
    if (mpb_is_ours(seg, seg->fd)) return seg->fd;
    /* Helpers are forks of the process that made the segment, so theirs has the same number. */
    int fd = open_ours(seg, LOAD(&seg->header->dist_pid, relaxed), seg->first_fd);
    if (fd < 0) fd = open_ours(seg, LOAD(&seg->header->dist_spare_pid, relaxed), seg->first_fd);
    for (uint32_t j = 0; fd < 0 && j < seg->nslots; j++)
        if (LOAD(&seg->slots[j].managed, relaxed))
            fd = open_ours(seg, LOAD(&seg->slots[j].consumer_pid, relaxed), seg->first_fd);
    if (fd >= 0) seg->fd = fd;
    return fd;
}

/* In the child of a fork: a copy of the parent's description would keep the parent's locks alive after its death. */
static void atfork_child(void)
{
    for (struct mpb_segment *seg = all_segments; seg; seg = seg->next) {
        if (mpb_is_ours(seg, seg->lock_fd)) close(seg->lock_fd);
        seg->lock_fd = -1;
    }
}

void mpb_atfork_install(void)
{
    static bool done;
    if (!done) pthread_atfork(NULL, NULL, atfork_child);
    done = true;
}

static int open_locks(struct mpb_segment *seg)
{
    bool ours = mpb_is_ours(seg, seg->lock_fd); /* a lock on a stranger's file, or the end of one, must never come from us */
    if (seg->mine->has_locks && ours) return 0;
    if (ours) close(seg->lock_fd); /* a raw clone(2) ran no atfork handler */
    seg->lock_fd = -1;
    seg->mine->has_locks = 0;
    if (mpb_descriptor(seg) < 0) return EBADF;
    seg->lock_fd = open_ours(seg, (uint32_t)getpid(), seg->fd);
    if (seg->lock_fd < 0) return EBADF;
    seg->mine->has_locks = 1;
    return 0;
}

static int set_lock(struct mpb_segment *seg, uint32_t byte, short type, int command)
{
    int error = open_locks(seg);
    if (error) return error;
    struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    return fcntl(seg->lock_fd, command, &fl) == 0 ? 0 : errno;
}

int mpb_lock(struct mpb_segment *seg, uint32_t byte, bool wait)
{
    return set_lock(seg, byte, F_WRLCK, wait ? F_OFD_SETLKW : F_OFD_SETLK);
}

int mpb_unlock(struct mpb_segment *seg, uint32_t byte) { return set_lock(seg, byte, F_UNLCK, F_OFD_SETLK); }

bool mpb_lock_is_free(struct mpb_segment *seg, uint32_t byte)
{
    int fd = open_locks(seg) == 0 ? seg->lock_fd : mpb_descriptor(seg); /* an onlooker may ask through any descriptor */
    if (fd < 0) return true;
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &fl) != 0) {
        fl.l_type = F_RDLCK;
        if (fcntl(fd, F_OFD_GETLK, &fl) != 0) return false;
    }
    return fl.l_type == F_UNLCK;
}

uint64_t mpb_start_ticks(uint32_t pid)
{
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    char *at = strrchr(text, ')'); /* the name in parentheses may hold blanks and parentheses itself */
    if (!at || !at[1]) return 0;
    char state = at[2];
    if (state == 'Z' || state == 'X' || state == 'x') return 0;
    for (int field = 2; field < 22 && at; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

bool mpb_alive(uint32_t pid, uint64_t start) { return pid && start && mpb_start_ticks(pid) == start; }

_Atomic uint64_t *mpb_decided(struct mpb_segment *seg, uint32_t slot, uint64_t parity)
{
    return seg->decided + ((uint64_t)slot * 2 + (parity & 1)) * seg->nlanes;
}

static bool owner_lives(uint64_t owner, uint32_t self, bool locked)
{
    uint32_t pid = MPB_OWNER_PID(owner);
    if (!pid || (pid == self && locked)) return false; /* a former process of our number, or another mapping of ours */
    uint64_t start = mpb_start_ticks(pid);
    return start && MPB_OWNER(pid, start) == owner;
}

/* Dead only if both agree: the kernel lock is right across pid namespaces and pid reuse, pid with start time survives a
 * daemon that closes every descriptor it has. Such a daemon, or a process without a free descriptor, has no lock to take
 * either: it claims by the owner word alone, which is why that is one word and changes by compare-and-swap; a value never
 * comes again, because no two processes have the same pid and start. Without a lock it takes a used lane only when there is
 * no fresh one left (again): it would not see an owner that lives in another pid namespace. */
static bool take_lane(struct mpb_segment *seg, uint32_t i, bool again)
{
    struct mpb_lane *lane = &seg->lanes[i];
    struct mpb_private *mine = seg->mine;
    int error = mpb_lock(seg, LOCK_LANE + i, false);
    if (error == EAGAIN || error == EACCES) return false;
    uint32_t self = (uint32_t)getpid();
    uint64_t ticks = mpb_start_ticks(self), owner = LOAD(&lane->owner, acquire);
    bool taken = owner_lives(owner, self, !error) || (error && (!ticks || (owner && !again)));
    mpb_producer_open(&mine->lane, &lane->ring, seg->lane_data + (uint64_t)i * seg->lane_cap, seg->lane_cap,
                      seg->lane_limit, lane->trim);
    if (!taken && !(mine->lane.word & MPB_SEAL)) STOP_POINT("claim.locked");
    /* Unread records of a dead owner stay where they are and go out in their order; we write behind them. What was opened
     * above is still so: nobody but an owner moves the tail, and had there been one, this would fail. */
    if (taken || (mine->lane.word & MPB_SEAL) ||
        !atomic_compare_exchange_strong_explicit(&lane->owner, &owner, MPB_OWNER(self, ticks), memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        if (!error) mpb_unlock(seg, LOCK_LANE + i);
        return false;
    }
    atomic_fetch_add_explicit(&lane->claims, 1, memory_order_relaxed);
    char comm[16] = "";
    prctl(PR_GET_NAME, comm);
    snprintf(lane->owner_name, sizeof lane->owner_name, "%s", comm);
    uint64_t off = (mine->lane.pos - mine->lane.base) & (seg->lane_cap - 1) & ~(PAGE - 1), step = UINT64_C(64) << 10;
    if (off + step <= seg->lane_cap) madvise(mine->lane.data + off, step, MADV_POPULATE_WRITE); /* no page faults at first */
    mine->lane_index = i;
    mine->has_lane = 1;
    STOP_POINT("claim.before_bit");
    /* seq_cst: pairs with the load in the distributor's round, which stands between its T0 and its look at the tails. A put
     * that follows is stamped after this store, so a T0 behind that stamp sees the bit. */
    atomic_fetch_or_explicit(&seg->header->claimed[i / 64], UINT64_C(1) << (i % 64), memory_order_seq_cst);
    return true;
}

/* A hint only, so relaxed: whether a lane holds what a dead owner left and nobody has read yet. */
static bool has_backlog(const struct mpb_lane *lane)
{
    return mpb_pos(LOAD(&lane->ring.tail.word, relaxed)) != mpb_pos(LOAD(&lane->ring.head.word, relaxed));
}

/* Empty lanes first. Behind a backlog there is less room, and should its bytes be damaged, what was published behind the
 * damage before the distributor came to it is skipped, too. */
struct mpb_producer *mpb_my_lane(struct mpb_segment *seg)
{
    struct mpb_private *mine = seg->mine;
    if (mine->has_lane) return &mine->lane;
    uint32_t start = (uint32_t)getpid() * UINT32_C(2654435761) % seg->nlanes;
    for (uint32_t n = 0; n < 2 * seg->nlanes; n++) {
        uint32_t i = (start + n) % seg->nlanes;
        bool again = n >= seg->nlanes;
        if ((again || !has_backlog(&seg->lanes[i])) && take_lane(seg, i, again)) return &mine->lane;
    }
    return NULL;
}

struct mpb_producer *mpb_my_lane_or_later(struct mpb_segment *seg)
{
    struct mpb_private *mine = seg->mine;
    if (mine->has_lane) return &mine->lane;
    if (mpb_now() < mine->no_lane_until) return NULL;
    struct mpb_producer *lane = mpb_my_lane(seg);
    if (!lane) mine->no_lane_until = mpb_now() + LOOK_AGAIN_NS;
    return lane;
}

void mpb_forget_lane(struct mpb_segment *seg)
{
    if (!seg->mine->has_lane) return;
    seg->mine->has_lane = 0;
    mpb_unlock(seg, LOCK_LANE + seg->mine->lane_index);
}

void mpb_refuse(struct mpb_segment *seg, enum mpb_refusal why, const char *text, size_t len)
{
    struct mpb_lane *lane = seg->mine->has_lane ? &seg->lanes[seg->mine->lane_index] : NULL;
    /* An add, not a store: threads of a free-threaded build, and a lane's next owner, may count at the same time. */
    atomic_fetch_add_explicit(lane ? &lane->refused[why] : &seg->header->refused[why], 1, memory_order_relaxed);
    if (!lane || !text) return;
    if (len > sizeof lane->problem - 1) len = sizeof lane->problem - 1;
    memcpy(lane->problem, text, len);
    lane->problem[len] = 0;
    atomic_fetch_add_explicit(&lane->problem_count, 1, memory_order_release);
}

/* What the former watcher of a slot had counted goes to the totals of the header, so that no loss is forgotten. */
static void retire_numbers(struct mpb_segment *seg, struct mpb_slot *slot)
{
    uint64_t word, tail[MPB_NUMBERS], head[MPB_NUMBERS];
    mpb_read_numbers(&slot->ring.tail, &word, tail);
    mpb_read_numbers(&slot->ring.head, &word, head);
    for (unsigned i = 0; i < MPB_NUMBERS; i++) {
        atomic_fetch_add_explicit(&seg->header->retired[i], tail[i], memory_order_relaxed);
        atomic_fetch_add_explicit(&seg->header->retired[MPB_NUMBERS + i], head[i], memory_order_relaxed);
    }
}

int mpb_claim_slot(struct mpb_segment *seg)
{
    for (uint32_t j = 0; j < seg->nslots; j++) {
        struct mpb_slot *slot = &seg->slots[j];
        uint32_t state = LOAD(&slot->state, acquire);
        if (state != SLOT_FREE && state != SLOT_CLAIMED) continue;
        if (LOAD(&slot->consumer_pid, relaxed) == (uint32_t)getpid() && state == SLOT_CLAIMED) continue; /* our own */
        if (mpb_lock(seg, LOCK_SLOT + j, false) != 0) continue;
        bool foreign = state == SLOT_CLAIMED &&
                       mpb_alive(LOAD(&slot->consumer_pid, relaxed), LOAD(&slot->consumer_start, relaxed));
        /* acq_rel: pairs with the store of FREE by the last consumer; its numbers are then ours to collect. Two registrants
         * of one process share a lock description, so the state decides between them. */
        if (foreign || !atomic_compare_exchange_strong_explicit(&slot->state, &state, SLOT_CLAIMED, memory_order_acq_rel,
                                                                memory_order_relaxed)) {
            if (foreign) mpb_unlock(seg, LOCK_SLOT + j);
            continue;
        }
        STOP_POINT("slot.claimed");
        retire_numbers(seg, slot);
        uint32_t generation = LOAD(&slot->generation, relaxed);
        /* All but state, and the bell, whose sequence never starts again: a ringer may still be on its way. */
        memset((void *)&slot->ring, 0, sizeof slot->ring);
        STORE(&slot->want_room, 0, relaxed);
        memset((char *)slot + offsetof(struct mpb_slot, policy), 0, sizeof *slot - offsetof(struct mpb_slot, policy));
        memset((void *)mpb_decided(seg, j, 0), 0, (size_t)seg->nlanes * 2 * sizeof(uint64_t));
        STORE(&slot->generation, generation + 1, relaxed);
        STORE(&slot->consumer_pid, (uint32_t)getpid(), relaxed);
        STORE(&slot->consumer_start, mpb_start_ticks((uint32_t)getpid()), relaxed);
        return (int)j;
    }
    return -1;
}

bool mpb_stop_slot(struct mpb_segment *seg, uint32_t j, uint32_t generation)
{
    typedef uint64_t __attribute__((may_alias)) both; /* state and generation; mixed sizes are fine on x86-64 and aarch64 */
    struct mpb_slot *slot = &seg->slots[j];
    /* The clock before the state: of two that stop one watch, the later writer of stop_ts read its clock before the other
     * was done, so nothing that is recorded after either has returned is delivered. */
    uint64_t now = mpb_now(), expected, wanted;
    for (uint32_t state = SLOT_REGISTERED; state <= SLOT_ACTIVE; state++) { /* in this order: the distributor may go on */
        if (LOAD(&slot->state, seq_cst) != state || LOAD(&slot->generation, relaxed) != generation) continue;
        /* Only forwards: should the slot be used again just now, its own stop will come later and overwrite this. */
        uint64_t before = LOAD(&slot->stop_ts, relaxed);
        while (before < now && !atomic_compare_exchange_weak(&slot->stop_ts, &before, now)) continue;
        memcpy(&expected, (uint32_t[]){state, generation}, sizeof expected);
        memcpy(&wanted, (uint32_t[]){SLOT_STOPPING, generation}, sizeof wanted);
        /* seq_cst: stop_ts is there before STOPPING is seen, and the bell is looked at after it. */
        if (__atomic_compare_exchange_n((both *)(void *)&slot->state, (both *)&expected, wanted, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED)) {
            mpb_ring_bell(&seg->header->bell);
            mpb_ring_bell(&slot->bell);
            return true;
        }
    }
    return false;
}
