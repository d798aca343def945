"""The sink's side of a relay: handlers, and how far each partition is. Runs in: the relay, in one thread of its own.

The handlers are those of a watcher process (`mpbroadcast.sinks.handler`), with messages instead of a ring's records.
A sink that makes many requests at a time has one for all partitions, any other sink has one for each: an `SQLiteSink`
keeps a position for each of them.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.event.wire import ADDED, encode
from mpbroadcast.sinks.handler import SinkHandler
from mpbroadcast.sinks.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mpbroadcast.base.outcome import Settled
    from mpbroadcast.sinks.base import EventSink
    from mpbroadcast.sinks.work import AsyncClient

__all__ = ["Outlet", "Progress", "make_outlet"]

Record = tuple[int, bytes]
"""Sequence number in the stream, core/v1 JSON."""

_KIND: Final = encode(ADDED, Event())[0]
_REPEATED: Final = 1 << 40
"""Numbers up to here are for events that another member may have written; beyond are those that nobody had yet."""


class Progress:
    """What of one partition is under way, and how far it is. Thread-safe.

    Args:
        position: up to where it was settled before.
    """

    def __init__(self, position: int) -> None:
        self._lock = threading.Lock()
        self._position = position
        self._handed: deque[int] = deque()
        self._done: set[int] = set()
        self._seen = position

    def hand(self, sequence: int) -> bool:
        """Note that an event is under way; False if it was before."""
        with self._lock:
            if sequence <= self._seen:
                return False
            self._seen = sequence
            self._handed.append(sequence)
            return True

    def settle(self, sequence: int) -> None:
        """Note that the fate of an event is known."""
        with self._lock:
            self._done.add(sequence)
            while self._handed and self._handed[0] in self._done:
                self._position = self._handed.popleft()
                self._done.remove(self._position)

    def pass_by(self, sequence: int) -> None:
        """Note that nothing up to here is under way but what was handed over."""
        with self._lock:
            self._seen = max(self._seen, sequence)

    @property
    def position(self) -> int:
        """Up to where everything is settled."""
        with self._lock:
            return self._position if self._handed else max(self._position, self._seen)


class Outlet:
    """Brings events into a sink until the round is over. All but ``positions`` is for one thread.

    Args:
        sink: where to.
        positions: of the partitions of this round.
        source: a name for the stream and group, for sinks that keep positions.
        repeated_until: up to where another member may have written.
        stopping: whether nothing is to be waited for any more.
        may_write: whether the partitions are certainly still those of this member.
        correlator: options, None for every event, or ``"sink"`` for what the sink likes.
        retry: what to do about failures.
    """

    def __init__(
        self,
        sink: EventSink,
        positions: Mapping[int, int],
        *,
        source: str,
        repeated_until: int,
        stopping: Callable[[], bool],
        may_write: Callable[[], bool],
        correlator: Any = "sink",
        retry: RetryPolicy | None = None,
    ) -> None:
        self.sink = sink
        self.source = source
        self.repeated_until = repeated_until
        self.stopping = stopping
        self.may_write = may_write
        if correlator == "sink":
            correlator = getattr(sink, "default_correlator", CorrelatorOptions())
        self.correlator = correlator
        self.retry = retry or RetryPolicy()
        self.progress = {number: Progress(position) for number, position in positions.items()}
        self.counts: dict[str, int] = {}

    def positions(self) -> dict[int, int]:
        """Return how far each partition is. Safe in any thread."""
        return {number: progress.position for number, progress in self.progress.items()}

    def pass_by(self, sequence: int) -> None:
        """Note how far the stream was read. Safe in any thread."""
        for progress in self.progress.values():
            progress.pass_by(sequence)

    def count(self, name: str, n: int = 1) -> None:
        """Add to a counter."""
        self.counts[name] = self.counts.get(name, 0) + n

    def open(self) -> None:
        """Open the sink."""
        raise NotImplementedError

    def give(self, number: int, records: Sequence[Record]) -> None:
        """Have events of a partition written. Blocks while the sink is away, or too much waits."""
        raise NotImplementedError

    def idle(self) -> None:
        """Go on with what waits."""
        raise NotImplementedError

    def close(self) -> None:
        """Settle what is under way, unless everything is stopping, and let go of the sink."""
        raise NotImplementedError

    def _new(self, records: Iterable[Record], number: int) -> list[Record]:
        progress = self.progress[number]
        return [record for record in records if progress.hand(record[0])]

    def _handler(self, make: Callable[..., SinkHandler], sink: Any, source: str) -> SinkHandler:
        return make(sink, correlator=self.correlator, retry=self.retry, name="relay", source=source)


class _Each(Outlet):
    """A handler for each partition."""

    def open(self) -> None:
        self._handlers: dict[int, SinkHandler] = {}
        for number in self.progress:
            handler = self._handler(SinkHandler, self.sink, f"{self.source}/{number}")
            handler.open(count=self.count, stopping=self.stopping, repeated_until=self.repeated_until)
            self._handlers[number] = handler

    def give(self, number: int, records: Sequence[Record]) -> None:
        settle = self.progress[number].settle

        def settled(sequence: int, _: Settled | int) -> None:
            settle(sequence)

        new = [(sequence, _KIND, data) for sequence, data in self._new(records, number)]
        if new:
            self._handlers[number].handle(new, settled)

    def idle(self) -> None:
        for handler in self._handlers.values():
            handler.idle()

    def close(self) -> None:
        for handler in self._handlers.values():
            handler.close()


class _Guarded:
    """A concurrent sink that writes nothing while it is not certain that it should.

    A process that was stopped for minutes goes on in the middle of its queue, before it can notice that others have
    its partitions. What it writes then would meet what they wrote, and take another name.
    """

    def __init__(self, sink: Any, may_write: Callable[[], bool]) -> None:
        self._sink = sink
        self._may_write = may_write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def connect(self) -> AsyncClient:
        return _GuardedClient(self._sink.connect(), self._may_write)


class _GuardedClient:
    def __init__(self, client: AsyncClient, may_write: Callable[[], bool]) -> None:
        self._client = client
        self._may_write = may_write
        self.close = client.close

    def _check(self) -> None:
        if not self._may_write():
            raise SinkUnavailable("another member may have taken these events over")

    async def create(self, event: Event) -> Event | None:
        self._check()
        return await self._client.create(event)

    async def patch(self, event: Event, patch: bytes) -> Event | None:
        self._check()
        return await self._client.patch(event, patch)


class _Single(Outlet):
    """One handler for all partitions, which numbers events by itself; see `_REPEATED`."""

    def open(self) -> None:
        make = self.sink.make_handler  # type: ignore[attr-defined]
        self._one = self._handler(make, _Guarded(self.sink, self.may_write), self.source)
        self._one.open(count=self.count, stopping=self.stopping, repeated_until=_REPEATED)
        self._old, self._new_number = 0, _REPEATED
        self._where: dict[int, tuple[Progress, int]] = {}

    def _settled(self, number: int, _: Settled | int) -> None:
        progress, sequence = self._where.pop(number)
        progress.settle(sequence)

    def give(self, number: int, records: Sequence[Record]) -> None:
        progress = self.progress[number]
        numbered = []
        for sequence, data in self._new(records, number):
            if sequence <= self.repeated_until:
                self._old += 1
                own = self._old
            else:
                self._new_number += 1
                own = self._new_number
            self._where[own] = progress, sequence
            numbered.append((own, _KIND, data))
        if numbered:
            self._one.handle(numbered, self._settled)

    def idle(self) -> None:
        self._one.idle()

    def close(self) -> None:
        self._one.close()


def make_outlet(sink: EventSink, positions: Mapping[int, int], **options: Any) -> Outlet:
    """Make the outlet that fits a sink; options as for `Outlet`."""
    return (_Single if hasattr(sink, "make_handler") else _Each)(sink, positions, **options)
