"""What every user of NATS JetStream here shares: how to connect, what a subject is made of, what a message is called.

Runs in: the process of the sink, the relay, the command. Nothing of nats-py is imported before a connection is made.
"""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from importlib.util import find_spec
from string import Formatter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mpbroadcast.errors import MissingExtra, SinkError, SinkUnavailable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping

    from nats.aio.client import Client

    from mpbroadcast.event.model import Event

__all__ = [
    "DEFAULT_STREAM",
    "DEFAULT_SUBJECT",
    "Access",
    "Subjects",
    "check_stream",
    "covers",
    "escaped",
    "hash_of_id",
    "message_id",
    "object_hash",
    "plain",
]

DEFAULT_STREAM: Final = "EVENTS"
DEFAULT_SUBJECT: Final = "events.{namespace}.{kind}.{name}"

_EXTRA: Final = "nats"
_SCHEMES: Final = frozenset({"nats", "tls", "ws", "wss"})
_DEFAULT_PORT: Final = 4222
_TOKEN_BYTES: Final = 160  # of one part of a subject: a server reads 4096 bytes of subject and reply at the most
_RECONNECT_SECONDS: Final = 0.2  # between two tries to connect: nats-py goes round all servers, one after another

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_=/+:@~-]")
_STREAM: Final = re.compile(r"[A-Za-z0-9_-]+")
_LITERAL: Final = re.compile(r"[A-Za-z0-9_.-]*")
_ID: Final = re.compile(r"([0-9a-f]{8})-[0-9a-f]{24}")


def escaped(text: str) -> str:
    """Make one token of a subject out of any text: what NATS gives a meaning to, or cannot carry, becomes ``%XX``.

    Different texts give different tokens, so that no object can pass for another. An empty text is ``_``; a very long
    one keeps its beginning and ends in a digest.
    """
    if text in {"", "_"}:
        return "%5F" if text else "_"
    token = _UNSAFE.sub(_percent, text)
    if len(token) > _TOKEN_BYTES:
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        return f"{token[: _TOKEN_BYTES - 26]}%~{digest}"
    return token


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


class Subjects:
    """A template of subjects, such as ``events.{namespace}.{kind}.{name}``. Immutable, picklable.

    ``namespace`` is the event's, ``kind`` and ``name`` are the object's; there are also ``type``, ``reason`` and
    ``component``. Each field is a whole token.

    Args:
        template: dots between its tokens; the first token is plain text.

    Attributes:
        wildcard: what a stream subscribes to, to get all of them.

    Raises:
        ValueError: with one line that says what is wrong with the template.
    """

    def __init__(self, template: str = DEFAULT_SUBJECT) -> None:
        self.template = template
        self._fields: list[str] = []
        tokens = template.split(".") if isinstance(template, str) else []
        for token in tokens:
            self._fields.append(_field_of(token, template))
        if not tokens or self._fields[0]:
            raise ValueError(f"subject must begin with a plain word, such as 'events.{{namespace}}', not {template!r}")
        self.wildcard = ".".join("*" if name else token for name, token in zip(self._fields, tokens, strict=True))
        self._named = [name for name in self._fields if name]
        self._pattern = ".".join("{}" if name else token for name, token in zip(self._fields, tokens, strict=True))

    def of(self, event: Event) -> str:
        """Return the subject of an event. 0.5 us for an object that was asked for lately."""
        values = _VALUES
        return _subject(self._pattern, *[values[name](event) for name in self._named])

    def __repr__(self) -> str:
        return f"Subjects({self.template!r})"


_VALUES: Final[Mapping[str, Callable[[Event], str]]] = {
    "namespace": lambda event: event.namespace,
    "kind": lambda event: event.involved_object.kind,
    "name": lambda event: event.involved_object.name,
    "type": lambda event: event.type,
    "reason": lambda event: event.reason,
    "component": lambda event: event.reporting_controller or event.source.component,
}


