/* process.h: what a helper process does to itself: its name in ps, and a mark in shared memory when it crashes. */
#ifndef MPB_PROCESS_H
#define MPB_PROCESS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Writes title over the command line that ps shows, and its first 15 bytes as the thread's name. 0, or an errno. */
int mpb_set_title(const char *title, size_t len);

/* From now on SIGSEGV, SIGABRT, SIGBUS, SIGILL and SIGFPE store their number in *mark before they kill this process. */
int mpb_mark_crashes(_Atomic uint32_t *mark);

#endif
