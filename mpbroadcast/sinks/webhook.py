"""`WebhookSink`: batches of events to any HTTP server. Runs in: the process of the sink."""

from __future__ import annotations

import asyncio
import os
import ssl
from hashlib import blake2b
from string import Template
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from mpbroadcast.errors import SinkError, SinkRejected, SinkUnavailable
from mpbroadcast.sinks.posting import PostingSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

    from mpbroadcast.event.model import Event

__all__ = ["WebhookSink"]

_BATCH: Final = 100
_LARGEST_BATCH: Final = 10_000
_SUCCESS: Final = range(200, 300)
_REDIRECTION: Final = range(300, 400)
_SERVER_ERROR: Final = 500
_COMES_BACK: Final = frozenset({408, 425, 429})  # request timeout, too early, too many requests

_VALUES: Final[Mapping[str, Callable[[Event], str]]] = {
    "namespace": lambda event: event.namespace,
    "event": lambda event: event.name,
    "kind": lambda event: event.involved_object.kind,
    "name": lambda event: event.involved_object.name,
    "type": lambda event: event.type,
    "reason": lambda event: event.reason,
    "action": lambda event: event.action,
    "message": lambda event: event.message,
    "component": lambda event: event.reporting_controller or event.source.component,
    "count": lambda event: str(event.count if event.series is None else event.series.count),
}


