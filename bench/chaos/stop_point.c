/* stop_point.c: the tormentor's hand inside the C. Linked into the extension that `bench.chaos` runs on, nowhere else.
 *
 * The file named by MPB_CHAOS is mapped by every process. The tormentor writes there which point is armed; the process
 * that passes it next (after `skip` others) takes the order, writes down who it was, and is killed or stopped on the spot.
 */
#define _GNU_SOURCE 1
#include "stop_point.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POINTS 64
#define NAME 32

struct orders { /* bench/chaos/control.py has the same */
    _Atomic uint64_t armed; /* 0, or 1 + point, + 256 to stop instead of to kill */
    _Atomic int64_t skip;
    _Atomic uint64_t immune; /* the application */
    _Atomic uint64_t finish; /* workers end */
    _Atomic uint64_t kills[POINTS], stops[POINTS];
    _Atomic uint64_t stopped[16]; /* pids that stopped themselves, for the tormentor to continue */
    char names[POINTS][NAME];
};

static struct orders *orders(void)
{
    static struct orders *mapped;
    static int tried;
    if (mapped || tried) return mapped;
    tried = 1;
    const char *path = getenv("MPB_CHAOS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return NULL;
    void *map = mmap(NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return mapped = map == MAP_FAILED ? NULL : map;
}

void mpb_stop_point(const char *name)
{
    struct orders *o = orders();
    uint64_t armed = o ? atomic_load_explicit(&o->armed, memory_order_relaxed) : 0;
    if (!armed) return;
    unsigned point = (unsigned)(armed & 255) - 1;
    if (point >= POINTS || strcmp(o->names[point], name) != 0 || (uint64_t)getpid() == o->immune) return;
    if (atomic_fetch_sub(&o->skip, 1) > 0 || !atomic_compare_exchange_strong(&o->armed, &armed, 0)) return;
    if (armed & 256) {
        atomic_fetch_add(&o->stops[point], 1);
        for (int i = 0; i < 16; i++) {
            uint64_t none = 0;
            if (!atomic_compare_exchange_strong(&o->stopped[i], &none, (uint64_t)getpid())) continue;
            kill(getpid(), SIGSTOP);
            return;
        }
    } else {
        atomic_fetch_add(&o->kills[point], 1);
        kill(getpid(), SIGKILL);
    }
}
