"""`KubernetesSink`: events to the API server of a cluster. Runs in: the process of the sink.

Making a sink costs nothing: neither the official client nor aiohttp is imported and nothing is connected before the
first write. Used as any sink, it makes one request at a time; in its own process (`make_handler`) it makes many.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from mpbroadcast.base.goquote import go_quote
from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.correlator.patch import series_patch
from mpbroadcast.correlator.series import SeriesCorrelator
from mpbroadcast.errors import SinkError
from mpbroadcast.event.parts import EventSeries
from mpbroadcast.event.shapes import EVENTS_V1
from mpbroadcast.sinks.concurrent import ConcurrentHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import timedelta

    from mpbroadcast.correlator.decision import Correlator
    from mpbroadcast.event.model import Event
    from mpbroadcast.kube.client import EventsClient
    from mpbroadcast.sinks.write import Write

__all__ = ["KubernetesSink"]

_APIS: Final = ("v1", "events.k8s.io/v1")
_LEAST_SPOOL: Final = 1 << 20
_T = TypeVar("_T")

_log: Final = logging.getLogger("mpbroadcast.sink")


class KubernetesSink:
    """Posts events to a Kubernetes API server.

    Tokens are renewed by the official client, in a thread, when they expire and after a 401. Names that are taken,
    events that are gone, an API that is away: see `mpbroadcast.sinks.write` and `mpbroadcast.sinks.concurrent`. The
    rules that the service account needs are printed by ``mpbroadcast rbac``.

    As an `EventSink` it belongs to one thread without a running event loop; each call blocks for at most
    ``connect_timeout`` and ``timeout``. It is picklable if its ``config`` is: only the options are kept.

    Args:
        config: None for what the official client would take (``$KUBECONFIG``, ``~/.kube/config``, or the service
            account of the pod), the path of a kubeconfig, or a ``kubernetes.client.Configuration``. It is read when the
            sink's process connects.
        context: of the kubeconfig, instead of its current one.
        api: which of the two shapes to write. ``events.k8s.io/v1`` has limits: texts are cut to them and counted, and
            repeats become a series.
        concurrency: requests under way at a time.
        requests_per_second: the most to send; None for as many as the server takes.
        spool: a directory for events that wait on disk while the server is away: in order, until the next start if need
            be. Its parent must exist. Each sink needs its own.
        spool_bytes: of the spool; beyond it events wait in the ring.
        spool_age: seconds (or a timedelta) after which an event in the spool is not worth delivering any more.
        connect_timeout: seconds for name resolution, TCP, proxy and TLS together.
        timeout: seconds for sending one request and reading its whole answer.

    Attributes:
        cut_texts: how many texts were cut to the server's limits.

    Raises:
        ValueError: an option makes no sense; with one line that names it.
    """

    label = "kubernetes"

    def __init__(
        self,
        config: Any = None,
        *,
        context: str | None = None,
        api: Literal["v1", "events.k8s.io/v1"] = "v1",
        concurrency: int = 16,
        requests_per_second: float | None = None,
        spool: str | os.PathLike[str] | None = None,
        spool_bytes: int = 256 << 20,
        spool_age: float | timedelta = 24 * 3600,
        connect_timeout: float = 10.0,
        timeout: float = 30.0,
    ) -> None:
        if api not in _APIS:
            raise ValueError(f"api must be 'v1' or 'events.k8s.io/v1', not {api!r}")
        self.api = api
        # A helper process has another working directory, perhaps.
        path = isinstance(config, (str, os.PathLike))
        self._config = os.path.abspath(os.path.expanduser(os.fspath(config))) if path else config  # noqa: PTH100, PTH111
        self._context = context
        self.concurrency = _whole("concurrency", concurrency, 1)
        self.requests_per_second = None
        if requests_per_second is not None:
            self.requests_per_second = _seconds("requests_per_second", requests_per_second)
        self.spool = None if spool is None else os.path.abspath(os.fspath(spool))  # noqa: PTH100
        self.spool_bytes = _whole("spool_bytes", spool_bytes, _LEAST_SPOOL)
        self.spool_seconds = _seconds("spool_age", getattr(spool_age, "total_seconds", lambda: spool_age)())
        self._connect_timeout = _seconds("connect_timeout", connect_timeout)
        self._timeout = _seconds("timeout", timeout)
        self.cut_texts = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: _Client | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loop": None, "_client": None}

    def __repr__(self) -> str:
        where = self._config if isinstance(self._config, (str, type(None))) else "a Configuration"
        return f"KubernetesSink({where!r}, api={self.api!r})"

    @property
    def default_correlator(self) -> CorrelatorOptions | Callable[[], Correlator]:
        """client-go's: its numbers for core/v1, series for events.k8s.io/v1."""
        return SeriesCorrelator if self.api == EVENTS_V1 else CorrelatorOptions()

    @staticmethod
    def make_handler(sink: KubernetesSink, **options: Any) -> KubernetesHandler:
        """Make what drives this sink in its own process; options as for `mpbroadcast.sinks.handler.SinkHandler`."""
        return KubernetesHandler(sink, **options)

    def connect(self) -> _Client:
        """Make a client for the event loop that runs. Does not block: it connects when it is used."""
        from mpbroadcast.kube.client import EventsClient  # noqa: PLC0415 - brings aiohttp
        from mpbroadcast.kube.config import Access  # noqa: PLC0415
        from mpbroadcast.kube.transport import Transport  # noqa: PLC0415

        access = Access(self._config, self._context)
        transport = Transport(access, connect_timeout=self._connect_timeout, timeout=self._timeout)
        return _Client(EventsClient(transport, self.api), self)

    # One by one

    def create(self, event: Event) -> Event:
        """Post an event; see `mpbroadcast.sinks.base.EventSink.create`."""
        client = self._connected()
        return self._run(client.create(event))

    def patch(self, event: Event, patch: bytes) -> Event:
        """Patch an event; see `mpbroadcast.sinks.base.EventSink.patch`."""
        client = self._connected()
        return self._run(client.patch(event, patch))

    def close(self) -> None:
        """Close the connections. May be called more than once."""
        client, self._client = self._client, None
        if client is not None:
            self._run(client.close())
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def _connected(self) -> _Client:
        if self._loop is None or self._client is None:
            self._loop = asyncio.new_event_loop()
            self._client = self.connect()
        return self._client

    def _run(self, call: Coroutine[Any, Any, _T]) -> _T:
        assert self._loop is not None
        return self._loop.run_until_complete(call)


