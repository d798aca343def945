"""What a broadcaster has done and lost so far. Runs in: any process. Reads: the segment. Asks no process anything.

The numbers that belong together change in one store (protocol section 0), so at rest, and after any ``kill -9``::

    lane:     accepted  = forwarded + backlog
    watcher:  forwarded = handled + failed + given_up + filtered + lost + backlog      (dropped beside it)

Between two looks at a running broadcaster they may differ by what moved meanwhile.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.ring import _ring
from mpbroadcast.ring.counters import BUCKETS, CELLS, HISTOGRAM_AT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "ENDED",
    "REFUSALS",
    "HelperStats",
    "LaneStats",
    "ProcessUse",
    "ShutdownReport",
    "Stats",
    "WatcherStats",
    "process_use",
    "read_report",
    "read_stats",
]

REFUSALS: Final = {
    "lane_full": _ring.FULL,
    "too_large": _ring.TOO_LARGE,
    "stopped": _ring.STOPPED,
    "no_lane": _ring.NO_LANE,
    "invalid": _ring.INVALID,
}
"""Why an event was not taken, and the segment's number for it."""

_LOST: Final = {"dropped": "watcher_full", "failed": "failed", "given_up": "given_up", "lost": "corrupt"}
"""Which numbers of a watcher are losses, and for what reason."""

_NO_LANE: Final = "processes without a lane"
ENDED: Final = "ended watchers"
"""The owner of what was lost behind watchers whose slots have been used again."""

_STATES: Final = {_ring.RUNNING: "running", _ring.DRAINING: "draining", _ring.DRAINED: "drained"}
_SLOT_STATES: Final = {
    _ring.SLOT_FREE: "ended",
    _ring.SLOT_CLAIMED: "starting",
    _ring.SLOT_REGISTERED: "starting",
    _ring.SLOT_ACTIVE: "active",
    _ring.SLOT_STOPPING: "stopping",
    _ring.SLOT_CLOSED: "draining",
    _ring.SLOT_ENDED: "draining",
    _ring.SLOT_ABANDONED: "abandoned",
}


@dataclass(frozen=True, slots=True)
class HelperStats:
    """A helper process and its spare.

    Attributes:
        pid: who works; 0 while nobody does.
        spare_pid: who would take over; 0 while there is none.
        restarts: how often a spare has taken over.
        alive: whether the process of `pid` lives.
        spare_alive: whether that of `spare_pid` does.
    """

    pid: int
    spare_pid: int
    restarts: int
    alive: bool = True
    spare_alive: bool = True


@dataclass(frozen=True, slots=True)
class LaneStats:
    """One lane: what one recording process (and its predecessors in this lane) did.

    Attributes:
        index: of the lane.
        pid: its last owner.
        alive: whether that process still lives.
        name: of that process.
        owners: how many processes have owned the lane.
        accepted: events taken (True).
        forwarded: events that the distributor has passed on.
        backlog: events in the lane.
        backlog_bytes: their bytes.
        refused: events not taken (False), by reason; see `REFUSALS`.
        lost: events in corrupt stretches, skipped.
        corrupt: how many such stretches.
    """

    index: int
    pid: int
    alive: bool
    name: str
    owners: int
    accepted: int
    forwarded: int
    backlog: int
    backlog_bytes: int
    refused: Mapping[str, int]
    lost: int
    corrupt: int


