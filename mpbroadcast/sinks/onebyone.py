"""What makes an ordinary sink, one call at a time, out of one that makes many. Runs in: the process of the sink."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mpbroadcast.event.model import Event
    from mpbroadcast.sinks.work import AsyncClient

__all__ = ["OneByOne"]

_T = TypeVar("_T")


class OneByOne:
    """The methods of `mpbroadcast.sinks.base.EventSink` over ``connect()``. A mix-in.

    They belong to one thread without a running event loop, and block as long as the client does. Pickling leaves the
    connection out.
    """

    _loop: asyncio.AbstractEventLoop | None = None
    _client: AsyncClient | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in {"_loop", "_client"}}

    def connect(self) -> AsyncClient:
        """Make a client for the running event loop; must not block."""
        raise NotImplementedError

    def create(self, event: Event) -> Event:
        """Write an event; see `mpbroadcast.sinks.base.EventSink.create`."""
        client = self._connected()
        return self._run(client.create(event)) or event

    def patch(self, event: Event, patch: bytes) -> Event:
        """Write a change of an event; see `mpbroadcast.sinks.base.EventSink.patch`."""
        client = self._connected()
        return self._run(client.patch(event, patch)) or event

    def close(self) -> None:
        """Close the connections. May be called more than once."""
        client, self._client = self._client, None
        if client is not None:
            self._run(client.close())
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def _connected(self) -> AsyncClient:
        if self._client is None:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            self._client = self.connect()
        return self._client

    def _run(self, call: Coroutine[Any, Any, _T]) -> _T:
        assert self._loop is not None
        return self._loop.run_until_complete(call)