class _Client:
    """An `EventsClient` for what correlators decide in terms of core/v1, whichever shape is spoken."""

    def __init__(self, client: EventsClient, sink: KubernetesSink) -> None:
        self._client = client
        self._sink = sink
        self._series_only = sink.api == EVENTS_V1

    async def create(self, event: Event) -> Event:
        """Post an event."""
        if not self._series_only:
            return await self._client.create(event)
        before = self._client.cuts
        stored = await self._client.create(_with_series(event))
        self._sink.cut_texts += self._client.cuts - before
        return _as_counted(event, stored)

    async def patch(self, event: Event, patch: bytes) -> Event:
        """Patch an event. events.k8s.io/v1 lets nothing change but the series."""
        if not self._series_only:
            return await self._client.patch(event, patch)
        counted = _with_series(event)
        if counted.series is not None:
            patch = series_patch(counted)
        return _as_counted(event, await self._client.patch(event, patch))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _with_series(event: Event) -> Event:
    """Say a count in the newer shape: as a series, which begins with the second occurrence."""
    if event.series is not None or event.count < 2:
        return event
    return event.replace(series=EventSeries(event.count, event.last_timestamp))


def _as_counted(sent: Event, stored: Event) -> Event:
    """Give back the older fields, which the newer shape may not have and a correlator counts by."""
    return stored.replace(
        count=sent.count,
        first_timestamp=sent.first_timestamp,
        last_timestamp=sent.last_timestamp,
        message=sent.message,
        reason=sent.reason,
        source=sent.source,
    )


class KubernetesHandler(ConcurrentHandler):
    """A `ConcurrentHandler` that says which rule of the cluster is missing, once."""

    def report(self, write: Write, error: Exception) -> None:
        """Log a failure; the same for every event of a namespace is one line."""
        from mpbroadcast.kube.status import missing_rule  # noqa: PLC0415

        rule = missing_rule(error) if isinstance(error, SinkError) else None
        if rule is None:
            super().report(write, error)
        elif rule not in self._said:
            self._said.add(rule)
            _log.error("The API server refuses events: %s", go_quote(rule))

    @property
    def _said(self) -> set[str]:
        said: set[str] = self.__dict__.setdefault("said", set())
        return said


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(f"{name} must be a number above 0, not {value!r}")
    return float(value)
