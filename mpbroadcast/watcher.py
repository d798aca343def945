"""Stop 4: the watcher. Runs in: one process each. Reads: its watcher ring. Writes: whatever its handler does.

Never blocks on: another watcher. ``Watch`` is the same end of a ring without a helper process: an iterator in the
process that called ``watch()``.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, Self

from mpbroadcast.base.notices import Notices
from mpbroadcast.errors import NotTheConsumer, SegmentError
from mpbroadcast.ring import _ring
from mpbroadcast.ring.counters import CELLS, bucket_of
from mpbroadcast.ring.marks import IN_HAND, NOT_OPENED, UNCAUGHT, cause_of, mark_exits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from mpbroadcast.ring.segment import Segment

__all__ = ["BatchHandler", "EachHandler", "Slot", "Watch", "Watcher"]

Record = tuple[int, int, bytes]
"""Sequence number in the ring, kind, payload."""

FIRST_BATCH: Final = 64
BUFFERED: Final = (512, 1 << 20)  # records and bytes that an iterator takes out of the ring at once
CAREFUL_SECONDS: Final = 0.01  # between two looks at whether a suspect is settled
LONG_BATCH: Final = 0.05  # seconds: how long a watcher may take to see that it is stopped
IDLE_SECONDS: Final = 1.0  # between two looks at whether anybody still needs this watcher
FORSAKEN_SECONDS: Final = 10.0  # without application and distributor; by then a partner would have been started
CLOSING_SECONDS: Final = 5.0  # for a distributor that has only just started
GIVE_UP_AFTER_CRASHES: Final = 3  # deaths of its own doing
GIVE_UP_AFTER_KILLS: Final = 10  # deaths in the middle of the handler's call that left no mark
KILLS_PAUSE: Final = (
    0.05,
    5.0,
)  # seconds, doubled with each such death on one event: a burst of kills condemns nothing
_OTHERS: Final = ("owner", "dist", "dist_spare")
_SETUP_PAUSE: Final = (0.1, 30.0, 1.0)  # seconds until a thread tries its setup again: first, last, last at the end
_PAUSE_SLICE: Final = 0.02  # seconds between two looks at whether it is over

_log = logging.getLogger("mpbroadcast")

_forks = 0  # how many forks lie between this process and the first that imported this module


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - of the process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Slot:
    """A watcher's place in the segment, from registration to the end. Any process may hold it and stop it."""

    def __init__(self, segment: Segment, index: int) -> None:
        self.segment = segment
        self.index = index
        self.generation = segment.ring.slot_get(index, "generation")

    @classmethod
    def claim(cls, segment: Segment, *, name: str, policy: int, managed: bool, limit: int) -> Slot | None:
        """A free slot, or None. Managed: it has a helper, which shutdown waits for."""
        index = segment.ring.claim_slot(name.encode("utf-8", "replace")[:63], policy, managed, limit)
        return None if index < 0 else cls(segment, index)

    @classmethod
    def take_over(cls, segment: Segment, *, name: str, policy: int, limit: int) -> Slot | None:
        """The slot that a watcher of that name left in a file when its program died; it goes on where that one was.

        A watcher that had been stopped is watched again from now on, behind what it had not handled. Waits some
        milliseconds at the most, for the distributor to close such a slot.
        """
        ring, wanted = segment.ring, name.encode("utf-8", "replace")[:63]
        for left in ring.snapshot()["slots"]:
            index = left["index"]
            if left["managed"] != _ring.MANAGED_LEFT or left["name"] != wanted or left["state"] == _ring.SLOT_FREE:
                continue
            ring.slot_set(index, "managed", 1)
            ring.slot_set(index, "policy", policy)
            ring.slot_set(index, "limit", limit)
            deadline = time.monotonic() + CLOSING_SECONDS
            while ring.slot_get(index, "state") == _ring.SLOT_STOPPING and time.monotonic() < deadline:
                time.sleep(0.001)
            slot = cls(segment, index)
            if ring.slot_get(index, "state") in (_ring.SLOT_REGISTERED, _ring.SLOT_ACTIVE):
                return slot
            ring.slot_set(index, "registered_at", time.time_ns())
            ring.slot_set(index, "start_ts", time.monotonic_ns())
            if ring.slot_state_change(index, _ring.SLOT_CLOSED, _ring.SLOT_REGISTERED):
                return slot
            ring.slot_set(index, "managed", _ring.MANAGED_LEFT)
        return None

    @property
    def registered(self) -> bool:
        """Whether events are delivered to it."""
        return self.state in (_ring.SLOT_REGISTERED, _ring.SLOT_ACTIVE)

    def register(self) -> bool:
        """From now on events are delivered; False when the broadcaster has stopped meanwhile. Never blocks."""
        ring = self.segment.ring
        ring.slot_set(self.index, "registered_at", time.time_ns())
        ring.slot_set(self.index, "start_ts", time.monotonic_ns())
        ring.slot_state_change(self.index, _ring.SLOT_CLAIMED, _ring.SLOT_REGISTERED)
        return ring.get("state") == _ring.RUNNING

    @property
    def state(self) -> int:
        """The slot's state, or FREE when it has been given to somebody else."""
        ring = self.segment.ring
        same = ring.slot_get(self.index, "generation") == self.generation
        return ring.slot_get(self.index, "state") if same else _ring.SLOT_FREE

    def stop(self) -> None:
        """Nothing stamped from now on is delivered; what is in the ring stays. Idempotent, never blocks.

        A slot that has been given to somebody else meanwhile is left alone, whenever that happens.
        """
        self.segment.ring.slot_stop(self.index, self.generation)

    def discard(self) -> None:
        """Gives back a slot that was claimed and will not be used, whatever became of it meanwhile."""
        ring = self.segment.ring
        self.stop()
        for state in (_ring.SLOT_CLAIMED, _ring.SLOT_REGISTERED, _ring.SLOT_CLOSED, _ring.SLOT_ENDED):
            if self.state == state and ring.slot_state_change(self.index, state, _ring.SLOT_FREE):
                break
        if self.state != _ring.SLOT_FREE:  # STOPPING: the distributor closes it, and frees what has no consumer
            ring.slot_set(self.index, "managed", 0)
            ring.slot_set(self.index, "finished", 1)
        with contextlib.suppress(SegmentError):
            ring.unlock(_ring.LOCK_SLOT + self.index)

    def release(self) -> None:
        """The consumer has read everything: the slot may be used again."""
        for state in (_ring.SLOT_CLOSED, _ring.SLOT_ENDED):
            if self.state == state:
                self.segment.ring.slot_state_change(self.index, state, _ring.SLOT_FREE)
        with contextlib.suppress(SegmentError):
            self.segment.ring.unlock(_ring.LOCK_SLOT + self.index)


