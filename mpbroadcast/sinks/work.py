"""What a concurrent sink is, one event on its way through it, and the parts of a delivery that do not wait.

Runs in: the process of the sink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import orjson

from mpbroadcast.correlator.decision import Create, Patch
from mpbroadcast.event.model import Event
from mpbroadcast.sinks.base import EventSink
from mpbroadcast.sinks.delivery import Delivery
from mpbroadcast.sinks.write import Call, Outcome, Verdict, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["AsyncClient", "ConcurrentSink", "Desk", "Item"]


class AsyncClient(Protocol):
    """What writes, many calls at a time; it raises what `mpbroadcast.sinks.base.EventSink` says."""

    async def create(self, event: Event) -> Event | None:
        """Store a new event."""

    async def patch(self, event: Event, patch: bytes) -> Event | None:
        """Change a stored event."""

    async def close(self) -> None:
        """Let go of everything."""


class ConcurrentSink(EventSink, Protocol):
    """A sink that a `ConcurrentHandler` can drive; one by one it is an ordinary sink."""

    concurrency: int
    requests_per_second: float | None
    spool: str | None
    spool_bytes: int
    spool_seconds: float

    def connect(self) -> AsyncClient:
        """Make a client for the running event loop; must not block."""


class Item:
    """An event out of the ring, out of the spool, or made by a correlator.

    Attributes:
        event: as it was recorded.
        key: its object; events of one object are written one after another.
        sequence: in the ring; 0 if it is not there.
        spooled: its number in the spool; 0 if it is not there.
        repeated: whether a process that died may have written it.
        kind: of the record in the ring, kept only where there is a spool.
        payload: likewise.
        write: what is to be written, once it is correlated.
        patching: whether a patch was decided, whatever is called now.
        name: of the stored event that other items wait for.
        successes: how many writes had succeeded when it last failed; -1 before that.
        not_before: loop time before which the other side does not want to hear of it.
        after: what to do when its fate is known; such an item gets one try.
    """

    __slots__ = (
        "after", "event", "key", "kind", "name", "not_before", "patching", "payload", "repeated", "sequence",
        "spooled", "successes", "write",
    )  # fmt: skip

    def __init__(self, event: Event, *, sequence: int = 0, spooled: int = 0, repeated: bool = False) -> None:
        reference = event.involved_object
        self.event = event
        self.key: Hashable = (reference.namespace, reference.name, reference.kind)
        self.sequence = sequence
        self.spooled = spooled
        self.repeated = repeated
        self.kind = 0
        self.payload = b""
        self.write: Write | None = None
        self.patching = False
        self.name: Hashable = None
        self.successes = -1
        self.not_before = 0.0
        self.after: Callable[[Outcome], None] | None = None

    def take_up(self, write: Write) -> None:
        """Note what was decided."""
        self.write = write
        self.patching = write.call is Call.PATCH

    @property
    def tells_itself(self) -> bool:
        """Whether the record alone says what is written: then nobody has to remember it."""
        return not self.patching and self.write is not None and self.write.event is self.event

    def note(self) -> bytes:
        """Put what was decided into bytes; the times apart, as JSON cuts them."""
        write = self.write
        assert write is not None
        event = write.event
        times = (event.first_timestamp, event.last_timestamp, event.event_time)
        return orjson.dumps([write.patch.decode() if self.patching else None, event.to_core_v1(), *times])


class Desk(Delivery):
    """The parts of a delivery that do not wait: what to write, what came of it, what to log."""

    def again(self, note: bytes) -> Write:
        """Make the write that a process that died had decided on."""
        patch, body, first, last, event_time = orjson.loads(note)
        event = Event.from_core_v1(body).replace(first_timestamp=first, last_timestamp=last, event_time=event_time)
        decision = Create(event) if patch is None else Patch(event, patch.encode())
        return Write(decision, self.retry, self.rng, repeated=True)

    def succeeded(self, write: Write, stored: Event | None) -> Outcome:
        """Tell the correlator what was stored."""
        self._succeeded(write, stored)
        write.outcome = Outcome(Verdict.DELIVERED, event=stored, call=write.call)
        return write.outcome

    def report(self, write: Write, error: Exception) -> None:
        """Log a failure, or count it."""
        self._report(write, error)
