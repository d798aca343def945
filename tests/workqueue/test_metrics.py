"""What a queue measures (Q16)."""

from __future__ import annotations

import gc

import pytest

from mpbroadcast.workqueue import DelayingQueue, NoMetricsProvider, Queue, metrics, set_provider

pytestmark = pytest.mark.timeout(30)

MS = 1_000_000
US = 1_000


class Recorded:
    """Every kind of metric at once; it writes down what it is told."""

    def __init__(self):
        self.value = 0.0
        self.observations = []
        self.settings = []

    def inc(self):
        self.value += 1

    def dec(self):
        self.value -= 1

    def set(self, value, /):
        self.value = value
        self.settings.append(value)

    def observe(self, amount, /):
        self.observations.append(amount)


class RecordingProvider:
    """Makes recorded metrics, each an attribute of the provider."""

    def __init__(self, metric=Recorded):
        self.names = []
        self.depth, self.adds, self.latency, self.duration = metric(), metric(), metric(), metric()
        self.unfinished, self.longest, self.retries = metric(), metric(), metric()

    def _named(self, name, metric):
        self.names.append(name)
        return metric

    def new_depth_metric(self, name, /):
        return self._named(name, self.depth)

    def new_adds_metric(self, name, /):
        return self._named(name, self.adds)

    def new_latency_metric(self, name, /):
        return self._named(name, self.latency)

    def new_work_duration_metric(self, name, /):
        return self._named(name, self.duration)

    def new_unfinished_work_seconds_metric(self, name, /):
        return self._named(name, self.unfinished)

    def new_longest_running_processor_seconds_metric(self, name, /):
        return self._named(name, self.longest)

    def new_retries_metric(self, name, /):
        return self._named(name, self.retries)


@pytest.fixture
def provider():
    return RecordingProvider()


@pytest.fixture
def queue(clock, provider):
    made = Queue(name="test", clock=clock, metrics_provider=provider)
    yield made
    made.shut_down()


def step(queue, clock, ns):
    """Move the clock and wait until the thread of the metrics waits again."""
    clock.await_waiting(queue._metrics._changed)
    clock.step(ns)
    clock.await_waiting(queue._metrics._changed)


@pytest.mark.client_go("MET-01")
def test_the_numbers_of_work_under_way_are_set_until_the_shutdown(queue, clock, provider):
    queue.add("foo")
    queue.get()
    step(queue, clock, 499 * MS)
    assert [] == provider.unfinished.settings
    step(queue, clock, 1 * MS)
    step(queue, clock, 500 * MS)
    assert [0.5, 1.0] == provider.unfinished.settings
    thread = queue._metrics._thread
    queue.shut_down()
    clock.step(3600 * 1000 * MS)
    thread.join(20)
    assert not thread.is_alive()
    assert [0.5, 1.0] == provider.unfinished.settings == provider.longest.settings


@pytest.mark.client_go("MET-02")
def test_every_number_of_an_item_is_right(queue, clock, provider):
    assert ["test"] * 7 == provider.names
    queue.add("foo")
    assert (1, 1) == (provider.adds.value, provider.depth.value)
    clock.step(50 * US)
    assert ("foo", False) == queue.get()
    assert [5e-05] == provider.latency.observations
    assert 0 == provider.depth.value
    for _ in range(5):
        queue.add("foo")
    assert (2, 1) == (provider.adds.value, provider.depth.value)
    clock.step(25 * US)
    queue.done("foo")
    assert [2.5e-05] == provider.duration.observations
    assert 1 == provider.depth.value
    assert ("foo", False) == queue.get()
    assert [5e-05, 2.5e-05] == provider.latency.observations
    clock.step(1 * MS)
    queue._metrics.refresh()
    assert (0.001, 0.001) == (provider.unfinished.value, provider.longest.value)
    queue.done("foo")
    assert [2.5e-05, 0.001] == provider.duration.observations


