"""client-go's own tests of writing to a sink (spec 3.1, 3.4, 3.6) and what follows from its code (3.14).

All run with the strict table, ``RetryPolicy.client_go()`` or ``client_go_events()``.
"""

from __future__ import annotations

import logging
import random

import pytest

from mpbroadcast.correlator import EventCorrelator, Patch, SeriesCorrelator
from mpbroadcast.errors import NotFound, SinkRejected, SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSeries, ObjectReference
from mpbroadcast.sinks.delivery import Delivery, Verdict
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.sinks.write import Write
from mpbroadcast.testing.clocks import SteppingClock
from mpbroadcast.testing.fakes import FakeSink

SECOND = 1_000_000_000
POD_B = ObjectReference("Pod", "baz", "foo", "differentUid", "v1", "", "spec.containers[3]")
POD_P = ObjectReference("Pod", "baz", "foo", "bar", "v1")

# (object, reason, text, expected call, expected count): the seven rows that client-go writes to each sink.
ROWS = [
    ({}, "some verbose message: 1", "create", 1),
    ({"involved_object": POD_P, "reason": "Killed"}, "some other verbose message: 1", "create", 1),
    ({}, "some verbose message: 1", "patch", 2),
    ({"involved_object": POD_B}, "some verbose message: 1", "create", 1),
    ({}, "some verbose message: 1", "patch", 3),
    ({"involved_object": POD_B, "reason": "Stopped"}, "some verbose message: 1", "create", 1),
    ({"involved_object": POD_B, "reason": "Stopped"}, "some verbose message: 1", "patch", 2),
]


class Sleeps:
    """Sleeps no time at all and writes down how long it should have."""

    def __init__(self):
        self.seconds = []

    def __call__(self, seconds):
        self.seconds.append(seconds)
        return False


@pytest.fixture
def sink():
    return FakeSink()


@pytest.fixture
def sleeps():
    return Sleeps()


@pytest.fixture
def delivery(sink, sleeps):
    return Delivery(
        sink, EventCorrelator(clock=SteppingClock()), RetryPolicy.client_go(), sleep=sleeps, rng=random.Random(7)
    )


def ops(sink):
    return [call.op for call in sink.calls]


def deliver_rows(make_event, sink):
    """Write the seven rows with a correlator of their own; returns the calls and the stored counts."""
    clock = SteppingClock()
    delivery = Delivery(sink, EventCorrelator(clock=clock), RetryPolicy.client_go(), sleep=clock.sleep)
    seen = []
    for fields, message, _, _ in ROWS:
        outcome = delivery.deliver(make_event(clock.now_ns(), message=message, **fields))
        seen.append((sink.calls[-1].op, outcome.event.count))
        clock.step(SECOND)
    return seen


@pytest.mark.client_go("REC-04", "REC-05", "REC-06", "REC-07", "REC-08", "REC-09", "REC-10")
@pytest.mark.client_go("REC-22", "REC-23", "REC-24", "REC-25", "REC-26", "REC-27", "REC-28")
def test_the_seven_rows_are_created_and_patched(make_event, sink):
    """Another object, container or reason is another event; what is the same counts on the one created first."""
    assert [(op, count) for _, _, op, count in ROWS] == deliver_rows(make_event, sink)
    first, third, fifth = (sink.calls[index].event for index in (0, 2, 4))
    assert first.name == third.name == fifth.name
    assert third.first_timestamp != third.last_timestamp
    assert first.involved_object == third.involved_object


@pytest.mark.client_go("REC-30", "REC-31", "REC-32", "REC-33", "REC-34", "REC-35", "REC-36")
def test_a_second_sink_counts_from_one_again(make_event, sink):
    """Each sink has a correlator of its own (L8)."""
    deliver_rows(make_event, sink)
    assert [(op, count) for _, _, op, count in ROWS] == deliver_rows(make_event, FakeSink())


@pytest.mark.client_go("REC-21")
def test_an_object_without_a_namespace_keeps_it_empty(make_event, sink, delivery):
    reference = make_event().involved_object._replace(namespace="")
    delivery.deliver(make_event(involved_object=reference, message="some verbose message: 1"))
    (call,) = sink.calls
    assert ("create", "default", "") == (call.op, call.event.namespace, call.event.involved_object.namespace)


