"""The demo's accounting: what the broadcaster counted, against what the workers counted. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from mpbroadcast.cli.verdict import amount, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpbroadcast.stats import Stats, WatcherStats

__all__ = ["Accounting", "Counted", "Line"]

_COLUMNS: Final = ("WATCHER", "FORWARDED", "HANDLED", "FAILED", "GIVEN UP", "FILTERED", "DROPPED", "LEFT")


class Line(NamedTuple):
    """A line of the accounting, and whether it adds up (None: nothing to add)."""

    text: str
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted without the broadcaster.

    Attributes:
        calls: of a recorder, by the workers.
        accepted: of them answered with True.
        refused: of them answered with False.
        warnings: accepted ones of type Warning.
        killed: how many workers died; each may have left one call without an answer.
        alerts: warnings that the handler of the watcher ``alerts`` saw.
        stored: events in the store, repeats and all; None where there is no store.
        rows: of the store.
    """

    calls: int
    accepted: int
    refused: int
    warnings: int
    killed: int = 0
    alerts: int = 0
    stored: int | None = None
    rows: int = 0


@dataclass(slots=True)
class Accounting:
    """Adds up and compares.

    Attributes:
        stats: of the broadcaster, after shutdown.
        counted: by others.
        store: the name of the watcher that writes the store.
        wrong: what does not add up, one sentence each; filled by `lines`.
    """

    stats: Stats
    counted: Counted
    store: str = "store"
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[Line]:
        """Yield the lines to print."""
        stats, counted = self.stats, self.counted
        refused = sum(stats.refused.values())
        yield Line(
            f"recorded   {amount(counted.calls, 'call')} of the workers = {number(stats.accepted)} accepted"
            f" + {number(refused)} refused",
            self._same_calls(refused),
        )
        yield Line(
            f"forwarded  {number(stats.forwarded)} by the distributor, {number(stats.backlog)} left in lanes",
            self._check(
                stats.accepted == stats.forwarded + stats.backlog + sum(lane.lost for lane in stats.lanes),
                f"{stats.accepted} events were accepted, {stats.forwarded} forwarded and {stats.backlog} left in lanes",
            ),
        )
        yield from self._watcher_lines()
        if counted.stored is not None:
            written = self._handled(self.store)
            yield Line(
                f"stored     {amount(counted.stored, 'event')} in {amount(counted.rows, 'row')}: repeats share one",
                self._check(
                    counted.stored == written, f"the sink handled {written} events, the store has {counted.stored}"
                ),
            )

    def _handled(self, name: str) -> int:
        return sum(watcher.handled for watcher in self.stats.watchers if watcher.name == name)

    def _check(self, right: bool, sentence: str) -> bool:
        if not right:
            self.wrong.append(sentence)
        return right

    def _same_calls(self, refused: int) -> bool:
        """Both sides of the call count the same; a worker killed within a call leaves one open."""
        counted = self.counted
        unanswered = counted.calls - counted.accepted - counted.refused
        right = 0 <= unanswered <= counted.killed
        right = right and 0 <= self.stats.accepted - counted.accepted <= unanswered
        right = right and 0 <= refused - counted.refused <= unanswered
        return self._check(
            right,
            f"the workers counted {counted.accepted} accepted and {counted.refused} refused,"
            f" the lanes {self.stats.accepted} and {refused}",
        )

    def _watcher_lines(self) -> Iterator[Line]:
        rows = [_cells(watcher) for watcher in self.stats.watchers]
        widths = [max(len(row[index]) for row in (_COLUMNS, *rows)) for index in range(len(_COLUMNS))]
        yield Line(_aligned(_COLUMNS, widths))
        for watcher, row in zip(self.stats.watchers, rows, strict=True):
            yield Line(_aligned(row, widths), self._check_watcher(watcher))

    def _check_watcher(self, watcher: WatcherStats) -> bool:
        forwarded = self.stats.forwarded
        right = self._check(
            watcher.forwarded + watcher.dropped + watcher.outside == forwarded,
            f"of {forwarded} events {watcher.forwarded} went to {watcher.name}, {watcher.dropped} were dropped",
        )
        # LEFT is what the rest leaves over, so this can only fail where it is negative.
        right &= self._check(watcher.backlog >= 0, f"{watcher.name} is done with more events than it was given")
        if watcher.name == "alerts" and not (watcher.dropped or watcher.backlog or self.counted.killed):
            right &= self._check(
                self.counted.alerts == watcher.handled == self.counted.warnings,
                f"the workers recorded {self.counted.warnings} warnings, {watcher.name} handled {watcher.handled},"
                f" its handler saw {self.counted.alerts}",
            )
        return right

    @property
    def lost(self) -> list[str]:
        """What was lost, with its reason, in words; nothing of it is missing in the accounting."""
        found = [f"{number(count)} {reason} ({owner})" for reason, owner, count in self.stats.losses()]
        found += [f"{number(w.backlog)} not handled in time ({w.name})" for w in self.stats.watchers if w.backlog]
        if self.stats.backlog:
            found.append(f"{number(self.stats.backlog)} not distributed in time")
        return found

    def verdict(self) -> Line:
        """Say the result in one sentence; after `lines`."""
        if self.wrong:
            return Line("The accounting does not add up: " + "; ".join(self.wrong), right=False)
        if self.lost:
            return Line("Everything adds up. Lost, each with its reason: " + ", ".join(self.lost), right=True)
        return Line("Everything adds up, and nothing was lost.", right=True)


def _cells(watcher: WatcherStats) -> tuple[str, ...]:
    counts = (watcher.forwarded, watcher.handled, watcher.failed, watcher.given_up, watcher.filtered, watcher.dropped)
    return (watcher.name, *(number(count) for count in (*counts, watcher.backlog)))


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = cells
    return "  ".join(
        [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))]
    )
