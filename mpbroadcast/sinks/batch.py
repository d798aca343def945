"""Many events at once, in the transactions of a sink that has them.

A transaction holds as many events as could be written, and the position of its source. When it cannot be committed
all of it is written again. An event that fails for now ends the transaction before it: what stands before is committed,
then comes the pause.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from mpbroadcast.base.goquote import go_quote
from mpbroadcast.errors import SinkRejected, SinkUnavailable
from mpbroadcast.sinks.base import BatchingSink
from mpbroadcast.sinks.write import Outcome, Verdict, Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpbroadcast.event.model import Event
    from mpbroadcast.sinks.delivery import Delivery

__all__ = ["Batch"]


class Batch:
    """One call of `Delivery.deliver_many`.

    Args:
        delivery: does the correlating, the writing and the waiting.
        events: the events, in order.
        source: whose they are.
        sequences: their sequence numbers, ascending.
        repeated: whether a process that died may have written them already.

    Raises:
        ValueError: a sequence number is below 1, or they are not one for each event.
    """

    def __init__(
        self, delivery: Delivery, events: Sequence[Event], *, source: str, sequences: Sequence[int], repeated: bool
    ) -> None:
        if len(sequences) != len(events):
            raise ValueError(f"there are {len(events)} events and {len(sequences)} sequence numbers")
        if sequences and sequences[0] < 1:
            raise ValueError(f"a sequence number must be at least 1, not {sequences[0]}")
        self._delivery = delivery
        self._events = events
        self._source = source
        self._sequences = sequences
        self._repeated = repeated
        self._sink = delivery.sink if isinstance(delivery.sink, BatchingSink) else None
        self._started: list[Write | Outcome | None] = [None] * len(events)
        self._outcomes: list[Outcome] = []  # of the settled and committed ones, which are always the first ones
        self._lost_commits = 0

    def run(self) -> list[Outcome]:
        """Write all that can be written; see `Delivery.deliver_many`."""
        while len(self._outcomes) < len(self._events):
            pause = self._transaction()
            if pause is None:
                continue
            if self._delivery.wait(pause) or self._nothing_behind():
                self._set_aside()
                break
        return self._outcomes

    def _transaction(self) -> float | None:
        """Write and commit; returns the seconds to wait before going on, or None to go on at once."""
        if self._sink is None:
            outcomes, pause = self._write_from(len(self._outcomes))
        else:
            try:
                outcomes, pause = self._write_in_transaction(self._sink)
            except SinkUnavailable as error:
                return self._lost(error)
            except SinkRejected as error:
                self._settle_tried(Verdict.REJECTED, str(error))
                return None
        self._lost_commits = 0
        self._outcomes += outcomes
        return pause

    def _write_in_transaction(self, sink: BatchingSink) -> tuple[list[Outcome], float | None]:
        self._skip_stored(sink)
        first = len(self._outcomes)
        if first == len(self._events):
            return [], None
        sink.begin()
        outcomes, pause = self._write_from(first)
        if outcomes and self._source:
            sink.set_position(self._source, self._sequences[first + len(outcomes) - 1])
        sink.commit()
        return outcomes, pause

    def _skip_stored(self, sink: BatchingSink) -> None:
        """Settle what the position says is stored: by a process before this one, or by a commit that seemed to fail."""
        if not self._source:
            return
        stored = bisect_right(self._sequences, sink.position(self._source))
        for index in range(len(self._outcomes), stored):
            started = self._started[index]
            known = started.outcome if isinstance(started, Write) else started
            self._outcomes.append(known or Outcome(Verdict.DELIVERED, "it had been stored before"))

    def _write_from(self, first: int) -> tuple[list[Outcome], float | None]:
        """Write events until one has to wait; returns what became of those before it, and its pause."""
        outcomes: list[Outcome] = []
        while first + len(outcomes) < len(self._events):
            index = first + len(outcomes)
            outcome = self._attempt(index)
            if outcome is not None:
                outcomes.append(outcome)
                continue
            write = self._started[index]
            assert isinstance(write, Write)
            if not (write.is_exhausted and self._others_succeed(index + 1)):
                return outcomes, write.pause
            # Once more: an outage may have ended between its last try and the success of another.
            outcomes.append(self._attempt(index) or self._delivery.give_up(write))
        return outcomes, None

    def _others_succeed(self, index: int) -> bool:
        """Try the events behind one that keeps failing, until one of them tells something."""
        while index < len(self._events):
            outcome = self._attempt(index)
            if outcome is None:
                return False
            if outcome.verdict is Verdict.DELIVERED:
                return True
            index += 1
        return False

    def _attempt(self, index: int) -> Outcome | None:
        """Make one try for an event, correlating it if that was not done yet; None when it has to wait."""
        started = self._started[index]
        if started is None:
            started = self._started[index] = self._delivery.start(self._events[index], repeated=self._repeated)
        if isinstance(started, Outcome):
            return started
        return started.outcome or self._delivery.attempt(started)

    def _lost(self, error: SinkUnavailable) -> float | None:
        """Have all of a transaction written again: nothing of it was kept."""
        self._lost_commits += 1
        self._delivery.retries += 1
        for started in self._started[len(self._outcomes) :]:
            if isinstance(started, Write) and started.outcome and started.outcome.verdict is Verdict.DELIVERED:
                started.again()
        policy = self._delivery.retry
        if policy.client_go_table and policy.is_exhausted(self._lost_commits):
            self._say("Unable to write a batch of events (retry limit exceeded)", error)
            self._settle_tried(Verdict.GAVE_UP, str(error))
            return None
        self._say("Unable to write a batch of events (may retry)", error)
        return policy.pause(self._lost_commits, self._delivery.rng, error.retry_after)

    def _say(self, text: str, error: Exception) -> None:
        self._delivery.notices.say(text, text + ": err=%s", go_quote(str(error)))

    def _settle_tried(self, verdict: Verdict, why: str) -> None:
        """End the events of a transaction that is refused as a whole; all there are when it could not even begin."""
        rest = self._started[len(self._outcomes) :]
        tried = sum(started is not None for started in rest) or len(rest)
        self._outcomes += [Outcome(verdict, why)] * tried

    def _nothing_behind(self) -> bool:
        """Whether the next event has had its tries and is the last one: only newer ones can tell if others succeed."""
        index = len(self._outcomes)
        if index != len(self._events) - 1:
            return False
        write = self._started[index]
        return isinstance(write, Write) and write.outcome is None and write.is_exhausted

    def _set_aside(self) -> None:
        """Keep what was correlated: the caller brings these events again, and they must not be counted twice."""
        rest = range(len(self._outcomes), len(self._events))
        pairs = [(self._events[index], self._started[index]) for index in rest]
        self._delivery.set_aside((event, started) for event, started in pairs if started is not None)
