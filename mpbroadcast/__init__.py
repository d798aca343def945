"""Kubernetes-style event recording for Python programs that run in many processes.

The path of one event::

    worker process              shared memory           distributor process      shared memory         watcher process
    recorder.event(obj, ...) →  lane (one per worker) → distributor: merges   →  watcher ring (one   → watcher: handler,
    orjson bytes, never waits   single producer         lanes in time order,     each) single          sink, log, store
                                single consumer         copies to each ring      producer

The modules of this folder are the stops on that path and what owns or watches it; the folders are what the stops are
built from:

    recorder     stop 1   an object and a reason become an event in the process's lane
    lane         stop 2   one ring per recording process
    distributor  stop 3   merges the lanes, fills the watcher rings
    watcher      stop 4   drains one ring, calls one handler
    watch                 the same end of a ring without a helper: the iterator of watch()
    broadcaster           makes the segment, starts stops 3 and 4, shuts down in order
    event_broadcaster     the same for events: hands out recorders, starts log and sink watchers
    helper                starts a helper process and its spare
    stats                 reads the counters in shared memory
    metrics               gives them to Prometheus
    errors                every exception of this package
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mpbroadcast import metrics, workqueue
    from mpbroadcast.base import klog
    from mpbroadcast.broadcaster import Broadcaster, FullChannelBehavior, WatcherHandle
    from mpbroadcast.correlator.options import CorrelatorOptions
    from mpbroadcast.event.model import Event
    from mpbroadcast.event.parts import EventSource, EventType, ObjectReference
    from mpbroadcast.event.scheme import Scheme
    from mpbroadcast.event.wire import WatchEvent
    from mpbroadcast.event_broadcaster import EventBroadcaster, attach
    from mpbroadcast.recorder import EventRecorder
    from mpbroadcast.sinks.retry import RetryPolicy
    from mpbroadcast.stats import ShutdownReport, Stats
    from mpbroadcast.watch import Watch

__all__ = [
    "Broadcaster",
    "CorrelatorOptions",
    "Event",
    "EventBroadcaster",
    "EventRecorder",
    "EventSource",
    "EventType",
    "FullChannelBehavior",
    "ObjectReference",
    "RetryPolicy",
    "Scheme",
    "ShutdownReport",
    "Stats",
    "Watch",
    "WatchEvent",
    "WatcherHandle",
    "attach",
    "klog",
    "metrics",
    "workqueue",
]

_HOMES: Final = {
    "Broadcaster": "broadcaster",
    "CorrelatorOptions": "correlator.options",
    "Event": "event.model",
    "EventBroadcaster": "event_broadcaster",
    "EventRecorder": "recorder",
    "EventSource": "event.parts",
    "EventType": "event.parts",
    "FullChannelBehavior": "broadcaster",
    "ObjectReference": "event.parts",
    "RetryPolicy": "sinks.retry",
    "Scheme": "event.scheme",
    "ShutdownReport": "stats",
    "Stats": "stats",
    "Watch": "watch",
    "WatchEvent": "event.wire",
    "WatcherHandle": "broadcaster",
    "attach": "event_broadcaster",
}
_MODULES: Final = {"klog": "base.klog", "metrics": "metrics", "workqueue": "workqueue"}


if not TYPE_CHECKING:  # a type checker should see the names above and no others

    def __getattr__(name: str) -> Any:
        """Loads a public name when it is first used: a program that only reads a store does not load the ring."""
        if name in _HOMES:
            value = getattr(import_module(f"mpbroadcast.{_HOMES[name]}"), name)
        elif name in _MODULES:
            value = import_module(f"mpbroadcast.{_MODULES[name]}")
        else:
            raise AttributeError(f"module 'mpbroadcast' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