def _field_of(token: str, template: str) -> str:
    """Return the name of the field that a token is; empty for plain text."""
    try:
        parts = list(Formatter().parse(token))
    except ValueError as error:
        raise ValueError(f"subject {template!r}: {error}") from None
    if not parts:
        raise ValueError(f"subject {template!r} has an empty token")
    literal, name, spec, conversion = parts[0]
    if name is None:
        if not literal or not _LITERAL.fullmatch(literal):
            raise ValueError(f"subject {template!r}: {token!r} may have letters, digits, '-' and '_' only")
        return ""
    if literal or spec or conversion or len(parts) > 1 or name not in _VALUES:
        raise ValueError(f"subject {template!r}: {token!r} must be one of {', '.join(f'{{{key}}}' for key in _VALUES)}")
    return name


@lru_cache(maxsize=8192)
def _subject(pattern: str, *values: str) -> str:
    return pattern.format(*[escaped(value) for value in values])


def covers(filters: Iterable[str], subject: str) -> bool:
    """Say whether a stream with these subjects takes everything that a subject with wildcards stands for."""
    return any(_covers(one.split("."), subject.split(".")) for one in filters)


def _covers(tokens: list[str], wanted: list[str]) -> bool:
    for position, part in enumerate(tokens):
        if part == ">":
            return len(wanted) > position
        if position >= len(wanted) or part not in {"*", wanted[position]}:
            return False
    return len(tokens) == len(wanted)


@lru_cache(maxsize=8192)
def object_hash(namespace: str, kind: str, name: str) -> int:
    """Return 32 bits that all events about one object have in common, in every process and release."""
    return zlib.crc32(f"{namespace}\x00{kind}\x00{name}".encode("utf-8", "surrogatepass"))


def message_id(event: Event, body: bytes) -> str:
    """Return the ``Nats-Msg-Id`` of a write: the same for a repeat of this very write, and for nothing else.

    It is made from the content, which holds the namespace, name and count of the event: a record that is read from a
    ring again, by whichever process, gives the same bytes. Two machines that happen to name two events alike (W23) say
    different things in them. The object comes first, so that a relay need not look into the message to know it.
    """
    reference = event.involved_object
    about = object_hash(event.namespace, reference.kind, reference.name)
    return f"{about:08x}-{blake2b(body, digest_size=12).hexdigest()}"


def hash_of_id(text: str | None) -> int | None:
    """Return the `object_hash` that a message id begins with; None if this package did not make it."""
    match = _ID.fullmatch(text) if text else None
    return int(match[1], 16) if match else None


def check_stream(name: object) -> str:
    """Return the name of a stream.

    Raises:
        ValueError: NATS takes no such name.
    """
    if not isinstance(name, str) or not _STREAM.fullmatch(name):
        raise ValueError(f"stream must have letters, digits, '-' and '_' only, not {name!r}")
    return name