@dataclass(frozen=True, slots=True)
class WatcherStats:
    """One watcher: its ring and what its handler did.

    Attributes:
        index: of its slot.
        name: of the watcher.
        state: ``starting``, ``active``, ``stopping``, ``draining``, ``ended`` or ``abandoned``.
        managed: has a helper (a process or a thread); otherwise it is an iterator.
        helper: its process and spare.
        forwarded: events put into its ring.
        handled: of those, the ones its handler returned from (for a sink: written, or rightly not written).
        failed: the ones its handler raised for, or a sink refused.
        given_up: the ones that ended the handler's process again and again, or that a sink gave up.
        filtered: the ones its ``filter`` refused.
        lost: the ones in corrupt stretches of its ring.
        dropped: events that found its ring full; never put into it.
        outside: events recorded before its watch began or after it was stopped; never put into it.
        backlog: events in its ring.
        backlog_bytes: their bytes.
        handling_seconds: time spent in the handler.
        counts: what a sink counts, by the names of ``ring.counters.CELLS``; only those that are not 0.
        histogram: cumulative counts of handling times, one for each bound of ``ring.counters.BUCKETS`` and infinity.
    """

    index: int
    name: str
    state: str
    managed: bool
    helper: HelperStats
    forwarded: int
    handled: int
    failed: int
    given_up: int
    filtered: int
    lost: int
    dropped: int
    outside: int
    backlog: int
    backlog_bytes: int
    handling_seconds: float
    counts: Mapping[str, int]
    histogram: tuple[int, ...]

    @property
    def settled(self) -> int:
        """How many of the forwarded events are done with, one way or another."""
        return self.handled + self.failed + self.given_up + self.filtered + self.lost


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of one broadcaster.

    Attributes:
        name: of the broadcaster.
        state: ``running``, ``draining`` or ``drained``.
        created_ns: when it was made, Unix nanoseconds.
        owner_pid: the application.
        owner_alive: whether that process still lives.
        distributor: its process and spare.
        lanes: every lane that was ever owned.
        watchers: every watcher whose slot has not been used again.
        refused_without_lane: events refused by processes that own no lane, by reason.
        retired: totals of watchers whose slots have been used again: the attributes of `WatcherStats` by name.
    """

    name: str
    state: str
    created_ns: int
    owner_pid: int
    owner_alive: bool
    distributor: HelperStats
    lanes: tuple[LaneStats, ...]
    watchers: tuple[WatcherStats, ...]
    refused_without_lane: Mapping[str, int] = field(default_factory=dict)
    retired: Mapping[str, int] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """Events taken, in all lanes."""
        return sum(lane.accepted for lane in self.lanes)

    @property
    def forwarded(self) -> int:
        """Events that the distributor has passed on, from all lanes."""
        return sum(lane.forwarded for lane in self.lanes)

    @property
    def backlog(self) -> int:
        """Events that wait in lanes."""
        return sum(lane.backlog for lane in self.lanes)

    @property
    def refused(self) -> dict[str, int]:
        """Events that were not taken, by reason."""
        return {
            reason: self.refused_without_lane.get(reason, 0) + sum(lane.refused[reason] for lane in self.lanes)
            for reason in REFUSALS
        }

    def watcher(self, name: str) -> WatcherStats:
        """The watcher of that name, the newest one if there were several.

        Raises:
            KeyError: there is none.
        """
        for watcher in reversed(self.watchers):
            if watcher.name == name:
                return watcher
        raise KeyError(name)

    @property
    def lost(self) -> int:
        """Events lost so far, wherever and for whatever reason; the sum of `losses`."""
        return sum(events for _, _, _, events in self._losses())

    def losses(self) -> list[tuple[str, str, int]]:
        """Every loss as (reason, owner, events); an empty list means that nothing was lost.

        The owner is the process for what was refused and the watcher's name for what was lost behind it. Processes that
        own no lane are one owner, and so are the watchers that have ended and whose slots have been used again.
        """
        return [(reason, owner, events) for reason, _, owner, events in self._losses() if events]

    def losses_by_place(self) -> dict[tuple[str, str], int]:
        """Every loss by (reason, place): for counters that must not begin anew when a process comes or goes.

        The place of what was refused is the lane. Watchers, and processes without a lane, have an entry for each
        reason, also for those that are 0; a lane that lost nothing has none, and neither has an iterator.
        """
        found: dict[tuple[str, str], int] = {}
        for reason, place, _, events in self._losses():
            if events or not place.startswith("lane "):
                found[reason, place] = found.get((reason, place), 0) + events
        return found

    def _losses(self) -> Iterator[tuple[str, str, str, int]]:
        """Yield every loss as (reason, place, owner, events), with those that are 0."""
        for reason in REFUSALS:
            yield reason, "no lane", _NO_LANE, self.refused_without_lane.get(reason, 0)
        for lane in self.lanes:
            owner = f"{lane.name or 'process'}[{lane.pid}]"
            for reason, events in (*lane.refused.items(), ("corrupt", lane.lost)):
                yield reason, f"lane {lane.index}", owner, events
        for watcher in self.watchers:
            numbers = (*(getattr(watcher, name) for name in _LOST), watcher.counts.get("spool_lost", 0))
            for reason, events in zip((*_LOST.values(), "spool_lost"), numbers, strict=True):
                if watcher.managed or events:
                    yield reason, f"watcher {watcher.name}", watcher.name, events
        for name, reason in _LOST.items():
            if events := self.retired.get(name, 0):
                yield reason, ENDED, ENDED, events


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _lives(pid: int, start: int) -> bool:
    return bool(start) and _ring.start_ticks(pid) == start


def _helper(raw: dict[str, Any], pid: str, start: str, spare: str, workers: str) -> HelperStats:
    return HelperStats(
        raw[pid],
        raw[spare + "_pid"],
        max(0, raw[workers] - 1),
        _lives(raw[pid], raw[start]),
        _lives(raw[spare + "_pid"], raw[spare + "_start"]),
    )


def _refusals(raw: tuple[int, ...]) -> dict[str, int]:
    return {reason: raw[number] for reason, number in REFUSALS.items()}


def _lane(raw: dict[str, Any]) -> LaneStats:
    return LaneStats(
        index=raw["index"],
        pid=raw["owner_pid"],
        alive=_lives(raw["owner_pid"], raw["owner_start"]),
        name=_text(raw["owner_name"]),
        owners=raw["claims"],
        accepted=raw["accepted"],
        forwarded=raw["forwarded"],
        backlog=raw["accepted"] - raw["forwarded"],
        backlog_bytes=raw["tail"] - raw["head"],
        refused=_refusals(raw["refused"]),
        lost=raw["lost"],
        corrupt=raw["corrupt"],
    )


def _watcher(raw: dict[str, Any]) -> WatcherStats:
    settled = raw["handled"] + raw["failed"] + raw["given_up"] + raw["filtered"] + raw["lost"]
    cells, running = raw["cells"], 0
    histogram = []
    for count in cells[HISTOGRAM_AT : HISTOGRAM_AT + len(BUCKETS) + 1]:
        running += count
        histogram.append(running)
    return WatcherStats(
        index=raw["index"],
        name=_text(raw["name"]),
        state=_SLOT_STATES.get(raw["state"], "unknown"),
        managed=bool(raw["managed"]),
        helper=_helper(raw, "consumer_pid", "consumer_start", "spare", "workers"),
        forwarded=raw["forwarded"],
        handled=raw["handled"],
        failed=raw["failed"],
        given_up=raw["given_up"],
        filtered=raw["filtered"],
        lost=raw["lost"],
        dropped=raw["dropped"],
        outside=raw["outside"],
        backlog=raw["forwarded"] - settled,
        backlog_bytes=raw["tail"] - raw["head"],
        handling_seconds=raw["handling_ns"] / 1e9,
        counts={name: cells[index] for name, index in CELLS.items() if cells[index]},
        histogram=tuple(histogram),
    )


_RETIRED: Final = {
    "forwarded": 0, "dropped": 1, "handled": 6, "failed": 7, "given_up": 8, "filtered": 9, "lost": 10,
}  # fmt: skip  # indexes into header.retired, as claim.c adds them


def read_stats(segment: _ring.Segment) -> Stats:
    """Reads a snapshot. Does not block; any process and thread; works on a segment mapped read-only."""
    raw = segment.snapshot()
    return Stats(
        name=_text(raw["name"]),
        state=_STATES.get(raw["state"], "unknown"),
        created_ns=raw["created_at"],
        owner_pid=raw["owner_pid"],
        owner_alive=_lives(raw["owner_pid"], raw["owner_start"]),
        distributor=_helper(raw, "dist_pid", "dist_start", "dist_spare", "distributors"),
        lanes=tuple(_lane(lane) for lane in raw["lanes"]),
        watchers=tuple(_watcher(slot) for slot in raw["slots"]),
        refused_without_lane=_refusals(raw["refused"]),
        retired={name: raw["retired"][index] for name, index in _RETIRED.items() if raw["retired"][index]},
    )


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """How a shutdown went.

    Attributes:
        drained: whether every accepted event was distributed.
        accepted: events taken, in all lanes.
        refused: events not taken, by reason.
        in_lanes: accepted events that were not distributed in time.
        watchers: the numbers of each watcher; ``backlog`` is what it did not handle in time.
    """

    drained: bool
    accepted: int
    refused: Mapping[str, int]
    in_lanes: int
    watchers: tuple[WatcherStats, ...]

    @property
    def complete(self) -> bool:
        """Whether everything accepted was distributed and everything distributed was handled by every watcher's helper.

        What was dropped, filtered or failed was decided before and is in the numbers of `watchers`.
        """
        return self.drained and not self.in_lanes and not any(w.backlog for w in self.watchers if w.managed)

    def __str__(self) -> str:
        """A few lines for people."""
        refused = sum(self.refused.values())
        lines = [f"accepted {self.accepted}, refused {refused}, left in lanes {self.in_lanes}"]
        lines += [
            f"{w.name}: forwarded {w.forwarded}, handled {w.handled}, failed {w.failed}, given up {w.given_up}, "
            f"filtered {w.filtered}, dropped {w.dropped}, not handled {w.backlog}"
            for w in self.watchers
        ]
        return "\n".join(lines)


def read_report(segment: _ring.Segment) -> ShutdownReport:
    """The numbers of a segment as a report. Does not block."""
    stats = read_stats(segment)
    return ShutdownReport(stats.state == "drained", stats.accepted, stats.refused, stats.backlog, stats.watchers)


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What a process uses: CPU seconds since it started, resident bytes, and of those the ones that are its own."""

    pid: int
    cpu_seconds: float
    rss_bytes: int
    own_bytes: int


def process_use(pid: int) -> ProcessUse | None:
    """What a process uses now, or None when it is gone or hidden. Costs about a millisecond for a large process."""
    import psutil  # noqa: PLC0415 - a quarter of the import time of this package, for what only onlookers ask

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            rss = process.memory_info().rss
        own = process.memory_full_info().uss if pid == os.getpid() or os.access(f"/proc/{pid}/smaps", os.R_OK) else 0
    except (psutil.Error, OSError):
        return None
    return ProcessUse(pid, times.user + times.system, rss, own)
