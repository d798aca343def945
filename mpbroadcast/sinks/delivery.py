"""Delivery: correlate an event, write it, try again (S1-S9). Runs in: the process of the sink; calls it one by one.

::

    event ──▶ correlator ──▶ Create or Patch ──▶ Write ◀──▶ sink        (`write` says what, this module does it)
                   ▲    └──▶ Skip                 │
                   └──────── what the sink stored ┘

`Delivery.deliver` takes one event and comes back when its fate is known. `Delivery.deliver_many` takes what has piled
up and, with a sink that has transactions, writes it in one (`sinks.batch`).
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.correlator.decision import Create, Skip
from mpbroadcast.correlator.keys import full_key
from mpbroadcast.correlator.series import SeriesCorrelator
from mpbroadcast.sinks.batch import Batch
from mpbroadcast.sinks.notices import SinkNotices
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.sinks.rounds import SeriesRounds
from mpbroadcast.sinks.write import Call, Next, Outcome, Verdict, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mpbroadcast.base.clock import Clock
    from mpbroadcast.correlator.decision import Correlator, Patch
    from mpbroadcast.event.model import Event
    from mpbroadcast.sinks.base import EventSink

__all__ = ["Delivery", "Outcome", "RetryPolicy", "Verdict"]

_SLICE_SECONDS: Final = 0.1
"""How late a plain sleep notices that everything is stopping."""

_DEFAULT_POLICY: Final = RetryPolicy()


def _never() -> bool:
    return False


class Delivery:
    """Brings events into one sink. Belongs to one thread; blocks in the sink's calls and in pauses between tries.

    Args:
        sink: where to write.
        correlator: decides what to write; None writes every event as a new one.
        retry: what to do about failures.
        clock: when series are due.
        sleep: waits for a number of seconds and returns True when it was woken because all is stopping, as
            ``threading.Event.wait`` does. By default a sleep that looks at ``stopping`` ten times a second.
        stopping: whether to stop. Only looked at after a failed try (S8), so that each event has one try.
        rng: pauses and new names; give a seeded one to make them repeatable.

    Attributes:
        retries: how many tries, of events and of transactions, failed and are made again.
        notices: says what fails, one line for each kind and minute.
    """

    def __init__(
        self,
        sink: EventSink,
        correlator: Correlator | None = None,
        retry: RetryPolicy = _DEFAULT_POLICY,
        *,
        clock: Clock = SYSTEM_CLOCK,
        sleep: Callable[[float], object] | None = None,
        stopping: Callable[[], bool] = _never,
        rng: random.Random | None = None,
    ) -> None:
        self.sink = sink
        self.retry = retry
        self._correlator = correlator
        self._sleep = self._sleep_in_slices if sleep is None else sleep
        self._stopping = stopping
        self.rng = random.Random() if rng is None else rng  # noqa: S311 - spreads load, keeps no secret
        self.retries = 0
        self.notices = SinkNotices(all_of_them=retry.client_go_table)
        self._rounds: SeriesRounds | None = None
        self._set_aside: deque[tuple[Event, Write | Outcome]] = deque()
        if isinstance(correlator, SeriesCorrelator):
            self._rounds = SeriesRounds(correlator, clock)

    def deliver(self, event: Event, *, repeated: bool = False) -> Outcome:
        """Bring one event into the sink; returns when it is known what became of it.

        With the default policy that lasts as long as the sink cannot be reached. The event is lost only if the
        outcome says so.

        Args:
            event: as it was recorded.
            repeated: whether a process that died may have written this very event already; then a create that meets
                an event of the same name counts as delivered.
        """
        started = self.start(event, repeated=repeated)
        outcome = started if isinstance(started, Outcome) else self.finish(started)
        self._write_evicted()
        return outcome

    def deliver_many(
        self,
        events: Sequence[Event],
        *,
        source: str = "",
        first_sequence: int = 1,
        sequences: Sequence[int] | None = None,
        repeated: bool = False,
    ) -> list[Outcome]:
        """Bring events into the sink in their order; with a `BatchingSink` in one transaction.

        Args:
            events: what has piled up, one after another.
            source: whose events they are, for a `BatchingSink`: those at or below its position are not written again.
                Without one no position is read or kept.
            first_sequence: the sequence number of the first event, at least 1; the others follow without a gap.
            sequences: the sequence numbers of all events, ascending, where there are gaps between them: what is missing
                there was nothing to be written.
            repeated: as with `deliver`, for all of them.

        Returns:
            What became of each, in order. It may be shorter than ``events``: the rest is not settled yet and is to be
            given again, together with what has come since, unless the delivery is stopping. That happens when it
            stops, and when an event keeps failing and nothing is behind it that could show whether others succeed.

        Raises:
            ValueError: a sequence number is below 1, or they are not one for each event.
        """
        if sequences is None:
            if first_sequence < 1:
                raise ValueError(f"first_sequence must be at least 1, not {first_sequence}")
            sequences = range(first_sequence, first_sequence + len(events))
        batch = Batch(self, events, source=source, sequences=sequences, repeated=repeated)
        outcomes = batch.run()
        if len(outcomes) == len(events):
            self._set_aside.clear()  # a commit that only seemed to fail has settled events without asking for them
        self._write_evicted()
        return outcomes

    def tick(self) -> float | None:
        """Run the rounds of the series that are due, one try for each write (E10, E11).

        Returns:
            Seconds until the next round is due; None when there are no series in this delivery.
        """
        return None if self._rounds is None else self._rounds.run_due(self.attempt_once)

    def close(self) -> list[Outcome]:
        """Write what a series correlator still holds back (W11, W27), then close the sink.

        Returns:
            What became of each of these writes.
        """
        pending = self._correlator.close() if isinstance(self._correlator, SeriesCorrelator) else []
        outcomes = [self.finish(Write(patch, self.retry, self.rng)) for patch in pending]
        self.notices.flush(final=True)
        self.sink.close()
        return outcomes

    # The pieces, for batches.

    def start(self, event: Event, *, repeated: bool = False) -> Write | Outcome:
        """Correlate an event, once: what to write, or why not."""
        if self._set_aside:
            known, started = self._set_aside.popleft()
            if known == event:
                return started.outcome or started if isinstance(started, Write) else started
            self._set_aside.clear()
        decision = Create(event) if self._correlator is None else self._correlator.correlate(event)
        if isinstance(decision, Skip):
            return Outcome(Verdict.SKIPPED, decision.why, decision.event)
        return Write(decision, self.retry, self.rng, repeated=repeated)

    def attempt(self, write: Write) -> Outcome | None:
        """Make one try; None means that it is to be made again, after ``write.pause``."""
        while True:
            try:
                stored = self._call(write)
            except Exception as error:  # noqa: BLE001 - whatever a sink raises must not end the watcher
                following = write.failed(error)
                if following is Next.AT_ONCE:
                    continue
                self._report(write, error)
                return write.outcome
            self._succeeded(write, stored)
            write.outcome = Outcome(Verdict.DELIVERED, event=stored, call=write.call)
            return write.outcome

    def attempt_once(self, patch: Patch) -> Outcome | None:
        """Make one try to write a series; None means that the next round should try again."""
        return self.attempt(Write(patch, self.retry, self.rng))

    def finish(self, write: Write) -> Outcome:
        """Try until the write is settled."""
        while True:
            outcome = self.attempt(write)
            if outcome is not None:
                return outcome
            if self.wait(write.pause):
                self.notices.about("Unable to write event, it is given up because of shutdown", write.event)
                return Outcome(Verdict.STOPPED, "shut down while it waited to be written again")

    def wait(self, seconds: float) -> bool:
        """Pause between two tries; True means that everything is stopping."""
        return self._stopping() or bool(self._sleep(seconds)) or self._stopping()

    def set_aside(self, started: Iterable[tuple[Event, Write | Outcome]]) -> None:
        """Keep what was correlated of events that the caller is going to bring next: each counts once.

        They come before those that were set aside earlier and were not brought since.
        """
        self._set_aside.extendleft(reversed(list(started)))

    def give_up(self, write: Write) -> Outcome:
        """End a write that keeps failing while others succeed."""
        self.notices.about("Unable to write event, giving up: others succeed", write.event)
        return write.give_up(f"failed {write.failed_tries} times while others succeeded")

    def _call(self, write: Write) -> Event | None:
        # None is what a broken sink returns; client-go crashes on it (row 18).
        if write.call is Call.PATCH:
            return self.sink.patch(write.event, write.patch)
        return self.sink.create(write.event)

    def _succeeded(self, write: Write, stored: Event | None) -> None:
        if self._correlator is None:
            return
        if write.renamed_from is not None:
            self._correlator.renamed(write.renamed_from, write.event.name)
            self._rename_set_aside(write.renamed_from, write.event.name)
        if stored is not None:
            self._correlator.update_state(stored)

    def _rename_set_aside(self, event: Event, name: str) -> None:
        """Let repeats that were correlated before their event had to take another name follow it."""
        for _, started in self._set_aside:
            if isinstance(started, Write) and started.call is Call.PATCH:
                repeat = started.event
                same_name = (repeat.namespace, repeat.name) == (event.namespace, event.name)
                if same_name and full_key(repeat) == full_key(event):
                    started.event = repeat.replace(name=name)

    def _write_evicted(self) -> None:
        """Write the series that had to leave the correlator's memory."""
        if isinstance(self._correlator, SeriesCorrelator):
            for patch in self._correlator.take_evicted():
                self.finish(Write(patch, self.retry, self.rng))

    def _report(self, write: Write, error: Exception) -> None:
        """Say one line about a failure (F5), or count it."""
        outcome, say = write.outcome, self.notices.about
        if outcome is None:
            self.retries += 1
            say("Unable to write event (may retry)", write.event, error)
        elif outcome.verdict is Verdict.GAVE_UP:
            say("Unable to write event (retry limit exceeded)", write.event, error)
        elif write.quiet:
            say("The sink refused an event", write.event, error, level=logging.DEBUG)
        elif outcome.verdict is Verdict.REJECTED:
            say("The sink refused an event (will not retry)", write.event, error)

    def _sleep_in_slices(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._stopping():
                return True
            time.sleep(min(left, _SLICE_SECONDS))
        return False
