"""The correlator of events.k8s.io/v1 events: what repeats becomes a series (E1-E17).

::

                  occurrence: Create              occurrence: Patch, count 2           occurrence: counted only
    absent ──────────────────────────▶ single ──────────────────────────────▶ series ◀─┐
       ▲                                  │                                     │ │ └──┘ refresh: Patch
       └──── 6 minutes old, at a finish ──┴──── idle for 6 minutes, at a finish: Patch ─┘

From the third occurrence on a series is written only by the rounds: *refresh* (client-go: every 30 minutes) writes
every series, *finish* (every 6 minutes) writes and forgets those that have ended. Whoever owns the correlator runs
them, writes what they return, and tells what came of it.

Better than client-go: `close` returns what has not been written, which client-go loses at shutdown (W11, W27); memory
is bounded (W28), and a series that has to leave it is written first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.correlator.decision import IN_SERIES, Create, Decision, Patch, Skip
from mpbroadcast.correlator.lru import LRU
from mpbroadcast.correlator.patch import series_patch
from mpbroadcast.event.parts import EventSeries, ObjectReference

if TYPE_CHECKING:
    from collections.abc import Hashable

    from mpbroadcast.base.clock import Clock
    from mpbroadcast.event.model import Event

__all__ = ["FINISH_SECONDS", "REFRESH_SECONDS", "SeriesCorrelator", "series_key"]

REFRESH_SECONDS: Final = 30 * 60
"""Between two refresh rounds (spec 0.3)."""

FINISH_SECONDS: Final = 6 * 60
"""Between two finish rounds, and how long a series must be idle to have ended (spec 0.3)."""

_FIRST_COUNT: Final = 2  # a series begins with its second occurrence (spec 0.3)
_SECOND: Final = 1_000_000_000
_NO_OBJECT: Final = ObjectReference()


def series_key(event: Event) -> tuple[Hashable, ...]:
    """Return what makes events one series: isomorphic in client-go's words, compared field by field.

    The whole reference is in it, also the object's resource version and the field path; note and annotations are not.
    """
    # fmt: off
    return (event.type, event.action, event.reason, event.reporting_controller, event.reporting_instance,
            event.involved_object, event.related or _NO_OBJECT)
    # fmt: on


class _Entry:
    """A remembered event, as it is now, and the series count that was last given out to be written."""

    __slots__ = ("event", "written")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.written = 0 if event.series is None else event.series.count

    def pending(self) -> Patch | None:
        """Return the write that is missing, if one is."""
        series = self.event.series
        if series is None or series.count <= self.written:
            return None
        return Patch(self.event, series_patch(self.event))


class SeriesCorrelator:
    """Decides what becomes of each event, as client-go's ``tools/events`` does. One for each sink.

    Not thread-safe: it belongs to the one process and thread that feeds its sink.

    Args:
        clock: read once for each occurrence after the first (E4, E5) and for each finish round (E11).
        cache_size: events and series to remember, at least 1; client-go's map has no bound (W28).
        message_in_key: whether events with different messages are different series. client-go keeps the first
            message of a series and drops the others (E16, W29).
        idle_seconds: after how long without an occurrence a series has ended.

    Raises:
        ValueError: a number is out of range.
    """

    __slots__ = ("_cache", "_clock", "_evicted", "_idle_ns", "_message_in_key")

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        cache_size: int = 4096,
        message_in_key: bool = False,
        idle_seconds: float = FINISH_SECONDS,
    ) -> None:
        if cache_size < 1:
            raise ValueError(f"cache_size must be at least 1, not {cache_size!r}")
        if idle_seconds <= 0:
            raise ValueError(f"idle_seconds must be more than 0, not {idle_seconds!r}")
        self._clock = clock
        self._cache: LRU[Hashable, _Entry] = LRU(cache_size)
        self._message_in_key = message_in_key
        self._idle_ns = int(idle_seconds * _SECOND)
        self._evicted: list[Patch] = []

    def __len__(self) -> int:
        return len(self._cache)

    def correlate(self, event: Event) -> Decision:
        """Take in one occurrence.

        Returns:
            `Create` for the first (E3), `Patch` with a series of 2 for the second (E4), `Skip` for any later one,
            which is counted and written by a round (E5). Call `take_evicted` afterwards.
        """
        key = self._key(event)
        entry = self._cache.find(key)
        if entry is None:
            self._add(key, _Entry(event))
            # An event that comes with a series of its own updates one that another process began (EVB-02).
            return Create(event) if event.series is None else Patch(event, series_patch(event))
        series = entry.event.series
        count = _FIRST_COUNT if series is None else series.count + 1
        entry.event = entry.event.replace(series=EventSeries(count, self._clock.now_ns()))
        if series is not None:
            return Skip(entry.event, IN_SERIES)
        entry.written = count
        return Patch(entry.event, series_patch(entry.event))

    def take_evicted(self) -> list[Patch]:
        """Return, once, the last writes of series that had to leave the memory. Mostly empty."""
        if not self._evicted:
            return []
        evicted, self._evicted = self._evicted, []
        return evicted

    def update_state(self, event: Event) -> None:
        """Do nothing: what the server made of a create or a patch must not disturb the counting (E9)."""

    def renamed(self, event: Event, name: str) -> None:
        """Go on under another name: that of the event was taken already."""
        entry = self._cache.find(self._key(event))
        if entry is not None and entry.event.name == event.name:
            entry.event = entry.event.replace(name=name)

    def refresh(self) -> list[Patch]:
        """Begin a refresh round (E10): every series as it is now, to be written with one attempt each.

        Each write that succeeded is to be reported with `refreshed`; one that failed changes nothing.
        """
        events = [entry.event for entry in self._cache.values()]
        return [Patch(event, series_patch(event)) for event in events if event.series is not None]

    def refreshed(self, sent: Patch, stored: Event) -> None:
        """Keep what the sink stored, unless there was another occurrence in between (E10, DER-28)."""
        entry = self._cache.peek(self._key(sent.event))
        if entry is None:
            return
        series = sent.event.series
        if series is not None:
            entry.written = series.count
        if entry.event == sent.event:
            # A sink that keeps no series must not set the counting back to nothing.
            entry.event = stored if stored.series else stored.replace(series=series)

    def finish(self, now_ns: int | None = None) -> list[Patch]:
        """Begin a finish round (E11): forget idle single events, and return the idle series to be written.

        Each write is to be reported with `finished`, unless it is to be tried again: then it stays for the next round.

        Args:
            now_ns: the time of the round; the clock's when left out.
        """
        limit_ns = (self._clock.now_ns() if now_ns is None else now_ns) - self._idle_ns
        ended = []
        for key, entry in self._cache.items():
            event = entry.event
            if event.series is not None:
                last = event.series.last_observed_time
                if last is None or last < limit_ns:
                    ended.append(Patch(event, series_patch(event)))
                continue
            began = event.first_timestamp if event.event_time is None else event.event_time
            if began is None or began < limit_ns:
                self._cache.discard(key)
        return ended

    def finished(self, sent: Patch) -> None:
        """Forget a series that was written, or whose write was refused, unless it went on in between (E11, DER-28)."""
        key = self._key(sent.event)
        entry = self._cache.peek(key)
        if entry is None:
            return
        if entry.event == sent.event:
            self._cache.discard(key)

    def close(self) -> list[Patch]:
        """Forget everything and return the counts that were never written (W11, W27)."""
        waiting = [entry.pending() for entry in self._cache.values()]
        self._cache.clear()
        return self.take_evicted() + [patch for patch in waiting if patch is not None]

    def _key(self, event: Event) -> Hashable:
        key = series_key(event)
        return (*key, event.message) if self._message_in_key else key

    def _add(self, key: Hashable, entry: _Entry) -> None:
        evicted = self._cache.add(key, entry)
        pending = None if evicted is None else evicted.pending()
        if pending is not None:
            self._evicted.append(pending)
