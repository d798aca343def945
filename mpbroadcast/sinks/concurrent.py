"""`ConcurrentHandler`: many requests of one sink under way at a time. Runs in: the process of the sink.

::

    main thread:   records ──▶ handle() ─────┐ waits while too much is pending
    loop thread:   ┌─────────────────────────┘
    (`engine`)     ├─▶ one queue per object ──▶ up to N workers: correlate, call, settle
                   │                       ▲         └─▶ tried again later: the object waits, the worker does not
                   └─▶ `overflow`, while the other side is away

**Order.** Events about one object (kind, namespace, name) are written one after another: each is correlated when the
one before it is settled. client-go does so for all events together, and two of its rules need it: what a write returned
is remembered before the next equal event is counted (S5), and a patch follows the create of its event. Both only tie
events together that are about one object, so that objects may overtake one another. Where a key function of the user
puts several objects into one aggregate, its writes wait for one another by the aggregate's name.

**Failures.** A try that failed is made again by `RetryPolicy`. While all tries fail only a few objects are tried at
all; the first success wakes them up. An event that keeps failing while others succeed is given up.

**Crashes.** What is not settled comes again and is recognised: a create meets itself (409); what a record alone does
not tell is in the `journal`. Counts in the correlator start again, but for what was under way (W19): no event is
counted twice, and a repeat that comes later is a new event with a count of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mpbroadcast.base.outcome import Settled
from mpbroadcast.correlator.correlator import EventCorrelator
from mpbroadcast.correlator.keys import aggregate_by_reason
from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.sinks.engine import Engine
from mpbroadcast.sinks.handler import SinkHandler
from mpbroadcast.sinks.journal import Journal
from mpbroadcast.sinks.work import Desk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpbroadcast.event.model import Event
    from mpbroadcast.sinks.handler import Record
    from mpbroadcast.sinks.work import ConcurrentSink
    from mpbroadcast.sinks.write import Outcome, Write

__all__ = ["ConcurrentHandler"]


def _uncounted(name: str, n: int = 1) -> None:
    """Count nothing."""


def _never() -> bool:
    return False


class ConcurrentHandler(SinkHandler):
    """Brings what a ring holds into a sink, many requests at a time; a `mpbroadcast.sinks.handling.BatchHandler`.

    Made in the application, cheap; picklable before `open` if its parts are. ``open`` starts one thread, which has the
    event loop, and does everything but waiting for records. ``handle`` blocks while more than `engine.PENDING` records
    wait. With a spool a record counts as handled when it is on disk.

    Args:
        sink: where to write.
        options: as for `SinkHandler`.
    """

    def __init__(self, sink: ConcurrentSink, **options: Any) -> None:
        super().__init__(sink, **options)
        self._concurrent = sink
        self._journal = Journal()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_journal": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._journal = Journal()  # shared with the spare, which is a fork of the process that unpickles

    # The main thread

    def open(
        self,
        *,
        count: Callable[[str, int], object] = _uncounted,
        stopping: Callable[[], bool] = _never,
        repeated_until: int = 0,
    ) -> None:
        """Open the spool and start the thread.

        Args:
            count: adds to the counter of a name.
            stopping: whether nothing is to be waited for any more.
            repeated_until: up to which sequence number a process that died may have had records in its hands.

        Raises:
            SinkUnavailable: the spool cannot be used.
        """
        self._count = count
        self.stopping = stopping
        self._tallied = Counter[str]()
        self._cut_texts = getattr(self._sink, "cut_texts", 0)
        options = self._correlator
        counting = isinstance(options, CorrelatorOptions)
        correlator = EventCorrelator(options) if isinstance(options, CorrelatorOptions) else options and options()
        self._desk = self._delivery = Desk(self._sink, correlator, self._retry, stopping=stopping)
        self._engine = Engine(self, self._concurrent, self._desk, correlator, journal=self._journal)
        self._engine.share_names = counting and options.key_func is not aggregate_by_reason  # type: ignore[union-attr]
        self._engine.start(self._source, repeated_until)

    def handle(self, records: Sequence[Record], settle: Callable[[int, int], Any]) -> None:
        """Take records over; blocks while too many wait. They are settled later, from the loop's thread, in any order.

        Raises:
            Exception: the loop's thread has failed, with what it failed with.
        """
        self._settle = settle
        self._engine.give(records)

    def idle(self) -> float | None:
        """Do nothing but look after the loop's thread, which has its own time."""
        self._engine.check()
        return None

    def close(self) -> None:
        """Deliver what is pending, as long as nothing is stopping; the rest goes to the spool, or stays in the ring."""
        self._engine.finish()
        self._desk.notices.flush(final=True)

    # The loop's thread

    def decode(self, records: Sequence[Record]) -> list[tuple[int, Event]]:
        """Give the events that are to be written; everything else is settled."""
        return [(entry.sequence, entry.event) for entry in self._decoded(records)]

    def decode_spooled(self, kind: int, payload: bytes) -> Event | None:
        """Give the event of a record that is not in the ring any more; None if it is not to be written."""
        try:
            entry = self._entry(0, kind, payload)
        except ValueError as error:
            self._say("A spooled record cannot be decoded and is lost", str(error))
            self.add("spool_lost", 1)
            return None
        return None if entry is None or self._kept(entry.event) is not Settled.HANDLED else entry.event

    def settle(self, sequence: int, outcome: Settled) -> None:
        """Settle a record in the ring."""
        self._settle(sequence, outcome)

    def tally(self, outcome: Outcome) -> None:
        """Count what became of an event."""
        self._tally(outcome)

    def add(self, name: str, n: int) -> None:
        """Count something."""
        self._tallied[name] += n

    def tell_counts(self) -> None:
        """Bring the numbers to where others see them."""
        self._tell_counts()

    def report(self, write: Write, error: Exception) -> None:
        """Log a failure."""
        self._desk.report(write, error)
