"""Where events are written: what a sink is, how events get into one, and the sinks that come with this package.

==========================  ================================================================================
`base`                      `EventSink` and `BatchingSink`: three methods, three ways to fail
`handler`                   what the watcher process of a sink does
`delivery`                  correlate, write, try again
`write`, `batch`, `bulk`    one event on its way, many of them with retries, many of them at once
`retry`                     `RetryPolicy`: what is tried again, and when
`rounds`                    when series are written
`forked`                    what a forked child does with the files of a sink
`sqlite`                    `SQLiteSink`: an event store
`jsonlines`                 `JSONLinesSink`: a log file, one event a line
`kubernetes`                `KubernetesSink`: a Kubernetes API server
`log`                       `LogSink`: a log line for each event that passed the correlator
`nats`                      `NATSSink`: a stream of NATS JetStream
`stdout`                    `StdoutSink`: standard output, one event a line
`webhook`                   `WebhookSink`: any HTTP server
`otel`                      `OTelSink`: an OpenTelemetry collector
`jetstream`                 connections, subjects and message ids of NATS
`posting`, `onebyone`       what sinks that post batches, or make many calls, have in common
==========================  ================================================================================

Runs in: the process that writes to the sink. Nothing is imported before it is asked for: who writes log files needs no
SQLite.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mpbroadcast.sinks.base import BatchingSink, EventSink
    from mpbroadcast.sinks.jsonlines import JSONLinesSink
    from mpbroadcast.sinks.kubernetes import KubernetesSink
    from mpbroadcast.sinks.log import LogSink
    from mpbroadcast.sinks.nats import NATSSink
    from mpbroadcast.sinks.otel import OTelSink
    from mpbroadcast.sinks.retry import RetryPolicy
    from mpbroadcast.sinks.sqlite import SQLiteSink
    from mpbroadcast.sinks.stdout import StdoutSink
    from mpbroadcast.sinks.webhook import WebhookSink

__all__ = [
    "BatchingSink",
    "EventSink",
    "JSONLinesSink",
    "KubernetesSink",
    "LogSink",
    "NATSSink",
    "OTelSink",
    "RetryPolicy",
    "SQLiteSink",
    "StdoutSink",
    "WebhookSink",
]

_HOMES: Final = {
    "BatchingSink": "base",
    "EventSink": "base",
    "JSONLinesSink": "jsonlines",
    "KubernetesSink": "kubernetes",
    "LogSink": "log",
    "NATSSink": "nats",
    "OTelSink": "otel",
    "RetryPolicy": "retry",
    "SQLiteSink": "sqlite",
    "StdoutSink": "stdout",
    "WebhookSink": "webhook",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
