"""Where the API server is and how to prove who we are. Runs in: the process that connects, nowhere else.

::

    nothing, a path, a Configuration ──▶ official client ──▶ Configuration ──▶ Target: address, TLS, proxy
                                                                          └──▶ Access: the header, kept fresh

The official client reads kubeconfigs, runs plugins and renews tokens; it is imported here, when a connection is made:
it costs 0.65 s and 60 MiB. Everything of it that may block runs in a thread of its own, which ends with the call.
Tokens, keys and passwords are in no ``repr``, log line or error text of this module.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import ipaddress
import os
import shutil
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

from mpbroadcast.errors import SinkUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Access", "Target", "bypasses_proxy", "in_thread", "load_configuration", "make_target"]

HOOK_SECONDS: Final = 10.0
"""How often the refresh hook is asked. It looks at the expiry itself, five minutes ahead, and mostly does nothing."""

RELOAD_SECONDS: Final = 1.0
"""Between two forced renewals, so that a server that refuses everything does not run a plugin in a loop."""

_TOKEN_NAMES: Final = ("BearerToken", "authorization")  # the official client's key for it, before and since release 36
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to. Its ``repr`` shows neither headers nor the proxy's password.

    Attributes:
        url: of the server, with a path where it has one, without a slash at the end.
        tls: None for plain HTTP.
        server_name: what the certificate must say, where that is not the host of the URL.
        proxy: URL of an HTTP proxy.
        proxy_headers: for the proxy only.
    """

    url: str
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    proxy_headers: Mapping[str, str] | None = field(default=None, repr=False)


def one_line(error: BaseException) -> str:
    """Give the text of a foreign error as one line of a bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


async def in_thread(call: Callable[[], _T]) -> _T:
    """Run something that blocks in a thread that ends with it, so that an idle process has no other threads."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="mpbroadcast: blocking call", daemon=True).start()
    return await future


def load_configuration(config: Any = None, context: str | None = None) -> Any:
    """Make a configuration of the official client. Blocks: reads files, may run an exec plugin.

    Args:
        config: None for what the official client would take: ``$KUBECONFIG`` or ``~/.kube/config`` if it is there,
            else the service account of the pod. Or the path of a kubeconfig. Or a ``Configuration``, which is
            returned as it is.
        context: of the kubeconfig, instead of its current one.

    Raises:
        SinkUnavailable: with one line, when there is none or it cannot be read.
    """
    if config is not None and not isinstance(config, (str, os.PathLike)):
        return config
    # The keys in a kubeconfig are given to OpenSSL as files. The official client removes its files when Python ends,
    # which a killed process does not; these go as soon as they have been read.
    folder = tempfile.mkdtemp(prefix="mpbroadcast-")
    try:
        return _load(config, context, folder)
    except SinkUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - the official client raises what it likes
        raise SinkUnavailable(f"no connection to a cluster can be configured: {one_line(error)}") from None


def _load(config: Any, context: str | None, folder: str) -> Any:
    from kubernetes import client  # noqa: PLC0415 - see the top
    from kubernetes import config as loader  # noqa: PLC0415

    path = os.environ.get("KUBECONFIG") or "~/.kube/config" if config is None else os.fspath(config)
    found = [part for part in path.split(os.pathsep) if part and Path(part).expanduser().exists()]
    configuration = client.Configuration()
    configuration.mpbroadcast_folder = folder
    if found:
        loader.load_kube_config(
            config_file=path, context=context, client_configuration=configuration, temp_file_path=folder
        )
    elif config is not None:
        raise SinkUnavailable(f"there is no kubeconfig {path}")
    elif "KUBERNETES_SERVICE_HOST" in os.environ:
        loader.load_incluster_config(client_configuration=configuration)
    else:
        raise SinkUnavailable(f"there is no kubeconfig ({path}), and this process does not run in a cluster")
    return configuration


def _forget_files(folder: str | None) -> None:
    """Remove the key files that the official client made in our folder, also from its memory of made files."""
    if folder is None:
        return
    with contextlib.suppress(ImportError, AttributeError):
        from kubernetes.config import kube_config  # noqa: PLC0415

        made = kube_config._temp_files  # noqa: SLF001
        for content in [content for content, name in made.items() if str(name).startswith(folder)]:
            del made[content]
    shutil.rmtree(folder, ignore_errors=True)


def make_target(configuration: Any) -> Target:
    """Read out of a configuration where and how to connect. Blocks: reads certificate files.

    Raises:
        SinkUnavailable: with one line, when an address, a certificate, a key or a proxy cannot be used.
    """
    parts = urlsplit(str(configuration.host))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SinkUnavailable(f"the API server's address must be http:// or https:// and a host, not {parts.netloc!r}")
    url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    tls = _tls(configuration) if parts.scheme == "https" else None
    asserted = getattr(configuration, "assert_hostname", None)
    name = getattr(configuration, "tls_server_name", None) or (asserted if isinstance(asserted, str) else None)
    proxy = getattr(configuration, "proxy", None)
    if not proxy or bypasses_proxy(url, getattr(configuration, "no_proxy", None) or ""):
        return Target(url, tls, name)
    if urlsplit(str(proxy)).scheme not in {"http", "https"}:
        raise SinkUnavailable("the proxy must be http:// or https://; SOCKS proxies are not supported")
    headers = getattr(configuration, "proxy_headers", None)
    return Target(url, tls, name, str(proxy), dict(headers) if headers else None)


