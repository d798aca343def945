"""`SinkHandler`: what the watcher process of a sink does with the records of its ring. Runs in: that process.

::

    records ──▶ decode ──▶ keep ──▶ Bulk, or else Delivery ──▶ settled in the ring
                  │          │         (all in one transaction)   (one by one, with retries)
               failed     filtered

Whatever was not settled when this process dies comes again to its successor.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.base.goquote import go_quote
from mpbroadcast.base.outcome import Settled
from mpbroadcast.correlator.correlator import EventCorrelator
from mpbroadcast.correlator.decision import SPAM
from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.event.wire import KIND_RECORD, decode
from mpbroadcast.sinks.base import RecordSink
from mpbroadcast.sinks.bulk import Bulk, Entry
from mpbroadcast.sinks.delivery import Delivery
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.sinks.write import Call, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpbroadcast.correlator.decision import Correlator
    from mpbroadcast.sinks.base import EventSink
    from mpbroadcast.sinks.write import Outcome

__all__ = ["COUNTERS", "SinkHandler"]

Record = tuple[int, int, bytes]
"""Sequence number in the ring, kind, payload."""

COUNTERS: Final = (
    "created",  # events written as new ones
    "patched",  # events written as a change of one that is there
    "repeated",  # events that a process before this one had written
    "skipped",  # events that were not written: spam, or counted in a series
    "rejected",  # events that the sink refused
    "gave_up",  # events whose tries were used up
    "retries",  # tries that failed and were made again
    "cut_texts",  # texts that were cut to what the other side takes
)
"""The names that a `SinkHandler` counts under."""

_BATCH_RECORDS: Final = 512
_BATCH_BYTES: Final = 4 << 20

_SETTLED: Final = {
    Verdict.DELIVERED: Settled.HANDLED,
    Verdict.SKIPPED: Settled.HANDLED,
    Verdict.REJECTED: Settled.FAILED,
    Verdict.GAVE_UP: Settled.GIVEN_UP,
}
_COUNTED: Final = {Verdict.SKIPPED: "skipped", Verdict.REJECTED: "rejected", Verdict.GAVE_UP: "gave_up"}
_CALLED: Final = {Call.CREATE: "created", Call.PATCH: "patched", None: "repeated"}

_log: Final = logging.getLogger("mpbroadcast.sink")


def _uncounted(name: str, n: int = 1) -> None:
    """Count nothing."""


def _unsettled(sequence: int, outcome: int) -> None:
    """Settle nothing: there was no record yet."""


def _never() -> bool:
    return False


class SinkHandler:
    """Brings what a ring holds into a sink; a `mpbroadcast.sinks.handling.BatchHandler`.

    Made in the application, cheap; picklable before `open` if its parts are. Everything else happens in the process of
    the sink, in one thread.

    Args:
        sink: where to write.
        correlator: options for an `EventCorrelator`, or a function that makes a correlator in the sink's process; None
            writes every event.
        retry: what to do about failures.
        keep: a predicate on events; what it refuses is counted as filtered. One that raises fails the event.
        name: of the watcher, for the log.
        source: a name for the ring that no other ring ever had: the sink keeps its position under it.

    Attributes:
        batch_records: how many records to bring at once at the most.
        batch_bytes: how many bytes of them.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        correlator: CorrelatorOptions | Callable[[], Correlator] | None = None,
        retry: RetryPolicy | None = None,
        keep: Callable[[Event], Any] | None = None,
        name: str,
        source: str,
    ) -> None:
        self.batch_records: int = getattr(sink, "batch", _BATCH_RECORDS)
        self.batch_bytes = _BATCH_BYTES
        self._sink = sink
        self._correlator = correlator
        self._retry = RetryPolicy() if retry is None else retry
        self._keep = keep
        self._name = name
        self._source = source
        self._delivery: Delivery | None = None
        self._bulk: Bulk | None = None
        self._pending: list[Entry] = []  # what is not settled yet, in order
        self._left_over = False  # the delivery keeps what it knows about the first of them

    def open(
        self,
        *,
        count: Callable[[str, int], object] = _uncounted,
        stopping: Callable[[], bool] = _never,
        repeated_until: int = 0,
    ) -> None:
        """Open the sink; once, in its process. A sink that cannot be opened now is opened by the first write.

        Args:
            count: adds to the counter of a name, one of `COUNTERS`.
            stopping: whether nothing is to be waited for any more. It is asked ten times a second during a pause.
            repeated_until: up to which sequence number a process that died may have had records in its hands.
        """
        self._count = count
        self._stopping = stopping
        self._repeated_until = repeated_until
        self._settle: Callable[[int, int], Any] = _unsettled
        self._tallied = Counter[str]()
        self._cut_texts: int = getattr(self._sink, "cut_texts", 0)
        self._idle_at = 0.0
        self._pending = []
        self._left_over = False
        try:
            self._optional("open")
        except SinkUnavailable as error:
            _log.error("The sink cannot be opened now: watcher=%s err=%s", go_quote(self._name), go_quote(str(error)))
        options = self._correlator
        correlator = EventCorrelator(options) if isinstance(options, CorrelatorOptions) else options and options()
        self._delivery = Delivery(self._sink, correlator, self._retry, stopping=stopping)
        self._bulk = None
        if isinstance(self._sink, RecordSink) and (correlator is None or isinstance(correlator, EventCorrelator)):
            self._bulk = Bulk(self._sink, correlator, self._delivery, self._source)
        self._raw = correlator is None and self._keep is None

    def _optional(self, method: str) -> Any:
        """Call what a sink may have and need not."""
        call = getattr(self._sink, method, None)
        return None if call is None else call()

    def handle(self, records: Sequence[Record], settle: Callable[[int, int], Any]) -> None:
        """Write the events among records and settle each record whose fate is known; the rest stays in this handler.

        Blocks as long as the sink is away. Returns early when everything is stopping, or when an event keeps failing
        and only newer ones can tell whether others succeed: then `idle` says that it wants to be called at once.

        Args:
            records: sequence numbers ascend; gaps are fine.
            settle: takes a sequence number and one of `Settled`. It is kept for `idle` and `close`.
        """
        self._settle = settle
        if not (self._raw and not self._pending and self._write_raw(records)):
            self._pending += self._decoded(records)
            self._deliver()
        self._tell_counts()
        if time.monotonic() >= self._idle_at:
            self._upkeep()

    def idle(self) -> float | None:
        """Go on with what was left over, write the series that are due, and let the sink do its upkeep.

        To be called when there are no records.

        Returns:
            The seconds after which to call it again if no records come; None for any time.
        """
        if self._pending:
            self._deliver()
        wait = self._upkeep()
        return 0.0 if self._pending else wait

    def close(self) -> None:
        """Write what is left over, and what a correlator holds back, as long as nothing is stopping; close the sink."""
        while self._pending and not self._stopping():
            self._deliver()
        self._tell_counts()
        if self._delivery is not None:
            for outcome in self._delivery.close():
                self._tally(outcome)
        self._tell_counts()

    # Decoding

    def _write_raw(self, records: Sequence[Record]) -> bool:
        """Write records that nobody looks into: no correlator, no predicate."""
        if self._bulk is None or any(kind != KIND_RECORD for _, kind, _ in records):
            return False
        if not self._bulk.write_records(records[0][0], records[-1][0], [payload for _, _, payload in records]):
            return False
        for sequence, _, _ in records:
            self._settle(sequence, Settled.HANDLED)
        self._tallied["created"] += len(records)
        return True

    def _decoded(self, records: Sequence[Record]) -> list[Entry]:
        """Return the events that are to be written; everything else is settled."""
        entries: list[Entry] = []
        for sequence, kind, payload in records:
            try:
                entry = self._entry(sequence, kind, payload)
            except ValueError as error:
                self._settle(sequence, Settled.FAILED)
                self._say("A record cannot be decoded and is counted as failed", str(error))
                continue
            kept = Settled.FILTERED if entry is None else self._kept(entry.event)
            if entry is None or kept is not Settled.HANDLED:
                self._settle(sequence, kept)
            else:
                entries.append(entry)
        return entries

    def _entry(self, sequence: int, kind: int, payload: bytes) -> Entry | None:
        """Decode a record; None for an object that is no event, which client-go ignores as well (L2)."""
        if kind == KIND_RECORD:
            return Entry(sequence, Event.from_record(payload), payload)
        obj = decode(kind, payload).object
        return Entry(sequence, obj, obj) if isinstance(obj, Event) else None

    def _kept(self, event: Event) -> Settled:
        if self._keep is None:
            return Settled.HANDLED
        try:
            return Settled.HANDLED if self._keep(event) else Settled.FILTERED
        except Exception as error:  # noqa: BLE001 - one bad event must not end the watcher
            what = f"{type(error).__name__}: {error} (event {event.namespace}/{event.name})"
            self._say("The filter failed on an event, which is counted as failed", what)
            return Settled.FAILED

    # Writing

    def _deliver(self) -> None:
        """Write what is pending, as far as that is possible now."""
        while self._pending:
            part, repeated = self._part()
            outcomes = None
            if self._bulk is not None and not self._left_over:
                outcomes = self._bulk.write(part, repeated=repeated)
            if outcomes is None:
                outcomes = self._deliver_one_by_one(part, repeated=repeated)
            if not self._flush():
                return
            self._settle_through(part, outcomes)
            if self._left_over:
                return

    def _part(self) -> tuple[list[Entry], bool]:
        """Return the first of what is pending, as far as it was, or was not, in the hands of a process that died."""
        repeated = self._pending[0].sequence <= self._repeated_until
        if repeated and self._pending[-1].sequence > self._repeated_until:
            return [entry for entry in self._pending if entry.sequence <= self._repeated_until], True
        return self._pending, repeated

    def _deliver_one_by_one(self, part: list[Entry], *, repeated: bool) -> list[Outcome]:
        assert self._delivery is not None
        outcomes = self._delivery.deliver_many(
            [entry.event for entry in part],
            source=self._source,
            sequences=[entry.sequence for entry in part],
            repeated=repeated,
        )
        self._left_over = len(outcomes) < len(part)
        return outcomes

    def _flush(self) -> bool:
        """Have the sink make durable what was written; False if everything is stopping before it could."""
        assert self._delivery is not None
        failed = 0
        while True:
            try:
                self._optional("flush")
            except SinkUnavailable as error:
                failed += 1
                self._tallied["retries"] += 1
                self._say("The sink cannot make events durable (may retry)", str(error))
                if self._delivery.wait(self._retry.pause(failed, self._delivery.rng, error.retry_after)):
                    return False
            else:
                return True

    def _settle_through(self, part: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        for entry, outcome in zip(part, outcomes, strict=False):
            settled = _SETTLED.get(outcome.verdict)
            if settled is not None:
                self._settle(entry.sequence, settled)
                self._tally(outcome)
        self._pending = self._pending[len(outcomes) :]

    # Upkeep and counters

    def _upkeep(self) -> float | None:
        assert self._delivery is not None
        waits = [self._delivery.tick(), self._sink_idle()]
        self._tell_counts()
        wait = min((wait for wait in waits if wait is not None), default=None)
        self._idle_at = math.inf if wait is None else time.monotonic() + wait
        return wait

    def _sink_idle(self) -> float | None:
        try:
            wait = self._optional("idle")
        except Exception as error:  # noqa: BLE001 - whatever a sink raises must not end the watcher
            self._say("The upkeep of the sink failed", f"{type(error).__name__}: {error}")
            return None
        return None if wait is None else float(wait)

    def _tally(self, outcome: Outcome) -> None:
        if outcome.verdict is Verdict.DELIVERED:
            self._tallied[_CALLED[outcome.call]] += 1
        elif outcome.verdict in _COUNTED:
            self._tallied[_COUNTED[outcome.verdict]] += 1
            if outcome.why is SPAM and outcome.event is not None and self._delivery is not None:
                options = self._correlator if isinstance(self._correlator, CorrelatorOptions) else None
                self._delivery.notices.held_back(outcome.event, options)

    def _say(self, text: str, why: str) -> None:
        """Say what went wrong, one line for each kind and minute."""
        assert self._delivery is not None
        self._delivery.notices.say(text, text + ": watcher=%s err=%s", go_quote(self._name), go_quote(why))

    def _tell_counts(self) -> None:
        assert self._delivery is not None
        self._tallied["retries"] += self._delivery.retries
        self._delivery.retries = 0
        cut = getattr(self._sink, "cut_texts", 0)
        self._tallied["cut_texts"] += cut - self._cut_texts
        self._cut_texts = cut
        for name, n in self._tallied.items():
            if n:
                self._count(name, n)
        self._tallied.clear()
        self._delivery.notices.flush()
