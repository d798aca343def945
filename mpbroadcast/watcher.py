"""Stop 4: the watcher. Runs in: one process each. Reads: its watcher ring. Writes: whatever its handler does.

Never blocks on: another watcher.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.base.notices import Notices
from mpbroadcast.ring import _ring
from mpbroadcast.ring.counters import CELLS, bucket_of
from mpbroadcast.ring.marks import IN_HAND, NOT_OPENED, UNCAUGHT, cause_of, mark_exits
from mpbroadcast.sinks.handling import EachHandler, end_child, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpbroadcast.ring.slot import Slot
    from mpbroadcast.sinks.handling import BatchHandler, Record

__all__ = ["Watcher"]

FIRST_BATCH: Final = 64
CAREFUL_SECONDS: Final = 0.01  # between two looks at whether a suspect is settled
LONG_BATCH: Final = 0.05  # seconds: how long a watcher may take to see that it is stopped
IDLE_SECONDS: Final = 1.0  # between two looks at whether anybody still needs this watcher
FORSAKEN_SECONDS: Final = 10.0  # without application and distributor; by then a partner would have been started
GIVE_UP_AFTER_CRASHES: Final = 3  # deaths of its own doing
GIVE_UP_AFTER_KILLS: Final = 10  # deaths in the middle of the handler's call that left no mark
# Seconds, doubled with each such death on one event: a burst of kills condemns nothing.
KILLS_PAUSE: Final = (0.05, 5.0)
_OTHERS: Final = ("owner", "dist", "dist_spare")
_SETUP_PAUSE: Final = (0.1, 30.0, 1.0)  # seconds until a thread tries its setup again: first, last, last at the end
_PAUSE_SLICE: Final = 0.02  # seconds between two looks at whether it is over

_log = logging.getLogger("mpbroadcast")


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
                end_child(failed)

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
                    short(error, b""), error=error,
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
                end_child(error)
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
