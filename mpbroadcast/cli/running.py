"""Finds the running broadcasters of this user. Runs in: ``mpbroadcast top`` and ``stats``. Asks no process anything.

A broadcaster is a memory file that its processes hold open: whoever looks through ``/proc`` finds it, however its
processes were started. It is mapped read-only.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from mpbroadcast.errors import SegmentError
from mpbroadcast.ring.segment import MEMFD_PREFIX, Segment
from mpbroadcast.stats import read_stats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mpbroadcast.stats import Stats

__all__ = ["Running", "find_running"]


class Running(NamedTuple):
    """A broadcaster that somebody has open.

    Attributes:
        segment: mapped read-only.
        pid: a process that has it.
    """

    segment: Segment
    pid: int

    def stats(self) -> Stats:
        """Its numbers now. Does not block."""
        return read_stats(self.segment.ring)


def find_running(pid: int | None = None, name: str | None = None) -> list[Running]:
    """Return the broadcasters of this user, each once, oldest first. Costs some 10 us for each open file of this user.

    Args:
        pid: only those of this process, also when they have ended.
        name: only those called so.

    Raises:
        SegmentError: one line: there is none, or no such process, or it belongs to another user.
    """
    found: list[Running] = []
    problem: SegmentError | None = None
    for holders in _by_segment(_open_segments([pid] if pid is not None else _own_processes(), strict=pid is not None)):
        try:
            running = _opened(holders)
        except SegmentError as error:  # another version of this library made it, or a process may not be looked into
            problem = error
            continue
        if running is None:
            continue
        stats = running.stats()
        if (name is None or stats.name == name) and (pid is not None or stats.state != "drained"):
            found.append(running)
    if not found:
        whose = "this user" if pid is None else f"process {pid}"
        called = "" if name is None else f" called {name!r}"
        because = "" if problem is None else f" ({problem})"
        raise SegmentError(f"no running broadcaster{called} of {whose} was found{because}")
    return sorted(found, key=lambda running: running.stats().created_ns)


def _own_processes() -> Iterator[int]:
    user = os.geteuid()
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    if entry.stat().st_uid == user:
                        yield int(entry.name)


def _open_segments(pids: Iterable[int], *, strict: bool) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Yield each memory file of a broadcaster as (its identity, process, descriptor)."""
    prefix = "/memfd:" + MEMFD_PREFIX
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            descriptors = sorted(int(name) for name in os.listdir(folder))  # noqa: PTH208 - thousands of them
        except OSError as error:
            if strict:
                known = not isinstance(error, FileNotFoundError)
                why = f"process {pid} cannot be looked at: {(error.strerror or '').lower()}"
                raise SegmentError(why if known else f"there is no process {pid}") from error
            continue
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{descriptor}").startswith(prefix):  # noqa: PTH115 - thousands of them
                    status = os.stat(f"{folder}/{descriptor}")  # noqa: PTH116
                    yield (status.st_dev, status.st_ino), pid, descriptor


def _by_segment(segments: Iterable[tuple[tuple[int, int], int, int]]) -> list[list[tuple[int, int]]]:
    """Return, for each segment, who has it open: process and descriptor."""
    holders: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for identity, pid, descriptor in segments:
        holders.setdefault(identity, []).append((pid, descriptor))
    return list(holders.values())


def _opened(holders: Iterable[tuple[int, int]]) -> Running | None:
    """Open a segment through the first process that still has it; None if all of them have ended meanwhile.

    Raises:
        SegmentError: it cannot be opened, for another reason.
    """
    for pid, descriptor in holders:
        try:
            return Running(Segment.open_of(pid, descriptor, writable=False), pid)
        except SegmentError as error:
            if not isinstance(error.__cause__, (FileNotFoundError, ProcessLookupError)):
                raise
    return None
