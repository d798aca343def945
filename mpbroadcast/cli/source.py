"""Where commands get events from: a store, or a cluster. Runs in: the command's process."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, Protocol

from mpbroadcast.errors import StoreError
from mpbroadcast.store.sqlite import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpbroadcast.event.model import Event
    from mpbroadcast.store.selection import Selection

__all__ = ["EventSource", "StoreSource"]

_LOOK_SECONDS: Final = 0.1  # between two looks at a store that another process writes; each costs some 10 us


class EventSource(Protocol):
    """Gives events: those that are there, then those that come."""

    @property
    def unreadable(self) -> int:
        """How many were skipped so far since they could not be read."""
        ...  # pragma: no cover

    def pages(self, chunk: int) -> Iterator[Sequence[Event]]:
        """Give what is there, in the order of the store or server.

        Args:
            chunk: how many at a time; 0 for all at once.
        """
        ...  # pragma: no cover

    def follow(self) -> Iterator[Sequence[Event]]:
        """After all pages: give what was created or changed since then, for ever. Deletions are not shown."""
        ...  # pragma: no cover

    def close(self) -> None:
        """Let go of files and connections."""
        ...  # pragma: no cover


class StoreSource:
    """The events of a store that another process may be writing.

    Args:
        path: of the store.
        selection: which events.

    Raises:
        StoreError: one line: there is no store, or it cannot be read.
    """

    def __init__(self, path: str, selection: Selection) -> None:
        self._store = Store.open(path, read_only=True)
        self._file = _identity(self._store.path)
        self._selection = selection
        self._version = 0
        self.unreadable = 0

    def pages(self, chunk: int) -> Iterator[Sequence[Event]]:
        """See `EventSource.pages`. Reads one state, however long it takes; waits for no writer."""
        continue_ = ""
        while True:
            page = self._store.list(self._selection, limit=chunk or None, continue_=continue_)
            self._version, self.unreadable = page.resource_version, self.unreadable + page.unreadable
            yield page.events
            continue_ = page.continue_
            if not continue_:
                return

    def follow(self) -> Iterator[Sequence[Event]]:
        """See `EventSource.follow`. Looks ten times a second."""
        while True:
            changes = self._store.changes_since(self._version, self._selection, deletions=False)
            self._version = changes.resource_version
            self.unreadable += changes.unreadable
            if changes.changes:
                yield [change.object for change in changes.changes]
            self._check()
            time.sleep(_LOOK_SECONDS)

    def _check(self) -> None:
        if _identity(self._store.path) != self._file:
            raise StoreError(f"event store {self._store.path} was moved or deleted")

    def close(self) -> None:
        """Close the file."""
        self._store.close()


def _identity(path: str) -> tuple[int, int] | None:
    """Say which file a path names now."""
    try:
        status = os.stat(path)  # noqa: PTH116 - ten times a second
    except OSError:
        return None
    return status.st_dev, status.st_ino
