"""`SQLiteSink`: events into an event store. Runs in: the process of the sink; made and checked in the application.

Everything of a batch is one transaction: the events, what retention deletes, and how far the ring has been read. So
after ``kill -9`` nothing is stored twice and nothing is missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.errors import SinkUnavailable, StoreError
from mpbroadcast.sinks.forked import let_go_in_children
from mpbroadcast.store.sqlite import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpbroadcast.base.clock import Clock
    from mpbroadcast.event.model import Event

__all__ = ["SQLiteSink"]

_BATCH: Final = 2048  # events; each page of the indexes that a batch touches is written once for the whole batch
_LEAST_BYTES: Final = 1 << 20  # an empty store has about 100 KiB, and what was deleted is remembered for a while
_PRUNE_SECONDS: Final = 1.0  # how often age is looked at: a store is that much behind at the most
_SECOND: Final = 1_000_000_000
_PRUNE_LIMIT: Final = 1000  # events that are deleted with each batch, besides as many as are new in it

_left_alone: Final[list[Store]] = []  # connections that must not even be closed by the garbage collector

_log: Final = logging.getLogger("mpbroadcast.sink")


class SQLiteSink:
    """Stores events in one SQLite file that ``mpbroadcast get`` and `mpbroadcast.store.sqlite.Store` read meanwhile.

    Making one costs nothing and touches no file. It is picklable, also after it was used: only its options are kept.
    One thread at a time may use it. A write blocks for as long as the disk takes, and up to 5 s for another writer.
    The file is created with mode 0600. When it is moved away or deleted, the next batch begins a new one. As long as it
    cannot be written (disk full, damaged, no permission), every write raises `SinkUnavailable` and is tried again.

    Args:
        path: of the file; its directory must exist.
        ttl: seconds (or a timedelta) since its last write after which an event is deleted; None for never.
        max_bytes: how large the file may become before the oldest events are deleted, at least 1 MiB; the write-ahead
            log beside it has some MiB more. None for any size.
        batch: how many events to write in one transaction at the most.
        clock: what retention goes by, and the creation times; it must be picklable if the sink is to be pickled.

    Raises:
        ValueError: an option makes no sense; with one line that names it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        ttl: float | timedelta | None = None,
        max_bytes: int | None = None,
        batch: int = _BATCH,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        # A helper process has another working directory, perhaps; resolve() would follow links.
        self.path = os.path.abspath(os.fspath(path))  # noqa: PTH100
        self.ttl = _seconds("ttl", ttl)
        self.max_bytes = _whole("max_bytes", max_bytes, _LEAST_BYTES)
        self.batch = _whole("batch", batch, 1) or _BATCH
        self._clock = clock
        self._store: Store | None = None
        self._file: tuple[int, int] | None = None
        self._thread = 0  # that opened the store
        self._in_transaction = False
        self._written = 0  # events of the open transaction
        self._prune_at = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_store": None, "_file": None, "_in_transaction": False, "_prune_at": 0.0}

    def __repr__(self) -> str:
        return f"SQLiteSink({self.path!r})"

    @property
    def default_correlator(self) -> CorrelatorOptions:
        """Repeats are counted; nothing is aggregated, and nothing is taken for spam."""
        return CorrelatorOptions(max_events=None, burst_size=None)

    def check(self) -> None:
        """Open the store for a moment, creating it, to see whether it can be written.

        Raises:
            StoreError: with one line, when it cannot.
        """
        Store.open(self.path, clock=self._clock).close()

    def open(self) -> None:
        """Open the store, creating it if it is not there. A sink that is open already is opened anew.

        Raises:
            SinkUnavailable: it cannot be opened now.
        """
        self.close()
        self._in_transaction = False
        with self._unavailable():
            self._store = Store.open(self.path, clock=self._clock)
            self._file = _file(self.path)
        self._thread = threading.get_ident()
        let_go_in_children(self)

    def close(self) -> None:
        """Give up an open transaction and close the store. May be called more than once."""
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(StoreError):  # what was committed is in the file; the rest is not ours to keep
                store.close()

    def let_go(self) -> None:
        """Close the connection that a forked child has inherited (`mpbroadcast.sinks.forked`).

        That is harmless between two transactions, while the parent holds its locks. Where another thread of the parent
        was using the connection it is left alone: the child is not the process of this sink then, nor its spare.
        """
        if self._thread == threading.get_ident() and not self._in_transaction:
            self.close()
        elif self._store is not None:
            _left_alone.append(self._store)
            self._store = None

    @contextlib.contextmanager
    def _unavailable(self) -> Iterator[None]:
        """Turn a store that cannot be written into a sink that is away; it is opened anew for the next write."""
        try:
            yield
        except StoreError as error:
            self.close()
            raise SinkUnavailable(str(error)) from error

    def _opened(self) -> Store:
        if self._store is None:
            if self._in_transaction:
                # What came before in it is gone: what comes now must not be kept, least of all a position.
                raise SinkUnavailable(f"event store {self.path}: the transaction was lost")
            self.open()
        assert self._store is not None
        return self._store

    # Writes

    def create(self, event: Event) -> Event:
        """Store a new event; a transaction of its own unless one is open."""
        with self._unavailable():
            stored = self._opened().create(event)
        self._written += 1
        return stored

    def create_records(self, items: Sequence[bytes | Event]) -> int:
        """Store many new events in the open transaction; see `mpbroadcast.sinks.base.RecordSink`."""
        with self._unavailable():
            first = self._opened().create_records(items)
        self._written += len(items)
        return first

    def patch(self, event: Event, patch: bytes) -> Event:
        """Change a stored event by a merge patch; a transaction of its own unless one is open."""
        with self._unavailable():
            return self._opened().patch(event.namespace, event.name, patch)

    # Transactions

    def begin(self) -> None:
        """Open a transaction; one that is still open is given up."""
        if self._store is not None and _file(self.path) != self._file:
            _log.warning("event store %s was moved or deleted; a new one is begun", self.path)
            with contextlib.suppress(StoreError):
                self._store.checkpoint()
            self.close()
        self._in_transaction = False
        self._written = 0
        with self._unavailable():
            self._opened().begin()
        self._in_transaction = True

    def commit(self) -> None:
        """Delete what is too old or too much, and make the transaction durable."""
        try:
            with self._unavailable():
                store = self._opened()
                self._prune(store)
                store.commit()
        finally:
            self._in_transaction = False

    def rollback(self) -> None:
        """Give up the open transaction, if there is one."""
        self._in_transaction = False
        if self._store is not None:
            try:
                self._store.rollback()
            except StoreError:
                self.close()

    def position(self, source: str) -> int:
        """Return up to which sequence number a source is stored; 0 for an unknown one."""
        with self._unavailable():
            return self._opened().position(source)

    def set_position(self, source: str, sequence: int) -> None:
        """Note, in the open transaction, up to where a source is stored."""
        with self._unavailable():
            self._opened().set_position(source, sequence)

    # Retention

    def idle(self) -> float | None:
        """Delete what has become too old while nothing was written. Never raises: the next write tells what is wrong.

        Returns:
            The seconds until something may be too old again; None if nothing ever is.
        """
        if self.ttl is None:
            return None
        if time.monotonic() >= self._prune_at:
            with contextlib.suppress(SinkUnavailable, StoreError):
                self.begin()
                self.commit()
            self.rollback()
        return max(0.0, self._prune_at - time.monotonic()) or _PRUNE_SECONDS

    def _prune(self, store: Store) -> None:
        """Delete, within the open transaction; in proportion to what was written, so that no batch takes long."""
        now = time.monotonic()
        due = self.ttl is not None and now >= self._prune_at
        if not due and self.max_bytes is None:
            return
        limit = _PRUNE_LIMIT + 2 * self._written
        ttl_ns = int(self.ttl * _SECOND) if due and self.ttl is not None else None
        deleted = store.prune(ttl_ns=ttl_ns, max_bytes=self.max_bytes, limit=limit)
        if due and deleted < limit:
            self._prune_at = now + _PRUNE_SECONDS


def _file(path: str) -> tuple[int, int] | None:
    """Say which file a path names now."""
    try:
        status = os.stat(path)  # noqa: PTH116 - once for each batch
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _seconds(name: str, value: object) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(f"{name} must be a number of seconds above 0, or None for never, not {value!r}")
    return float(value)


def _whole(name: str, value: object, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value
