"""The fast way into a `RecordSink`: everything of a batch in one transaction, or nothing of it.

Runs in: the process of the sink. Here nothing is tried again and no failure is looked into: whenever anything is out of
the ordinary, the transaction is given up and `Delivery.deliver_many` goes through the same events one by one. What was
correlated is handed to it, so that each event counts once.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from mpbroadcast.correlator.decision import Create, Patch, Skip
from mpbroadcast.errors import NotFound
from mpbroadcast.sinks.write import Call, Outcome, Verdict, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpbroadcast.correlator.correlator import EventCorrelator
    from mpbroadcast.correlator.decision import Decision
    from mpbroadcast.event.model import Event
    from mpbroadcast.sinks.base import RecordSink
    from mpbroadcast.sinks.delivery import Delivery

__all__ = ["Bulk", "Entry"]

_CREATED: Final = Outcome(Verdict.DELIVERED, call=Call.CREATE)
_PATCHED: Final = Outcome(Verdict.DELIVERED, call=Call.PATCH)
_STORED: Final = Outcome(Verdict.DELIVERED, "it had been stored before")


class Entry(NamedTuple):
    """An event on its way.

    Attributes:
        sequence: its number in the ring.
        event: the event.
        item: the same as a ring payload, if it came as one; else the event again.
    """

    sequence: int
    event: Event
    item: bytes | Event


class Bulk:
    """Writes batches. Belongs to one thread; blocks as long as the sink's transaction takes.

    Args:
        sink: where to write.
        correlator: the one of the delivery.
        delivery: what a batch is left to that could not be written this way.
        source: whose events they are, for the sink's position.
    """

    def __init__(self, sink: RecordSink, correlator: EventCorrelator | None, delivery: Delivery, source: str) -> None:
        self._sink = sink
        self._correlator = correlator
        self._delivery = delivery
        self._source = source

    def write_records(self, first: int, last: int, payloads: Sequence[bytes]) -> bool:
        """Write ring payloads that need not be looked at, if none of them was written before.

        Args:
            first: the sequence number of the first one.
            last: that of the last one.
            payloads: as recorders wrote them.

        Returns:
            Whether they are stored; if not, nothing was changed.
        """
        sink = self._sink
        try:
            if sink.position(self._source) >= first:
                return False
            sink.begin()
            sink.create_records(payloads)
            sink.set_position(self._source, last)
            sink.commit()
        except Exception:  # noqa: BLE001 - whatever it is, the delivery meets it again and deals with it
            sink.rollback()
            return False
        return True

    def write(self, entries: Sequence[Entry], *, repeated: bool) -> list[Outcome] | None:
        """Correlate and write events.

        Args:
            entries: in order.
            repeated: whether a process that died may have written them, for the delivery.

        Returns:
            What became of each; None if nothing was written, and the delivery is to be asked.
        """
        try:
            stored = bisect_right(entries, self._sink.position(self._source), key=_sequence)
        except Exception:  # noqa: BLE001 - as above
            return None
        new = entries[stored:]
        outcomes = [_STORED] * stored
        if not new:
            return outcomes
        decisions = [self._decide(entry.event) for entry in new]
        try:
            self._sink.begin()
            outcomes += self._write(new, decisions)
            self._sink.set_position(self._source, new[-1].sequence)
            self._sink.commit()
        except Exception:  # noqa: BLE001 - as above
            self._sink.rollback()
            self._delivery.set_aside(self._unwritten(new, decisions, repeated=repeated))
            return None
        return outcomes

    def _decide(self, event: Event) -> Decision:
        return Create(event) if self._correlator is None else self._correlator.correlate(event)

    def _unwritten(
        self, entries: Sequence[Entry], decisions: Sequence[Decision], *, repeated: bool
    ) -> Iterable[tuple[Event, Write | Outcome]]:
        for entry, decision in zip(entries, decisions, strict=True):
            if isinstance(decision, Skip):
                yield entry.event, Outcome(Verdict.SKIPPED, decision.why, decision.event)
            else:
                yield entry.event, Write(decision, self._delivery.retry, self._delivery.rng, repeated=repeated)

    def _write(self, entries: Sequence[Entry], decisions: Sequence[Decision]) -> list[Outcome]:
        # All creates first: a patch is always of an event that was created before it.
        items = [
            entry.item if decision.event is entry.event else _without_version(decision.event)
            for entry, decision in zip(entries, decisions, strict=True)
            if isinstance(decision, Create)
        ]
        version = self._sink.create_records(items) if items else 0
        last_patches = _last_patches(decisions)
        outcomes: list[Outcome] = []
        for index, decision in enumerate(decisions):
            match decision:
                case Create(event):
                    self._remember(event.replace(resource_version=str(version)))
                    version += 1
                    outcomes.append(_CREATED)
                case Patch():
                    if index in last_patches:
                        self._remember(self._patch(decision))
                    outcomes.append(_PATCHED)
                case Skip(event, why):
                    outcomes.append(Outcome(Verdict.SKIPPED, why, event))
        return outcomes

    def _patch(self, decision: Patch) -> Event:
        try:
            return self._sink.patch(decision.event, decision.patch or b"{}")
        except NotFound:  # retention was faster (S4)
            return self._sink.create(_without_version(decision.event))

    def _remember(self, event: Event) -> None:
        if self._correlator is not None:
            self._correlator.update_state(event)


def _sequence(entry: Entry) -> int:
    return entry.sequence


def _without_version(event: Event) -> Event:
    return event.replace(resource_version="") if event.resource_version else event


def _last_patches(decisions: Sequence[Decision]) -> set[int]:
    """Say which patches to write: each says all that changed since the create, so the last one of an event will do.

    One that is empty says nothing: its event came with a count of its own (S3), and is written by itself.
    """
    last: dict[object, int] = {}
    for index, decision in enumerate(decisions):
        if isinstance(decision, Patch):
            last[(decision.event.namespace, decision.event.name) if decision.patch else index] = index
    return set(last.values())
