"""Who a process is: its id and when it started, because ids are used again.

The start is field 22 of ``/proc/PID/stat``: clock ticks since the machine was started, raw. It does not move with the
wall clock, as every date made from it does, and it is compared for equality only.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final, NamedTuple

__all__ = ["ProcessIdentity", "alive", "current", "is_helper", "kill_helper", "of"]

# Counted from the first field after the command name: state is field 3 of proc(5), starttime field 22.
_STATE: Final = 0
_START: Final = 22 - 3
_GONE: Final = frozenset({"Z", "X", "x"})  # a zombie and a dead process run no code any more


class ProcessIdentity(NamedTuple):
    """One process, told apart from every other one that had or will have its id (in this pid namespace).

    Attributes:
        pid: the process id.
        start_ticks: when it started, in clock ticks since the machine was started.
    """

    pid: int
    start_ticks: int


def _parse(stat: str) -> tuple[str, int] | None:
    """Take the state and the start out of a stat line. The command name may hold blanks and parentheses itself."""
    fields = stat.rpartition(")")[2].split()
    try:
        return fields[_STATE], int(fields[_START])
    except (IndexError, ValueError):
        return None


def _read(pid: int) -> tuple[str, int] | None:
    try:
        with open(f"/proc/{pid:d}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - Path costs twice
            return _parse(file.read())
    except OSError:
        return None


def of(pid: int) -> ProcessIdentity | None:
    """Identify a running process.

    Args:
        pid: its id in this pid namespace.

    Returns:
        None when there is no such process, when it is a zombie or dead, or when ``/proc`` does not show it.
    """
    found = _read(pid) if pid > 0 else None
    if found is None or found[0] in _GONE:
        return None
    return ProcessIdentity(pid, found[1])


def current() -> ProcessIdentity:
    """Identify the calling process.

    Not cached: a forked child is another process.

    Raises:
        OSError: ``/proc`` is not there or does not show this process.
    """
    identity = of(os.getpid())
    if identity is None:
        raise OSError("/proc does not show this process: is it mounted?")
    return identity


def alive(identity: ProcessIdentity) -> bool:
    """Tell whether this very process still runs; a zombie does not, nor does another one with its id."""
    return of(identity.pid) == identity


def is_helper(pid: int) -> bool:
    """Tell whether this process is one of our helpers, by the name that it has given itself."""
    try:
        with open(f"/proc/{pid:d}/comm", "rb") as file:  # noqa: PTH123 - Path costs twice
            return file.read().startswith(b"mpbroadcast:")
    except OSError:
        return False


def kill_helper(identity: ProcessIdentity) -> None:
    """Kill this very process, if it is a helper that is alive, and not the caller.

    A process of the application may stand where a helper should: it has registered the watcher and its helper has not
    come yet, or it runs the watcher as a thread. It is never killed.
    """
    if identity.pid > 1 and identity.pid != os.getpid() and is_helper(identity.pid) and alive(identity):
        with contextlib.suppress(OSError):
            os.kill(identity.pid, signal.SIGKILL)