class WebhookSink(PostingSink):
    """Posts events as JSON: core/v1 objects in an array, or whatever a template makes of them.

    Making one costs nothing: aiohttp is imported and a connection made at the first write. An event is settled when the
    server has answered with 2xx. No connection, 408, 425, 429 and 5xx are tried again, not before ``Retry-After``; how
    often and for how long says the `RetryPolicy` of ``start_recording_to_sink``. Any other answer is final and counted;
    where a batch was refused its events are posted one by one, so that only the bad one is lost. Redirects are not
    followed.

    A batch may arrive again, whole or cut elsewhere, when an answer is lost or a process killed: tell events by their
    namespace, name and count, or requests by the header ``Idempotency-Key``, which is the same for the same body.

    Blocks for at most ``timeout``. Picklable; one thread without a running event loop may use it. The path of the URL,
    its user and its query, and the headers, may hold secrets: none of them is in a ``repr``, an error or a log line.

    Args:
        url: ``http://`` or ``https://``.
        batch: how many events to post at once at the most. With 1 the body is one event, not an array.
        template: JSON in which ``$message``, ``$reason``, ``$type``, ``$kind``, ``$name``, ``$namespace``, ``$action``,
            ``$component``, ``$count`` and ``$event`` (the event's name) stand for the texts of an event, inside of
            quotes; ``$$`` is a dollar sign. None for the event itself.
        lines: post one event a line (NDJSON) instead of an array.
        headers: more of them, such as ``{"Authorization": "Bearer ..."}``.
        tls_ca: path of the certificate authority's PEM; None for that of the system.
        connect_timeout: seconds for name resolution, TCP and TLS together.
        timeout: seconds for one request.

    Raises:
        ValueError: an option makes no sense; with one line that names it.
    """

    label = "webhook"
    default_correlator = None
    """Every event is posted; give a correlator to have repeats counted and spam left out."""

    def __init__(
        self,
        url: str,
        *,
        batch: int = _BATCH,
        template: str | None = None,
        lines: bool = False,
        headers: Mapping[str, str] | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        connect_timeout: float = 10.0,
        timeout: float = 30.0,
    ) -> None:
        self._host = _host_of(url)
        self._url = url
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= _LARGEST_BATCH:
            raise ValueError(f"batch must be a whole number from 1 to {_LARGEST_BATCH}, not {batch!r}")
        self.batch = batch
        self._template = None if template is None else _checked(template)
        self._lines = lines
        kind = "application/x-ndjson" if lines else "application/json"
        self._headers = {"Content-Type": kind, **_checked_headers(headers or {})}
        self._tls_ca = None if tls_ca is None else os.path.abspath(os.fspath(tls_ca))  # noqa: PTH100
        for name, value in (("connect_timeout", connect_timeout), ("timeout", timeout)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
                raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}")
        self._connect_timeout, self._timeout = connect_timeout, timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loop": None, "_session": None, "_gathered": None}

    def __repr__(self) -> str:
        return f"WebhookSink({self._host!r}, batch={self.batch})"

    def check(self) -> None:
        """See in the application whether this can work; connects to nothing.

        Raises:
            SinkError: the file of ``tls_ca`` cannot be used.
        """
        self._tls()

    def encode(self, event: Event) -> bytes:
        """Turn an event into JSON."""
        try:
            if self._template is None:
                return orjson.dumps(event.to_core_v1())
            values = {name: _inside_quotes(_VALUES[name](event)) for name in self._template.get_identifiers()}
            return self._template.substitute(values).encode()
        except (ValueError, TypeError) as error:
            raise SinkRejected(f'Event "{event.name}" is invalid: {error}', code=422, reason="Invalid") from error

    def post(self, items: list[Any]) -> None:
        """Post encoded events."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._post(self._body(items)))

    def _body(self, items: list[bytes]) -> bytes:
        if self._lines:
            return b"".join(item + b"\n" for item in items)
        return items[0] if self.batch == 1 else b"[" + b",".join(items) + b"]"

    async def _post(self, body: bytes) -> None:
        import aiohttp  # noqa: PLC0415 - 0.1 s, for those who post

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=self._connect_timeout)
            connector = aiohttp.TCPConnector(ssl=self._tls())
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True)
        headers = self._headers | {"Idempotency-Key": blake2b(body, digest_size=16).hexdigest()}
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                self._judge(answer.status, answer.reason or "", answer.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise SinkUnavailable(f"webhook {self._host}: {_plain(error)}") from None

    def _judge(self, status: int, reason: str, retry_after: str | None) -> None:
        if status in _SUCCESS:
            return
        text = f"webhook {self._host}: {status} {reason}".rstrip()
        if status in _COMES_BACK or status >= _SERVER_ERROR:
            from mpbroadcast.kube.status import parse_retry_after  # noqa: PLC0415

            raise SinkUnavailable(text, code=status, retry_after=parse_retry_after(retry_after))
        if status in _REDIRECTION:
            text += " (redirects are not followed; give the sink the other URL)"
        raise SinkRejected(text, code=status)

    def close(self) -> None:
        """Close the connection. May be called more than once."""
        session, self._session = self._session, None
        loop, self._loop = self._loop, None
        if loop is not None:
            if session is not None:
                loop.run_until_complete(session.close())
            loop.close()

    def _tls(self) -> ssl.SSLContext | bool:
        if self._tls_ca is None:
            return True
        try:
            return ssl.create_default_context(cafile=self._tls_ca)
        except (OSError, ssl.SSLError) as error:
            raise SinkError(f"tls_ca {self._tls_ca}: {(error.strerror or str(error)).lower()}") from None


def _host_of(url: object) -> str:
    """Return scheme and host of a URL: what of it may be shown."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        if parts.scheme in {"http", "https"} and parts.hostname:
            return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        pass
    raise ValueError("url must be an http:// or https:// URL")


def _checked(template: str) -> Template:
    """Read a template.

    Raises:
        ValueError: it has names that an event does not have, or makes no JSON.
    """
    read = Template(template)
    unknown = [name for name in read.get_identifiers() if name not in _VALUES]
    if unknown or not read.is_valid():
        shown = f"${unknown[0]}" if unknown else "a single $"
        raise ValueError(f"template must not have {shown}; there are {', '.join(f'${name}' for name in _VALUES)}")
    try:
        orjson.loads(read.substitute(dict.fromkeys(_VALUES, "1")))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"template must be JSON: {error}") from None
    return read


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str) or not name or not (name + value).isprintable():
            raise ValueError(f"headers must have texts of one line; that of {name!r} is something else")
    return dict(headers)


def _inside_quotes(text: str) -> str:
    """Return a text as it stands inside of the quotes of a JSON string."""
    return orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1].decode()


def _plain(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    cause = getattr(error, "os_error", error)
    return str(getattr(cause, "strerror", None) or type(error).__name__).lower()
