/* process.h: what a helper process does to itself: its name in ps, and a mark in shared memory when it crashes. */
#ifndef MPB_PROCESS_H
#define MPB_PROCESS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Writes title over the command line that ps shows, and its first 15 bytes as the thread's name. 0, or an errno. */
int mpb_set_title(const char *title, size_t len);

#define MPB_MARK_EXIT 253u /* above every signal's number */

/* From now on SIGSEGV, SIGABRT, SIGBUS, SIGILL and SIGFPE store their number in *mark before they kill this process, and
 * exit() stores MPB_MARK_EXIT. Children that this process forks leave the mark alone. 0, or an errno. */
int mpb_mark_crashes(_Atomic uint32_t *mark);

#endif
