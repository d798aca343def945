"""Stop 4, without a helper: the iterator of ``watch()``. Runs in: the process that called it. Reads: its watcher ring.

Never blocks on: another watcher.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

from mpbroadcast.errors import NotTheConsumer
from mpbroadcast.ring import _ring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from mpbroadcast.ring.slot import Slot
    from mpbroadcast.sinks.handling import Record

__all__ = ["Watch"]

BUFFERED: Final = (512, 1 << 20)  # records and bytes that an iterator takes out of the ring at once

_log = logging.getLogger("mpbroadcast")


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