GIVE_UP = [
    pytest.param(SinkRejected("cannot construct the request"), 1, "rejected", marks=pytest.mark.client_go("REC-12")),
    pytest.param(SinkRejected(""), 1, "rejected", marks=pytest.mark.client_go("REC-13")),
    pytest.param(ValueError("unexpected object"), 12, "gave up", marks=pytest.mark.client_go("REC-14")),
    pytest.param(SinkUnavailable("no connection"), 12, "gave up", marks=pytest.mark.client_go("REC-15")),
]


@pytest.mark.client_go("REC-17")
@pytest.mark.parametrize(("error", "tries", "verdict"), GIVE_UP)
def test_write_event_error(sink, delivery, error, tries, verdict):
    """All-empty events with count 0: each goes to Create, never to Patch; all errors with one correlator."""
    for _ in range(2):
        sink.calls.clear()
        sink.fail_always(error)
        assert verdict == delivery.deliver(Event()).verdict
        assert ["create"] * tries == ops(sink)


@pytest.mark.client_go("REC-16")
def test_write_event_error_succeeds_eventually(sink, delivery):
    sink.fail(SinkUnavailable("once"))
    assert Verdict.DELIVERED == delivery.deliver(Event()).verdict
    assert ["create", "create"] == ops(sink)


@pytest.mark.client_go("REC-18")
def test_update_expired_event(make_event, sink, delivery):
    outcome = delivery.deliver(make_event(count=2, resource_version="updated-resource-version"))
    assert Verdict.DELIVERED == outcome.verdict
    assert [("patch", "updated-resource-version"), ("create", "")] == [
        (call.op, call.event.resource_version) for call in sink.calls
    ]


@pytest.mark.client_go("REC-19")
def test_cancel_event(sink, sleeps):
    """Cancelled beforehand: one try and no sleep (S8)."""
    delivery = Delivery(sink, None, RetryPolicy.client_go(1.0), sleep=sleeps, stopping=lambda: True)
    sink.fail_always(ValueError("unexpected object"))
    assert Verdict.STOPPED == delivery.deliver(Event()).verdict
    assert 1 == len(sink.calls)
    assert [] == sleeps.seconds


def test_stopping_wakes_a_sleeping_delivery(sink):
    """S8: the sleep says that it was woken, as ``threading.Event.wait`` does."""
    delivery = Delivery(sink, None, RetryPolicy.client_go(), sleep=lambda seconds: True)
    sink.fail_always(SinkUnavailable("no connection"))
    assert Verdict.STOPPED == delivery.deliver(Event()).verdict
    assert 1 == len(sink.calls)


@pytest.mark.client_go("REC-20")
def test_lots_of_events(make_event, sink, delivery):
    """1000 events, each with four failures before it: all arrive, in order, with five tries each."""
    for number in range(1000):
        sink.fail(*[SinkUnavailable("not yet")] * 4)
        reference = make_event().involved_object._replace(name=f"object-{number}")
        delivery.deliver(make_event(number + 1, involved_object=reference, reason=f"reason-{number}"))
    assert 5000 == len(sink.calls)
    assert [f"reason-{number}" for number in range(1000)] == [event.reason for event in sink.events]


@pytest.mark.client_go("DER-01")
def test_a_terminating_namespace_is_one_try_and_a_quiet_log(make_event, sink, delivery, caplog):
    caplog.set_level(logging.DEBUG, "mpbroadcast.sink")
    sink.fail_always(SinkRejected("forbidden", code=403, reason="Forbidden", cause="NamespaceTerminating"))
    assert Verdict.REJECTED == delivery.deliver(make_event()).verdict
    assert 1 == len(sink.calls)
    assert ["DEBUG"] == [record.levelname for record in caplog.records]


@pytest.mark.client_go("DER-02")
@pytest.mark.parametrize("reason", ["AlreadyExists", ""])
def test_already_exists_is_one_try_and_a_quiet_log(make_event, sink, delivery, caplog, reason):
    """A bare 409 means the same."""
    caplog.set_level(logging.DEBUG, "mpbroadcast.sink")
    sink.fail_always(SinkRejected("exists", code=409, reason=reason))
    assert Verdict.REJECTED == delivery.deliver(make_event()).verdict
    assert 1 == len(sink.calls)
    assert ["DEBUG"] == [record.levelname for record in caplog.records]


