"""`OTelSink`: events as OpenTelemetry log records, over OTLP/HTTP. Runs in: the process of the sink.

The attributes are those of the OpenTelemetry Collector's own receiver of Kubernetes events, so that dashboards made for
that one fit.
"""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mpbroadcast.base.text import well_formed
from mpbroadcast.errors import MissingExtra, SinkError, SinkRejected, SinkUnavailable
from mpbroadcast.sinks.posting import PostingSink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpbroadcast.event.model import Event

__all__ = ["OTelSink"]

_BATCH: Final = 512  # as many as the SDK's own batches have
_COMES_BACK: Final = frozenset({408, 429})
_SERVER_ERROR: Final = 500
_SCOPE: Final = "mpbroadcast"


class OTelSink(PostingSink):
    """Exports events to an OpenTelemetry collector, through opentelemetry-sdk (extra ``otel``).

    ``message`` is the body, ``Warning`` is severity WARN and anything else INFO, the time is that of the event's last
    occurrence, and the rest are attributes: ``k8s.event.reason``, ``k8s.event.name``, ``k8s.event.count``,
    ``k8s.object.kind``, ``k8s.object.name``, ``k8s.namespace.name``...

    Making one costs nothing: the SDK is imported at the first write. An event is settled when the collector has taken
    it. No connection, 408, 429 and 5xx are tried again; other answers are final and counted, for each event of a batch
    by itself. A batch may arrive twice when an answer is lost or a process killed: OTLP has no way to tell.

    Blocks for at most ``timeout``. Picklable; one thread at a time may use it. Headers are in no ``repr``.

    Args:
        endpoint: URL of the collector; the path ``/v1/logs`` is added where it has none.
        service: the name of the service that the records belong to.
        resource: more attributes of the resource.
        headers: of each request, such as an API key.
        tls_ca: path of the certificate authority's PEM; None for that of the system.
        compression: whether to compress requests with gzip.
        batch: how many events to export at once at the most.
        timeout: seconds for one batch, the SDK's own tries included.

    Raises:
        ValueError: an option makes no sense; with one line that names it.
    """

    label = "otel"
    default_correlator = None
    """Every event is exported, repeats too."""

    def __init__(
        self,
        endpoint: str = "http://127.0.0.1:4318",
        *,
        service: str = "mpbroadcast",
        resource: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        compression: bool = True,
        batch: int = _BATCH,
        timeout: float = 10.0,
    ) -> None:
        self._endpoint, self._host = _endpoint(endpoint)
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ValueError(f"batch must be a whole number of at least 1, not {batch!r}")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e9:
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        self.batch = batch
        self._resource_attributes = {"service.name": service, **(resource or {})}
        self._headers = dict(headers or {})
        self._tls_ca = None if tls_ca is None else os.path.abspath(os.fspath(tls_ca))  # noqa: PTH100
        self._compression = compression
        self._timeout = timeout
        self._exporter: Any = None
        self._sdk: Any = None
        self._status = 0
        self._retry_after: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_exporter": None, "_sdk": None, "_gathered": None}

    def __repr__(self) -> str:
        return f"OTelSink({self._host!r})"

    def check(self) -> None:
        """See in the application whether this can work; connects to nothing.

        Raises:
            MissingExtra: the SDK or its exporter is not installed.
            SinkError: the file of ``tls_ca`` cannot be read.
        """
        _require_sdk()
        if self._tls_ca is not None and not os.access(self._tls_ca, os.R_OK):
            raise SinkError(f"tls_ca {self._tls_ca}: the file is not there or cannot be read")

    def encode(self, event: Event) -> Any:
        """Turn an event into a log record of the SDK."""
        if self._exporter is None:
            self._open()
        logs, sdk, resource, scope = self._sdk
        warning = event.type == "Warning"
        record = logs.LogRecord(
            timestamp=event.last_timestamp or event.event_time or time.time_ns(),
            observed_timestamp=time.time_ns(),
            severity_text=well_formed(event.type) or "Normal",
            severity_number=logs.SeverityNumber.WARN if warning else logs.SeverityNumber.INFO,
            body=well_formed(event.message),
            attributes=_attributes(event),
        )
        return sdk.ReadableLogRecord(record, resource, scope)

    def post(self, items: list[Any]) -> None:
        """Export records."""
        self._status, self._retry_after = 0, None
        result = self._exporter.export(items)
        if result.name == "SUCCESS":
            return
        text = f"collector {self._host}: {self._status or 'cannot be reached'}"
        if self._status and self._status < _SERVER_ERROR and self._status not in _COMES_BACK:
            raise SinkRejected(text, code=self._status)
        from mpbroadcast.kube.status import parse_retry_after  # noqa: PLC0415

        raise SinkUnavailable(text, code=self._status, retry_after=parse_retry_after(self._retry_after))

    def _answered(self, response: Any, **_: Any) -> None:
        """Keep what the exporter does not tell: how the collector answered."""
        self._status = response.status_code
        self._retry_after = response.headers.get("Retry-After")

    def _open(self) -> None:
        _require_sdk()
        import requests  # noqa: PLC0415 - 0.3 s together, for those who export
        from opentelemetry import _logs as logs  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter  # noqa: PLC0415
        from opentelemetry.sdk import _logs as sdk  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        session = requests.Session()
        session.hooks["response"].append(self._answered)
        self._exporter = OTLPLogExporter(
            endpoint=self._endpoint,
            certificate_file=self._tls_ca,
            headers=self._headers,
            timeout=self._timeout,
            compression=Compression.Gzip if self._compression else Compression.NoCompression,
            session=session,
        )
        self._sdk = logs, sdk, Resource.create(self._resource_attributes), InstrumentationScope(_SCOPE)

    def close(self) -> None:
        """Close the connection. May be called more than once."""
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            exporter.shutdown()


def _require_sdk() -> None:
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise MissingExtra("OTelSink", "otel")
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise MissingExtra("OTelSink", "otel")


def _endpoint(url: object) -> tuple[str, str]:
    """Return the URL to post to, and what of it may be shown.

    Raises:
        ValueError: it is no URL.
    """
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        if parts.scheme in {"http", "https"} and parts.hostname:
            host = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
            whole = parts if parts.path.strip("/") else parts._replace(path="/v1/logs")
            return whole.geturl(), host
    except ValueError:
        pass
    raise ValueError("endpoint must be an http:// or https:// URL")


def _attributes(event: Event) -> dict[str, str | int]:
    about = event.involved_object
    count = event.count if event.series is None else event.series.count
    found: dict[str, str | int] = {
        "k8s.event.name": event.name,
        "k8s.namespace.name": event.namespace,
        "k8s.event.reason": event.reason,
        "k8s.event.action": event.action,
        "k8s.event.uid": event.uid,
        "k8s.object.kind": about.kind,
        "k8s.object.name": about.name,
        "k8s.object.uid": about.uid,
        "k8s.object.api_version": about.api_version,
        "k8s.object.resource_version": about.resource_version,
        "k8s.object.fieldpath": about.field_path,
        "k8s.event.reporting_controller": event.reporting_controller or event.source.component,
        "k8s.event.reporting_instance": event.reporting_instance or event.source.host,
    }
    texts = {key: well_formed(str(value)) for key, value in found.items() if value}
    return {**texts, "k8s.event.count": count or 1}
