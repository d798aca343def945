"""`SeriesCorrelator`: the rules E1-E17 one by one, and what is better than in client-go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.correlator import Create, Patch, SeriesCorrelator, Skip
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSeries, ObjectReference
from mpbroadcast.sinks.delivery import Delivery
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.testing.clocks import START_NS, SteppingClock
from mpbroadcast.testing.fakes import FakeSink

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
POD = ObjectReference("Pod", "default", "foo", "uid", "v1", "7")


def event_at(now_ns, **fields):
    defaults = {
        "name": f"foo.{now_ns:x}",
        "namespace": "default",
        "involved_object": POD,
        "type": "Normal",
        "reason": "Started",
        "action": "starting",
        "message": "note",
        "reporting_controller": "ctl",
        "reporting_instance": "ctl-1",
        "event_time": now_ns,
    }
    return Event(**(defaults | fields))


@pytest.fixture
def clock():
    return SteppingClock()


@pytest.fixture
def correlator(clock):
    return SeriesCorrelator(clock=clock)


@pytest.fixture
def occur(clock, correlator):
    """Lets something happen now."""

    def record(**fields):
        return correlator.correlate(event_at(clock.now_ns(), **fields))

    return record


def test_the_states_of_a_series(clock, correlator, occur):
    """Created, patched with 2, then only counted (E3, E4, E5)."""
    first = occur()
    assert isinstance(first, Create)
    clock.step(SECOND)
    second = occur(message="another note", annotations={"a": "1"})
    assert isinstance(second, Patch)
    assert EventSeries(2, clock.now_ns()) == second.event.series
    assert (first.event.name, "note", {}) == (second.event.name, second.event.message, second.event.annotations)
    assert b'{"series":{"count":2,"lastObservedTime":"2026-01-02T03:04:06.123456Z"}}' == second.patch
    third = occur()
    assert Skip(second.event.replace(series=EventSeries(3, clock.now_ns())), "in series") == third


@pytest.mark.client_go("DER-25")
def test_the_third_occurrence_is_only_counted(correlator, occur):
    decisions = [occur() for _ in range(3)]
    assert [Create, Patch, Skip] == [type(decision) for decision in decisions]
    assert 3 == correlator.refresh()[0].event.series.count


@pytest.mark.client_go("DER-30")
def test_another_resource_version_is_another_event(occur):
    occur()
    assert isinstance(occur(involved_object=POD._replace(resource_version="8")), Create)


@pytest.mark.parametrize(
    "other",
    [
        {"type": "Warning"},
        {"action": "stopping"},
        {"reason": "Stopped"},
        {"reporting_controller": "other"},
        {"reporting_instance": "other"},
        {"involved_object": POD._replace(field_path="spec")},
        {"related": POD},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_each_part_of_the_key_makes_another_event(occur, other):
    occur()
    assert isinstance(occur(**other), Create)


def test_no_related_object_and_an_empty_one_are_the_same(occur):
    occur()
    assert isinstance(occur(related=ObjectReference()), Patch)


def test_the_message_is_in_the_key_when_asked_for(clock):
    """W29: otherwise the first message of a series hides all others."""
    correlator = SeriesCorrelator(clock=clock, message_in_key=True)
    correlator.correlate(event_at(clock.now_ns()))
    assert isinstance(correlator.correlate(event_at(clock.now_ns(), message="other")), Create)
    assert isinstance(correlator.correlate(event_at(clock.now_ns(), message="other")), Patch)


def test_what_the_sink_returned_does_not_disturb_the_counting(correlator, occur):
    """E9."""
    event = occur().event
    correlator.update_state(event.replace(resource_version="5", series=EventSeries(99)))
    assert 2 == occur().event.series.count


def test_refresh_takes_over_what_the_sink_stored(correlator, occur):
    """E10."""
    occur()
    occur()
    (sent,) = correlator.refresh()
    correlator.refreshed(sent, sent.event.replace(resource_version="9"))
    assert ("9", 3) == (occur().event.resource_version, correlator.refresh()[0].event.series.count)


def test_a_sink_without_series_does_not_end_the_counting(correlator, occur):
    occur()
    occur()
    (sent,) = correlator.refresh()
    correlator.refreshed(sent, sent.event.replace(series=None))
    assert 3 == occur().event.series.count


@pytest.mark.client_go("DER-28")
def test_an_entry_that_changed_meanwhile_is_neither_replaced_nor_deleted(clock, correlator, occur):
    occur()
    occur()
    (refreshing,) = correlator.refresh()
    occur()
    correlator.refreshed(refreshing, refreshing.event.replace(resource_version="9"))
    assert "" == correlator.refresh()[0].event.resource_version
    clock.step(7 * MINUTE)
    (finishing,) = correlator.finish()
    assert 4 == occur().event.series.count
    correlator.finished(finishing)
    assert 5 == occur().event.series.count


@pytest.mark.client_go("DER-29")
def test_an_idle_single_event_goes_without_a_write(clock, correlator, occur):
    occur()
    clock.step(6 * MINUTE)
    assert ([], 1) == (correlator.finish(), len(correlator)), "exactly 6 minutes is not older"
    clock.step(1)
    assert ([], 0) == (correlator.finish(), len(correlator))


@pytest.mark.parametrize("idle_ns", [6 * MINUTE, 6 * MINUTE + 1])
def test_a_series_ends_when_it_is_idle_for_over_six_minutes(clock, correlator, occur, idle_ns):
    """Strictly older (E11)."""
    occur()
    clock.step(5 * MINUTE)
    occur()
    clock.step(idle_ns)
    assert (idle_ns > 6 * MINUTE) == bool(correlator.finish())


def test_a_single_event_of_the_old_shape_is_as_old_as_its_first_time(clock, correlator):
    """Our recorder writes the old shape; a sink for events.k8s.io/v1 makes its first time the event time."""
    now = clock.now_ns()
    correlator.correlate(event_at(now, event_time=None, first_timestamp=now, last_timestamp=now, count=1))
    assert ([], 1) == (correlator.finish(), len(correlator))
    assert ([], 0) == (correlator.finish(now + 7 * MINUTE), len(correlator))


@pytest.mark.client_go("SER-05")
def test_finish_series(clock):
    """One idle series is patched and leaves; the fresh single event of another controller stays."""
    correlator = SeriesCorrelator(clock=clock)
    sink = FakeSink()
    delivery = Delivery(sink, correlator, RetryPolicy.client_go_events(), clock=clock)
    delivery.tick()
    for _ in range(10):
        delivery.deliver(event_at(clock.now_ns()))
    last_seen = clock.now_ns()
    clock.step(9 * MINUTE)
    delivery.deliver(event_at(clock.now_ns(), reporting_controller="another"))
    sink.calls.clear()
    delivery.tick()
    (call,) = sink.calls
    assert ("patch", EventSeries(10, last_seen)) == (call.op, call.event.series)
    assert 1 == len(correlator)


@pytest.mark.client_go("SER-06")
def test_refresh_existing_series(clock):
    correlator = SeriesCorrelator(clock=clock)
    sink = FakeSink()
    delivery = Delivery(sink, correlator, RetryPolicy.client_go_events(), clock=clock)
    delivery.tick()
    clock.step(29 * MINUTE)
    delivery.deliver(event_at(clock.now_ns()))
    delivery.deliver(event_at(clock.now_ns()))
    clock.step(MINUTE)
    sink.calls.clear()
    delivery.tick()
    assert ["patch"] == [call.op for call in sink.calls]
    assert ["3"] == [entry.event.resource_version for entry in correlator.refresh()]


@pytest.mark.client_go("SER-07")
def test_refresh_that_fails_keeps_the_entry(clock):
    correlator = SeriesCorrelator(clock=clock)
    sink = FakeSink()
    delivery = Delivery(sink, correlator, RetryPolicy.client_go_events(), clock=clock)
    delivery.tick()
    clock.step(29 * MINUTE)
    delivery.deliver(event_at(clock.now_ns()))
    before = delivery.deliver(event_at(clock.now_ns())).event
    clock.step(MINUTE)
    sink.calls.clear()
    sink.fail_always(ValueError("request construction"))
    delivery.tick()
    assert ["patch"] == [call.op for call in sink.calls]
    assert [before.series.count] == [entry.event.series.count for entry in correlator.refresh()]


def test_close_returns_the_counts_that_were_never_written(clock, correlator, occur):
    """W11, W27: client-go loses them."""
    for reason, times in (("single", 1), ("pair", 2), ("many", 5)):
        for _ in range(times):
            occur(reason=reason)
    assert [("many", 5)] == [(patch.event.reason, patch.event.series.count) for patch in correlator.close()]
    assert ([], 0) == (correlator.close(), len(correlator))


def test_a_refreshed_series_is_not_written_again_at_the_end(correlator, occur):
    for _ in range(3):
        occur()
    (sent,) = correlator.refresh()
    correlator.refreshed(sent, sent.event)
    assert [] == correlator.close()


def test_the_memory_is_bounded_and_what_leaves_it_is_written(clock):
    """W28: client-go's map grows with each version of each object."""
    correlator = SeriesCorrelator(clock=clock, cache_size=2)
    for _ in range(3):
        correlator.correlate(event_at(clock.now_ns(), reason="A"))
    for reason in "BC":
        correlator.correlate(event_at(clock.now_ns(), reason=reason))
    assert 2 == len(correlator)
    (patch,) = correlator.take_evicted()
    assert ("A", 3) == (patch.event.reason, patch.event.series.count)
    assert [] == correlator.take_evicted()


