"""`LogSink`: a log line for each event that passed the correlator (kubernetes#90168).

Runs in: the process of the sink.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from mpbroadcast.base import klog

if TYPE_CHECKING:
    from mpbroadcast.event.model import Event

__all__ = ["LogSink"]

_MESSAGE: Final = "Event occurred"


class LogSink:
    """Logs events as client-go's structured logging does (spec F3), but only what a sink would have written.

    ``start_structured_logging`` logs every event that was recorded, repeats and spam too. With this sink and a
    correlator an event that repeats is logged with its count, similar ones are combined, and spam is not logged.

    Blocks as long as the handlers of the logger do; thread-safe as they are. Values are quoted as klog quotes them, so
    that no event can forge a line or command a terminal. Picklable; but a logger is set up in the process that
    configured it, so that the process of this sink has to be a fork of that one.

    Args:
        logger: where to log, or its name; None for klog, which writes to standard error where nothing is configured.
        level: of the lines; klog's are always INFO.
    """

    needs_fork = True
    """Its process must not be a fresh interpreter: see above."""

    default_correlator = None
    """Every event is logged, unless a correlator is asked for."""

    def __init__(self, logger: logging.Logger | str | None = None, *, level: int = logging.INFO) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level

    def __repr__(self) -> str:
        return f"LogSink({'klog' if self._logger is None else self._logger.name!r})"

    def create(self, event: Event) -> Event:
        """Log a new event."""
        return self._log(event)

    def patch(self, event: Event, patch: bytes) -> Event:  # noqa: ARG002 - the event says all
        """Log an event that has happened again."""
        return self._log(event)

    def close(self) -> None:
        """Do nothing: the logger belongs to somebody else."""

    def _log(self, event: Event) -> Event:
        pairs = _pairs(event)
        if self._logger is None:
            klog.info_s(_MESSAGE, **pairs)
        elif self._logger.isEnabledFor(self._level):
            self._logger.log(self._level, "%s", klog.structured(_MESSAGE, pairs.items()))
        return event


def _pairs(event: Event) -> dict[str, object]:
    """Return the keys and values of spec F3, with the count behind them where there is one."""
    about = event.involved_object
    pairs: dict[str, object] = {
        "object": klog.kref(about.namespace, about.name),
        "fieldPath": about.field_path,
        "kind": about.kind,
        "apiVersion": about.api_version,
        "type": event.type,
        "reason": event.reason,
        "message": event.message,
    }
    count = event.count if event.series is None else event.series.count
    return pairs | {"count": count} if count > 1 else pairs
