"""`Store`: events as Kubernetes objects in one SQLite file. Runs in: any process.

Every write gets the next *resource version*, an integer that only grows. A list says at which version it was read, and
`Store.changes_since` tells what happened after that: together they are what a Kubernetes watch is made of.

One writer at a time (others wait up to 5 s), any number of readers meanwhile, none of which waits for the writer.
What is in the file is not trusted: a row that holds no event is skipped and counted.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.errors import StoreError
from mpbroadcast.event.model import Event
from mpbroadcast.store import retention
from mpbroadcast.store.merge import patched, read_patch, repeated
from mpbroadcast.store.opening import connect, plain_error, plain_errors
from mpbroadcast.store.reading import read_changes, read_page
from mpbroadcast.store.records import RowMaker
from mpbroadcast.store.refusal import already_exists, invalid, not_found, unreadable
from mpbroadcast.store.row import as_stored, decode_body, encode, last_seen, uid_prefix
from mpbroadcast.store.selection import EVERYTHING, Changes, Page, Selection, Token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpbroadcast.base.clock import Clock

__all__ = ["Store"]

_INSERT: Final = (
    "INSERT INTO event (id, resource_version, written, namespace, name, uid, object_kind, object_namespace,"
    " object_name, object_uid, type, reason, last_seen, object) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE_REPEAT: Final = "UPDATE event SET resource_version = ?, written = ?, last_seen = ?, object = ? WHERE id = ?"
_UPDATE_ALL: Final = (
    "UPDATE event SET resource_version = ?, written = ?, namespace = ?, name = ?, uid = ?, object_kind = ?,"
    " object_namespace = ?, object_name = ?, object_uid = ?, type = ?, reason = ?, last_seen = ?, object = ?"
    " WHERE id = ?"
)
# From each namespace one step along the index to the next one, however many events are in between.
_NAMESPACES: Final = (
    "WITH RECURSIVE found (ns) AS (SELECT min(namespace) FROM event UNION ALL"
    " SELECT (SELECT min(event.namespace) FROM event WHERE event.namespace > found.ns) FROM found WHERE ns IS NOT NULL)"
    " SELECT ns FROM found WHERE ns IS NOT NULL"
)
_VERSION_LIMIT: Final = 1 << 62  # no store gets here by writing; a number beyond it is damage


class Store:
    """Events in one file. One thread at a time may use it, and only the process that opened it.

    Use `open`; it is a context manager. Reads see one consistent state and never wait for writers. A write outside of
    `begin` and `commit` is a transaction of its own.

    Every method raises `StoreError`, one line, when the file cannot be read or written: disk full, damaged, another
    process writing for more than 5 s. What was written since `begin` is then given up, or `commit` says so.
    """

    def __init__(self, path: str, connection: sqlite3.Connection, clock: Clock) -> None:
        self.path = path
        self._connection = connection
        self._clock = clock
        self._uid_prefix = uid_prefix()
        self._rows = RowMaker(self._uid_prefix)
        self._in_batch = False
        self._version = 0  # of the last write, while a batch is open
        self._version_at_begin = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False, clock: Clock = SYSTEM_CLOCK) -> Self:
        """Open a store, creating it (mode 0600) unless ``read_only``.

        Args:
            path: of the file; its directory must exist. SQLite keeps two more files beside it while it is open.
            read_only: never write; the store must exist.
            clock: gives creation times, and the ages that `prune` looks at.

        Raises:
            StoreError: with one line: no such directory, a directory, no permission, not a store, a store of a newer
                version, damaged.
        """
        name = os.path.abspath(os.fspath(path))  # noqa: PTH100 - resolve() would follow links, and fail for some
        return cls(name, connect(name, read_only=read_only), clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up an open batch and close the file. May be called more than once."""
        with plain_errors(self.path):
            self._connection.close()  # SQLite rolls back by itself
        self._in_batch = False

    def checkpoint(self) -> None:
        """Copy what stands in the write-ahead log into the file, for who is going to copy or has moved the file alone.

        SQLite does that by itself now and then, and when the last connection is closed, but not to a file that was
        moved meanwhile. Waits up to 5 s for readers and writers; what they still use is left in the log.

        Raises:
            StoreError: the file cannot be written.
        """
        with plain_errors(self.path):
            self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()

    # Batches

    def begin(self) -> None:
        """Open a batch: all writes until `commit` become durable together. Gives up a batch that is still open.

        Waits up to 5 s for another writer.

        Raises:
            StoreError: another process is writing, or the file cannot be written; no batch is open.
        """
        self.rollback()
        with plain_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            self._in_batch = True
            try:
                self._version = self._version_at_begin = self._stored_version()
            except BaseException:
                self.rollback()
                raise

    def commit(self) -> None:
        """Make the open batch durable; after this, killing the process loses nothing of it.

        Raises:
            StoreError: nothing of the batch was kept, or there is none; no batch is open.
        """
        self._require_batch()
        try:
            if self._version != self._version_at_begin:
                self._connection.execute("UPDATE state SET resource_version = ?", (self._version,))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.rollback()
            raise plain_error(self.path, error) from error
        self._in_batch = False

    def rollback(self) -> None:
        """Give up the open batch, if there is one."""
        self._in_batch = False
        if self._connection_in_transaction():
            with plain_errors(self.path):
                self._connection.execute("ROLLBACK")

    def _connection_in_transaction(self) -> bool:
        try:
            return self._connection.in_transaction
        except sqlite3.ProgrammingError:  # closed
            return False

    def _require_batch(self) -> None:
        """Refuse to go on without a transaction: after a full disk SQLite may have rolled back on its own."""
        if not (self._in_batch and self._connection.in_transaction):
            self._in_batch = False
            raise StoreError(f"event store {self.path}: the batch was given up, or none was begun")

    @contextmanager
    def _batch(self) -> Iterator[None]:
        """Take part in the open batch, or be one."""
        if self._in_batch:
            self._require_batch()
            with plain_errors(self.path):
                yield
            return
        self.begin()
        try:
            with plain_errors(self.path):
                yield
        except BaseException:
            self.rollback()
            raise
        self.commit()

    # Writes

    def create(self, event: Event) -> Event:
        """Store a new event under its namespace (``default`` if it has none) and name.

        Returns:
            The event as `get` gives it from now on: with uid, resource version and creation time, times cut to
            seconds (event time and series: microseconds).

        Raises:
            SinkRejected: 409 ``AlreadyExists``; 422 ``Invalid`` without a name, or if it cannot be written as JSON.
            StoreError: the file cannot be written.
        """
        if self._in_batch:
            self._require_batch()
            return self._create(event)
        with self._batch():
            return self._create(event)

    def _create(self, event: Event) -> Event:
        version = self._version + 1
        written = self._clock.now_ns()
        if not event.name:
            raise invalid(event.name, "metadata.name: Required value")
        try:
            stored = as_stored(
                event, resource_version=version, uid=f"{self._uid_prefix}{version:012x}", created=written
            )
            row = encode(stored, resource_version=version, written=written, precise=event)
            self._connection.execute(_INSERT, (version, *row))
        except UnicodeEncodeError:
            # A lone surrogate in a column. The JSON shape is always well-formed.
            return self._create(Event.from_core_v1(event.to_core_v1()))
        except (ValueError, TypeError) as error:
            raise invalid(event.name, str(error)) from error
        except sqlite3.IntegrityError as error:
            raise already_exists(event.name) from error
        except sqlite3.Error as error:
            raise plain_error(self.path, error) from error
        self._version = version
        return stored

    def create_records(self, items: Sequence[bytes | Event]) -> int:
        """Store many new events at once: what `create` does for each, four times as fast.

        Needs an open batch. After an error the batch must be given up: it may hold some of them.

        Args:
            items: ring payloads as a recorder writes them, or events; all of them new.

        Returns:
            The resource version of the first; those of the others follow without a gap.

        Raises:
            SinkRejected: 409 ``AlreadyExists``: one of them is there already, or twice among them; 422 ``Invalid``: one
                of them is no event that can be stored. `create` tells which one.
            StoreError: the file cannot be written, or there is no open batch.
        """
        self._require_batch()
        first = self._version + 1
        try:
            rows = self._rows.rows(items, first_version=first, written=self._clock.now_ns())
            self._connection.executemany(_INSERT, ((row[0], *row) for row in rows))
        except (ValueError, TypeError) as error:  # and UnicodeEncodeError: a lone surrogate, which `create` can store
            raise invalid("one of many", str(error)) from error
        except sqlite3.IntegrityError as error:
            raise already_exists("one of many") from error
        except sqlite3.Error as error:
            raise plain_error(self.path, error) from error
        self._version += len(items)
        return first

    def patch(self, namespace: str, name: str, patch: bytes) -> Event:
        """Change a stored event by a JSON merge patch (for events the same as a strategic merge patch).

        A patch that changes nothing writes nothing. A ``resourceVersion`` in it must be the current one.

        Args:
            namespace: of the event, ``default`` if empty.
            name: of the event.
            patch: a JSON object.

        Returns:
            The event as it is now.

        Raises:
            NotFound: there is no such event.
            SinkRejected: 400 ``BadRequest`` for a patch that is no JSON object, or renames the event; 409 ``Conflict``
                for another version or uid; 422 ``Invalid`` when the result is no event; 500 ``InternalError`` when
                what is stored is none.
            StoreError: the file cannot be written.
        """
        changes = read_patch(patch)
        with self._batch():
            row_id, body, current = self._current(namespace or "default", name)
            wanted = repeated(body, current, changes)
            if wanted is not None:
                return current if wanted == current else self._write_repeat(row_id, body, wanted)
            wanted = patched(current, changes)
            return current if wanted == current else self._overwrite(row_id, current, wanted)

    def replace(self, event: Event) -> Event:
        """Put an event in the place of the stored one of its namespace and name; uid and creation time stay.

        An event that says nothing new writes nothing.

        Returns:
            The event as it is now.

        Raises:
            NotFound: there is no such event.
            SinkRejected: 422 ``Invalid`` when it cannot be written as JSON; 500 ``InternalError`` when what is stored
                is no event.
            StoreError: the file cannot be written.
        """
        with self._batch():
            row_id, _, current = self._current(event.namespace or "default", event.name)
            version = int(current.resource_version)
            wanted = as_stored(event, resource_version=version, uid=current.uid, created=current.creation_timestamp)
            return current if wanted == current else self._overwrite(row_id, current, wanted)

    def _current(self, namespace: str, name: str) -> tuple[int, dict[str, Any], Event]:
        """Return the row's id and what it holds, as JSON object and as event."""
        query = "SELECT id, resource_version, object FROM event WHERE namespace = ? AND name = ?"
        found = self._connection.execute(query, (namespace, name)).fetchone()
        if found is None:
            raise not_found(name)
        row_id, version, stored = found
        try:
            body = decode_body(version, stored)
            return row_id, body, Event.from_core_v1(body)
        except ValueError as error:
            raise unreadable(name, error) from error

    def _write_repeat(self, row_id: int, body: dict[str, Any], wanted: Event) -> Event:
        version, written = self._version + 1, self._clock.now_ns()
        body["metadata"]["resourceVersion"] = str(version)
        row = (version, written, last_seen(wanted, written), orjson.dumps(body), row_id)
        self._connection.execute(_UPDATE_REPEAT, row)
        self._version = version
        return wanted.replace(resource_version=str(version))

    def _overwrite(self, row_id: int, current: Event, wanted: Event) -> Event:
        version, written = self._version + 1, self._clock.now_ns()
        stored = wanted.replace(resource_version=str(version))
        try:
            row = encode(stored, resource_version=version, written=written, precise=wanted)
            if _same_but_for_repeats(current, stored):
                self._connection.execute(_UPDATE_REPEAT, (version, written, row.last_seen, row.object, row_id))
            else:
                self._connection.execute(_UPDATE_ALL, (*row, row_id))
        except (ValueError, TypeError) as error:
            raise invalid(current.name, str(error)) from error
        self._version = version
        return stored

    def delete(self, namespace: str, name: str) -> None:
        """Delete an event, also one that cannot be read.

        Raises:
            NotFound: there is no such event.
            StoreError: the file cannot be written.
        """
        with self._batch():
            deleted = retention.delete_one(self._connection, self._version, namespace or "default", name)
            if not deleted.events:
                raise not_found(name)
            self._version = deleted.resource_version
            retention.forget_history(self._connection, self._version - retention.HISTORY)

    def prune(self, *, ttl_ns: int | None = None, max_bytes: int | None = None, limit: int = 1000) -> int:
        """Delete events that were last written too long ago, and the oldest ones while the file is too large.

        Args:
            ttl_ns: nanoseconds since the last write after which an event goes; None for never.
            max_bytes: of the file, without the write-ahead log beside it (some MiB); None for any.
            limit: how many events to delete in this call at most. What is left over comes with the next call.

        Returns:
            How many were deleted.

        Raises:
            StoreError: the file cannot be written.
        """
        deleted = 0
        with self._batch():
            if ttl_ns is not None:
                deleted += self._delete_oldest(limit, retention.HISTORY, self._clock.now_ns() - ttl_ns)
            if max_bytes is not None:
                # Tombstones take room as well: an eighth of the file, if an event is one KiB.
                history = min(retention.HISTORY, max_bytes // 8192)
                while deleted < limit and retention.used_bytes(self._connection) > max_bytes:
                    step = self._delete_oldest(min(limit - deleted, 64), history)
                    if not step:
                        break
                    deleted += step
            if deleted:
                retention.give_back(self._connection)
        return deleted

    def _delete_oldest(self, limit: int, history: int, written_before: int | None = None) -> int:
        deleted = retention.delete_oldest(self._connection, self._version, limit=limit, written_before=written_before)
        self._version = deleted.resource_version
        if deleted.events:
            retention.forget_history(self._connection, self._version - history)
        return deleted.events

    # Reads

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Let several reads see one state."""
        with plain_errors(self.path):
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if self._connection_in_transaction():
                    self._connection.execute("COMMIT")

    def _stored_version(self) -> int:
        # Both, so that a state that was tampered with does not give a version twice.
        query = "SELECT max(s.resource_version, coalesce((SELECT max(resource_version) FROM event), 0)) FROM state AS s"
        found = self._connection.execute(query).fetchone()
        if found is None or not isinstance(found[0], int) or not 0 < found[0] < _VERSION_LIMIT:
            raise StoreError(f"event store {self.path}: the file is damaged (no resource version)")
        return found[0]

    def resource_version(self) -> int:
        """Return the version of the last write; cheap enough to ask many times a second."""
        if self._in_batch:
            return self._version
        with plain_errors(self.path):
            return self._stored_version()

    def get(self, namespace: str, name: str) -> Event:
        """Return one event.

        Raises:
            NotFound: there is no such event.
            SinkRejected: 500 ``InternalError``: the row holds no event.
            StoreError: the file cannot be read.
        """
        with plain_errors(self.path):
            return self._current(namespace or "default", name)[2]

    def namespaces(self) -> tuple[str, ...]:
        """Return every namespace that holds an event, sorted. Reads one index entry per namespace.

        Raises:
            StoreError: the file cannot be read.
        """
        with plain_errors(self.path):
            found = self._connection.execute(_NAMESPACES).fetchall()
        return tuple(name.decode(errors="replace") for (name,) in found if isinstance(name, bytes))

    def list(self, selection: Selection = EVERYTHING, *, limit: int | None = None, continue_: str = "") -> Page:
        """Return events in the order of their creation.

        Pages show what existed when the first one was read: every event of that time that is still there when its
        page comes, once, in its present state. Later ones are left to `changes_since`.

        Args:
            selection: which events.
            limit: how many at most; None or 0 for all.
            continue_: what the page before gave.

        Raises:
            StoreError: the file cannot be read; the continue token is none.
        """
        with self._snapshot():
            token = Token.decode(continue_) if continue_ else Token(self.resource_version(), 0)
            return read_page(self._connection, selection, token, limit)

    def changes_since(
        self,
        resource_version: int,
        selection: Selection = EVERYTHING,
        *,
        limit: int | None = None,
        deletions: bool = True,
    ) -> Changes:
        """Return what was created, changed and deleted after a version, oldest first; at once, also when it is nothing.

        Args:
            resource_version: of a page, or of the changes before.
            selection: which events; a deleted one is judged by its last state.
            limit: how many changes at most; None or 0 for all. Go on from the answer's version.
            deletions: whether they are wanted. Without them the answer is always complete, however old the version.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._snapshot():
            current = self.resource_version()
            if resource_version == current:
                return Changes((), current)
            return read_changes(
                self._connection, selection, resource_version, current=current, limit=limit, deletions=deletions
            )

    # Positions

    def position(self, source: str) -> int:
        """Return up to which sequence number a source is stored; 0 for an unknown one.

        Raises:
            StoreError: the file cannot be read.
        """
        with plain_errors(self.path):
            found = self._connection.execute("SELECT sequence FROM position WHERE source = ?", (source,)).fetchone()
        if found is not None and not isinstance(found[0], int):
            raise StoreError(f"event store {self.path}: the file is damaged (a position is no number)")
        return found[0] if found else 0

    def set_position(self, source: str, sequence: int) -> None:
        """Note up to which sequence number a source is stored, in the open batch if there is one.

        Args:
            source: any name.
            sequence: below 2**63.

        Raises:
            StoreError: the file cannot be written.
        """
        query = (
            "INSERT INTO position (source, sequence) VALUES (?, ?)"
            " ON CONFLICT (source) DO UPDATE SET sequence = excluded.sequence"
        )
        with self._batch():
            self._connection.execute(query, (source, sequence))


def _same_but_for_repeats(one: Event, other: Event) -> bool:
    """Tell whether no indexed column but the time of the last write and sight can differ."""
    return (one.involved_object, one.type, one.reason) == (other.involved_object, other.type, other.reason)
