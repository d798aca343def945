"""Every recorded case of client-go's events.k8s.io broadcaster, replayed in virtual time.

client-go has eight workers; here each write that waits for its next try waits on its own, which comes to the same.
"""

from __future__ import annotations

import heapq
from itertools import count

import pytest

from mpbroadcast.correlator import SeriesCorrelator, Skip
from mpbroadcast.errors import NotFound, SinkRejected, SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.event.names import event_name
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event.times import decode_time, encode_micro_time
from mpbroadcast.sinks.delivery import Delivery
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.sinks.rounds import SeriesRounds
from mpbroadcast.sinks.write import Write
from mpbroadcast.testing.clocks import SteppingClock
from mpbroadcast.testing.fakes import FakeSink

VECTOR_FILES = ("series-events-v1",)

MILLISECOND = 1_000_000
REFERENCE_KEYS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

FAULTS = {
    "": lambda: None,
    "transport": lambda: SinkUnavailable("transport"),
    "unexpected_object": lambda: ValueError("unexpected_object"),
    "notfound": lambda: NotFound("notfound"),
    "alreadyexists": lambda: SinkRejected("alreadyexists", code=409, reason="AlreadyExists"),
    "conflict": lambda: SinkRejected("conflict", code=409, reason="Conflict"),
    "internal500": lambda: SinkUnavailable("internal500", code=500),
    "ns_terminating": lambda: SinkRejected("ns_terminating", code=403, cause="NamespaceTerminating"),
    "request_construction": lambda: SinkRejected("request_construction"),
}


def reference_of(value):
    return ObjectReference(*[value.get(key, "") for key in REFERENCE_KEYS])


def body_of(event):
    body = event.to_events_v1(as_stored=True)
    return {key: value for key, value in body.items() if key not in {"kind", "apiVersion"}}


def status_of(call):
    if call.error is None:
        return "ok"
    if isinstance(call.error, SinkRejected) and call.error.reason == "AlreadyExists":
        return "alreadyexists"
    return "notfound" if isinstance(call.error, NotFound) else str(call.error)


class Replay:
    def __init__(self, case):
        self.case = case
        self.start_ns = decode_time(case["start"])
        self.clock = SteppingClock(self.start_ns)
        self.sink = FakeSink()
        self.correlator = SeriesCorrelator(clock=self.clock)
        self.delivery = Delivery(self.sink, self.correlator, RetryPolicy.client_go_events(), clock=self.clock)
        self.rounds = SeriesRounds(self.correlator, self.clock)
        self.calls = []
        self.retried_at = []  # for each call the time of the failed one that it repeats, or None
        self.snapshots = []
        self._agenda = []
        self._order = count()

    def now_ms(self):
        return (self.clock.now_ns() - self.start_ns) // MILLISECOND

    def at(self, ms, act):
        heapq.heappush(self._agenda, (ms, next(self._order), act))

    def run(self):
        self.at(0, self.run_rounds)
        for step in self.case["steps"]:
            self.at(step["at_ms"], lambda step=step: getattr(self, step["op"])(step))
        self.at(self.case["end_ms"], lambda: self.cache({}))
        while self._agenda:
            ms, _, act = heapq.heappop(self._agenda)
            if ms > self.case["end_ms"]:
                break
            self.clock.step((ms - self.now_ms()) * MILLISECOND)
            act()

    def run_rounds(self):
        seconds = self.rounds.run_due(self.write_once)
        self.at(self.now_ms() + round(seconds * 1000), self.run_rounds)

    def write_once(self, patch):
        outcome = self.delivery.attempt_once(patch)
        self.note_calls(None)
        return outcome

    def eventf(self, step):
        if step.get("sink_faults"):
            self.faults(step)
        if step["type"] not in {"Normal", "Warning"}:
            return  # the recorder refuses these (R10)
        now_ns = self.clock.now_ns()
        regarding = reference_of(step["regarding"])
        event = Event(
            name=event_name(regarding.name, now_ns),
            namespace=regarding.namespace or "default",
            annotations=step.get("annotations"),
            involved_object=regarding,
            related=reference_of(step["related"]) if "related" in step else None,
            type=step["type"],
            reason=step["reason"],
            action=step["action"],
            message=step["note"],
            reporting_controller=self.case["reporting_controller"],
            reporting_instance=self.case["reporting_instance"],
            event_time=now_ns,
        )
        decision = self.correlator.correlate(event)
        if not isinstance(decision, Skip):
            self.attempt(Write(decision, self.delivery.retry, self.delivery.rng))

    def attempt(self, write, failed_at=None):
        outcome = self.delivery.attempt(write)
        self.note_calls(failed_at)
        if outcome is None:
            failed_at = self.now_ms()
            self.at(failed_at + round(write.pause * 1000), lambda: self.attempt(write, failed_at))

    def note_calls(self, failed_at):
        for call in self.sink.calls:
            what = {"op": call.op, "namespace": call.event.namespace, "name": call.event.name}
            what |= {"t_ms": self.now_ms(), "status": status_of(call)}
            what |= {"event": body_of(call.event)} if call.op == "create" else {"patch": call.patch.decode()}
            stored = self.sink.get(call.event.namespace, call.event.name)
            if call.error is None:
                what["server_after"] = body_of(stored)
            self.calls.append(what)
            self.retried_at.append(failed_at)
        self.sink.calls.clear()

    def faults(self, step):
        self.sink.fail(*(FAULTS[name]() for name in step.get("sink_faults", ())))

    def expire_server(self, _):
        self.sink.expire()

    def cache(self, _):
        self.snapshots.append({"at_ms": self.now_ms(), "cache": [self.entry_of(e.event) for _, e in self.entries()]})

    def entries(self):
        return self.correlator._cache.items()

    @staticmethod
    def entry_of(event):
        series = event.series
        return {
            "Reason": event.reason,
            "Type": event.type,
            "Action": event.action,
            "RegardingName": event.involved_object.name,
            "RegardingRV": event.involved_object.resource_version,
            "Series": series
            and {"count": series.count, "lastObservedTime": encode_micro_time(series.last_observed_time)},
            "Name": event.name,
            "ResourceVersion": event.resource_version,
        }


