/* stop_point.h: named points at which tests stop or kill a process. Nothing of this is in a normal build. */
#ifndef MPB_STOP_POINT_H
#define MPB_STOP_POINT_H

#ifdef MPB_STOP_POINTS
void mpb_stop_point(const char *name); /* tests/ring/c/stop_point.c */
#define STOP_POINT(name) mpb_stop_point(name)
#else
#define STOP_POINT(name) ((void)0)
#endif

#endif
