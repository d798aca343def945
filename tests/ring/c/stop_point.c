/* stop_point.c: how a process is killed or stopped at a named point; linked into the tests' build of the extension alone.
 *
 * MPB_STOP_AT in the environment, read at every point, so that a forked child can set its own:
 *   NAME:N:kill   SIGKILL at the Nth time this process passes the point NAME since the variable was set; NAME * is any
 *   NAME:N:stop   SIGSTOP there, once
 * MPB_STOP_LOG=FD: names of all points passed, one per line, for a list of what there is.
 */
#define _GNU_SOURCE 1
#include "stop_point.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void mpb_stop_point(const char *name)
{
    static char last[64];
    static long passed;
    const char *log = getenv("MPB_STOP_LOG");
    if (log) {
        char line[64];
        size_t n = strlen(name);
        memcpy(line, name, n);
        line[n] = '\n';
        if (write(atoi(log), line, n + 1) < 0) abort();
    }
    const char *spec = getenv("MPB_STOP_AT");
    if (!spec || strlen(spec) >= sizeof last) return;
    if (strcmp(spec, last) != 0) {
        strcpy(last, spec);
        passed = 0;
    }
    const char *colon = strchr(spec, ':');
    if (!colon) return;
    size_t n = (size_t)(colon - spec);
    if (!(n == 1 && *spec == '*') && (strlen(name) != n || strncmp(spec, name, n) != 0)) return;
    char *end;
    if (++passed != strtol(colon + 1, &end, 10)) return;
    kill(getpid(), strcmp(end, ":stop") == 0 ? SIGSTOP : SIGKILL);
}
