"""The tormentor: kills and stops processes of a run at random, each found by its pid and start time."""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from bench.chaos.control import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Target", "Tormentor", "start_of", "state_of"]

HANG_SECONDS = 5.0  # a worker that neither began nor ended a call for so long, and is not stopped, hangs
STALL_SECONDS = 10.0  # the same for what arrives at a watcher while events wait for it


class Target(NamedTuple):
    kind: str
    pid: int
    start: int
    life: int = -1


def _stat(pid: int) -> list[str]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()
    return []


def start_of(pid: int) -> int:
    """Ticks; 0: gone or a zombie."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in "ZXx" else 0


def state_of(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


class Tormentor:
    """Faults at a rate; what it did is in ``kills`` and ``stops``, by kind of process.

    Args:
        targets: the living processes of a run, by kind, as they are now.
        weights: how often a kind is hit.
        life: the page of a worker's life.
        rate: faults a second.
    """

    def __init__(
        self,
        targets: Callable[[], Iterable[Target]],
        weights: dict[str, float],
        life: Callable[[int], Life],
        *,
        rate: float,
        seed: int,
    ) -> None:
        self.chance = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()
        self.hangs: list[str] = []
        self.takeovers: list[float] = []
        self.plain_takeovers: list[float] = []  # those of them in which the spare ran, and was the one to take over
        self._targets, self._weights, self._life, self._rate = targets, weights, life, rate
        self._sleeping: list[tuple[float, Target]] = []
        self._next = time.monotonic()
        self._hung: set[int] = set()

    def step(self) -> Target | None:
        """One look; does a fault when one is due and answers what was killed."""
        now = time.monotonic()
        self.wake(now)
        if now < self._next:
            return None
        self._next = max(self._next, now - 1.0) + self.chance.expovariate(self._rate)
        by_kind: dict[str, list[Target]] = {}
        for target in self._targets():
            by_kind.setdefault(target.kind, []).append(target)
        kinds = [kind for kind in self._weights if kind in by_kind or set(kind.split("+")) <= set(by_kind)]
        if not kinds:
            return None
        kind = self.chance.choices(kinds, [self._weights[kind] for kind in kinds])[0]
        if kind in by_kind:
            victims = [self.chance.choice(by_kind[kind])]
        else:  # worker and spare at once
            victims = [by_kind[part][0] for part in kind.split("+")]
        if len(victims) == 1 and self.chance.random() < 0.35:
            self._stop(victims[0], now)
            return None
        killed = [self._signal(victim, signal.SIGKILL) for victim in victims]
        if all(killed):
            self.kills[kind] += 1
            return victims[-1]
        return None

    def _signal(self, target: Target, number: int) -> bool:
        """To this very process, and to no other one that has its pid by now."""
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(target.pid)
            try:
                if start_of(target.pid) != target.start:
                    return False
                signal.pidfd_send_signal(fd, number)
                return True
            finally:
                os.close(fd)
        return False

    def _stop(self, target: Target, now: float) -> None:
        if target.life >= 0:
            self._life(target.life).cells[Life.STOPS] += 1
        if self._signal(target, signal.SIGSTOP):
            self.stops[target.kind] += 1
            longest = self.chance.choice([0.02, 0.1, 0.5, 0.5, 2.0])
            heapq.heappush(self._sleeping, (now + self.chance.random() * longest, target))

    def found_stopped(self, pid: int, kind: str, life: int) -> None:
        """A process that a stop point stopped; it is continued in a moment."""
        target = Target(kind, pid, start_of(pid), life)
        heapq.heappush(self._sleeping, (time.monotonic() + 0.05 + self.chance.random() * 0.3, target))

    def wake(self, until: float) -> None:
        """Continues what has been stopped for long enough."""
        while self._sleeping and self._sleeping[0][0] <= until:
            _, target = heapq.heappop(self._sleeping)
            if target.life >= 0:
                self._life(target.life).cells[Life.STOPS] += 1
            self._signal(target, signal.SIGCONT)

    def look_for_hangs(self) -> None:
        now = time.monotonic_ns()
        for target in self._targets():
            if target.life < 0 or target.life in self._hung:
                continue
            cells = self._life(target.life).cells
            beat = max(cells[Life.BEAT], cells[Life.START])
            if now - beat > HANG_SECONDS * 1e9 and state_of(target.pid) not in ("T", "t", ""):
                self._hung.add(target.life)
                self.hangs.append(f"worker {target.life} (process {target.pid}) neither began nor ended a call")
