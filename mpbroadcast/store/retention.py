"""What a store deletes by itself: events that are too old, and the oldest ones when the file is too large.

Runs in: the writer, inside its transaction. The work of one call is bounded; what is left over comes with the next.
Deleted events leave a tombstone, so that a watcher learns of them; tombstones are forgotten after a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import sqlite3

__all__ = ["HISTORY", "Deleted", "delete_oldest", "delete_one", "forget_history", "give_back", "used_bytes"]

HISTORY: Final = 10_000
"""Changes of the store for which tombstones are kept: how far a watcher may lag behind and still see each deletion."""

_TOMBSTONE_LIMIT: Final = 65_536  # bytes of a last state that is kept in a tombstone; events are below 2 KiB
_VACUUM_STEP: Final = 256  # pages given back to the disk in one call, 2 MiB


class Deleted(NamedTuple):
    """What was deleted: how many events, and the store's version after that."""

    events: int
    resource_version: int


# Followed by which events, in SQL.
_KEEP_LAST_STATE: Final = (
    "INSERT INTO tombstone (resource_version, event_id, namespace, name, object)"
    " SELECT ? + row_number() OVER (ORDER BY resource_version), id, namespace, name,"
    " CASE WHEN length(object) <= ? THEN object END FROM event WHERE "
)
_OLDEST: Final = "id IN (SELECT id FROM (SELECT id, written FROM event ORDER BY resource_version LIMIT ?)"
_DELETE: Final = "DELETE FROM event WHERE id IN (SELECT event_id FROM tombstone WHERE resource_version > ?)"


def delete_one(connection: sqlite3.Connection, resource_version: int, namespace: str, name: str) -> Deleted:
    """Delete one event, whether or not it can be read; nothing if it is not there.

    Args:
        connection: with an open transaction.
        resource_version: the version of the last write.
        namespace: of the event.
        name: of the event.
    """
    return _delete(connection, resource_version, "namespace = ? AND name = ?", (namespace, name))


def delete_oldest(
    connection: sqlite3.Connection, resource_version: int, *, limit: int, written_before: int | None = None
) -> Deleted:
    """Delete events, the ones with the oldest last write first.

    Args:
        connection: with an open transaction.
        resource_version: the version of the last write.
        limit: how many at most.
        written_before: Unix nanoseconds; only events that were last written before. None for all.
    """
    if written_before is None:
        return _delete(connection, resource_version, _OLDEST + ")", (limit,))
    # The oldest by the order of writing, and of those the ones that are old by the clock: one walk along one index,
    # whatever the clock did meanwhile.
    return _delete(connection, resource_version, _OLDEST + " WHERE written < ?)", (limit, written_before))


def _delete(connection: sqlite3.Connection, resource_version: int, which: str, values: tuple[object, ...]) -> Deleted:
    to_tombstones = (resource_version, _TOMBSTONE_LIMIT, *values)
    events = connection.execute(_KEEP_LAST_STATE + which, to_tombstones).rowcount
    if events:
        connection.execute(_DELETE, (resource_version,))
    return Deleted(events, resource_version + events)


def forget_history(connection: sqlite3.Connection, up_to: int) -> None:
    """Throw away the tombstones up to a version, and note that in the store's state."""
    gone = "SELECT max(resource_version) FROM tombstone WHERE resource_version <= ?"
    [forgotten] = connection.execute(gone, (up_to,)).fetchone()
    if forgotten is not None:
        connection.execute("DELETE FROM tombstone WHERE resource_version <= ?", (up_to,))
        connection.execute("UPDATE state SET forgotten = ?", (forgotten,))


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes of the file that hold something; without the write-ahead log. Costs a few microseconds."""
    return (_pragma(connection, "page_count") - _pragma(connection, "freelist_count")) * _pragma(
        connection, "page_size"
    )


def give_back(connection: sqlite3.Connection) -> None:
    """Cut free pages off the file, a few at a time, where more than a tenth of it is free."""
    free = _pragma(connection, "freelist_count")
    if free * 10 > _pragma(connection, "page_count"):
        # One at a time: the pragma frees a page with each step, and Python steps once where no column comes back.
        for _ in range(min(free, _VACUUM_STEP)):
            connection.execute("PRAGMA incremental_vacuum(1)")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    [value] = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
