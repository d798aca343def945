"""Looks at a broadcaster again and again: rates, what processes use, the last minute. Runs in: ``mpbroadcast top``."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mpbroadcast.stats import process_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mpbroadcast.stats import ProcessUse, Stats, WatcherStats

__all__ = ["USE_SECONDS", "Picture", "Sampler", "Use"]

HISTORY_SECONDS: Final = 60.0
RATE_SECONDS: Final = 2.0  # what a rate is measured over: long enough to be calm, short enough to be now
USE_SECONDS: Final = 2.0  # looking at a large process costs a millisecond
_USED_PROCESSES: Final = 100  # how many are looked at


@dataclass(frozen=True, slots=True)
class Use:
    """What a process uses: part of one core (None at the first look), resident bytes, those it shares with nobody.

    ``state`` is the kernel's letter: ``T`` is a stopped process.
    """

    cpu: float | None
    rss_bytes: int
    own_bytes: int
    state: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A broadcaster now, and how it changed.

    Attributes:
        stats: now.
        before: some seconds ago, for rates; None at the first look.
        seconds: between the two.
        uses: by process id; a process that is gone is not in it.
        history: (accepted, lost) per second, oldest first, one for each look of the last minute.
        events: what happened to helpers and lanes lately, as (kind, key) with the seconds since then.
        dead: ids of helper processes that run no more.
        waiting_since: by watcher index (-1: the distributor), for how many seconds it has had events and moved none.
    """

    stats: Stats
    before: Stats | None = None
    seconds: float = 0.0
    uses: Mapping[int, Use] = field(default_factory=dict)
    history: tuple[tuple[float, float], ...] = ()
    events: Mapping[tuple[str, int], float] = field(default_factory=dict)
    dead: frozenset[int] = frozenset()
    waiting_since: Mapping[int, float] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Events lost so far."""
        return self.stats.lost

    @property
    def lost_before(self) -> int | None:
        """Events that were lost some seconds ago."""
        return None if self.before is None else self.before.lost

    @property
    def age_seconds(self) -> float:
        """For how long the broadcaster has been there."""
        return max(0.0, (time.time_ns() - self.stats.created_ns) / 1e9)

    def rate(self, now: int, before: int | None) -> float | None:
        """Events per second, or None when that is not known yet."""
        if self.before is None or before is None or self.seconds <= 0:
            return None
        return max(0.0, (now - before) / self.seconds)

    def watcher_before(self, watcher: WatcherStats) -> WatcherStats | None:
        """The same watcher some seconds ago."""
        found = () if self.before is None else self.before.watchers
        return next((w for w in found if (w.index, w.name) == (watcher.index, watcher.name)), None)


class Sampler:
    """Takes pictures of one broadcaster. One thread at a time.

    Args:
        read: gives the numbers.
        clock: seconds that only grow.
        use: what a process uses.
        use_seconds: between two looks at that.
    """

    def __init__(
        self,
        read: Callable[[], Stats],
        *,
        clock: Callable[[], float] = time.monotonic,
        use: Callable[[int], ProcessUse | None] = process_use,
        use_seconds: float = USE_SECONDS,
    ) -> None:
        self._read = read
        self._clock = clock
        self._use = use
        self._use_seconds = use_seconds
        self._looks: deque[tuple[float, Stats, int]] = deque()
        self._uses: dict[int, tuple[float, float, Use]] = {}
        self._used_at = float("-inf")
        self._happened: dict[tuple[str, int], float] = {}
        self._moved: dict[int, tuple[float, int]] = {}

    def take(self) -> Picture:
        """Look once. Does not wait for anybody; costs a few milliseconds."""
        now, stats = self._clock(), self._read()
        if self._looks:
            self._compare(now, self._looks[-1][1], stats)
        self._look_for_movement(now, stats)
        self._looks.append((now, stats, stats.lost))
        while len(self._looks) > 2 and now - self._looks[0][0] > HISTORY_SECONDS:
            self._looks.popleft()
        if now - self._used_at >= self._use_seconds:
            self._used_at = now
            self._look_at_processes(now, _processes(stats))
        before = next((look for look in self._looks if now - look[0] <= RATE_SECONDS + 0.1), None)
        if before is None or before[0] == now:
            before = self._looks[-2] if len(self._looks) > 1 else None
        return Picture(
            stats=stats,
            before=None if before is None else before[1],
            seconds=0.0 if before is None else now - before[0],
            uses={pid: use for pid, (_, _, use) in self._uses.items()},
            history=self._history(),
            events={what: now - at for what, at in self._happened.items()},
            dead=frozenset(pid for pid in _helpers(stats) if _kernel_state(pid) in "XxZ"),
            waiting_since={index: now - since for index, (since, _) in self._moved.items()},
        )

    def _history(self) -> tuple[tuple[float, float], ...]:
        rates = []
        looks = list(self._looks)
        for (earlier, old, old_lost), (later, new, new_lost) in pairwise(looks):
            seconds = max(later - earlier, 1e-6)
            rates.append((max(0, new.accepted - old.accepted) / seconds, max(0, new_lost - old_lost) / seconds))
        return tuple(rates)

    def _compare(self, now: float, old: Stats, new: Stats) -> None:
        """Note what happened since the last look."""
        if new.distributor.restarts > old.distributor.restarts:
            self._happened["distributor restarted", 0] = now
        watchers = {watcher.index: watcher for watcher in old.watchers}
        for watcher in new.watchers:
            earlier = watchers.get(watcher.index)
            if (
                earlier is not None
                and earlier.name == watcher.name
                and watcher.helper.restarts > earlier.helper.restarts
            ):
                self._happened["watcher restarted", watcher.index] = now
        lanes = {lane.index: lane for lane in old.lanes}
        for lane in new.lanes:
            before = lanes.get(lane.index)
            if before is not None and before.pid == lane.pid and before.alive and not lane.alive:
                self._happened["process gone", lane.index] = now
            elif lane.alive:
                self._happened.pop(("process gone", lane.index), None)

    def _look_for_movement(self, now: float, stats: Stats) -> None:
        progress = {watcher.index: (watcher.backlog, watcher.settled) for watcher in stats.watchers}
        progress[-1] = (stats.backlog, stats.forwarded)
        for index, (backlog, done) in progress.items():
            since, before = self._moved.get(index, (now, -1))
            if done != before or not backlog:
                since = now
            self._moved[index] = (since, done)

    def _look_at_processes(self, now: float, pids: Iterable[int]) -> None:
        uses = {}
        for pid in pids:
            use = self._use(pid)
            if use is None:
                continue
            at, seconds, _ = self._uses.get(pid, (now, use.cpu_seconds, None))
            cpu = max(0.0, use.cpu_seconds - seconds) / (now - at) if now > at else None
            uses[pid] = (now, use.cpu_seconds, Use(cpu, use.rss_bytes, use.own_bytes, _kernel_state(pid)))
        self._uses = uses


def _processes(stats: Stats) -> list[int]:
    """The processes that are looked at, the most interesting first."""
    pids = [stats.owner_pid, *_helpers(stats)]
    pids += [lane.pid for lane in sorted(stats.lanes, key=lambda lane: -lane.accepted) if lane.alive]
    return list(dict.fromkeys(pid for pid in pids if pid))[:_USED_PROCESSES]


def _helpers(stats: Stats) -> list[int]:
    """Who distributes and who handles."""
    helpers = [stats.distributor, *(watcher.helper for watcher in stats.watchers if watcher.state != "ended")]
    return [helper.pid for helper in helpers if helper.pid]


def _kernel_state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - often
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"
