"""``mpbroadcast serve``: listening, signals, shutting down. Runs in: the process that calls `run`.

Needs the extra ``serve``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
import ssl
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.apiserver.certificate import make_certificate
from mpbroadcast.apiserver.kubeconfig import write_kubeconfig
from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.errors import MissingExtra, ServeError
from mpbroadcast.event.table import human_duration

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    from mpbroadcast.apiserver.app import Edge
    from mpbroadcast.apiserver.backend import Backend
    from mpbroadcast.apiserver.routes import Api
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"uvicorn", "starlette", "h11"}:
        raise
    raise MissingExtra("mpbroadcast serve", "serve") from None

if TYPE_CHECKING:
    import asyncio
    import os
    from collections.abc import Callable, Iterator, Sequence

    from mpbroadcast.base.clock import Clock

__all__ = ["DEFAULT_PORT", "ServeOptions", "Server", "run", "write_kubeconfig"]

DEFAULT_PORT: Final = 8089
"""Where the server listens if it is not told otherwise."""

_TTL_LIMIT: Final = 10**9  # seconds, some 30 years; as nanoseconds it still fits into 64 bits
_CONNECTIONS: Final = 1000  # at a time; more are answered 503
_FIRST_REQUEST_SECONDS: Final = 20.0  # in which a new connection must have sent a request's head
_KEEP_ALIVE_SECONDS: Final = 60  # between two requests; a sink that pauses does not connect anew each time
_SHUTDOWN_SECONDS: Final = 5  # for the requests that are under way
_HEAD_LIMIT: Final = 64 * 1024  # bytes of a request's line and headers


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What to serve, and to whom.

    Attributes:
        store: the file, created if missing; None for one that is gone when the server stops.
        host: name or address to listen on. Anything but this machine's loopback needs a token.
        port: to listen on; 0 for a free one.
        ttl: seconds after the last write at which an event is deleted, as a cluster does after an hour; 0 for never.
        token: that every request must carry (but for health probes); None for none.
        tls: whether to serve https.
        certificate: path of the server's certificate, PEM; None for a self-signed one made now.
        key: path of the certificate's key.
        kubeconfig: path of a kubeconfig to write; None for none.
        namespaces: the only ones, besides ``default`` and ``kube-system``, that events may be created in; None for any.
        clock: for creation times and ages.
    """

    store: str | os.PathLike[str] | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    ttl: float = 3600.0
    token: str | None = field(default=None, repr=False)
    tls: bool = False
    certificate: str | None = None
    key: str | None = None
    kubeconfig: str | os.PathLike[str] | None = None
    namespaces: tuple[str, ...] | None = None
    clock: Clock = SYSTEM_CLOCK

    def __post_init__(self) -> None:
        """Refuse what does not go together.

        Raises:
            ServeError: with one line.
        """
        if not 0 <= self.ttl <= _TTL_LIMIT:
            raise ServeError(f"the TTL is a number of seconds up to {_TTL_LIMIT}; 0 keeps events for ever")
        if not 0 <= self.port <= 65535:
            raise ServeError(f"there is no port {self.port}; a port is a number up to 65535, 0 for any free one")
        if self.token is not None and (not self.token or not self.token.isascii() or not self.token.isprintable()):
            raise ServeError("the token is empty, or holds something else than printable ASCII characters")
        if self.token is None and not is_loopback(self.host):
            raise ServeError(
                f"without a token, everybody who reaches {self.host} could read and write events; "
                "set a token, or listen on 127.0.0.1"
            )
        if (self.certificate is None) != (self.key is None):
            raise ServeError("a certificate and its key come together; one of them is missing")
        if self.certificate is not None and not self.tls:
            raise ServeError("a certificate is used with TLS only; ask for TLS as well")


def is_loopback(host: str) -> bool:
    """Tell whether a host can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Protocol(H11Protocol):
    """uvicorn's protocol, with a limit on how long a new connection may say nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_FIRST_REQUEST_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        cycle: object = self.cycle  # uvicorn's annotation denies that it is None before the first request
        if cycle is None and not self.transport.is_closing():
            self.transport.close()