def _tls(configuration: Any) -> ssl.SSLContext:
    authorities, data = configuration.ssl_ca_cert, getattr(configuration, "ca_cert_data", None)
    try:
        context = ssl.create_default_context(cafile=authorities or None, cadata=data or None)
        # Go does not ask for these extensions, and clusters have authorities of before they were asked for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif getattr(configuration, "assert_hostname", None) is False:
            context.check_hostname = False
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = [name for name in (authorities, configuration.cert_file, configuration.key_file) if name]
        raise SinkUnavailable(f"the TLS files cannot be used ({one_line(error)}): {', '.join(files)}") from None
    return context


def bypasses_proxy(url: str, no_proxy: str) -> bool:
    """Say whether a URL is reached without the proxy: names with their subdomains, addresses, networks, or ``*``."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if not entry:
            continue
        if entry == "*":
            return True
        if address is not None:
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
        for name in (host, parts.netloc.lower()):
            if name == entry.lstrip(".") or name.endswith("." + entry.lstrip(".")):
                return True
    return False


class Access:
    """Target and credentials of one server, kept fresh. Belongs to one event loop.

    Args:
        config: as with `load_configuration`.
        context: likewise.
    """

    def __init__(self, config: Any = None, context: str | None = None) -> None:
        self._config = config
        self._context = context
        self._configuration: Any = None
        self._target: Target | None = None
        self._authorization = ""
        self._files: tuple[Any, ...] = ()
        self._asked_at = self._forced_at = float("-inf")
        self._lock: asyncio.Lock | None = None

    def __repr__(self) -> str:
        return f"<Access {self._target!r}>"

    async def current(self) -> tuple[Target, str]:
        """Give the target and the value of the ``Authorization`` header ("" for none), renewed when it is time.

        Does not block the loop. The target is the same object for as long as nothing about it has changed.

        Raises:
            SinkUnavailable: there is no usable configuration, or its credentials cannot be had.
        """
        if self._target is None or time.monotonic() - self._asked_at >= HOOK_SECONDS:
            async with self._single_flight():
                if self._target is None or time.monotonic() - self._asked_at >= HOOK_SECONDS:
                    await in_thread(self._renew)
        assert self._target is not None
        return self._target, self._authorization

    async def refused(self, authorization: str) -> bool:
        """Take note of a 401, and renew the credentials, even though they have not expired.

        Args:
            authorization: what was sent and refused.

        Returns:
            Whether there is something else to send now.

        Raises:
            SinkUnavailable: as with `current`.
        """
        async with self._single_flight():
            if self._authorization == authorization and time.monotonic() - self._forced_at >= RELOAD_SECONDS:
                self._forced_at = time.monotonic()
                await in_thread(lambda: self._renew(refused=authorization))
        return self._authorization != authorization

    def _single_flight(self) -> asyncio.Lock:
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    def _renew(self, refused: str | None = None) -> None:
        """Load, or ask the hook. Runs in a thread; blocks."""
        if self._configuration is None:
            self._configuration = load_configuration(self._config, self._context)
        try:
            self._ask_hook()
            # What was loaded here can be loaded again: a token file that was replaced, a plugin that must be asked.
            if refused is not None and self._authorization == refused and self._loaded_here:
                self._configuration = load_configuration(self._config, self._context)
                self._ask_hook()
            files = _signature(self._configuration)
            if self._target is not None and files != self._files and self._loaded_here:
                # A plugin gave another certificate; the authority's file has gone meanwhile.
                self._configuration = load_configuration(self._config, self._context)
                self._ask_hook()
                files = _signature(self._configuration)
            if self._target is None or files != self._files:
                self._target = make_target(self._configuration)
                self._files = files
        finally:
            _forget_files(getattr(self._configuration, "mpbroadcast_folder", None))
        self._asked_at = time.monotonic()

    @property
    def _loaded_here(self) -> bool:
        return self._config is None or isinstance(self._config, (str, os.PathLike))

    def _ask_hook(self) -> None:
        configuration = self._configuration
        hook = getattr(configuration, "refresh_api_key_hook", None)
        if hook is not None:
            try:
                result = hook(configuration)
                if inspect.isawaitable(result):
                    asyncio.run(_awaited(result))
            except Exception as error:  # noqa: BLE001 - a plugin may fail in any way
                raise SinkUnavailable(f"the credentials cannot be renewed: {type(error).__name__}") from None
        self._authorization = _authorization(configuration)


async def _awaited(result: Any) -> Any:
    return await result


def _authorization(configuration: Any) -> str:
    keys, prefixes = configuration.api_key or {}, configuration.api_key_prefix or {}
    for name in _TOKEN_NAMES:
        if keys.get(name):
            prefix = prefixes.get(name)
            value = f"{prefix} {keys[name]}" if prefix else str(keys[name])
            break
    else:
        if not configuration.username:
            return ""
        pair = f"{configuration.username}:{configuration.password or ''}"
        value = "Basic " + base64.b64encode(pair.encode()).decode()
    value = value.strip()  # a token file ends in a line break
    if not value.isascii() or not value.isprintable():
        raise SinkUnavailable("the token holds characters that no HTTP header can carry")
    return value


def _signature(configuration: Any) -> tuple[Any, ...]:
    """What a TLS context was made of: names of files, and their state, as they may be replaced under the same name."""
    names = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    folder = getattr(configuration, "mpbroadcast_folder", None)
    return (configuration.host, *names, *(_state(name, folder) for name in names))


def _state(name: str | None, folder: str | None) -> tuple[int, int] | None:
    if name is None or (folder is not None and str(name).startswith(folder)):
        return None
    try:
        state = Path(name).stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size
