"""Watches: streams of what happens to events, one JSON object a line.

Runs in: the server. Each watch reads the changes after its own position straight from the store, so a client that does
not read holds up nobody, and fills no buffer but its socket's.

A store keeps the last state of an event, not each write: two writes in quick succession may arrive as one MODIFIED,
and what came and went in between not at all. What a watcher has at the end is right either way.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpbroadcast.apiserver.output import encode
from mpbroadcast.apiserver.status import expired
from mpbroadcast.event.wire import ADDED, DELETED
from mpbroadcast.store.selection import Selection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mpbroadcast.apiserver.backend import Backend, Listener
    from mpbroadcast.apiserver.output import EventWriter
    from mpbroadcast.apiserver.selectors import Selected
    from mpbroadcast.event.model import Event
    from mpbroadcast.event.wire import WatchEvent
    from mpbroadcast.store.sqlite import Store

__all__ = ["Watch", "WatchOptions"]

_STEP: Final = 500  # changes or events read at a time
_BOOKMARK_EVERY: Final = 60.0  # seconds, about as often as the real server sends them

_Key = tuple[str, str]  # namespace and name


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What a client wants of a watch.

    Attributes:
        since: the version to begin after; None for a beginning with what there is.
        initial: whether what there is comes first as ADDED.
        bookmarks: whether bookmarks are wanted.
        mark_initial_end: whether a bookmark tells where what there was ends.
        seconds: after which the watch ends.
    """

    since: int | None
    initial: bool
    bookmarks: bool
    mark_initial_end: bool
    seconds: float


class Watch:
    """One watch. Use on the event loop, by one task.

    Args:
        backend: where the changes come from.
        selected: which events are meant.
        writer: writes them as the client asked.
        options: what the client asked for.
    """

    def __init__(self, backend: Backend, selected: Selected, writer: EventWriter, options: WatchOptions) -> None:
        self._backend = backend
        self._selection = selected.selection
        # An event that is not meant any more must be taken away from the client. What the store tells about it then is
        # a state that is not meant, so the selectors are applied here, to everything in the namespace.
        self._known: set[_Key] | None = set() if selected.changeable else None
        self._scope = (
            Selection(namespace=selected.selection.namespace, name=selected.selection.name)
            if selected.changeable
            else selected.selection
        )
        self._writer = writer
        self._options = options
        self._position = 0

    async def lines(self, listener: Listener) -> AsyncIterator[bytes]:
        """Yield lines, several at a time, until the time is over or the listener is closing."""
        options = self._options
        deadline = time.monotonic() + options.seconds
        next_bookmark = time.monotonic() + _BOOKMARK_EVERY
        async for lines in self._begin():
            yield lines
        while True:
            lines, complete, more = await self._backend.read(self._changes)
            if lines:
                yield lines
            if not complete:
                yield self._expired()
                return
            now = time.monotonic()
            ending = listener.closing or now >= deadline
            if options.bookmarks and not more and (ending or now >= next_bookmark):
                next_bookmark = now + _BOOKMARK_EVERY
                yield self._writer.bookmark(self._position)
            if ending:
                return
            if not more:
                await listener.wait(min(deadline, next_bookmark) - now)

    def _expired(self) -> bytes:
        status = expired(f"too old resource version: {self._position}").body()
        return encode({"type": "ERROR", "object": status})

    async def _begin(self) -> AsyncIterator[bytes]:
        """Yield what comes before the changes, and find the position."""
        options = self._options
        if options.since is not None:
            self._position = options.since
        if options.initial:
            async for lines in self._existing(show=True):
                yield lines
        elif self._known is not None:
            # The client has listed before: it knows what is meant now, but for what has changed since.
            async for _ in self._existing(show=False):
                pass
        if options.mark_initial_end:
            yield self._writer.bookmark(self._position, initial_end=True)

    async def _existing(self, *, show: bool) -> AsyncIterator[bytes]:
        continue_, first = "", True
        while first or continue_:
            token = continue_

            def read(store: Store, token: str = token) -> tuple[bytes, int, str]:
                page = store.list(self._selection, limit=_STEP, continue_=token)
                self._remember(page.events)
                lines = b"".join(self._writer.change(ADDED, event) for event in page.events) if show else b""
                return lines, page.resource_version, page.continue_

            lines, version, continue_ = await self._backend.read(read)
            if first and show:
                self._position = version
            first = False
            if lines:
                yield lines
            await asyncio.sleep(0)

    def _remember(self, events: tuple[Event, ...]) -> None:
        if self._known is not None:
            self._known.update((event.namespace, event.name) for event in events)

    def _changes(self, store: Store) -> tuple[bytes, bool, bool]:
        """Return the next lines, whether all that happened is in them, and whether more are waiting."""
        changes = store.changes_since(self._position, self._scope, limit=_STEP)
        if not changes.complete:
            return b"", False, False
        lines = [self._line(change) for change in changes.changes]
        self._position = changes.resource_version
        return b"".join(lines), True, len(changes.changes) == _STEP

    def _line(self, change: WatchEvent) -> bytes:
        type_, event = change
        if self._known is not None:
            seen = self._seen(type_, event)
            if seen is None:
                return b""
            type_ = seen
        return self._writer.change(type_, event)

    def _seen(self, type_: str, event: Event) -> str | None:
        """Return what a change is for this client: an event may come into its sight or leave it by being changed."""
        assert self._known is not None
        key = (event.namespace, event.name)
        known = key in self._known
        if type_ != DELETED and self._selection.matches(event):
            self._known.add(key)
            return type_ if type_ == ADDED or known else ADDED
        self._known.discard(key)
        return DELETED if known or (type_ == DELETED and self._selection.matches(event)) else None