@pytest.mark.client_go("DER-03")
@pytest.mark.parametrize(
    "error",
    [SinkRejected("no", code=403), SinkUnavailable("busy", code=503), SinkRejected("no", code=409, reason="Conflict")],
)
def test_a_patch_that_fails_with_another_status_is_abandoned(make_event, sink, delivery, error):
    delivery.deliver(make_event())
    sink.calls.clear()
    sink.fail(error)
    assert Verdict.REJECTED == delivery.deliver(make_event()).verdict
    assert ["patch"] == ops(sink)


@pytest.mark.client_go("DER-04")
def test_every_try_starts_with_a_patch(make_event, sink, delivery):
    delivery.deliver(make_event())
    sink.calls.clear()
    sink.fail(SinkUnavailable("1"), NotFound("gone"), SinkUnavailable("2"))
    assert Verdict.DELIVERED == delivery.deliver(make_event()).verdict
    assert ["patch", "patch", "create", "patch"] == ops(sink)


@pytest.mark.client_go("DER-05")
def test_a_patch_of_nothing_is_a_create_in_the_same_try(make_event, sink, delivery, sleeps):
    first = delivery.deliver(make_event()).event
    sink.expire()
    sink.calls.clear()
    stored = delivery.deliver(make_event()).event
    assert ["patch", "create"] == ops(sink)
    assert [] == sleeps.seconds
    assert (first.name, 2) == (stored.name, stored.count)


@pytest.mark.client_go("DER-06")
def test_the_first_sleep_is_random_and_the_other_ten_are_not(sink, sleeps):
    firsts = []
    for seed in range(50):
        sleeps.seconds.clear()
        sink.fail_always(SinkUnavailable("no connection"))
        Delivery(sink, None, RetryPolicy.client_go(), sleep=sleeps, rng=random.Random(seed)).deliver(Event())
        first, *others = sleeps.seconds
        assert [10.0] * 10 == others
        firsts.append(first)
    assert 0 <= min(firsts) < 1
    assert 9 < max(firsts) < 10


@pytest.mark.client_go("DER-07")
@pytest.mark.parametrize("code", [429, 500, 503, 504])
def test_a_busy_server_is_final(make_event, sink, delivery, code):
    sink.fail_always(SinkUnavailable("busy", code=code, retry_after=1.0))
    assert Verdict.REJECTED == delivery.deliver(make_event()).verdict
    assert 1 == len(sink.calls)


@pytest.mark.client_go("DER-09")
def test_a_filtered_first_sight_is_patched_and_then_created(make_event, sink):
    """C19."""
    clock = SteppingClock()
    delivery = Delivery(sink, EventCorrelator(clock=clock), RetryPolicy.client_go(), sleep=clock.sleep)
    for _ in range(25):
        delivery.deliver(make_event(clock.now_ns()))
    sink.calls.clear()
    clock.step(1)
    skipped = delivery.deliver(make_event(clock.now_ns(), reason="Other"))
    assert (Verdict.SKIPPED, "spam") == (skipped.verdict, skipped.why)
    clock.step(301 * SECOND)
    written = delivery.deliver(make_event(clock.now_ns(), reason="Other"))
    assert ["patch", "create"] == ops(sink)
    assert 2 == written.event.count


@pytest.mark.client_go("DER-32")
def test_after_stopping_no_further_try_starts(make_event, sink):
    stopped = [False]

    def sleep(_):
        stopped[0] = True
        return False

    delivery = Delivery(sink, None, RetryPolicy.client_go(), sleep=sleep, stopping=lambda: stopped[0])
    sink.fail_always(SinkUnavailable("no connection"))
    assert Verdict.STOPPED == delivery.deliver(make_event()).verdict
    assert 1 == len(sink.calls)


# events.k8s.io: one write at a time, without a correlator before it.


def new_event(**fields):
    defaults = {"name": "test", "namespace": "default", "reason": "Started", "event_time": 1_672_574_400 * SECOND}
    return Event(**(defaults | fields))


