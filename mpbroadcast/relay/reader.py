"""Reads a stream from a position on: in order, each message once. Runs in: the relay, and ``mpbroadcast get``.

It uses an unnamed pull consumer that acknowledges nothing and lives as long as it is used. The consumer numbers what it
delivers: a gap, or silence, means that a server or a connection is gone; then a new consumer goes on behind the last
message that came.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.sinks.jetstream import plain

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = ["Message", "StreamReader", "stream_state"]

_BATCH: Final = 512
_EXPIRES_SECONDS: Final = 2.0  # of one request for messages
_SILENCE_SECONDS: Final = 2.0  # beyond that, after which the consumer is given up
_INACTIVE_SECONDS: Final = 30.0  # after which the servers forget a consumer that nobody asks
_AGAIN_SECONDS: Final = 0.2  # between two tries to make a consumer
_ACK_TOKENS: Final = 9  # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>
_STATUS: Final = "Status"
_ID: Final = "Nats-Msg-Id"
_NO_STREAM_CODE: Final = 10059


class Message(NamedTuple):
    """A message of a stream.

    Attributes:
        sequence: in the stream.
        subject: it was published to.
        id: its ``Nats-Msg-Id``; None if it has none.
        data: its body.
    """

    sequence: int
    subject: str
    id: str | None
    data: bytes


class StreamState(NamedTuple):
    """What a stream holds now: its first and last sequence number; and how many servers keep it."""

    first: int
    last: int
    replicas: int


async def stream_state(client: Client, stream: str) -> StreamState:
    """Ask what a stream holds.

    Raises:
        SinkUnavailable: with one line: there is no such stream, or no answer.
    """
    from nats import errors  # noqa: PLC0415 - loaded by the connection
    from nats.js.errors import NotFoundError  # noqa: PLC0415

    try:
        info = await client.jetstream().stream_info(stream)
    except NotFoundError:
        raise SinkUnavailable(f"there is no stream {stream}; a NATSSink makes it when it first publishes") from None
    except (errors.Error, OSError, TimeoutError) as error:
        raise SinkUnavailable(f"stream {stream}: {plain(error)}") from None
    return StreamState(info.state.first_seq, info.state.last_seq, info.config.num_replicas or 1)


class StreamReader:
    """Messages of one stream in order. Belongs to one event loop.

    Args:
        client: connected.
        stream: its name.
        after: the sequence number that is behind us.
        subject: only what was published to this; wildcards are fine.

    Attributes:
        seen: the sequence number of the last message that was read, or ``after``.
        caught_up: whether there was nothing behind it when the servers last said something.
    """

    def __init__(self, client: Client, stream: str, *, after: int = 0, subject: str = "") -> None:
        self._client = client
        self._stream = stream
        self._subject = subject
        self.seen = after
        self.caught_up = False
        self._consumer = ""
        self._consumed = 0  # the number of the last message of this consumer
        self._inbox = ""
        self._sub: Subscription | None = None
        self._queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._wanted = 0  # messages that were asked for and have not come
        self._heard = 0.0

    async def read(self, wait: float = 0.5) -> list[Message]:
        """Return the next messages, at most some hundred; none if none come in time.

        Raises:
            SinkUnavailable: there is no such stream any more.
        """
        loop = asyncio.get_running_loop()
        if not self._consumer and not await self._open():
            await asyncio.sleep(min(wait, _AGAIN_SECONDS))
            return []
        if self._wanted < _BATCH // 2:
            await self._ask()
        try:
            first = (
                self._queue.get_nowait() if not self._queue.empty() else await asyncio.wait_for(self._queue.get(), wait)
            )
        except TimeoutError:
            if loop.time() - self._heard > _EXPIRES_SECONDS + _SILENCE_SECONDS:
                await self._forget()
            return []
        self._heard = loop.time()
        found: list[Message] = []
        message: Msg | None = first
        while message is not None:
            if not await self._take(message, found):
                break
            full = len(found) >= _BATCH or self._queue.empty()
            message = None if full else self._queue.get_nowait()
        return found

    async def close(self) -> None:
        """Let go of the consumer. Never raises."""
        consumer = self._consumer
        await self._forget()
        if consumer and self._client.is_connected:
            with contextlib.suppress(Exception):  # it goes by itself
                await self._client.jetstream(timeout=1).delete_consumer(self._stream, consumer)

    async def _take(self, message: Msg, found: list[Message]) -> bool:
        """Put a message to the others; False if this consumer is of no use any more."""
        headers = message.headers
        status = headers.get(_STATUS) if headers and not message.data else None
        if status is not None:
            self._wanted = 0
            if status in {"404", "408"}:  # nothing there; the request is over
                self.caught_up = True
                return True
            await self._forget()  # deleted, its server lost, no responders
            return False
        tokens = message.reply.split(".")
        at = 5 if len(tokens) == _ACK_TOKENS else 7  # later servers put domain and account before the stream
        sequence, number = int(tokens[at]), int(tokens[at + 1])
        if number != self._consumed + 1:
            await self._forget()
            return False
        self._consumed = number
        self._wanted -= 1
        self.seen = sequence
        self.caught_up = tokens[at + 3] == "0"
        found.append(Message(sequence, message.subject, headers.get(_ID) if headers else None, message.data))
        return True

    async def _ask(self) -> None:
        more = _BATCH - max(0, self._wanted)
        request = orjson.dumps({"batch": more, "expires": int(_EXPIRES_SECONDS * 1e9)})
        from nats import errors  # noqa: PLC0415

        with contextlib.suppress(errors.Error, OSError):  # then it will be silent
            await self._client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}", request, reply=self._inbox
            )
            self._wanted = max(0, self._wanted) + more

    async def _open(self) -> bool:
        """Make a consumer behind what was seen; False if that cannot be done now."""
        from nats import errors  # noqa: PLC0415
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy  # noqa: PLC0415
        from nats.js.errors import APIError  # noqa: PLC0415

        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.seen + 1,
            ack_policy=AckPolicy.NONE,
            filter_subject=self._subject or None,
            inactive_threshold=_INACTIVE_SECONDS,
            num_replicas=1,
            mem_storage=True,
        )
        try:
            info = await self._client.jetstream(timeout=2).add_consumer(self._stream, config=config)
            self._inbox = self._client.new_inbox()
            self._queue = asyncio.Queue()
            queue = self._queue

            async def arrived(message: Msg) -> None:
                queue.put_nowait(message)

            self._sub = await self._client.subscribe(self._inbox, cb=arrived, pending_bytes_limit=0)
        except APIError as error:
            if error.err_code == _NO_STREAM_CODE:
                raise SinkUnavailable(f"there is no stream {self._stream} any more") from None
            return False
        except (errors.Error, OSError, TimeoutError):
            return False
        self._consumer = info.name
        self.caught_up = not info.num_pending
        self._consumed = self._wanted = 0
        self._heard = asyncio.get_running_loop().time()
        return True

    async def _forget(self) -> None:
        sub, self._sub = self._sub, None
        self._consumer = ""
        if sub is not None:
            with contextlib.suppress(Exception):  # the connection is gone, and the subscription with it
                await sub.unsubscribe()
