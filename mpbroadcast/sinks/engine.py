"""The loop's thread of a sink: queues, workers, retries. Runs in: the process of the sink, in a thread of its own.

See `concurrent` for what it does and why. Everything here but `Engine.start`, ``give``, ``check`` and ``finish`` runs
in that thread, so that nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, Final

from mpbroadcast.base.outcome import Settled
from mpbroadcast.base.text import counted
from mpbroadcast.correlator.series import FINISH_SECONDS, REFRESH_SECONDS, SeriesCorrelator
from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.sinks.overflow import Overflow
from mpbroadcast.sinks.turns import Turns
from mpbroadcast.sinks.work import Item
from mpbroadcast.sinks.write import Call, Next, Outcome, Verdict, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpbroadcast.correlator.decision import Correlator, Patch
    from mpbroadcast.sinks.concurrent import ConcurrentHandler
    from mpbroadcast.sinks.handler import Record
    from mpbroadcast.sinks.journal import Journal
    from mpbroadcast.sinks.work import ConcurrentSink, Desk

__all__ = ["PENDING", "Engine", "log"]

PENDING: Final = 4096
"""Records in memory before no more are read: a fraction of what a ring of the default size holds."""

_TICK_SECONDS: Final = 0.25
_LOOK_SECONDS: Final = 0.1  # between two looks of the main thread at whether everything is stopping
_OUTAGE_SECONDS: Final = 1.0  # of nothing but failures, after which events go to the spool
_HOLD_SECONDS: Final = 30.0  # for which "too many requests" to one request holds all others at the most
_TOO_MANY: Final = 429
_READ: Final = 512  # records to read from the spool at once

_SETTLED: Final = {
    Verdict.DELIVERED: Settled.HANDLED,
    Verdict.SKIPPED: Settled.HANDLED,
    Verdict.REJECTED: Settled.FAILED,
    Verdict.GAVE_UP: Settled.GIVEN_UP,
}

log: Final = logging.getLogger("mpbroadcast.sink")


class Engine:
    """The loop's thread of one `ConcurrentHandler`.

    Args:
        handler: decodes, settles and counts.
        sink: its options, and what connects.
        desk: correlates.
        correlator: that of the desk.
        journal: of decisions about records in the ring.

    Attributes:
        share_names: whether several objects may be written to one stored event.
    """

    def __init__(
        self,
        handler: ConcurrentHandler,
        sink: ConcurrentSink,
        desk: Desk,
        correlator: Correlator | None,
        *,
        journal: Journal,
    ) -> None:
        self._handler = handler
        self._sink = sink
        self._desk = desk
        self._correlator = correlator
        self._journal = journal
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="mpbroadcast: sink", daemon=True)
        self._failure: BaseException | None = None
        self._accepting = threading.Event()
        self._ended = asyncio.Event()
        self._closing = False
        self.share_names = False
        # What is pending
        self._direct: dict[int, Item] = {}  # in the ring, by sequence
        self._turns = Turns(self._loop, desk.rng)
        # How it goes
        self._successes = 0
        self._failing_since: float | None = None
        self._next_call_at = 0.0
        # The spool
        self._spool: Overflow | None = None
        self._inbox: list[Record] = []  # found no room in the spool
        self._repeated_until = 0
        self._replay: dict[tuple[bool, int], bytes] = {}
        now = time.monotonic()
        self._refresh_at = self._finish_at = now if isinstance(correlator, SeriesCorrelator) else float("inf")

    # Called from the main thread

    def start(self, source: str, repeated_until: int) -> None:
        """Open the spool, read what a process that died has left, and start the thread.

        Args:
            source: names the ring.
            repeated_until: up to which sequence number a process that died may have had records in its hands.

        Raises:
            SinkUnavailable: the spool cannot be used.
        """
        sink = self._sink
        self._repeated_until = repeated_until
        self._replay = {(False, number): note for number, note in self._journal.notes().items()}
        if sink.spool is not None:
            self._spool = Overflow(
                sink.spool,
                max_bytes=sink.spool_bytes,
                max_seconds=sink.spool_seconds,
                origin=zlib.crc32(source.encode()),
                add=self._handler.add,
            )
            self._replay |= {(True, number): note for number, note in self._spool.notes().items()}
        self._accepting.set()
        self._thread.start()

    def give(self, records: Sequence[Record]) -> None:
        """Hand records over; returns when more are wanted, or everything is stopping."""
        self._accepting.clear()
        self._call(self._take, records)
        while not self._accepting.wait(_LOOK_SECONDS):
            if self._handler.stopping():
                break
        self.check()

    def check(self) -> None:
        """Raise what the thread has failed with."""
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Deliver what is pending as long as nothing is stopping, and end the thread."""
        self._call(self._begin_closing)
        self._thread.join()
        self.check()

    def _call(self, function: Callable[..., None], *args: object) -> None:
        """Have something called in the thread; nothing, if it has failed."""
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(function, *args)

    # The loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self._failure = error
        finally:
            self._accepting.set()
            self._loop.close()

    async def _main(self) -> None:
        self._client = self._sink.connect()
        tasks = [self._loop.create_task(self._work()) for _ in range(self._sink.concurrency)]
        tasks.append(self._loop.create_task(self._tick()))
        self._refill()
        try:
            await self._until_ended(tasks)
            if isinstance(self._correlator, SeriesCorrelator):
                for patch in self._correlator.close():  # not lost as in client-go (W11, W27)
                    self._turns.add(self._made(patch))
                self._ended.clear()
                self._look_at_end()
                await self._until_ended(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._leave()
            await self._client.close()

    async def _until_ended(self, tasks: list[asyncio.Task[None]]) -> None:
        """Wait until everything is written, or nothing is to be waited for; raises what a task fails with."""
        ended = self._loop.create_task(self._ended.wait())
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        for task in done:
            task.result()

    def _begin_closing(self) -> None:
        self._closing = True
        self._look_at_end()

    def _look_at_end(self) -> None:
        if not self._closing:
            return
        unread = self._spool is not None and self._spool.unread
        if self._handler.stopping() or not (self._turns.pending or self._inbox or unread):
            self._ended.set()

    def _leave(self) -> None:
        """Leave what could not be delivered to the next start, if there is a spool; say what is left where."""
        self._turns.stop()
        left, where = self._turns.pending + len(self._inbox), "ring"
        if self._spool is not None:
            self._spill()
            self._spool.flush()
            left, where = len(self._spool) + len(self._direct) + len(self._inbox), "spool"
            if self._direct or self._inbox:
                where = "spool and the ring"
            self._spool.close()
        if left:
            what = counted(left, "event could not be delivered; it stays", "events could not be delivered; they stay")
            log.warning("%s in the %s", what, where)
        self._handler.tell_counts()

    async def _tick(self) -> None:
        """What is due now and then."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if self._spool is not None:
                self._spool.flush()
                if self._is_out:
                    self._spill()
            if self._inbox:
                records, self._inbox = self._inbox, []
                self._take(records)
            self._refill()
            self._run_rounds()
            self._turns.wake(self._sink.concurrency)
            self._handler.tell_counts()
            self._look_at_end()

    # Taking in

    def _take(self, records: Sequence[Record]) -> None:
        spool, until = self._spool, self._repeated_until
        if spool is None:
            self._take_directly(records)
        else:
            if records and records[0][0] <= until:
                records = self._without_spooled(records, spool)
            if spool.unread or self._is_out or self._turns.pending >= PENDING:
                self._put_into_spool(records, spool)
            else:
                self._take_directly(records, keep=True)
        if self._replay and records and records[-1][0] > until:
            # What was settled before its note was: nobody asks for it any more.
            self._replay = {key: note for key, note in self._replay.items() if key[0] or key[1] in self._direct}
        self._accept()

    def _take_directly(self, records: Sequence[Record], *, keep: bool = False) -> None:
        """Have records written; their payloads are kept only if they may have to go to disk."""
        raw = {sequence: (kind, payload) for sequence, kind, payload in records} if keep else {}
        for sequence, event in self._handler.decode(records):
            item = Item(event, sequence=sequence, repeated=sequence <= self._repeated_until)
            if keep:
                item.kind, item.payload = raw[sequence]
            self._direct[sequence] = item
            self._turns.add(item)

    def _accept(self) -> None:
        """Let the main thread bring more, if there is room."""
        room = self._turns.pending < PENDING or (self._spool is not None and not self._spool.is_full)
        if room and not self._inbox:
            self._accepting.set()

    # Working

    async def _work(self) -> None:
        """One of the workers: takes an object whose turn it is, and makes one try."""
        interval = 1 / self._sink.requests_per_second if self._sink.requests_per_second else 0.0
        while True:
            item = self._turns.take()
            if item is None:
                await self._turns.sleep()
                continue
            write = item.write
            if write is None:
                write = self._start(item)
                if write is None:
                    continue
            if self.share_names and not self._turns.has_name(item, write):
                continue
            if interval:
                await self._spaced(interval)
            await self._attempt(item, write)

    async def _spaced(self, interval: float) -> None:
        """Keep to the requests per second."""
        now = self._loop.time()
        at = max(now, self._next_call_at)
        self._next_call_at = at + interval
        if at > now:
            await asyncio.sleep(at - now)

    def _start(self, item: Item) -> Write | None:
        """Correlate, or take up what a process that died had decided; None if there is nothing to write."""
        note = self._replay.pop((bool(item.spooled), item.spooled or item.sequence), None) if self._replay else None
        if note is not None:
            item.take_up(self._desk.again(note))
            return item.write
        started = self._desk.start(item.event, repeated=item.repeated)
        if isinstance(self._correlator, SeriesCorrelator):
            for patch in self._correlator.take_evicted():
                self._turns.add(self._made(patch))
        if isinstance(started, Outcome):
            self._settle(item, started)
            return None
        item.take_up(started)
        if not item.tells_itself:
            self._note(item)
        return started

    def _note(self, item: Item) -> None:
        if item.spooled and self._spool is not None:
            self._spool.note(item.spooled, item.note())
        elif item.sequence:
            self._journal.note(item.sequence, item.note())

    async def _attempt(self, item: Item, write: Write) -> None:
        """Make one try, and what follows it at once."""
        while True:
            name = write.event.name
            try:
                if write.call is Call.PATCH:
                    stored = await self._client.patch(write.event, write.patch)
                else:
                    stored = await self._client.create(write.event)
            except Exception as error:  # noqa: BLE001 - whatever a client raises must not end the watcher
                following = write.failed(error)
                if following is Next.AT_ONCE:
                    if write.event.name != name:
                        self._note(item)
                    continue
                self._failed(item, write, error, following)
                return
            self._successes += 1
            if self._failing_since is not None:
                self._outage_is_over()
            self._settle(item, self._desk.succeeded(write, stored))
            return

    def _failed(self, item: Item, write: Write, error: Exception, following: Next) -> None:
        self._handler.report(write, error)
        if following is Next.SETTLED:
            assert write.outcome is not None
            if write.outcome.verdict is not Verdict.GAVE_UP and self._failing_since is not None:
                self._outage_is_over()  # a refusal is an answer as well
            self._settle(item, write.outcome)
            return
        now = self._loop.time()
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(error, SinkUnavailable) and error.retry_after:
            item.not_before = now + error.retry_after
            if error.code == _TOO_MANY:
                # It was said to one request and is meant for all: who does not listen is refused the longer.
                self._turns.hold(min(error.retry_after, _HOLD_SECONDS), self._sink.concurrency)
        if item.after is not None:  # a round makes one try (E10)
            self._settle(item, Outcome(Verdict.STOPPED))
            return
        if write.is_exhausted and item.successes not in {-1, self._successes}:
            self._settle(item, self._desk.give_up(write))
            return
        item.successes = self._successes
        self._turns.later(item, write.pause)

    def _outage_is_over(self) -> None:
        self._failing_since = None
        self._turns.soon()

    @property
    def _is_out(self) -> bool:
        return self._failing_since is not None and self._loop.time() - self._failing_since > _OUTAGE_SECONDS

    def _settle(self, item: Item, outcome: Outcome) -> None:
        """The fate of an event is known: tell the ring or the spool, and let the next one of its object go on."""
        settled = _SETTLED.get(outcome.verdict)
        self._leave_source(item, settled)
        if settled is not None:
            self._handler.tally(outcome)
        if item.after is not None:
            item.after(outcome)
        self._turns.done(item)
        if self._turns.pending < PENDING // 2:
            self._make_use_of_room()

    def _leave_source(self, item: Item, settled: Settled | None) -> None:
        """Tell where an item came from that its fate is known; nothing, if it is not and the item is to come again."""
        if item.spooled:
            if settled is not None and self._spool is not None:
                self._spool.done(item.spooled)
        elif item.sequence:
            del self._direct[item.sequence]
            if settled is not None:
                self._handler.settle(item.sequence, settled)
                self._journal.settle(item.sequence)

    def _make_use_of_room(self) -> None:
        if self._spool is not None:
            self._refill()
        if not self._accepting.is_set():
            self._accept()
        if self._closing:
            self._look_at_end()

    # Series

    def _made(self, patch: Patch, after: Callable[[Outcome], None] | None = None) -> Item:
        item = Item(patch.event)
        item.take_up(Write(patch, self._desk.retry, self._desk.rng))
        item.after = after
        return item

    def _run_rounds(self) -> None:
        """Begin the rounds of the series that are due (E1, E10, E11)."""
        correlator, now = self._correlator, time.monotonic()
        if not isinstance(correlator, SeriesCorrelator):
            return
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_SECONDS
            for patch in correlator.refresh():
                self._turns.add(self._made(patch, partial(_refreshed, correlator, patch)))
        if now >= self._finish_at:
            self._finish_at = now + FINISH_SECONDS
            for patch in correlator.finish():
                self._turns.add(self._made(patch, partial(_finished, correlator, patch)))

    # The spool

    def _without_spooled(self, records: Sequence[Record], spool: Overflow) -> Sequence[Record]:
        """Settle what a process that died had put into the spool, and not yet settled."""
        left = []
        for record in records:
            if record[0] <= self._repeated_until and spool.holds(record[0]):
                self._handler.settle(record[0], Settled.HANDLED)
            else:
                left.append(record)
        return left

    def _put_into_spool(self, records: Sequence[Record], spool: Overflow) -> None:
        if not self._spill():
            self._inbox.extend(records)
            return
        kept = {sequence for sequence, _ in self._handler.decode(records)}
        records = [record for record in records if record[0] in kept]
        notes = {record[0]: self._replay[False, record[0]] for record in records if (False, record[0]) in self._replay}
        numbers = spool.put(records, notes)
        if numbers is None:
            self._inbox.extend(records)
            return
        for (sequence, _, _), number in zip(records, numbers, strict=True):
            self._has_moved(sequence, number)

    def _spill(self) -> bool:
        """Put what is pending from the ring into the spool, so that what comes behind it stays behind it."""
        spool = self._spool
        if spool is None or not self._direct:
            return True
        items = [self._direct[sequence] for sequence in sorted(self._direct)]
        notes = {item.sequence: note for item in items if (note := self._note_to_move(item)) is not None}
        numbers = spool.put([(item.sequence, item.kind, item.payload) for item in items], notes, as_read=True)
        if numbers is None:
            return False
        for item, number in zip(items, numbers, strict=True):
            item.spooled = number
            self._has_moved(item.sequence, number)
        self._direct.clear()
        return True

    def _note_to_move(self, item: Item) -> bytes | None:
        if item.write is None:
            return self._replay.get((False, item.sequence))
        return None if item.tells_itself else item.note()

    def _has_moved(self, sequence: int, number: int) -> None:
        """A record is in the spool, with its note: the ring needs neither any more."""
        note = self._replay.pop((False, sequence), None)
        if note is not None:
            self._replay[True, number] = note
        self._handler.settle(sequence, Settled.HANDLED)
        self._journal.settle(sequence)

    def _refill(self) -> None:
        """Read on in the spool when there is room in memory."""
        spool = self._spool
        while spool is not None and self._turns.pending < PENDING // 2 and spool.unread:
            records = spool.read(_READ)
            if not records and spool.unread:
                return  # not now, or all of them were too old
            for record, repeated in records:
                event = self._handler.decode_spooled(record.kind, record.payload)
                if event is None:
                    spool.done(record.number)
                else:
                    self._turns.add(Item(event, spooled=record.number, repeated=repeated))


def _refreshed(correlator: SeriesCorrelator, patch: Patch, outcome: Outcome) -> None:
    if outcome.event is not None:
        correlator.refreshed(patch, outcome.event)


def _finished(correlator: SeriesCorrelator, patch: Patch, outcome: Outcome) -> None:
    if outcome.verdict not in {Verdict.GAVE_UP, Verdict.STOPPED}:
        correlator.finished(patch)
