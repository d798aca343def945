"""client-go's own tests of the correlator, row by row (spec 3.2), and what follows from its code (spec 3.14)."""

from __future__ import annotations

import pytest

from mpbroadcast.correlator import CorrelatorOptions, Create, EventCorrelator, Patch, Skip
from mpbroadcast.correlator.keys import AGGREGATE_PREFIX, aggregate_by_reason, aggregate_message
from mpbroadcast.testing.clocks import SelfAdvancingClock, SteppingClock

SECOND = 1_000_000_000
START_NS = 1_767_323_045_123_456_789


@pytest.fixture
def correlated(make_event):
    """Correlates events one after another as client-go's test does: each made at a reading of the clock."""

    def run(earlier, last, *, interval_seconds, options=None):
        clock = SelfAdvancingClock(START_NS, interval_ns=interval_seconds * SECOND)
        correlator = EventCorrelator(options or CorrelatorOptions(), clock)
        for fields in earlier:
            decision = correlator.correlate(make_event(clock.now_ns(), **fields))
            if not isinstance(decision, Skip):
                correlator.update_state(decision.event)
        event = make_event(clock.now_ns(), **last)
        return event, correlator.correlate(event)

    return run


def assert_times_tell_the_count(event):
    """client-go's check: first and last time are equal exactly at count 1."""
    assert event.first_timestamp is not None
    assert (event.count == 1) == (event.first_timestamp == event.last_timestamp)


@pytest.mark.client_go("COR-01")
def test_events_group_by_reason_and_differ_by_message(make_event):
    one, other, third = (
        aggregate_by_reason(make_event(reason=reason, message=message))
        for reason, message in (("reason-1", "message-1"), ("reason-1", "message-2"), ("reason-2", "message-1"))
    )
    assert one[0] == other[0]
    assert one[1] != other[1]
    assert one[0] != third[0]


@pytest.mark.client_go("COR-02")
def test_the_aggregate_message_has_the_prefix(make_event):
    assert aggregate_message(make_event(message="m")) == "(combined from similar events): m"


@pytest.mark.client_go("COR-03")
def test_create_a_single_event(correlated):
    event, decision = correlated([], {}, interval_seconds=5)
    assert Create(event) == decision
    assert_times_tell_the_count(decision.event)


@pytest.mark.client_go("COR-04")
def test_the_same_event_should_just_count(correlated):
    _, decision = correlated([{}], {}, interval_seconds=5)
    assert isinstance(decision, Patch)
    assert 2 == decision.event.count
    assert_times_tell_the_count(decision.event)


@pytest.mark.client_go("COR-05")
def test_the_same_event_should_just_count_even_if_more_than_aggregate(correlated):
    event, decision = correlated([{}] * 10, {}, interval_seconds=30)
    assert (11, event.message) == (decision.event.count, decision.event.message)
    assert_times_tell_the_count(decision.event)


@pytest.mark.client_go("COR-06")
def test_the_same_event_is_spam_if_it_happens_too_frequently(correlated):
    _, decision = correlated([{}] * 26, {}, interval_seconds=1)
    assert isinstance(decision, Skip)
    assert "spam" == decision.why


@pytest.mark.client_go("COR-07")
def test_many_unique_events_are_created(correlated, make_event):
    objects = [make_event().involved_object._replace(name=f"pod-{i}") for i in range(31)]
    *earlier, last = [{"involved_object": reference} for reference in objects]
    event, decision = correlated(earlier, last, interval_seconds=5)
    assert Create(event) == decision


@pytest.mark.client_go("COR-08")
def test_similar_events_should_aggregate(correlated):
    earlier = [{"message": f"message-{i}"} for i in range(9)]
    event, decision = correlated(earlier, {"message": "new"}, interval_seconds=5)
    assert isinstance(decision, Create)
    aggregate = decision.event
    assert (AGGREGATE_PREFIX + "new", 1) == (aggregate.message, aggregate.count)
    assert event.involved_object == aggregate.involved_object
    assert_times_tell_the_count(aggregate)