SINGLE = new_event()
SERIES = new_event(series=EventSeries(2, 1_672_574_460 * SECOND))


@pytest.mark.parametrize(
    ("events", "series"),
    [
        pytest.param([SINGLE], None, id="record one event", marks=pytest.mark.client_go("EVB-01")),
        pytest.param(
            [SINGLE, SERIES], SERIES.series, id="followed by an isomorphic one", marks=pytest.mark.client_go("EVB-02")
        ),
        pytest.param(
            [SERIES, SINGLE], SERIES.series, id="isomorphic before the original", marks=pytest.mark.client_go("EVB-03")
        ),
        pytest.param(
            [SERIES], SERIES.series, id="isomorphic without the original", marks=pytest.mark.client_go("EVB-04")
        ),
    ],
)
def test_record_event_to_sink(sink, sleeps, events, series):
    delivery = Delivery(sink, SeriesCorrelator(), RetryPolicy.client_go_events(), sleep=sleeps)
    for event in events:
        delivery.finish(Write(series_write(event), delivery.retry, delivery.rng))
    (stored,) = sink.events
    assert series == stored.series
    assert [] == sleeps.seconds


def series_write(event):
    """What the correlator would say about an event of another process."""
    return SeriesCorrelator().correlate(event)


@pytest.mark.client_go("SER-01", "SER-02", "SER-03")
def test_event_seriesf(sink, sleeps):
    """Created; again and it is patched with 2; with another action it is created without a series."""
    clock = SteppingClock()
    delivery = Delivery(sink, SeriesCorrelator(clock=clock), RetryPolicy.client_go_events(), sleep=sleeps)
    regarding = POD_P
    for action in ("started", "started", "stopped"):
        event_time = clock.now_ns()
        name = f"foo.{event_time:x}"
        delivery.deliver(new_event(name=name, involved_object=regarding, action=action, event_time=event_time))
        clock.step(SECOND)
    assert [("create", None), ("patch", 2), ("create", None)] == [
        (call.op, call.event.series and call.event.series.count) for call in sink.calls
    ]
    assert all(call.event.name.startswith("foo") and call.event.event_time for call in sink.calls)


@pytest.mark.client_go("SER-04")
def test_the_same_event_twice_on_an_empty_reference_is_one_with_a_series(sink, sleeps):
    delivery = Delivery(sink, SeriesCorrelator(), RetryPolicy.client_go_events(), sleep=sleeps)
    delivery.deliver(new_event())
    delivery.deliver(new_event(name="other"))
    (stored,) = sink.events
    assert ("default", 2) == (stored.namespace, stored.series.count)


@pytest.mark.client_go("DER-27")
def test_a_series_that_collides_is_retried_and_then_patched(sink, sleeps):
    delivery = Delivery(sink, None, RetryPolicy.client_go_events(), sleep=sleeps)
    delivery.deliver(SINGLE)
    sink.calls.clear()
    sink.fail(NotFound("gone"), SinkRejected("exists", code=409, reason="AlreadyExists"))
    outcome = delivery.finish(Write(Patch(SERIES, b'{"series":{"count":2}}'), delivery.retry, delivery.rng))
    assert Verdict.DELIVERED == outcome.verdict
    assert ["patch", "create", "patch"] == ops(sink)
    assert 10.0 <= sleeps.seconds[0] < 12.5


def test_a_single_event_that_collides_is_abandoned(sink, sleeps):
    """Row 3 of the table, new API."""
    delivery = Delivery(sink, None, RetryPolicy.client_go_events(), sleep=sleeps)
    delivery.deliver(SINGLE)
    assert Verdict.REJECTED == delivery.deliver(SINGLE).verdict


def test_the_pauses_of_the_new_api_are_10_to_12_and_a_half_seconds(sink, sleeps):
    sink.fail_always(SinkUnavailable("no connection"))
    delivery = Delivery(sink, None, RetryPolicy.client_go_events(), sleep=sleeps, rng=random.Random(1))
    assert Verdict.GAVE_UP == delivery.deliver(SINGLE).verdict
    assert 12 == len(sink.calls)
    assert 11 == len(sleeps.seconds)
    assert all(10.0 <= seconds < 12.5 for seconds in sleeps.seconds)