def in_order(snapshots):
    return [{**s, "cache": sorted(s["cache"] or [], key=lambda e: e["Name"])} for s in snapshots]


def test_recorded_case(case):
    replay = Replay(case)
    replay.run()
    for expected, actual, retried_at in zip(case["calls"] or [], replay.calls, replay.retried_at, strict=True):
        if retried_at is not None:
            # The pauses are random there and here; everything else must be the same.
            assert 10_000 <= actual["t_ms"] - retried_at <= 12_500
            actual["t_ms"] = expected["t_ms"]
        assert expected == actual
    assert in_order(case["cache_snapshots"]) == in_order(replay.snapshots)


class TimedSink:
    """The recorded sink of the retry timings: fails as told, takes everything else, and notes when."""

    def __init__(self, clock, faults):
        self.clock = clock
        self.faults = list(faults)
        self.calls = []

    def create(self, event):
        status = self.faults.pop(0) if self.faults else "ok"
        t_ms = (self.clock.now_ns() - self.clock.start_ns) // MILLISECOND
        self.calls.append(
            {"t_ms": t_ms, "op": "create", "namespace": event.namespace, "name": event.name, "status": status}
        )
        if status != "ok":
            raise SinkUnavailable(status)
        return event

    def patch(self, event, patch):
        raise AssertionError("these events are all new")

    def close(self):
        pass


class StoppableClock(SteppingClock):
    """Sleeping on it moves it, up to the time of the shutdown, which wakes the sleeper."""

    def __init__(self, start_ns, shutdown_at_ms):
        super().__init__(start_ns)
        self.start_ns = start_ns
        self.end_ns = start_ns + shutdown_at_ms * MILLISECOND

    def stopping(self):
        return self.now_ns() >= self.end_ns

    def sleep(self, seconds):
        self.step(min(round(seconds * 1e9), self.end_ns - self.now_ns()))
        return self.stopping()


class FirstPause:
    """A source of chance that gives the recorded first pause; nothing else is random in this policy."""

    def __init__(self, calls):
        self.share = next((call["t_ms"] for call in calls if call["t_ms"]), 0) / 10_000

    def random(self):
        return self.share


@pytest.mark.parametrize("name", ["transport-2", "transport-forever", "head-of-line-blocking", "shutdown-during-sleep"])
def test_recorded_retry_timing(recorded_case, make_event, name):
    """When ``tools/record`` tries again: a first pause below 10 s, then 10 s each, 12 tries, one event at a time."""
    case = recorded_case("series-record-retry-timing", name)
    start_ns = decode_time("2000-01-01T00:00:00Z")
    clock = StoppableClock(start_ns, case["shutdown_at_ms"])
    sink = TimedSink(clock, case["sink_faults"])
    delivery = Delivery(
        sink,
        retry=RetryPolicy.client_go(),
        clock=clock,
        sleep=clock.sleep,
        stopping=clock.stopping,
        rng=FirstPause(case["calls"]),
    )
    reference = make_event().involved_object._replace(name="pod-1", namespace="default")
    for reason in case["events_reasons_at_t0"]:
        delivery.deliver(make_event(start_ns, reason=reason, involved_object=reference))
    recorded, calls = case["calls"], sink.calls
    if name == "shutdown-during-sleep":
        # With the context cancelled, client-go goes on with each buffered item or not by chance (L3), one try each.
        at_the_end = [call for call in calls if call["t_ms"] == case["shutdown_at_ms"]]
        assert len(at_the_end) <= len(case["events_reasons_at_t0"]) - 1
        recorded, calls = ([call for call in some if call["t_ms"] < 25_000] for some in (recorded, calls))
    assert recorded == calls
