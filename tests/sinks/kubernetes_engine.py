"""Records for a sink's handler, and what became of each, without a ring."""

from __future__ import annotations

import time

from kubernetes.client import Configuration

from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.wire import KIND_RECORD
from mpbroadcast.sinks.kubernetes import KubernetesSink
from mpbroadcast.sinks.retry import RetryPolicy

FAST = RetryPolicy(base_seconds=0.02, cap_seconds=0.1)
START_NS = 1_767_323_045_000_000_000


def configuration_for(url):
    configuration = Configuration(host=url)
    configuration.proxy = None
    return configuration


def record(sequence, obj="web", message="m", *, reason="Started", namespace="default", kind="Pod"):
    """One record as a recorder writes it; its time is its sequence number."""
    about = ObjectReference(kind, namespace, obj, f"uid-{obj}", "v1")
    static = encode_static(about, "Normal", reason, EventSource("lab", "h"))
    return sequence, KIND_RECORD, encode_record(START_NS + sequence, static, message)


class Run:
    """A handler between its opening and its close.

    Attributes:
        settled: what each sequence number was settled as, in that order.
        counts: what was counted.
    """

    def __init__(self, url, *, retry=FAST, correlator="sink", repeated_until=0, handler=None, **options):
        self.sink = KubernetesSink(configuration_for(url), **options)
        if correlator == "sink":
            correlator = self.sink.default_correlator
        self.handler = handler or self.sink.make_handler(
            self.sink, correlator=correlator, retry=retry, name="kubernetes", source="ring-1"
        )
        self.settled = {}
        self.counts = {}
        self.stop = False
        self._repeated_until = repeated_until

    def __enter__(self):
        self.handler.open(count=self._count, stopping=lambda: self.stop, repeated_until=self._repeated_until)
        return self

    def __exit__(self, type_, *_):
        self.stop = self.stop or type_ is not None
        self.handler.close()

    def _count(self, name, n=1):
        self.counts[name] = self.counts.get(name, 0) + n

    def settle(self, sequence, outcome):
        assert sequence not in self.settled, "settled twice"
        self.settled[sequence] = outcome

    def give(self, *records):
        self.handler.handle(list(records), self.settle)

    def wait(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come to that in time"
            self.handler.idle()
            time.sleep(0.005)
