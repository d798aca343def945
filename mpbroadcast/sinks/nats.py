"""`NATSSink`: events to a stream of NATS JetStream. Runs in: the process of the sink.

::

    engine: up to ``window`` events ──▶ publish, Nats-Msg-Id ──▶ stream ──▶ acknowledged: settled
            one of each object             ▲                          └──▶ no answer, no leader, connection lost
            at a time                      └── the same id once more ───────────┘

**Nothing is lost**: an event is settled when a majority of the stream's servers has it. **Nothing is stored twice**: a
repeat carries the same id (`jetstream.message_id`), and the stream knows those of its ``duplicate_window``. When an
answer was longer in coming than that, the last message of the object is looked at instead. **In order for each
object**: its next event is published when the one before it is acknowledged; what goes out side by side is about
different objects. So one object gets one event per round trip (1-3 ms), and thousands of objects fill the window.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from mpbroadcast.base.goquote import go_quote
from mpbroadcast.errors import SinkRejected, SinkUnavailable
from mpbroadcast.sinks.concurrent import ConcurrentHandler
from mpbroadcast.sinks.encoding import encoded
from mpbroadcast.sinks.jetstream import (
    DEFAULT_STREAM,
    DEFAULT_SUBJECT,
    Access,
    Subjects,
    check_stream,
    covers,
    message_id,
    plain,
)
from mpbroadcast.sinks.onebyone import OneByOne

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from mpbroadcast.event.model import Event

__all__ = ["NATSSink"]

_TICK_SECONDS: Final = 0.25
_ANSWER_SECONDS: Final = 2.0  # without an answer, after which a message is published again
_NO_LEADER_SECONDS: Final = 0.1  # before it is published again when the stream has no leader
_LOOK_AT_STREAM_SECONDS: Final = 2.0  # between two looks at whether there is a stream at all
_REQUEST_SECONDS: Final = 5.0  # for the answer to a question about the stream
_LEAST_SPOOL: Final = 1 << 20
_LARGEST_WINDOW: Final = 4096  # records that the engine keeps in memory
_TOO_LARGE_CODE: Final = 10054  # JetStream: "message size exceeds maximum allowed"
_NAME_IN_USE_CODE: Final = 10058  # JetStream: there is a stream of that name with another configuration
_SHARE_OF_WINDOW: Final = 0.8  # of the duplicate window, after which it is not relied on any more
_OLDEST: Final = 16384  # first tries that are remembered: more than can be under way
_ID: Final = "Nats-Msg-Id"
_NO_LEADER: Final = "no stream takes it: it has no leader now, or it is gone"
_NO_ANSWER: Final = "no acknowledgement"

_log: Final = logging.getLogger("mpbroadcast.sink")


class NATSSink(OneByOne):
    """Publishes events, as core/v1 JSON, to a JetStream stream; the stream is made if it is not there.

    Making a sink costs nothing: nats-py (extra ``nats``) is imported and a connection made at the first write. Servers
    that go away are replaced by others of the cluster. While nothing can be published, events wait in the ring, or in
    the spool. As an `EventSink` it belongs to one thread, and a call blocks for at most ``timeout``. Picklable.

    A log: it cannot change what it wrote. A patch publishes the whole event again.

    Args:
        servers: a URL such as ``nats://host:4222``, several, or several with commas between them.
        stream: its name.
        subject: made of these fields, each a token: ``namespace``, ``kind``, ``name`` (of the object), ``type``,
            ``reason``, ``component``. What NATS cannot have in a token is written as ``%XX``.
        window: events under way at a time, at most 4096. Beyond some hundreds nothing is gained near by: servers that
            are far away need more, as many as events a second times the seconds of a round trip.
        timeout: seconds for one event to be acknowledged, before it counts as a failed try.
        replicas: servers that keep each event, where the stream is made: 3 for a cluster that may lose one.
        storage: ``file`` or ``memory``, where the stream is made.
        max_age: seconds (or a timedelta) that the stream keeps events, where it is made; None for ever.
        max_bytes: how much it keeps, the oldest goes first; None for any size.
        duplicate_window: seconds for which the stream knows the ids of events, where it is made. Every id of that time
            takes about 100 bytes of the server's memory.
        spool: a directory for events that wait on disk while NATS is away; see `KubernetesSink`.
        spool_bytes: of the spool; beyond it events wait in the ring.
        spool_age: seconds (or a timedelta) after which an event in the spool is not worth delivering any more.
        options: how to connect: ``creds``, ``nkey``, ``token``, ``user``, ``password``, ``tls_ca``, ``tls_cert``,
            ``tls_key``, ``tls_first``, ``connect_timeout``; see `mpbroadcast.sinks.jetstream.Access`.

    Raises:
        ValueError: an option makes no sense; with one line that names it.
    """

    label = "nats"
    default_correlator = None
    """Every event is published: who reads the stream counts repeats, for all machines together."""
    requests_per_second: float | None = None

    def __init__(
        self,
        servers: str | Iterable[str],
        *,
        stream: str = DEFAULT_STREAM,
        subject: str = DEFAULT_SUBJECT,
        window: int = 512,
        timeout: float = 10.0,
        replicas: int = 1,
        storage: Literal["file", "memory"] = "file",
        max_age: float | timedelta | None = 24 * 3600,
        max_bytes: int | None = None,
        duplicate_window: float | timedelta = 120,
        spool: str | os.PathLike[str] | None = None,
        spool_bytes: int = 256 << 20,
        spool_age: float | timedelta = 24 * 3600,
        **options: Any,
    ) -> None:
        if storage not in {"file", "memory"}:
            raise ValueError(f"storage must be 'file' or 'memory', not {storage!r}")
        self.access = Access.of(servers, **options)
        self.stream = check_stream(stream)
        self.subjects = Subjects(subject)
        self.concurrency = _whole("window", window, 1, _LARGEST_WINDOW)
        self.timeout = _seconds("timeout", timeout)
        self.replicas = _whole("replicas", replicas, 1, 5)
        self.storage = storage
        self.max_age = None if max_age is None else _seconds("max_age", max_age)
        self.max_bytes = None if max_bytes is None else _whole("max_bytes", max_bytes, 1, 1 << 62)
        self.duplicate_window = _seconds("duplicate_window", duplicate_window)
        if self.max_age is not None and self.duplicate_window > self.max_age:
            raise ValueError("duplicate_window must not be longer than max_age")
        self.spool = None if spool is None else os.path.abspath(os.fspath(spool))  # noqa: PTH100
        self.spool_bytes = _whole("spool_bytes", spool_bytes, _LEAST_SPOOL, 1 << 62)
        self.spool_seconds = _seconds("spool_age", spool_age)

    def __repr__(self) -> str:
        return f"NATSSink({self.access.where!r}, stream={self.stream!r}, subject={self.subjects.template!r})"

    @staticmethod
    def make_handler(sink: NATSSink, **options: Any) -> ConcurrentHandler:
        """Make what drives this sink in its own process; options as for `mpbroadcast.sinks.handler.SinkHandler`."""
        return ConcurrentHandler(sink, **options)

    def check(self) -> None:
        """See in the application whether this can work; connects to nothing.

        Raises:
            MissingExtra, SinkError: with one line, when it cannot.
        """
        self.access.check("NATSSink")

    def connect(self) -> _Publisher:
        """Make a client for the event loop that runs. Does not block: it connects when it is used."""
        return _Publisher(self)


class _Publisher:
    """Publishes events over one connection and waits for the answers. Belongs to one event loop."""

    def __init__(self, sink: NATSSink) -> None:
        self._sink = sink
        self._loop: asyncio.AbstractEventLoop
        self._errors: tuple[type[Exception], ...] = ()  # that nats-py raises
        self._client: Client | None = None
        self._connecting: asyncio.Task[Client] | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._waiting: dict[int, tuple[asyncio.Future[str], float]] = {}  # number: answer, when it was asked for
        self._number = 0
        self._inbox = ""
        self._last_error = ""
        self._first_tries: dict[str, float] = {}  # id: loop time; of messages that may be stored, or not
        self._looked_at = 0.0
        self._window = sink.duplicate_window

    # What a handler calls

    async def create(self, event: Event) -> Event:
        """Publish an event."""
        try:
            body = encoded(event)
        except (ValueError, TypeError) as error:
            raise SinkRejected(f'Event "{event.name}" is invalid: {error}', code=422, reason="Invalid") from error
        await self._store(self._sink.subjects.of(event), body, message_id(event, body))
        return event

    async def patch(self, event: Event, patch: bytes) -> Event:  # noqa: ARG002 - the event says all
        """Publish the event as it is now."""
        return await self.create(event)

    async def close(self) -> None:
        """Close the connection."""
        for task in (self._ticker, self._connecting):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()

    # One message

    async def _store(self, subject: str, body: bytes, id_: str) -> None:
        """Publish until it is acknowledged, or the time is over."""
        deadline = 0.0
        if self._first_tries and await self._was_stored(subject, id_):
            return
        while True:
            client = self._client
            if client is None or not client.is_connected:
                client = await self._connected(deadline or asyncio.get_running_loop().time() + self._sink.timeout)
            self._number = number = self._number + 1
            answer = self._loop.create_future()
            asked = self._loop.time()
            deadline = deadline or asked + self._sink.timeout
            self._waiting[number] = answer, asked
            try:
                await client.publish(subject, body, reply=f"{self._inbox}{number}", headers={_ID: id_})
                problem = await answer
            except self._errors as error:
                problem = self._not_sent(error, body)
            finally:
                del self._waiting[number]
            if not problem:
                if self._first_tries:
                    self._first_tries.pop(id_, None)
                return
            self._first_tries.setdefault(id_, asked)
            if self._loop.time() >= deadline:
                break
            if problem == _NO_LEADER:
                await self._without_leader(client)
        while len(self._first_tries) > _OLDEST:
            del self._first_tries[next(iter(self._first_tries))]
        raise SinkUnavailable(f"NATS at {self._sink.access.where}: {problem}{self._because()}")

    def _not_sent(self, error: Exception, body: bytes) -> str:
        """Say why nats-py would not take a message; its client may have lost its connection just now."""
        from nats.errors import MaxPayloadError  # noqa: PLC0415

        if isinstance(error, MaxPayloadError):
            raise SinkRejected(f"the event has {len(body)} bytes, which the servers do not take", code=413) from None
        return plain(error)

    def _because(self) -> str:
        return f" ({self._last_error})" if self._last_error else ""

    async def _answered(self, message: Msg) -> None:
        waiting = self._waiting.get(int(message.subject.rpartition(".")[2]))
        if waiting is None or waiting[0].done():
            return
        if not message.data:  # status 503: nobody is subscribed to the subject
            waiting[0].set_result(_NO_LEADER)
            return
        answer = orjson.loads(message.data)
        error = answer.get("error")
        if error is None:
            self._last_error = ""
            waiting[0].set_result(self._misdirected(answer))
        elif error.get("err_code") == _TOO_LARGE_CODE:
            waiting[0].set_exception(SinkRejected(f"stream {self._sink.stream}: {error['description']}", code=413))
        else:
            # The servers may be helped, by room or by a leader; an event that is given up may not.
            waiting[0].set_result(str(error.get("description", error)))

    def _misdirected(self, answer: dict[str, Any]) -> str:
        stream = answer.get("stream")
        return (
            "" if stream == self._sink.stream else f"stream {stream} has taken what was meant for {self._sink.stream}"
        )

    async def _was_stored(self, subject: str, id_: str) -> bool:
        """Say whether an earlier try had been stored, where the stream may not know its id any more.

        The last message of the subject is that try, or else nobody knows: another machine may have written since.
        """
        first = self._first_tries.get(id_)
        if first is None or asyncio.get_running_loop().time() - first < self._window * _SHARE_OF_WINDOW:
            return False
        from nats import errors  # noqa: PLC0415

        try:
            client = await self._connected(asyncio.get_running_loop().time() + self._sink.timeout)
            last = await client.jetstream().get_last_msg(self._sink.stream, subject)
        except (errors.Error, OSError, TimeoutError):
            return False
        stored = (last.headers or {}).get(_ID) == id_
        if stored:
            del self._first_tries[id_]
        return stored

    # The connection

    async def _connected(self, deadline: float) -> Client:
        """Return a client that is connected; waits for one until the time is over."""
        loop = asyncio.get_running_loop()
        while self._client is None or not self._client.is_connected:
            left = max(0.0, deadline - loop.time())
            if self._client is not None and not self._client.is_closed:  # it is looking for another server by itself
                try:
                    await asyncio.wait_for(self._ready.wait(), left)
                except TimeoutError:
                    raise SinkUnavailable(
                        f"NATS at {self._sink.access.where}: not connected{self._because()}"
                    ) from None
                await asyncio.sleep(0)
                continue
            if self._connecting is None:
                self._connecting = loop.create_task(self._connect())
            connecting = self._connecting
            await asyncio.wait({connecting}, timeout=left)
            if not connecting.done():
                raise SinkUnavailable(f"NATS at {self._sink.access.where}: no connection within {self._sink.timeout} s")
            if self._connecting is connecting:
                self._connecting = None
            self._client = connecting.result()
        return self._client

    async def _connect(self) -> Client:
        self._ready.clear()
        self._loop = asyncio.get_running_loop()
        client = await self._sink.access.connect(
            "NATSSink",
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
        )
        from nats.errors import Error  # noqa: PLC0415 - loaded by the connection

        self._errors = (Error, OSError)
        try:
            inbox = client.new_inbox()
            await client.subscribe(f"{inbox}.*", cb=self._answered, pending_bytes_limit=0)
            self._inbox = f"{inbox}."
            await self._ensure_stream(client)
        except BaseException:
            await client.close()
            raise
        self._ready.set()
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().create_task(self._tick())
        return client

    async def _failed(self, error: Exception) -> None:
        self._last_error = plain(error)

    async def _disconnected(self) -> None:
        self._ready.clear()
        self._fail("the connection was lost")

    async def _reconnected(self) -> None:
        self._ready.set()
        self._last_error = ""

    def _fail(self, problem: str, asked_before: float = float("inf")) -> None:
        """Answer those that nobody else answers; they are in the order in which they were asked."""
        for answer, asked in list(self._waiting.values()):
            if asked > asked_before:
                break
            if not answer.done():
                answer.set_result(problem)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._fail(_NO_ANSWER, asyncio.get_running_loop().time() - _ANSWER_SECONDS)

    # The stream

    async def _without_leader(self, client: Client) -> None:
        """Wait a moment; now and then see whether the stream is there at all."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(_NO_LEADER_SECONDS)
        if loop.time() - self._looked_at > _LOOK_AT_STREAM_SECONDS:
            self._looked_at = loop.time()
            await self._ensure_stream(client)

    async def _ensure_stream(self, client: Client) -> None:
        """Make the stream if it is not there.

        Raises:
            SinkUnavailable: with one line: it cannot be made, or takes other subjects.
        """
        from nats import errors  # noqa: PLC0415
        from nats.js.errors import APIError, NotFoundError  # noqa: PLC0415

        sink, manager = self._sink, client.jetstream(timeout=min(_REQUEST_SECONDS, self._sink.timeout))
        try:
            try:
                info = await manager.stream_info(sink.stream)
            except NotFoundError:
                info = await manager.add_stream(
                    name=sink.stream,
                    subjects=[sink.subjects.wildcard],
                    num_replicas=sink.replicas,
                    storage=sink.storage,
                    max_age=sink.max_age,
                    max_bytes=sink.max_bytes,
                    duplicate_window=sink.duplicate_window,
                )
                _log.info("Stream %s was made: subjects=%s", sink.stream, sink.subjects.wildcard)
        except APIError as error:
            if error.err_code == _NAME_IN_USE_CODE:  # another sink has made it meanwhile
                return
            raise SinkUnavailable(f"stream {sink.stream}: {plain(error)}") from None
        except (errors.Error, TimeoutError):
            return  # no answer now: whoever publishes will see
        taken = info.config.subjects or []
        self._window = info.config.duplicate_window or self._window
        if not covers(taken, sink.subjects.wildcard):
            raise SinkUnavailable(
                f"stream {sink.stream} takes {go_quote(', '.join(taken))}, not {sink.subjects.wildcard!r}:"
                " give the sink another stream or subject"
            )


def _whole(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return value


def _seconds(name: str, value: Any) -> float:
    value = getattr(value, "total_seconds", lambda: value)()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}")
    return float(value)
