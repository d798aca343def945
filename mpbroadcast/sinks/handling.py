"""What a watcher's process does with records: the contract, and the handler that calls a function for each.

Runs in: the process of a watcher; made in the application.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from mpbroadcast.base.notices import Notices
from mpbroadcast.ring import _ring

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

__all__ = ["BatchHandler", "EachHandler", "Record", "end_child", "short"]

Record = tuple[int, int, bytes]
"""Sequence number in the ring, kind, payload."""

_log = logging.getLogger("mpbroadcast")

_forks = 0  # how many forks lie between this process and the first that imported this module


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - of the process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


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
                    end_child(None)
            except BaseException as error:  # noqa: BLE001 - nor do sys.exit() and a cancelled coroutine end the watcher
                if _forks != forks:
                    end_child(error)
                self._say(error, short(item, payload))
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
            "watcher %r failed on %s; counted, and the next one follows: %s", self._name, what, short(error, b""),
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


def short(item: Any, payload: bytes) -> str:
    """An event for a log line."""
    text = repr(item) if item is not None else f"undecodable record {payload[:80]!r}"
    return text if len(text) <= 200 else text[:197] + "..."


def end_child(error: BaseException | None) -> NoReturn:
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
