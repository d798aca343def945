"""What a work queue measures, and where the numbers go (Q16).

Runs in: the process of the queue. Nothing is measured unless the queue has a name and a provider was given to it or
set for the process: then these are told, by the queue's name:

=============================  ===================================================================
depth                          items that are to be processed, up and down
adds                           accepted adds
latency                        seconds from add to get
work duration                  seconds from get to done
unfinished work                sum of the seconds that the items in process have taken so far
longest running processor      the longest of these
retries                        calls of ``add_after`` (and so of ``add_rate_limited``)
=============================  ===================================================================

Gauges, counters and histograms of prometheus_client (with the label filled in) have the methods wanted here.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mpbroadcast.workqueue.waiting import WaitingClock

__all__ = [
    "REFRESH_SECONDS",
    "Counter",
    "Gauge",
    "Histogram",
    "MetricsProvider",
    "NoMetricsProvider",
    "QueueMetrics",
    "SettableGauge",
    "provider_in_use",
    "set_provider",
]

T = TypeVar("T", bound="Hashable")

REFRESH_SECONDS: Final = 0.5
"""How often the two numbers about work under way are set (spec 0.3)."""

_SECOND: Final = 1_000_000_000
_PERIOD_NS: Final = int(REFRESH_SECONDS * _SECOND)

_log: Final = logging.getLogger("mpbroadcast.workqueue")


class Counter(Protocol):
    """A number that only grows."""

    def inc(self) -> None:
        """Add one."""
        ...  # pragma: no cover


class Gauge(Protocol):
    """A number that goes up and down by one."""

    def inc(self) -> None:
        """Add one."""
        ...  # pragma: no cover

    def dec(self) -> None:
        """Take one away."""
        ...  # pragma: no cover


class SettableGauge(Protocol):
    """A number that is set."""

    def set(self, value: float, /) -> None:
        """Replace the number."""
        ...  # pragma: no cover


class Histogram(Protocol):
    """A distribution of observations."""

    def observe(self, amount: float, /) -> None:
        """Add one observation, here always in seconds."""
        ...  # pragma: no cover


class MetricsProvider(Protocol):
    """Makes the metrics of a queue from its name; called once for each queue, when that is created.

    The metrics are called with the queue's lock held, by any thread: they must neither block nor use the queue. One
    that raises is logged once for each queue and otherwise ignored; it never costs an item.
    """

    def new_depth_metric(self, name: str, /) -> Gauge:
        """Make the gauge of the items to be processed."""
        ...  # pragma: no cover

    def new_adds_metric(self, name: str, /) -> Counter:
        """Make the counter of accepted adds."""
        ...  # pragma: no cover

    def new_latency_metric(self, name: str, /) -> Histogram:
        """Make the histogram of the seconds from add to get."""
        ...  # pragma: no cover

    def new_work_duration_metric(self, name: str, /) -> Histogram:
        """Make the histogram of the seconds from get to done."""
        ...  # pragma: no cover

    def new_unfinished_work_seconds_metric(self, name: str, /) -> SettableGauge:
        """Make the gauge of the seconds that all items in process have taken so far."""
        ...  # pragma: no cover

    def new_longest_running_processor_seconds_metric(self, name: str, /) -> SettableGauge:
        """Make the gauge of the longest of these."""
        ...  # pragma: no cover

    def new_retries_metric(self, name: str, /) -> Counter:
        """Make the counter of delayed adds."""
        ...  # pragma: no cover


class _NoMetric:
    def inc(self) -> None: ...
    def dec(self) -> None: ...
    def set(self, value: float, /) -> None: ...
    def observe(self, amount: float, /) -> None: ...


class NoMetricsProvider:
    """Makes metrics that go nowhere; a base for a provider that takes some of them only.

    A queue whose provider is exactly this one measures nothing at all.
    """

    def new_depth_metric(self, _name: str, /) -> Gauge:
        """Make a metric that goes nowhere."""
        return _NoMetric()

    def new_adds_metric(self, _name: str, /) -> Counter:
        """Make a metric that goes nowhere."""
        return _NoMetric()

    def new_latency_metric(self, _name: str, /) -> Histogram:
        """Make a metric that goes nowhere."""
        return _NoMetric()

    def new_work_duration_metric(self, _name: str, /) -> Histogram:
        """Make a metric that goes nowhere."""
        return _NoMetric()

    def new_unfinished_work_seconds_metric(self, _name: str, /) -> SettableGauge:
        """Make a metric that goes nowhere."""
        return _NoMetric()

    def new_longest_running_processor_seconds_metric(self, _name: str, /) -> SettableGauge:
        """Make a metric that goes nowhere."""
        return _NoMetric()

    def new_retries_metric(self, _name: str, /) -> Counter:
        """Make a metric that goes nowhere."""
        return _NoMetric()


class _Global:
    """The provider of this process; a class so that it can be replaced under its lock."""

    lock = threading.Lock()
    provider: MetricsProvider | None = None


def set_provider(provider: MetricsProvider) -> bool:
    """Set the provider of the queues that are created in this process from now on.

    Only the first call has an effect, as in client-go: a library must not take the metrics away from the program.

    Returns:
        Whether this call was the first.
    """
    with _Global.lock:
        if _Global.provider is not None:
            return False
        _Global.provider = provider
        return True


def provider_in_use(provider: MetricsProvider | None) -> MetricsProvider | None:
    """Return the given provider, else the process's; None when nothing is to be measured."""
    chosen = provider if provider is not None else _Global.provider
    return None if type(chosen) is NoMetricsProvider else chosen