def test_a_renamed_event_goes_on_under_its_new_name(correlator, occur):
    first = occur().event
    correlator.renamed(first, "foo.another")
    assert "foo.another" == occur().event.name


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="cache_size must be at least 1"):
        SeriesCorrelator(cache_size=0)
    with pytest.raises(ValueError, match="idle_seconds must be more than 0"):
        SeriesCorrelator(idle_seconds=0)


@given(
    steps=st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from([0, SECOND, 5 * MINUTE, 7 * MINUTE])), max_size=60),
    cache_size=st.sampled_from([1, 4096]),
)
def test_after_close_the_sink_has_counted_every_occurrence(steps, cache_size):
    """Whatever was created, patched, refreshed, finished or evicted: nothing is missing in the end."""
    clock = SteppingClock(START_NS)
    sink = FakeSink()
    delivery = Delivery(sink, SeriesCorrelator(clock=clock, cache_size=cache_size), clock=clock, sleep=clock.sleep)
    for reason, advance_ns in steps:
        clock.step(advance_ns + 1)
        delivery.tick()
        delivery.deliver(event_at(clock.now_ns(), reason=reason))
    delivery.close()
    counted = [1 if event.series is None else event.series.count for event in sink.events]
    assert len(steps) == sum(counted)
    assert 1 == sink.closed