class Watch:
    """An iterator over what is broadcast, in the process that called ``watch()``.

    ``for`` and ``async for`` both work and end after ``stop()`` or ``shutdown()``, when everything buffered has been
    read. Until it is handed out an item stays in the shared ring, so a full ring is an unread ring. One consumer:
    threads of the process may share it, a forked child may not.

    Args:
        slot: a registered slot whose lock this process holds.
        decode: turns kind and payload into what is handed out; ValueError counts the record as failed.
        keep: a predicate on what is handed out; the rest is counted as filtered.
    """

    def __init__(
        self, slot: Slot, decode: Callable[[int, bytes], Any], keep: Callable[[Any], Any] | None = None
    ) -> None:
        self._slot = slot
        self._decode = decode
        self._keep = keep
        self._pid = os.getpid()
        self._reader = _ring.Reader(slot.segment.ring, slot.index)
        self._buffer: collections.deque[Record] = collections.deque()
        self._ended = False
        self._lock = threading.RLock()  # R: a signal handler may read on in the middle of a read

    def get(self, timeout: float | None = None) -> Any | None:
        """The next item; None when the watch has ended.

        Blocks for up to ``timeout`` seconds (None: until there is something); Python's signal handlers run meanwhile.

        Raises:
            TimeoutError: nothing came in time.
            NotTheConsumer: this process is a fork of the one that called ``watch()``.
        """
        self._check_process()
        deadline = None if timeout is None else time.monotonic() + timeout
        # Threads that share a watch take turns: one waits for the ring, the others for the lock.
        if not self._lock.acquire(timeout=-1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)):
            raise TimeoutError("nothing was broadcast in time")
        try:
            return self._next(deadline)
        finally:
            self._lock.release()

    def _next(self, deadline: float | None) -> Any | None:
        while not self._ended:
            if not self._buffer:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                filled = self._fill(left)
                if filled is None:
                    break
                if not filled:
                    raise TimeoutError("nothing was broadcast in time")
            found, item = self._hand_out()
            if found:
                return item
        return None

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise NotTheConsumer("this watch belongs to the process that made it; call watch() in this one")

    def _fill(self, timeout: float | None) -> bool | None:
        """Takes what is there out of the ring; None at the end of the watch."""
        records = self._reader.get_many(*BUFFERED, timeout)
        if records is None:
            self._ended = True
            self._slot.release()
            return None
        self._buffer.extend(records)
        return bool(records)

    def _hand_out(self) -> tuple[bool, Any]:
        sequence, kind, payload = self._buffer.popleft()
        try:
            item = self._decode(kind, payload)
        except ValueError as error:
            self._reader.settle_through(sequence, _ring.FAILED)
            _log.error("a record could not be decoded and is counted as failed: %s", error)
            return False, None
        try:
            kept = self._keep is None or bool(self._keep(item))
        except BaseException:
            self._reader.settle_through(sequence, _ring.FAILED)
            raise
        self._reader.settle_through(sequence, _ring.HANDLED if kept else _ring.FILTERED)
        return kept, item

    def stop(self) -> None:
        """Ends the watch: nothing recorded from now on is delivered; what is buffered stays readable. Idempotent."""
        self._check_process()
        self._slot.stop()

    def __iter__(self) -> Iterator[Any]:
        while (item := self.get()) is not None:
            yield item

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Polls, from 0.2 ms up to 20 ms apart while nothing comes: a futex cannot be awaited without a thread."""
        import asyncio  # noqa: PLC0415 - 40 ms of import, paid by its users alone

        pause = 0.0002
        while not self._ended:
            try:
                item = self.get(0)
            except TimeoutError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.02)
                continue
            if item is None:
                return
            pause = 0.0002
            yield item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __del__(self) -> None:
        """Forgotten without ``stop()``: nobody will read on, so the distributor may give the slot away."""
        with contextlib.suppress(Exception):
            if os.getpid() == self._pid and not self._ended:
                self._slot.segment.ring.slot_set(self._slot.index, "finished", 1)
                self._slot.stop()
                self._slot.segment.ring.unlock(_ring.LOCK_SLOT + self._slot.index)


class BatchHandler(Protocol):
    """What a watcher process does with records. Made before the fork, used after it.

    Attributes:
        batch_records: how many records to hand over at once at the most.
        batch_bytes: how many bytes of them.
    """

    batch_records: int
    batch_bytes: int

    def open(self, *, count: Callable[[str, int], object], stopping: Callable[[], bool], repeated_until: int) -> None:
        """Runs once in the watcher's process, before the first record.

        Args:
            count: adds to one of the watcher's counters: ``count(name, n)``, names as in ``ring.counters.CELLS``.
            stopping: whether nobody waits for this watcher any more, so that retries should end.
            repeated_until: records up to this sequence number may have been handled before, by a process that died.
        """

    def handle(self, records: Sequence[Record], settle: Callable[[int, int], Any]) -> None:
        """Handles records and settles each by ``settle(sequence, outcome)``, now or during a later call."""

    def idle(self) -> float | None:
        """Runs when there is nothing to read: work of its own that is due.

        Returns:
            Seconds until it should run again; None: when something has been read.
        """

    def close(self) -> None:
        """Runs once after the last record: settle what is left, flush and let go."""


class EachHandler:
    """Calls a function for each decoded item; one that raises is logged and counted, and the next item follows.

    Args:
        handler: a function or a coroutine function of one argument.
        decode: turns kind and payload into that argument; None is counted as filtered.
        name: of the watcher, for the log.
        keep: a predicate on the argument; what it refuses is counted as filtered.
        setup: runs once before the first item.
    """

    batch_records = 2048
    batch_bytes = 1 << 20

    def __init__(
        self,
        handler: Callable[[Any], Any],
        decode: Callable[[int, bytes], Any],
        *,
        name: str,
        keep: Callable[[Any], Any] | None = None,
        setup: Callable[[], Any] | None = None,
    ) -> None:
        self._handler = handler
        self._decode = decode
        self._name = name
        self._keep = keep
        self._setup = setup
        self._loop: asyncio.AbstractEventLoop | None = None
        self._notices = Notices(_log)
        self._forks = _forks

    def open(self, **_: object) -> None:
        """Runs ``setup``."""
        self._forks = _forks
        if self._setup is not None:
            self._setup()

    def handle(self, records: Sequence[Record], settle: Callable[[int, int], Any]) -> None:
        """One call for each record, settled at once: a killed watcher repeats one record at the most.

        A handler with a ``flush`` buffers, so its records are settled together, after that. A child that the handler
        forked, and that comes back out of it, ends here.
        """
        flush = getattr(self._handler, "flush", None)
        settled: list[tuple[int, int]] = []
        tell = settle if flush is None else lambda sequence, outcome: settled.append((sequence, outcome))
        decode, keep, handler, handled = self._decode, self._keep, self._handler, _ring.HANDLED
        forks = self._forks
        for sequence, kind, payload in records:
            item: Any = None
            try:
                item = decode(kind, payload)
                if item is None or (keep is not None and not keep(item)):
                    tell(sequence, _ring.FILTERED)
                    continue
                result = handler(item)
                if result is not None and inspect.isawaitable(result):
                    self._run(result)
                if _forks != forks:
                    _end_child(None)
            except BaseException as error:  # noqa: BLE001 - nor do sys.exit() and a cancelled coroutine end the watcher
                if _forks != forks:
                    _end_child(error)
                self._say(error, _short(item, payload))
                tell(sequence, _ring.FAILED)
                continue
            tell(sequence, handled)
        if flush is not None:
            flush()
            for sequence, outcome in settled:
                settle(sequence, outcome)

    def idle(self) -> None:
        """Says what failed and was not said yet, once its minute is over."""
        self._notices.flush()

    def _say(self, error: BaseException, what: str) -> None:
        """One line and a traceback for each kind of exception and place, and minute."""
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        self._notices.say(
            (type(error), place and (place.tb_frame.f_code, place.tb_lineno)),
            "watcher %r failed on %s; counted, and the next one follows: %s", self._name, what, _short(error, b""),
            error=error,
        )  # fmt: skip

    def _run(self, awaitable: Any) -> None:
        if self._loop is None:
            import asyncio  # noqa: PLC0415 - see Watch.__aiter__

            self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(awaitable)

    def close(self) -> None:
        """Says what was not said yet, and ends the event loop that coroutine handlers ran on."""
        self._notices.flush(final=True)
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


def _short(item: Any, payload: bytes) -> str:
    text = repr(item) if item is not None else f"undecodable record {payload[:80]!r}"
    return text if len(text) <= 200 else text[:197] + "..."


def _end_child(error: BaseException | None) -> NoReturn:
    """Ends a child that a handler forked: it must not go on as a second watcher.

    Args:
        error: what it raised; None: it returned.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        code = 1
        _log.error("a child that a handler forked failed", exc_info=error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)


