"""What a store answers: pages of events, and what changed since a version.

Runs in: any process, on one consistent state that the caller holds. Rows that hold no event are skipped and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpbroadcast.event.model import Event
from mpbroadcast.event.wire import ADDED, DELETED, MODIFIED, WatchEvent
from mpbroadcast.store.row import decode
from mpbroadcast.store.selection import Changes, Page

if TYPE_CHECKING:
    import sqlite3

    from mpbroadcast.store.selection import Selection, Token

__all__ = ["read_changes", "read_page"]

# Both halves are walked along an index in ascending order, so no sorting, and a limit ends the walk.
_CHANGES: Final = (
    "SELECT resource_version, id, object, NULL, NULL FROM event WHERE resource_version > ?"
    " UNION ALL "
    # What was created after that version and is gone again was never there for this watcher.
    "SELECT resource_version, event_id, object, namespace, name FROM tombstone WHERE resource_version > ?"
    " AND event_id <= ? AND ? ORDER BY 1"
)


def read_page(connection: sqlite3.Connection, selection: Selection, token: Token, limit: int | None) -> Page:
    """Return the page of a list that begins behind ``token``, with at most ``limit`` events (None or 0: all)."""
    where, values = selection.where()
    query = f"SELECT id, resource_version, object FROM event WHERE id > ? AND id <= ?{where} ORDER BY id"  # noqa: S608 - column names
    events: list[Event] = []
    unreadable = 0
    after = token.after
    for row_id, version, stored in connection.execute(query, (token.after, token.resource_version, *values)):
        try:
            event = decode(version, stored)
        except ValueError:
            unreadable += 1
        else:
            if selection.matches(event):
                if limit and len(events) == limit:
                    # Only now it is known that there is a next page.
                    following = token._replace(after=after).encode()
                    return Page(tuple(events), token.resource_version, following, unreadable)
                events.append(event)
        after = row_id
    return Page(tuple(events), token.resource_version, "", unreadable)


def read_changes(
    connection: sqlite3.Connection,
    selection: Selection,
    since: int,
    *,
    current: int,
    limit: int | None,
    deletions: bool,
) -> Changes:
    """Return what happened after the version ``since``; see `Store.changes_since`."""
    [forgotten] = connection.execute("SELECT forgotten FROM state").fetchone()
    complete = since <= current and (not deletions or since >= forgotten)
    changes: list[WatchEvent] = []
    unreadable = 0
    for version, row_id, stored, *gone in connection.execute(_CHANGES, (since, since, since, deletions)):
        try:
            change = _change(since, version, row_id, stored, gone)
        except ValueError:
            unreadable += 1
            continue
        if selection.matches(change.object):
            if limit and len(changes) == limit:
                return Changes(tuple(changes), int(changes[-1].object.resource_version), complete, unreadable)
            changes.append(change)
    return Changes(tuple(changes), current, complete, unreadable)


def _change(since: int, version: object, row_id: int, stored: object, gone: list[bytes | None]) -> WatchEvent:
    namespace, name = gone
    if name is None:
        return WatchEvent(ADDED if row_id > since else MODIFIED, decode(version, stored))
    if stored is None and namespace is not None:  # too large to keep; who it was is enough to forget it
        where, who = namespace.decode(errors="replace"), name.decode(errors="replace")
        return WatchEvent(DELETED, Event(namespace=where, name=who, resource_version=str(version)))
    return WatchEvent(DELETED, decode(version, stored))