class QueueMetrics(Generic[T]):
    """The measurements of one queue. Every method but `stop` is called with the queue's lock held.

    A daemon thread sets the two numbers about work under way every half second. It is started at the first get, and
    sleeps without a deadline while nothing is in process. Threads do not cross a fork: in a child it starts anew.

    Args:
        name: the queue's, not empty.
        provider: who makes the metrics.
        clock: the queue's.
        lock: the queue's, re-entrant.
    """

    def __init__(self, name: str, provider: MetricsProvider, clock: WaitingClock, lock: threading.RLock) -> None:
        self._name = name
        self._clock = clock
        self._depth = provider.new_depth_metric(name)
        self._adds = provider.new_adds_metric(name)
        self._latency = provider.new_latency_metric(name)
        self._work_duration = provider.new_work_duration_metric(name)
        self._unfinished = provider.new_unfinished_work_seconds_metric(name)
        self._longest = provider.new_longest_running_processor_seconds_metric(name)
        self._retries = provider.new_retries_metric(name)
        self._reported = False
        self._stopped = False
        self.renew(lock)

    def renew(self, lock: threading.RLock) -> None:
        """Begin with nothing waiting and nothing in process, under a new lock, in a forked child."""
        self._changed = threading.Condition(lock)
        self._added_ns: dict[T, int] = {}
        self._started_ns: dict[T, int] = {}
        self._thread: threading.Thread | None = None

    def added(self, item: T) -> None:
        """An item was added that was not marked before."""
        self._tell(self._adds.inc)
        self._tell(self._depth.inc)
        self._added_ns.setdefault(item, self._clock.now_ns())

    def taken(self, item: T) -> None:
        """A worker got an item."""
        now_ns = self._clock.now_ns()
        self._tell(self._depth.dec)
        added_ns = self._added_ns.pop(item, None)
        if added_ns is not None:
            self._observe(self._latency, now_ns - added_ns)
        self._started_ns[item] = now_ns
        if self._stopped:
            return
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._refresh_always, name=f"workqueue metrics {self._name}", daemon=True
            )
            self._thread.start()
        elif len(self._started_ns) == 1:
            self._changed.notify_all()

    def finished(self, item: T) -> None:
        """A worker is done with an item."""
        started_ns = self._started_ns.pop(item, None)
        if started_ns is not None:
            self._observe(self._work_duration, self._clock.now_ns() - started_ns)

    def retried(self) -> None:
        """An item was added with a delay."""
        self._tell(self._retries.inc)

    def refresh(self) -> None:
        """Set the numbers about work under way."""
        now_ns = self._clock.now_ns()
        running = [now_ns - started_ns for started_ns in self._started_ns.values()]
        self._set(self._unfinished, sum(running))
        self._set(self._longest, max(running, default=0))

    def stop(self) -> None:
        """End the thread; the two numbers are not set again. Takes the lock itself if need be; does not wait."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _refresh_always(self) -> None:
        due_ns: int | None = None
        with self._changed:
            while not self._stopped:
                if due_ns is not None and self._clock.now_ns() >= due_ns:
                    self.refresh()
                    due_ns = None
                elif due_ns is None and self._started_ns:
                    due_ns = self._clock.now_ns() + _PERIOD_NS
                else:
                    self._clock.wait_until(self._changed, due_ns)

    def _observe(self, histogram: Histogram, ns: int) -> None:
        self._tell(lambda: histogram.observe(ns / _SECOND))

    def _set(self, gauge: SettableGauge, ns: int) -> None:
        self._tell(lambda: gauge.set(ns / _SECOND))

    def _tell(self, call: Callable[[], None]) -> None:
        """Call a metric; one that fails must not cost an item, and is logged once."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a provider's code raises
            if not self._reported:
                self._reported = True
                _log.warning("a metric of work queue %r fails: %s: %s", self._name, type(error).__name__, error)