class Watcher:
    """A watcher's work, as a helper process or a thread runs it.

    Args:
        slot: registered and managed.
        handler: what to do with the records.
        name: shown in ps, stats and the log.
        own_process: False for a thread, whose crash is that of the application.
        partner: the distributor's job, which this helper starts when its worker and spare have both died.
    """

    def __init__(
        self,
        slot: Slot,
        handler: BatchHandler,
        *,
        name: str,
        own_process: bool = True,
        partner: Any = None,
    ) -> None:
        self.segment = slot.segment
        self._own_process = own_process
        self.slot = slot
        self.lock = _ring.LOCK_SLOT + slot.index
        self.name = name
        self.title = f"mpbroadcast: watcher {name}"
        self._handler = handler
        self.partner = partner
        # A sink may hold an event for hours, while its other side is away: a kill then says nothing about the event.
        self._blames_kills = own_process and isinstance(handler, EachHandler)
        self._pid = 0
        self._forsaken_since: float | None = None

    def needed(self) -> bool:
        """Whether anything is left to read, or may still come."""
        finished = self.segment.ring.slot_get(self.slot.index, "finished")
        return not finished and self.slot.state not in (_ring.SLOT_FREE, _ring.SLOT_ABANDONED)

    def _forsaken(self) -> bool:
        """Whether the application and every distributor have been gone for long: nobody will close this slot."""
        ring = self.segment.ring
        owner, dist, spare = ((ring.get(f"{who}_pid"), ring.get(f"{who}_start")) for who in _OTHERS)
        alone = (
            self.slot.state in (_ring.SLOT_REGISTERED, _ring.SLOT_ACTIVE, _ring.SLOT_STOPPING)
            and ring.lock_is_free(_ring.LOCK_OWNER)
            and ring.lock_is_free(_ring.LOCK_DIST)
            and not any(pid and _ring.start_ticks(pid) == start for pid, start in (owner, dist, spare))
        )
        if not alone:
            self._forsaken_since = None
        elif self._forsaken_since is None:
            self._forsaken_since = time.monotonic()
        return self._forsaken_since is not None and time.monotonic() - self._forsaken_since > FORSAKEN_SECONDS

    def gone(self) -> bool:
        """Whether nobody works here, and worker and spare are dead or never came so far as to say who they are."""
        ring, index = self.segment.ring, self.slot.index
        pid, spare = ring.slot_get(index, "consumer_pid"), ring.slot_get(index, "spare_pid")
        alive = pid and _ring.start_ticks(pid) == ring.slot_get(index, "consumer_start")
        # Until a helper has announced itself it is the registrant, the application, who stands there.
        alive = alive and not (pid == ring.get("owner_pid") and not ring.slot_get(index, "workers"))
        spare_alive = spare and _ring.start_ticks(spare) == ring.slot_get(index, "spare_start")
        return bool(not alive and not spare_alive and ring.lock_is_free(self.lock))

    def count_gone(self) -> None:
        """Counts a death of worker and spare together."""
        self.segment.ring.slot_count(self.slot.index, CELLS["both_gone"])

    def announce(self, pid: int, start: int, spare_pid: int, spare_start: int) -> None:
        """Writes into the segment who handles and who would take over."""
        ring, index = self.segment.ring, self.slot.index
        ring.slot_set(index, "consumer_pid", pid)
        ring.slot_set(index, "consumer_start", start)
        ring.slot_set(index, "spare_pid", spare_pid)
        ring.slot_set(index, "spare_start", spare_start)

    def begin(self) -> int:
        """Counts this worker; how many there were before it since the last one that lasted."""
        ring, index = self.segment.ring, self.slot.index
        ring.slot_set(index, "workers", ring.slot_get(index, "workers") + 1)
        return ring.slot_get(index, "streak")

    def count_start(self) -> None:
        """One more of them has begun to work since the last that lasted."""
        ring, index = self.segment.ring, self.slot.index
        ring.slot_set(index, "streak", ring.slot_get(index, "streak") + 1)

    def forget_restarts(self) -> None:
        """The next restart is immediate again."""
        self.segment.ring.slot_set(self.slot.index, "streak", 1)

    def progress(self) -> int:
        """How far records have been handed out, and how long handling took."""
        ring, index = self.segment.ring, self.slot.index
        return ring.slot_get(index, "handed") + ring.slot_get(index, "handling_ns")

    def crashed(self) -> bool:
        """Whether the last worker ended by its own doing, as far as that can be known."""
        return self.segment.ring.slot_get(self.slot.index, "crash_mark") not in (0, IN_HAND)

    def cause(self) -> str:
        """How the last worker ended, in words; empty where nothing is known."""
        return cause_of(self.segment.ring.slot_get(self.slot.index, "crash_mark"))

    def work(self, tick: Callable[[], None]) -> None:
        """Handles records until the slot is closed and its ring empty. Blocks; the caller holds the slot's lock."""
        try:
            self._work(tick)
        except BaseException:
            if not self._own_process:
                # A thread has no spare, so nobody is to wait for it. Its ring is filled on, and what does not fit is
                # dropped: all that it does not handle stays in the report, as its backlog or as dropped.
                ring, index = self.segment.ring, self.slot.index
                ring.slot_set(index, "policy", _ring.POLICY_DROP)
                ring.slot_set(index, "finished", 1)
            raise

    def _work(self, tick: Callable[[], None]) -> None:
        ring, index = self.segment.ring, self.slot.index
        mark = ring.slot_get(index, "crash_mark")
        self._pid = os.getpid()
        if self._own_process:
            self._open(mark)
        elif not self._open_in_thread():
            ring.slot_set(index, "finished", 1)
            return
        reader = _ring.Reader(ring, index)
        cautious_until = self._after_crash(reader, mark)
        last_tick, most = time.monotonic(), FIRST_BATCH
        pause: float | None = None
        while True:
            careful = reader.seen < cautious_until
            wait = IDLE_SECONDS if pause is None else min(pause, IDLE_SECONDS)
            records: Sequence[Record] | None = ()
            if careful and reader.in_flight:
                time.sleep(min(wait, CAREFUL_SECONDS))  # one at a time: the next one only when this one is settled
            else:
                limit = 1 if careful else most
                records = reader.get_many(limit, self._handler.batch_bytes, wait, wait or IDLE_SECONDS)  # no nap is 0
            if records is None or self.slot.state == _ring.SLOT_ABANDONED:
                break
            if records:
                most = self._handle(records, reader, most)
            elif self._forsaken():
                break
            pause = self._handler.idle()
            if pause == 0.0 and self._stopping():
                break  # something is left that cannot be delivered, and nobody waits for it any more
            if time.monotonic() - last_tick >= IDLE_SECONDS:
                last_tick = time.monotonic()
                tick()
        self._handler.close()
        ring.slot_set(index, "finished", 1)
        self.slot.release()

    def _open(self, mark: int) -> None:
        """Opens the handler in a process of its own; ``mark`` is what its predecessor left."""
        ring, index = self.segment.ring, self.slot.index
        if mark in (0, IN_HAND):  # for the back-off and the log: whoever dies in here has no event to blame
            ring.slot_set(index, "crash_mark", NOT_OPENED)
        self._open_handler()
        ring.mark_crashes(index)
        mark_exits(ring, index)

    def _open_handler(self) -> None:
        handed, failed = self.segment.ring.slot_get(self.slot.index, "handed"), None
        try:
            self._handler.open(count=self._count, stopping=self._stopping, repeated_until=handed)
        except BaseException as error:
            failed = error
            raise
        finally:
            if os.getpid() != self._pid:  # a child that the setup forked came back out of it
                _end_child(failed)

    def _open_in_thread(self) -> bool:
        """Opens the handler, trying again as a helper's spares would; its events wait in the ring meanwhile.

        Returns:
            False: the time of a shutdown is over.
        """
        first, last, last_of_all = _SETUP_PAUSE
        notices, pause = Notices(_log), first
        while True:
            try:
                self._open_handler()
            except BaseException as error:  # noqa: BLE001 - whatever it was, it may go better the next time
                notices.say(
                    "setup", "watcher %r failed in its setup, which is tried again; its events wait: %s", self.name,
                    _short(error, b""), error=error,
                )  # fmt: skip
            else:
                notices.flush(final=True)
                return True
            began = time.monotonic()
            while (waited := time.monotonic() - began) < pause:
                if self.slot.state in (_ring.SLOT_ABANDONED, _ring.SLOT_FREE):
                    return False
                if waited >= last_of_all and self.segment.ring.get("state") != _ring.RUNNING:
                    break
                time.sleep(min(_PAUSE_SLICE, pause - waited))
            pause = min(pause * 2, last)

    def _count(self, name: str, n: int = 1) -> None:
        self.segment.ring.slot_count(self.slot.index, CELLS[name], n)

    def _stopping(self) -> bool:
        ring = self.segment.ring
        return self.slot.state == _ring.SLOT_ABANDONED or time.monotonic_ns() >= ring.get("drain_deadline")

    def _handle(self, records: Sequence[Record], reader: _ring.Reader, most: int) -> int:
        """One batch; returns how many records the next one should have, so that a slow handler's batch stays short."""
        ring, index, n = self.segment.ring, self.slot.index, len(records)
        ring.slot_set(index, "handed", max(records[-1][0], ring.slot_get(index, "handed")))
        began = time.perf_counter()
        if self._blames_kills:
            ring.slot_set(index, "crash_mark", IN_HAND)
        try:
            self._handler.handle(records, reader.settle)
        except BaseException as error:
            if os.getpid() != self._pid:  # a child that the handler forked came back without Python's knowing
                _end_child(error)
            ring.slot_set(index, "crash_mark", UNCAUGHT)
            raise
        took = time.perf_counter() - began
        if self._blames_kills:
            ring.slot_set(index, "crash_mark", 0)
        ring.slot_set(index, "handling_ns", ring.slot_get(index, "handling_ns") + int(took * 1e9))
        ring.slot_count(index, bucket_of(took / n), n)
        if took > LONG_BATCH:
            return max(1, n // 2)
        return min(most * 2, self._handler.batch_records) if took < LONG_BATCH / 2 else most

    def _after_crash(self, reader: _ring.Reader, mark: int) -> int:
        """The poison rule: an event that ends its process again and again is given up, and kept in the log.

        Protocol section 5. A death of the process's own doing (a fatal signal, an exit, an exception that nobody
        caught) counts: three in a row on the same event are enough. Without a mark nobody can know whether the process
        was killed from outside, by an operator or for want of memory, or killed itself. Such a death counts only if it
        came in the middle of the handler's call, ten of them in a row on the same event are needed, with ever longer
        pauses between them, and behind a sink, which may hold an event for hours while its other side is away, it never
        counts.

        Args:
            reader: of the ring.
            mark: what the last worker left.

        Returns:
            The sequence up to which records are taken one at a time.
        """
        ring, index = self.segment.ring, self.slot.index
        suspect = reader.seen + 1
        same = ring.slot_get(index, "try_pos") == suspect
        careful = suspect + self._handler.batch_records
        ring.slot_set(index, "crash_mark", 0)
        if mark in (0, NOT_OPENED):  # a kill between two crashes must not let a whole batch stand behind the suspect
            return careful if same and ring.slot_get(index, "try_count") else 0
        if ring.slot_get(index, "handed") < suspect:
            return careful  # it crashed between records: the next one was never handed out and is not to blame
        # In shares of 1 / (3 * 10), so that deaths of both sorts add up.
        share = GIVE_UP_AFTER_CRASHES if mark == IN_HAND else GIVE_UP_AFTER_KILLS
        count = share + (ring.slot_get(index, "try_count") if same else 0)
        ring.slot_set(index, "try_pos", suspect)
        ring.slot_set(index, "try_count", count)
        if count >= GIVE_UP_AFTER_CRASHES * GIVE_UP_AFTER_KILLS:
            for sequence, _, payload in reader.get_many(1, 1, 0) or ():
                reader.settle(sequence, _ring.GIVEN_UP)
                _log.error(
                    "watcher %r ended again and again on one event (the last time it %s); it is given up: %r",
                    self.name, cause_of(mark), payload[:2000],
                )  # fmt: skip
        elif mark == IN_HAND and count > share:
            first, last = KILLS_PAUSE
            until = time.monotonic() + min(first * 2 ** (count // share - 1), last)
            while (left := until - time.monotonic()) > 0 and ring.get("state") == _ring.RUNNING:
                time.sleep(min(left, _PAUSE_SLICE))
        return careful