@pytest.mark.client_go("COR-09")
def test_similar_events_many_times_should_count_the_aggregate(correlated):
    earlier = [{"message": f"message-{i}"} for i in range(10)]
    _, decision = correlated(earlier, {"message": "new"}, interval_seconds=5)
    assert isinstance(decision, Patch)
    assert (AGGREGATE_PREFIX + "new", 2) == (decision.event.message, decision.event.count)
    assert_times_tell_the_count(decision.event)


@pytest.mark.client_go("COR-10")
def test_events_from_different_containers_do_not_aggregate(correlated, make_event):
    other = make_event().involved_object._replace(field_path="spec.containers{container2}")
    event, decision = correlated([{}], {"involved_object": other}, interval_seconds=5)
    assert Create(event) == decision


@pytest.mark.client_go("COR-11")
def test_similar_events_further_apart_than_the_interval_do_not_aggregate(correlated):
    earlier = [{"message": f"message-{i}"} for i in range(9)]
    event, decision = correlated(earlier, {"message": "new"}, interval_seconds=600)
    assert Create(event) == decision


def key_with_reason(event):
    return event.source, event.involved_object, event.type, event.reason


SPAM_ROWS = [
    pytest.param(
        {}, {"reason": "other", "message": "other"}, True, id="one budget", marks=pytest.mark.client_go("COR-12")
    ),
    pytest.param(
        {"spam_key_func": key_with_reason},
        {"reason": "other", "message": "other"},
        False,
        id="another reason, another budget",
        marks=pytest.mark.client_go("COR-13"),
    ),
    pytest.param(
        {"spam_key_func": key_with_reason},
        {"message": "other"},
        True,
        id="the same reason, the same budget",
        marks=pytest.mark.client_go("COR-14"),
    ),
]


@pytest.mark.parametrize(("options", "last", "skipped"), SPAM_ROWS)
def test_the_spam_filter_with_a_burst_of_one(correlated, options, last, skipped):
    event, decision = correlated([{}], last, interval_seconds=1, options=CorrelatorOptions(burst_size=1, **options))
    if skipped:
        assert isinstance(decision, Skip)
    else:
        assert Create(event) == decision


@pytest.mark.client_go("DER-08")
def test_counting_goes_on_while_events_are_filtered(make_event):
    """40 equal events at once are 25 writes; the next one after a refill says 41 (C16)."""
    clock = SteppingClock()
    correlator = EventCorrelator(clock=clock)
    decisions = [correlator.correlate(make_event(clock.now_ns())) for _ in range(40)]
    assert 25 == sum(not isinstance(decision, Skip) for decision in decisions)
    assert list(range(1, 41)) == [decision.event.count for decision in decisions]
    clock.step(300 * SECOND)
    later = correlator.correlate(make_event(clock.now_ns()))
    assert isinstance(later, Patch)
    assert later.patch.startswith(b'{"count":41,')


@pytest.mark.client_go("DER-10")
def test_an_aggregate_has_only_what_is_common(make_event):
    """No annotations, no reporting fields, and nothing of the new shape (C7)."""
    correlator = EventCorrelator(CorrelatorOptions(max_events=1), SteppingClock())
    event = make_event(annotations={"a": "1"}, action="act", related=make_event().involved_object, labels={"l": "1"})
    aggregate = correlator.correlate(event).event
    assert {} == aggregate.annotations
    assert {} == aggregate.labels
    assert ("", "", "") == (aggregate.reporting_controller, aggregate.reporting_instance, aggregate.action)
    assert (None, None, None) == (aggregate.related, aggregate.series, aggregate.event_time)
    kept = ("namespace", "involved_object", "type", "reason", "source")
    assert [getattr(event, name) for name in kept] == [getattr(aggregate, name) for name in kept]


def test_an_aggregate_keeps_more_when_asked_to(make_event):
    """W18, an improvement that is off by default."""
    options = CorrelatorOptions(max_events=1, aggregates_keep_annotations=True, aggregates_keep_reporting=True)
    aggregate = EventCorrelator(options, SteppingClock()).correlate(make_event(annotations={"a": "1"})).event
    assert {"a": "1"} == aggregate.annotations
    assert ("kubelet", "kublet.node1") == (aggregate.reporting_controller, aggregate.reporting_instance)