def test_the_sum_and_the_longest_of_several_items(queue, clock, provider):
    for item in ("foo", "bar"):
        queue.add(item)
        queue.get()
        clock.step(1 * MS)
    queue._metrics.refresh()
    assert (0.003, 0.002) == (provider.unfinished.value, provider.longest.value)


def test_when_nothing_is_in_process_the_numbers_are_set_to_zero_and_the_thread_sleeps(queue, clock, provider):
    queue.add("foo")
    queue.get()
    step(queue, clock, 400 * MS)
    queue.done("foo")
    step(queue, clock, 100 * MS)
    step(queue, clock, 3600 * 1000 * MS)
    assert [0.0] == provider.unfinished.settings
    clock.await_waiting(queue._metrics._changed, timed=False)
    queue.add("foo")
    queue.get()
    clock.await_waiting(queue._metrics._changed, timed=True)
    step(queue, clock, 500 * MS)
    assert [0.0, 0.5] == provider.unfinished.settings


def test_delayed_adds_are_counted_as_retries(clock, provider):
    queue = DelayingQueue(name="test", clock=clock, metrics_provider=provider)
    queue.add_after("foo", 0)
    queue.add_after("bar", 10)
    assert (2, 1) == (provider.retries.value, provider.adds.value)
    queue.shut_down()
    queue.add_after("baz", 0)
    assert 2 == provider.retries.value


@pytest.mark.parametrize("options", [{"name": ""}, {"name": "test", "metrics_provider": NoMetricsProvider()}])
def test_without_a_name_or_a_real_provider_nothing_is_measured(clock, provider, options):
    queue = Queue(**{"clock": clock, "metrics_provider": provider, **options})
    queue.add("foo")
    queue.get()
    assert [] == provider.names
    assert queue._metrics is None


def test_the_provider_of_the_process_can_be_set_once_and_serves_later_queues(monkeypatch, clock, provider):
    monkeypatch.setattr(metrics._Global, "provider", None)
    earlier = Queue(name="earlier", clock=clock)
    assert set_provider(provider) is True
    assert set_provider(RecordingProvider()) is False
    later = Queue(name="later", clock=clock)
    earlier.add("foo")
    later.add("foo")
    assert {"later"} == set(provider.names)
    assert 1 == provider.adds.value


def test_a_metric_that_fails_costs_no_item_and_is_logged_once(clock, caplog):
    class Broken(Recorded):
        def inc(self):
            raise OSError("no room")

        dec = observe = inc

    queue = Queue(name="test", clock=clock, metrics_provider=RecordingProvider(Broken))
    queue.add("foo")
    queue.add("bar")
    assert [("foo", False), ("bar", False)] == [queue.get(), queue.get()]
    queue.done("foo")
    assert ["a metric of work queue 'test' fails: OSError: no room"] == caplog.messages
    queue.shut_down()


def test_a_queue_that_nobody_holds_ends_the_thread_of_its_metrics(clock, provider):
    queue = Queue(name="test", clock=clock, metrics_provider=provider)
    queue.add("foo")
    queue.get()
    thread = queue._metrics._thread
    clock.await_waiting(queue._metrics._changed)
    del queue
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


def test_metrics_of_prometheus_client_fit(clock):
    prometheus = pytest.importorskip("prometheus_client")
    registry = prometheus.CollectorRegistry()

    class Provider(NoMetricsProvider):
        def new_depth_metric(self, name, /):
            return prometheus.Gauge("depth", "d", ["name"], registry=registry).labels(name)

        def new_adds_metric(self, name, /):
            return prometheus.Counter("adds", "a", ["name"], registry=registry).labels(name)

        def new_latency_metric(self, name, /):
            return prometheus.Histogram("latency", "l", ["name"], registry=registry).labels(name)

    queue = Queue(name="test", clock=clock, metrics_provider=Provider())
    queue.add("foo")
    clock.step(50 * US)
    queue.get()
    values = {
        name: registry.get_sample_value(name, {"name": "test"}) for name in ("depth", "adds_total", "latency_sum")
    }
    assert {"depth": 0.0, "adds_total": 1.0, "latency_sum": 5e-05} == values
    queue.shut_down()