class _UvicornServer(uvicorn.Server):
    """uvicorn's server, which tells when it is ready, ends its watches at shutdown, and returns after a signal."""

    def __init__(self, config: uvicorn.Config, backend: Backend, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._backend = backend
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._backend.start()
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._backend.stop_listeners()
        await super().shutdown(sockets)
        await self._backend.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM. Unlike uvicorn's own, this does not raise the signal again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Server:
    """The API server over one store. Opens store and port at once, serves in `run`.

    Args:
        options: what to serve.

    Attributes:
        url: where it listens.

    Raises:
        ServeError: with one line: the port is taken, a file cannot be read or written, there is no openssl.
        StoreError: with one line, the store cannot be opened.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="mpbroadcast-serve-"))  # mode 0700
            certificate, tls = self._tls(directory)
            self._socket = stack.enter_context(_listen(options.host, options.port))
            store = options.store if options.store is not None else Path(directory) / "events.db"
            ttl_ns = round(options.ttl * 10**9) or None
            backend = Backend(store, clock=options.clock, ttl_ns=ttl_ns)
            self._backend = backend
            stack.callback(backend.close_files)
            address = _address(self._socket)
            self.url = f"{'https' if options.tls else 'http'}://{address}"
            if options.kubeconfig is not None:
                write_kubeconfig(options.kubeconfig, self.url, options.token, certificate)
            api = Api(backend, clock=options.clock, namespaces=options.namespaces, address=address)
            edge = Edge(api.application(), token=options.token, loopback=is_loopback(options.host))
            self._server = _UvicornServer(_config(edge, tls), backend, self._announce)
            self._stack = stack.pop_all()
        self._ready: Callable[[str], None] = lambda _: None

    @property
    def watches(self) -> int:
        """How many clients are watching right now; from any thread."""
        return self._backend.listeners

    def _tls(self, directory: str) -> tuple[bytes | None, ssl.SSLContext | None]:
        options = self._options
        if not options.tls:
            return None, None
        certificate, key = options.certificate, options.key
        if certificate is None or key is None:
            certificate, key = make_certificate(directory, options.host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(certificate, key, password="")  # else a key with a password would ask the terminal
            return Path(certificate).read_bytes(), context
        except (OSError, ssl.SSLError) as error:
            why = error.strerror or str(error)
            raise ServeError(f"the certificate {certificate} with the key {key} cannot be used: {why}") from None

    def _announce(self) -> None:
        self._ready(self.url)

    def run(self, ready: Callable[[str], None] = lambda _: None) -> None:
        """Serve until `stop`, or SIGINT or SIGTERM where this is the main thread; then end watches and requests.

        Args:
            ready: called with the URL as soon as requests are answered.
        """
        self._ready = ready
        with self._stack:
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Ask `run` to return; from any thread, returns at once."""
        self._server.should_exit = True


def run(options: ServeOptions, out: Callable[[str], None] = print) -> None:
    """Serve until SIGINT or SIGTERM, and say where.

    Raises:
        ServeError: see `Server`.
        StoreError: see `Server`.
    """
    server = Server(options)

    def ready(url: str) -> None:
        for line in _greeting(options, url):
            out(line)

    server.run(ready)


def _greeting(options: ServeOptions, url: str) -> Sequence[str]:
    where = "a store that is gone afterwards" if options.store is None else str(options.store)
    kept = (
        f"each until {human_duration(round(options.ttl * 10**9))} after its last change"
        if options.ttl
        else "kept for ever"
    )
    lines = [f"Serving Events at {url} from {where}, {kept}"]
    if options.kubeconfig is not None:
        lines.append(f"kubectl --kubeconfig {options.kubeconfig} get events -A")
        if options.token is not None and not options.tls:
            lines.append("kubectl sends a token over https only: ask for TLS, or kubectl will be refused")
    return lines


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OverflowError:
        raise ServeError(f"there is no port {port}") from None
    except OSError as error:
        hint = "; another port may be free, 0 takes any" if port else ""
        raise ServeError(f"cannot listen on {host}, port {port}: {error.strerror or error}{hint}") from None
    # Connections inherit it. asyncio sets it only where the socket names its protocol, which `create_server` does not
    # do; and without it an answer, written as head and body, waits 40 ms for the client's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _address(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    address = ipaddress.ip_address(host)
    if address.is_unspecified:  # listens everywhere; a client has to name one place
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _config(app: Any, tls: ssl.SSLContext | None) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=_HEAD_LIMIT,
    )
    config.load()
    config.ssl = tls
    # What uvicorn has to say is about clients that break off or send no HTTP.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return config