@pytest.mark.client_go("DER-11")
def test_a_retained_message_passes_individually(make_event):
    """The smallest message left the group; the others are still known and do not enlarge it (C9)."""
    clock = SteppingClock()
    correlator = EventCorrelator(CorrelatorOptions(max_events=3), clock)
    passed = [correlator.correlate(make_event(clock.now_ns(), message=text)).event.message for text in "abc"]
    assert ["a", "b", AGGREGATE_PREFIX + "c"] == passed
    assert "c" == correlator.correlate(make_event(message="c")).event.message
    assert AGGREGATE_PREFIX + "a" == correlator.correlate(make_event(message="a")).event.message


def test_the_smallest_message_in_byte_order_leaves_the_group(make_event):
    """Byte order of UTF-8, which is not that of UTF-16: U+FF5E comes before U+1F600."""
    correlator = EventCorrelator(CorrelatorOptions(max_events=2), SteppingClock())
    correlator.correlate(make_event(message="\N{GRINNING FACE}"))
    correlator.correlate(make_event(message="\N{FULLWIDTH TILDE}"))
    assert "\N{GRINNING FACE}" == correlator.correlate(make_event(message="\N{GRINNING FACE}")).event.message


@pytest.mark.client_go("DER-12")
@pytest.mark.parametrize(
    ("gap_ns", "aggregates"), [(599 * SECOND, True), (600 * SECOND, True), (600 * SECOND + 1, False)]
)
def test_only_a_gap_of_over_600_seconds_starts_a_new_window(make_event, gap_ns, aggregates):
    """The window slides: every similar event renews it (C4)."""
    clock = SteppingClock()
    correlator = EventCorrelator(CorrelatorOptions(burst_size=None), clock)
    messages = []
    for i in range(12):
        messages.append(correlator.correlate(make_event(clock.now_ns(), message=f"m{i}")).event.message)
        clock.step(gap_ns)
    assert aggregates == any(message.startswith(AGGREGATE_PREFIX) for message in messages)


@pytest.mark.client_go("DER-13")
def test_a_repeat_after_an_hour_is_an_update_of_the_first(make_event):
    clock = SteppingClock()
    correlator = EventCorrelator(clock=clock)
    first = correlator.correlate(make_event(clock.now_ns())).event
    clock.step(3600 * SECOND)
    decision = correlator.correlate(make_event(clock.now_ns()))
    assert isinstance(decision, Patch)
    assert (first.name, first.first_timestamp, 2) == (
        decision.event.name,
        decision.event.first_timestamp,
        decision.event.count,
    )


@pytest.mark.client_go("DER-14")
def test_the_key_after_the_last_place_evicts_the_least_recently_used(make_event):
    """The default memory holds 4096; an object that left it has a fresh spam budget and a count of 1."""
    clock = SteppingClock()
    correlator = EventCorrelator(CorrelatorOptions(burst_size=1), clock)
    references = [make_event().involved_object._replace(name=f"pod-{i}") for i in range(4097)]
    for reference in references[:4096]:
        assert isinstance(correlator.correlate(make_event(involved_object=reference)), Create)
    assert isinstance(correlator.correlate(make_event(involved_object=references[0])), Skip)
    assert isinstance(correlator.correlate(make_event(involved_object=references[4096])), Create)
    assert isinstance(correlator.correlate(make_event(involved_object=references[0])), Skip)
    again = correlator.correlate(make_event(involved_object=references[1]))
    assert isinstance(again, Create)
    assert 1 == again.event.count


@pytest.mark.client_go("DER-16")
def test_the_exact_bytes_of_a_patch(make_event):
    at = 1_784_901_930_999_999_999
    correlator = EventCorrelator(clock=SteppingClock(at))

    def patch(**fields):
        correlator.correlate(make_event(at, **fields))
        return correlator.correlate(make_event(at, **(fields | {"annotations": {"changed": "yes"}}))).patch

    seen = b'"lastTimestamp":"2026-07-24T14:05:30Z"'
    assert b'{"count":2,' + seen + b',"message":"some text"}' == patch(message="some text")
    assert b'{"count":2,' + seen + b"}" == patch(message="")
    assert b'{"count":2,"lastTimestamp":null,"message":"a"}' == patch(message="a", last_timestamp=None)
    assert b'{"count":2,"message":"b"}' == patch(message="b", last_timestamp=999_999_999)
    assert b'{"count":2}' == patch(message="", reason="x", last_timestamp=0)
