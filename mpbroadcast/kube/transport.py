"""Requests and answers over kept connections. Runs in: the process that connects, on its event loop.

Two lanes, both aiohttp's. The *fast* one takes a connection (name resolution, proxy tunnel, TLS) and the answer's
parser from aiohttp, writes a head that was put together before, and keeps the connection for the next request: 30 us
for a request where ``ClientSession.request`` takes 75. The *plain* one is ``ClientSession.request``: for streams, for
plain HTTP through a proxy, and where this aiohttp has changed inside.

A request has one deadline for writing it, waiting, and reading the answer; another one holds for connecting. Answers
have a largest size. Redirects are not followed: the credentials are meant for this server only.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp import abc, hdrs
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.kube.config import Access, Target, in_thread, one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp.connector import Connection

__all__ = ["Answer", "Transport"]

_log: Final = logging.getLogger("mpbroadcast.sink")

LARGEST_ANSWER: Final = 4 << 20
"""Bytes. etcd keeps no object larger than 1.5 MiB."""

_IDLE_SECONDS: Final = 30.0
"""A connection that was idle longer is not used again: load balancers forget it without a word."""

_CLOSING_ROUNDS: Final = 3  # of the event loop, in which closed transports let go of their sockets
_WATCHDOG_SECONDS: Final = 0.25  # how late a deadline may be noticed
_USER_AGENT: Final = "mpbroadcast"
_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, asyncio.TimeoutError, OSError, EOFError)


class Answer(NamedTuple):
    """A whole answer. ``headers`` are found in any case of letters."""

    code: int
    headers: Mapping[str, str]
    body: bytes


class _Request(NamedTuple):
    method: str
    path: str
    body: bytes
    content_type: str


class _Resolver(abc.AbstractResolver):
    """Name resolution in a thread that ends with it; asyncio's own keeps its threads for ever."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
        infos = await in_thread(lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM))
        return [
            {
                "hostname": host,
                "host": str(address[0]),
                "port": port,
                "family": found,
                "proto": proto,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for found, _, proto, _, address in infos
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _Lane:
    """One kept connection."""

    __slots__ = ("connection", "deadline", "epoch", "timed_out", "used_at")

    def __init__(self, connection: Connection, epoch: int) -> None:
        self.connection = connection
        self.epoch = epoch
        self.deadline = 0.0
        self.used_at = 0.0
        self.timed_out = False

    @property
    def is_usable(self) -> bool:
        """Whether it is still open, and everything that was sent over it has been read."""
        protocol = self.connection.protocol
        return protocol is not None and protocol.is_connected() and not protocol.should_close


class Transport:
    """Sends requests to one server. Belongs to one event loop; any number of tasks of it.

    Args:
        access: where to, and with which credentials.
        connect_timeout: seconds for name resolution, TCP, proxy and TLS together.
        timeout: seconds for writing a request and reading its whole answer.
        largest_answer: bytes; a larger one counts as unreadable.
        fast: False to use the plain lane only.
    """

    def __init__(
        self,
        access: Access,
        *,
        connect_timeout: float = 10.0,
        timeout: float = 30.0,
        largest_answer: int = LARGEST_ANSWER,
        fast: bool = True,
    ) -> None:
        self._access = access
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._largest = largest_answer
        self._fast = fast
        self._session: aiohttp.ClientSession | None = None
        self._target: Target | None = None
        self._epoch = 0
        self._base_path = ""
        self._head: tuple[str, bytes] = ("", b"")
        self._free: list[_Lane] = []
        self._busy: set[_Lane] = set()
        self._watchdog: asyncio.TimerHandle | None = None

    async def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> Answer:
        """Send a request and read its answer; once more with new credentials when they are refused.

        Args:
            method: such as ``POST``.
            path: quoted already, with its query, beginning with a slash; the server's own path comes before it.
            body: the bytes to send.
            content_type: of the body.

        Raises:
            SinkUnavailable: no whole answer came; nobody knows whether the request was carried out.
        """
        target, authorization = await self._access.current()
        request = _Request(method, path, body, content_type)
        answer = await self._send(target, authorization, request)
        if answer.code == 401 and await self._access.refused(authorization):
            target, authorization = await self._access.current()
            answer = await self._send(target, authorization, request)
        return answer

    async def stream(self, path: str, *, silence: float) -> AsyncIterator[Answer | bytes]:
        """Send a GET; the answer's head comes first (with a body if it is no success), then its lines as they come.

        Args:
            path: as with `request`.
            silence: seconds without a byte after which the connection counts as lost.

        Raises:
            SinkUnavailable: the connection failed, or a line is too long.
        """
        target, authorization = await self._access.current()
        session = self._use(target)
        timeout = aiohttp.ClientTimeout(total=None, connect=self._connect_timeout, sock_read=silence)
        try:
            async with session.get(
                URL(target.url + path, encoded=True),
                headers=_headers(authorization),
                timeout=timeout,
                **self._connection_options(target),
            ) as response:
                if response.status != 200:
                    yield Answer(response.status, response.headers, await self._bounded(response.content))
                    return
                yield Answer(response.status, response.headers, b"")
                async for line in self._lines(response.content):
                    yield line
        except _FAILURES as error:
            failure = self._failure(error)
        else:
            return
        raise failure

    async def close(self) -> None:
        """Close all connections. May be called more than once."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        for lane in [*self._free, *self._busy]:
            if lane.connection.transport is not None:
                lane.connection.transport.abort()
            lane.connection.close()
        self._free.clear()
        self._busy.clear()
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()
            for _ in range(_CLOSING_ROUNDS):
                await asyncio.sleep(0)

    def _use(self, target: Target) -> aiohttp.ClientSession:
        """Connect to this target from now on; connections to another one are closed when they are given back."""
        if target is not self._target:
            self._target = target
            self._epoch += 1
            self._base_path = urlsplit(target.url).path
            self._head = ("", b"")
            self._drop_free()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=_Resolver()),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    def _drop_free(self) -> None:
        for lane in self._free:
            lane.connection.close()
        self._free.clear()

    async def _send(self, target: Target, authorization: str, request: _Request) -> Answer:
        if target is not self._target or self._session is None:
            self._use(target)
        assert self._session is not None
        try:
            if self._fast and not (target.proxy and target.tls is None):
                return await self._exchange(self._kept() or await self._new(target), authorization, request)
            content = {hdrs.CONTENT_TYPE: request.content_type} if request.body else {}
            async with self._session.request(
                request.method,
                URL(target.url + request.path, encoded=True),
                data=request.body or None,
                headers=_headers(authorization) | content,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout, connect=self._connect_timeout),
                **self._connection_options(target),
            ) as response:
                return Answer(response.status, response.headers, await self._bounded(response.content))
        except _FAILURES as error:
            failure = self._failure(error)
        raise failure

    @staticmethod
    def _connection_options(target: Target) -> dict[str, Any]:
        options: dict[str, Any] = {"ssl": True if target.tls is None else target.tls}
        if target.server_name:
            options["server_hostname"] = target.server_name
        if target.proxy:
            options["proxy"] = URL(target.proxy)
            if target.proxy_headers:
                options["proxy_headers"] = target.proxy_headers
        return options

    def _kept(self) -> _Lane | None:
        now = asyncio.get_running_loop().time()
        while self._free:
            lane = self._free.pop()
            if now - lane.used_at < _IDLE_SECONDS and lane.is_usable:
                return lane
            lane.connection.close()
        return None

    async def _new(self, target: Target) -> _Lane:
        session, epoch = self._session, self._epoch
        assert session is not None
        connector = session.connector
        assert connector is not None
        request = aiohttp.ClientRequest(
            "GET",
            URL(target.url),
            loop=asyncio.get_running_loop(),
            session=session,
            headers={},
            **self._connection_options(target),
        )
        timeout = aiohttp.ClientTimeout(connect=self._connect_timeout)
        return _Lane(await connector.connect(request, traces=[], timeout=timeout), epoch)

    async def _exchange(self, lane: _Lane, authorization: str, request: _Request) -> Answer:
        """Send a request over a connection of ours and read the answer; keeps the connection if it may be kept."""
        connection = lane.connection
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        loop = asyncio.get_running_loop()
        lane.deadline = loop.time() + self._timeout
        self._busy.add(lane)
        if self._watchdog is None:
            self._watchdog = loop.call_later(_WATCHDOG_SECONDS, self._look_at_deadlines)
        whole = False
        try:
            protocol.set_response_params(auto_decompress=False, read_until_eof=True)
            transport.write(self._bytes_of(request, authorization))
            message, payload = await protocol.read()
            while 100 <= message.code < 200:
                message, payload = await protocol.read()
            answer = Answer(message.code, message.headers, await self._bounded(payload))
            whole = not lane.timed_out
        except _FAILURES:
            if not lane.timed_out:
                raise
        finally:
            self._busy.discard(lane)
            if whole and lane.epoch == self._epoch and lane.is_usable and self._session is not None:
                lane.used_at = loop.time()
                self._free.append(lane)
            else:
                connection.close()
        if not whole:
            raise TimeoutError(f"no whole answer within {self._timeout:g} s")
        return answer

    def _bytes_of(self, request: _Request, authorization: str) -> bytes:
        start = f"{request.method} {self._base_path}{request.path} HTTP/1.1\r\nContent-Type: {request.content_type}\r\n"
        rest = self._rest_of_head(authorization)
        return b"%b%b%d\r\n\r\n%b" % (start.encode(), rest, len(request.body), request.body)

    def _rest_of_head(self, authorization: str) -> bytes:
        """The headers that are the same for every request."""
        if self._head[0] != authorization or not self._head[1]:
            assert self._target is not None
            lines = [f"Host: {urlsplit(self._target.url).netloc}"]
            lines += [f"{name}: {value}" for name, value in _headers(authorization).items()]
            self._head = (authorization, ("\r\n".join(lines) + "\r\nContent-Length: ").encode())
        return self._head[1]

    def _look_at_deadlines(self) -> None:
        """End requests that take too long. One timer for all of them: one for each would cost more than the request."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for lane in self._busy:
            if lane.deadline <= now:
                lane.timed_out = True
                transport = lane.connection.transport
                if transport is not None:
                    transport.abort()
        self._watchdog = loop.call_later(_WATCHDOG_SECONDS, self._look_at_deadlines) if self._busy else None

    async def _bounded(self, payload: aiohttp.StreamReader) -> bytes:
        whole = await payload.readany()
        if payload.at_eof():
            return whole
        chunks, size = [whole], len(whole)
        while chunk := await payload.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._largest:
                raise aiohttp.ClientPayloadError(f"the answer is larger than {self._largest} bytes")
        return b"".join(chunks)

    async def _lines(self, payload: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        rest = b""
        while chunk := await payload.readany():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
            if len(rest) > self._largest:
                raise aiohttp.ClientPayloadError(f"a line of the answer is larger than {self._largest} bytes")

    def _failure(self, error: BaseException) -> SinkUnavailable:
        """Say in one line what went wrong; to be raised when ``error`` is no longer being handled.

        No text of an aiohttp error holds a header, but the errors themselves do: they must not be the context.
        """
        where = "" if self._target is None else urlsplit(self._target.url).netloc
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return SinkUnavailable(f"{where} closed the connection without an answer")
        if isinstance(error, HttpProcessingError):
            return SinkUnavailable(f"{where} answered something that is no HTTP")
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return SinkUnavailable(f"the certificate of {where} is not accepted: {one_line(error.certificate_error)}")
        return SinkUnavailable(f"{where}: {one_line(error)}")


def _headers(authorization: str) -> dict[str, str]:
    headers = {hdrs.USER_AGENT: _USER_AGENT, hdrs.ACCEPT: "application/json"}
    if authorization:
        headers[hdrs.AUTHORIZATION] = authorization
    return {str(name): value for name, value in headers.items()}
