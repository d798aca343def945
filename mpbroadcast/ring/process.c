/* process.c: see process.h. */
#define _GNU_SOURCE 1
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static _Atomic uint32_t *crash_mark;
static pid_t marked_pid; /* a child inherits the handlers, but its end is not the end of the process that is watched */

int mpb_set_title(const char *title, size_t len)
{
    char name[16], text[2048];
    snprintf(name, sizeof name, "%.*s", (int)len, title);
    prctl(PR_SET_NAME, name);
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return EIO;
    text[n] = 0;
    char *at = strrchr(text, ')');
    for (int field = 2; field < 48 && at; field++) at = strchr(at + 1, ' '); /* 48 arg_start, 49 arg_end */
    if (!at) return ENOTSUP;
    char *next;
    uintptr_t start = strtoull(at + 1, &next, 10), end = strtoull(next, NULL, 10);
    if (!start || end <= start + 1 || end - start > (UINT64_C(1) << 21)) return ENOTSUP; /* hidden from us, or nonsense */
    size_t room = end - start - 1;
    if (len > room) len = room;
    memcpy((char *)start, title, len); /* our own memory: the kernel shows ps what stands here */
    memset((char *)start + len, 0, room - len + 1);
    return 0;
}

static void on_crash(int number)
{
    /* One store, async-signal-safe. SA_RESETHAND has put the default back; returning from a fault would run into it again,
     * and raise() covers abort() and signals sent by kill. */
    if (getpid() == marked_pid) atomic_store_explicit(crash_mark, (uint32_t)number, memory_order_relaxed);
    raise(number);
}

static void on_exit_call(void)
{
    if (getpid() == marked_pid) atomic_store_explicit(crash_mark, MPB_MARK_EXIT, memory_order_relaxed);
}

int mpb_mark_crashes(_Atomic uint32_t *mark)
{
    static const int fatal[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
    static bool at_exit;
    crash_mark = mark;
    marked_pid = getpid();
    if (!at_exit && atexit(on_exit_call) != 0) return ENOMEM;
    at_exit = true;
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        if (sigaction(fatal[i], &action, NULL) != 0) return errno;
    return 0;
}