def _file(value: str | os.PathLike[str] | None) -> str | None:
    return None if value is None else os.path.abspath(os.path.expanduser(os.fspath(value)))  # noqa: PTH100, PTH111


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How to reach NATS. Immutable, picklable; what is secret in it is in no ``repr`` and in no error.

    Attributes:
        servers: URLs such as ``nats://host:4222`` or ``tls://host``; one is enough, the others of a cluster are learnt.
        creds: path of a credentials file (JWT and seed).
        nkey: path of a file with an NKey seed.
        token: of token authentication.
        user: of password authentication.
        password: of the user.
        tls_ca: path of the certificate authority's PEM; None for that of the system.
        tls_cert: path of the client's certificate.
        tls_key: path of its key.
        tls_first: whether the server expects TLS before it says anything.
        connect_timeout: seconds for one server.
    """

    servers: tuple[str, ...]
    creds: str | None = None
    nkey: str | None = None
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_first: bool = False
    connect_timeout: float = 5.0

    @classmethod
    def of(cls, servers: str | Iterable[str], **options: Any) -> Access:
        """Make one from what a user gives.

        Raises:
            ValueError: with one line that names the option; never with what is secret in it.
        """
        urls = tuple(part.strip() for part in servers.split(",")) if isinstance(servers, str) else tuple(servers)
        if not urls:
            raise ValueError("servers must name at least one server, such as 'nats://127.0.0.1:4222'")
        for url in urls:
            _check_url(url)
        for name in ("creds", "nkey", "tls_ca", "tls_cert", "tls_key"):
            options[name] = _file(options.get(name))
        if (options["tls_cert"] is None) != (options["tls_key"] is None):
            raise ValueError("tls_cert and tls_key go together")
        timeout = options.get("connect_timeout", 5.0)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e9:
            raise ValueError(f"connect_timeout must be a number above 0, not {timeout!r}")
        return cls(servers=urls, **options)

    @property
    def where(self) -> str:
        """The servers, without what is secret in their URLs."""
        return ",".join(_without_secrets(url) for url in self.servers)

    def __repr__(self) -> str:
        return f"Access({self.where!r})"

    def check(self, what: str) -> None:
        """Say in one line why this cannot work, as far as that can be known without a connection.

        Raises:
            MissingExtra: nats-py, or for credentials nkeys, is not installed.
            SinkError: a file cannot be read.
        """
        if find_spec("nats") is None or ((self.creds or self.nkey) and find_spec("nkeys") is None):
            raise MissingExtra(what, _EXTRA)
        for name in ("creds", "nkey", "tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path is not None and not os.access(path, os.R_OK):
                raise SinkError(f"{name} {path}: the file is not there or cannot be read")

    async def connect(self, what: str, *, forever: bool = True, **options: Any) -> Client:
        """Connect to one of the servers; the client goes to another one by itself when that is lost.

        Args:
            what: who connects, as the user would say it.
            forever: whether it goes on trying when it was connected once.
            options: for nats-py, such as its callbacks.

        Raises:
            SinkUnavailable: with one line: no server can be reached, or it refuses.
            SinkError, MissingExtra: as `check`.
        """
        self.check(what)
        import nats.errors  # noqa: PLC0415 - an extra, and 60 ms
        from nats.aio.client import Client  # noqa: PLC0415

        client = Client()
        reason: Exception | None = None
        tell = options.pop("error_cb", None)

        async def failed(error: Exception) -> None:
            nonlocal reason
            # What a server says tells more than how the connection ended after that.
            if reason is None or not isinstance(reason, nats.errors.Error) or isinstance(error, nats.errors.Error):
                reason = error
            if tell is not None:
                await tell(error)

        given: dict[str, Any] = {
            "servers": list(self.servers),
            "name": f"mpbroadcast {what}",
            "error_cb": failed,
            "connect_timeout": self.connect_timeout,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": _RECONNECT_SECONDS,
            "ping_interval": 5,  # seconds: a server that is stopped, not killed, closes no connection
            "user_credentials": self.creds,
            "nkeys_seed": self.nkey,
            "token": self.token,
            "user": self.user,
            "password": self.password,
            "tls": self._tls(),
            "tls_handshake_first": self.tls_first,
        }
        try:
            await client.connect(**(given | options))
        except (OSError, ValueError, nats.errors.Error, TimeoutError) as error:
            await client.close()
            raise SinkUnavailable(f"NATS at {self.where}: {plain(reason or error)}") from None
        if forever:
            client.options["max_reconnect_attempts"] = -1
        return client

    def _tls(self) -> ssl.SSLContext | None:
        if not (self.tls_ca or self.tls_cert or any(url.startswith(("tls:", "wss:")) for url in self.servers)):
            return None
        import ssl  # noqa: PLC0415 - 20 ms, for those who have it

        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_cert is not None:
                context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise SinkError(f"TLS for NATS at {self.where}: {plain(error)}") from None
        return context


def _check_url(url: object) -> None:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        good = parts.scheme in _SCHEMES and bool(parts.hostname) and (parts.port or _DEFAULT_PORT) > 0
    except ValueError:
        good = False
    if not good:
        shown = _without_secrets(url) if isinstance(url, str) else type(url).__name__
        raise ValueError(f"servers must be URLs such as 'nats://127.0.0.1:4222', not {shown!r}")


def _without_secrets(url: str) -> str:
    """Take user, password and token out of a URL."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url.rpartition("@")[2]


def plain(error: BaseException) -> str:
    """Say what is wrong in one line, in small letters, without what nats-py puts around it."""
    strerror = getattr(error, "strerror", None)
    description = getattr(error, "description", None)
    text = strerror or description or str(error) or type(error).__name__
    return " ".join(str(text).removeprefix("nats: ").split()).strip("'")
