"""Events of a JetStream stream, for ``mpbroadcast get --from nats://...``. Runs in: the command's process."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from mpbroadcast.base.notices import Notices
from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.relay.reader import StreamReader, stream_state
from mpbroadcast.sinks.jetstream import plain

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from mpbroadcast.relay.reader import Message
    from mpbroadcast.sinks.jetstream import Access
    from mpbroadcast.store.selection import Selection

__all__ = ["NATSSource"]

_T = TypeVar("_T")
_WAIT_SECONDS: Final = 0.5
_AWAY_SECONDS: Final = 10.0  # without a connection: longer than servers need for a new leader

_log: Final = logging.getLogger("mpbroadcast.relay")


class NATSSource:
    """The events that a stream holds, as `mpbroadcast.cli.source.EventSource`. It acknowledges and changes nothing.

    Of an event that was published again with a higher count only the latest is shown among those that are there.

    Args:
        selection: which events.
        access: of the servers.
        stream: its name.

    Raises:
        SinkUnavailable, SinkError, MissingExtra: one line: no connection, or there is no such stream.
    """

    def __init__(self, selection: Selection, access: Access, stream: str) -> None:
        self._selection = selection
        self._stream = stream
        self._where = access.where
        self._notices = Notices(_log)
        self.unreadable = 0
        self._loop = asyncio.new_event_loop()
        try:
            self._client = self._run(access.connect("get"))
            self._last = self._run(stream_state(self._client, stream)).last
        except BaseException:
            self.close()
            raise
        self._reader = StreamReader(self._client, stream)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run_until_complete(work)

    def pages(self, chunk: int) -> Iterator[Sequence[Event]]:
        """See `EventSource.pages`.

        Raises:
            SinkUnavailable: the servers went away while it read, and did not come back within ten seconds.
        """
        latest: dict[tuple[str, str], Event] = {}
        end = time.monotonic() + _AWAY_SECONDS
        while self._reader.seen < self._last and not self._reader.caught_up:
            messages = self._run(self._reader.read(_WAIT_SECONDS))
            if messages:
                end = time.monotonic() + _AWAY_SECONDS
            elif time.monotonic() > end:
                raise SinkUnavailable(f"NATS at {self._where} does not answer any more: the events are not complete")
            for event in self._meant([message for message in messages if message.sequence <= self._last]):
                who = (event.namespace, event.name)
                latest.pop(who, None)
                latest[who] = event
        events = list(latest.values())
        size = chunk or max(1, len(events))
        for start in range(0, len(events), size):
            yield events[start : start + size]

    def follow(self) -> Iterator[Sequence[Event]]:
        """See `EventSource.follow`. It waits for servers that go away, and says so."""
        while True:
            events = self._meant(self._run(self._reader.read(_WAIT_SECONDS)))
            if not self._client.is_connected and not self._client.is_closed:
                self._notices.say("away", "NATS at %s does not answer; waiting for it", self._where)
            elif self._client.is_closed:  # nats-py has given up, for a reason such as credentials that are not good
                raise SinkUnavailable(f"NATS at {self._where}: {plain(self._client.last_error or EOFError('closed'))}")
            if events:
                yield events

    def _meant(self, messages: Sequence[Message]) -> list[Event]:
        events = []
        for message in messages:
            try:
                event = Event.from_core_v1(orjson.loads(message.data))
            except (ValueError, AttributeError, TypeError):
                self.unreadable += 1
                continue
            if self._selection.matches(event):
                events.append(event)
        return events

    def close(self) -> None:
        """Close the connection."""
        if self._loop.is_closed():
            return
        if hasattr(self, "_reader"):
            self._run(self._reader.close())
        if hasattr(self, "_client"):
            self._run(self._client.close())
        self._loop.close()
