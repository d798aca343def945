"""`Delivery` with the default policy: what can come back is waited for, nothing is written twice or silently lost."""

from __future__ import annotations

import logging
import pickle
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.correlator import CorrelatorOptions, EventCorrelator, SeriesCorrelator
from mpbroadcast.errors import NotFound, SinkRejected, SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.sinks.delivery import Delivery, Verdict
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.testing.clocks import SteppingClock
from mpbroadcast.testing.fakes import FakeBatchingSink, FakeSink

SECOND = 1_000_000_000
EXISTS = SinkRejected("exists", code=409, reason="AlreadyExists")


@pytest.fixture
def sink():
    return FakeSink()


@pytest.fixture
def clock():
    return SteppingClock()


@pytest.fixture
def deliver_to(clock):
    """Makes a delivery whose sleeping moves the clock."""

    def make(sink, correlator=None, retry=None, **options):
        options = {"clock": clock, "sleep": clock.sleep, "rng": random.Random(3)} | options
        return Delivery(sink, correlator, retry or RetryPolicy(), **options)

    return make


def numbered(make_event, count, first=0):
    """Events of objects of their own, in order."""
    reference = make_event().involved_object
    return [
        make_event(number + 1, involved_object=reference._replace(name=f"pod-{number}"))
        for number in range(first, first + count)
    ]


def names(events):
    return [event.involved_object.name for event in events]


def verdicts(outcomes):
    return [str(outcome.verdict) for outcome in outcomes]


@pytest.mark.parametrize(
    "error",
    [SinkUnavailable("no connection"), SinkUnavailable("busy", code=503), ConnectionResetError(), TimeoutError()],
)
def test_what_can_come_back_is_waited_for(make_event, sink, deliver_to, error):
    """A hundred failures are no reason to lose an event while nothing else could be written either."""
    sink.fail(*[error] * 100)
    assert Verdict.DELIVERED == deliver_to(sink).deliver(make_event()).verdict
    assert 101 == len(sink.calls)


@pytest.mark.parametrize(
    "error", [SinkRejected("invalid", code=422, reason="Invalid"), NotFound("no such namespace"), RuntimeError("a bug")]
)
def test_a_refusal_is_final(make_event, sink, deliver_to, error):
    sink.fail(error)
    outcome = deliver_to(sink).deliver(make_event())
    assert Verdict.REJECTED == outcome.verdict
    assert str(error) in outcome.why
    assert 1 == len(sink.calls)


def test_pauses_grow_up_to_the_cap_and_honour_retry_after():
    policy = RetryPolicy(base_seconds=1.0, cap_seconds=8.0, factor=2.0, jitter=0.5)
    rng = random.Random(1)
    for tries, plain in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (5000, 8.0)):
        pauses = [policy.pause(tries, rng) for _ in range(200)]
        assert plain <= min(pauses) < plain * 1.05
        assert plain * 1.45 < max(pauses) <= plain * 1.5
    assert 60.0 == policy.pause(1, rng, retry_after=60.0)
    assert policy.pause(4, rng, retry_after=0.0) >= 8.0


def test_the_delivery_waits_as_long_as_the_sink_asks(make_event, sink, deliver_to, clock):
    sink.fail(SinkUnavailable("busy", code=429, retry_after=77.0))
    before = clock.now_ns()
    deliver_to(sink).deliver(make_event())
    assert 77 * SECOND == clock.now_ns() - before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("base_seconds", -1),
        ("cap_seconds", float("inf")),
        ("factor", 0.5),
        ("jitter", float("nan")),
        ("jitter", None),
        ("give_up_after", 0),
        ("give_up_after", 1.5),
        ("give_up_after", True),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_one_line_that_names_it(option, value):
    with pytest.raises(ValueError) as caught:
        RetryPolicy(**{option: value})
    assert str(caught.value).startswith(option)
    assert "\n" not in str(caught.value)


def test_client_go_cannot_go_on_for_ever():
    with pytest.raises(ValueError, match="give_up_after"):
        RetryPolicy(client_go_table=True, give_up_after=None)


@pytest.mark.parametrize("policy", [RetryPolicy(), RetryPolicy.client_go(), RetryPolicy.client_go_events(3.0)])
def test_policies_survive_pickling(policy):
    assert policy == pickle.loads(pickle.dumps(policy))


def test_a_name_that_is_taken_is_met_with_a_new_one(make_event, sink, deliver_to, clock):
    """W23: two processes recorded about one object in the same nanosecond; client-go drops the second."""
    delivery = deliver_to(sink, EventCorrelator(clock=clock))
    event, other = make_event(reason="A"), make_event(reason="B")
    delivery.deliver(event)
    stored = delivery.deliver(other).event
    assert stored.name != event.name
    assert stored.name.startswith("foo.")
    assert 2 == delivery.deliver(other).event.count
    assert {event.name: 1, stored.name: 2} == {kept.name: kept.count for kept in sink.events}


def test_an_aggregate_whose_name_is_taken_counts_on_under_the_new_one(make_event, sink, deliver_to, clock):
    """Its record is found by its group, not by what the sink returned (C13c)."""
    delivery = deliver_to(sink, EventCorrelator(CorrelatorOptions(max_events=1), clock))
    FakeSink.create(sink, make_event(clock.now_ns(), message="of another process"))
    counts = [delivery.deliver(make_event(clock.now_ns(), message=text)).event.count for text in "abc"]
    assert [1, 2, 3] == counts
    assert [1, 3] == [event.count for event in sink.events]


def test_a_sink_that_takes_no_name_refuses_the_event(make_event, sink, deliver_to):
    sink.fail_always(EXISTS)
    assert Verdict.REJECTED == deliver_to(sink).deliver(make_event()).verdict
    assert 5 == len({call.event.name for call in sink.calls})


def test_a_create_without_an_answer_that_meets_itself_was_delivered(make_event, sink, deliver_to):
    """The request was carried out and only its answer was lost."""
    sink.fail(SinkUnavailable("the answer was lost"), EXISTS)
    assert Verdict.DELIVERED == deliver_to(sink).deliver(make_event()).verdict
    assert 2 == len(sink.calls)


def test_an_event_that_comes_again_after_a_crash_and_meets_itself_was_delivered(make_event, sink, deliver_to):
    event = make_event()
    deliver_to(sink).deliver(event)
    assert Verdict.DELIVERED == deliver_to(sink).deliver(event, repeated=True).verdict
    assert 1 == len(sink.events)


def test_a_patch_that_lost_a_race_is_tried_again(make_event, sink, deliver_to):
    """Nothing was there to patch, and then the create met an event: now there is one."""
    delivery = deliver_to(sink, EventCorrelator(clock=SteppingClock()))
    delivery.deliver(make_event())
    sink.calls.clear()
    sink.fail(NotFound("gone"), EXISTS)
    assert 2 == delivery.deliver(make_event()).event.count
    assert ["patch", "create", "patch"] == [call.op for call in sink.calls]


def test_a_race_that_is_never_won_ends(make_event, sink, deliver_to):
    delivery = deliver_to(sink, EventCorrelator(clock=SteppingClock()), RetryPolicy(give_up_after=3))
    sink.fail(*[NotFound("gone"), EXISTS] * 10)
    assert Verdict.GAVE_UP == delivery.deliver(make_event(count=2)).verdict
    assert 6 == len(sink.calls)


def test_an_empty_patch_is_sent_as_an_empty_object(make_event, sink, deliver_to):
    """An event that comes with a count of its own has no difference to tell (S3)."""
    deliver_to(sink, EventCorrelator(clock=SteppingClock())).deliver(make_event(count=2))
    assert [("patch", b"{}"), ("create", b"")] == [(call.op, call.patch) for call in sink.calls]


def test_without_a_correlator_every_event_is_created(make_event, sink, deliver_to):
    delivery = deliver_to(sink)
    for number in range(3):
        delivery.deliver(make_event(number + 1))
    assert ["create"] * 3 == [call.op for call in sink.calls]


def test_a_sink_that_returns_nothing_has_delivered(make_event, deliver_to):
    """Row 18: client-go crashes on it."""

    class Silent(FakeSink):
        def create(self, event):
            super().create(event)

    outcome = deliver_to(Silent(), EventCorrelator(clock=SteppingClock())).deliver(make_event())
    assert (Verdict.DELIVERED, None) == (outcome.verdict, outcome.event)


def test_a_log_line_stays_one_line(make_event, sink, deliver_to, caplog):
    """Nothing from outside can break it or forge another."""
    sink.fail(SinkRejected("no\nE0101 forged line\x1b[2J", code=400))
    deliver_to(sink).deliver(make_event(name="a\nb"))
    (record,) = caplog.records
    assert logging.ERROR == record.levelno
    assert record.getMessage().isprintable()
    assert r"no\nE0101 forged" in record.getMessage()


def test_an_outage_is_one_line_a_minute_with_the_number_of_failed_tries(make_event, sink, deliver_to, caplog):
    sink.fail(*[SinkUnavailable("away")] * 7)
    delivery = deliver_to(sink)
    delivery.deliver(make_event())
    assert ["Unable to write event (may retry)"] == [line.partition(":")[0] for line in caplog.messages]
    delivery.close()
    assert 2 == len(caplog.messages)
    assert caplog.messages[-1].endswith(" (6 like this since the last line)")


def test_client_go_s_policy_logs_every_failed_try(make_event, sink, deliver_to, caplog):
    """Its table of log records (F5) knows no limit."""
    sink.fail(SinkUnavailable("a"), SinkUnavailable("b"))
    deliver_to(sink, retry=RetryPolicy.client_go()).deliver(make_event())
    assert ["may retry", "may retry"] == [line.split("(")[1].split(")")[0] for line in caplog.messages]


def test_another_answer_is_another_kind_of_line(make_event, sink, deliver_to, caplog):
    sink.fail(*[SinkRejected("no", code=403)] * 2, SinkRejected("wrong", code=422))
    delivery = deliver_to(sink)
    for n in range(3):
        delivery.deliver(make_event(name=f"event-{n}"))
    assert ['err="no"', 'err="wrong"'] == [line.rpartition(" ")[2] for line in caplog.messages]


def test_a_threading_event_stops_it(make_event, sink):
    """Its ``wait`` sleeps and its ``is_set`` tells: nobody has to wait for the end of a pause."""
    stop = threading.Event()
    sink.fail_always(SinkUnavailable("no connection"))
    delivery = Delivery(sink, retry=RetryPolicy(base_seconds=600), sleep=stop.wait, stopping=stop.is_set)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(delivery.deliver(make_event())))
    thread.start()
    stop.set()
    thread.join(timeout=30)
    assert ["stopped"] == verdicts(outcomes)


def test_the_plain_sleep_notices_that_all_is_stopping(make_event, sink):
    """By default there is no event to wait on; it looks ten times a second."""
    asked = iter([False, False, True])
    delivery = Delivery(sink, retry=RetryPolicy(base_seconds=600), stopping=lambda: next(asked, True))
    sink.fail_always(SinkUnavailable("no connection"))
    assert Verdict.STOPPED == delivery.deliver(make_event()).verdict


def test_the_plain_sleep_lasts_as_long_as_it_should(make_event, sink):
    sink.fail(SinkUnavailable("once"))
    delivery = Delivery(sink, retry=RetryPolicy(base_seconds=0.01, jitter=0))
    assert Verdict.DELIVERED == delivery.deliver(make_event()).verdict


# Many at once.


@pytest.mark.parametrize("make_sink", [FakeSink, FakeBatchingSink])
def test_many_events_arrive_in_order(make_event, deliver_to, make_sink):
    sink, events = make_sink(), numbered(make_event, 20)
    outcomes = deliver_to(sink).deliver_many(events, source="lane", first_sequence=1)
    assert ["delivered"] * 20 == verdicts(outcomes)
    assert names(events) == names(sink.events)


def test_a_batch_is_one_transaction_with_its_position(make_event, deliver_to):
    sink = FakeBatchingSink()
    deliver_to(sink).deliver_many(numbered(make_event, 20), source="lane", first_sequence=100)
    assert (1, 119) == (sink.commits, sink.position("lane"))


def test_nothing_is_written_for_no_events(deliver_to):
    sink = FakeBatchingSink()
    assert [] == deliver_to(sink).deliver_many([], source="lane", first_sequence=1)
    assert (0, 0) == (sink.commits, sink.position("lane"))


def test_what_is_stored_already_is_not_written_again(make_event, deliver_to):
    """A restarted watcher gets again what was in flight; the sink's position tells what of it is stored."""
    sink, events = FakeBatchingSink(), numbered(make_event, 10)
    deliver_to(sink).deliver_many(events[:6], source="lane", first_sequence=1)
    sink.calls.clear()
    outcomes = deliver_to(sink).deliver_many(events, source="lane", first_sequence=1)
    assert ["delivered"] * 10 == verdicts(outcomes)
    assert names(events[6:]) == names(call.event for call in sink.calls)
    assert names(events) == names(sink.events)


def test_without_a_source_there_is_no_position(make_event, deliver_to):
    """Two batches of nobody in particular are both written."""
    sink = FakeBatchingSink()
    delivery = deliver_to(sink)
    for first in (0, 3):
        delivery.deliver_many(numbered(make_event, 3, first))
    assert (6, 0) == (len(sink.events), sink.position(""))


def test_sequence_numbers_begin_at_one(make_event, deliver_to):
    """0 is the position of a source of which nothing is stored."""
    with pytest.raises(ValueError, match="first_sequence must be at least 1"):
        deliver_to(FakeBatchingSink()).deliver_many(numbered(make_event, 1), source="lane", first_sequence=0)


def test_repeated_events_that_meet_themselves_were_delivered(make_event, deliver_to):
    """A sink without positions is asked: what is there already is not written under another name."""
    sink, events = FakeSink(), numbered(make_event, 3)
    deliver_to(sink).deliver_many(events[:2])
    assert ["delivered"] * 3 == verdicts(deliver_to(sink).deliver_many(events, repeated=True))
    assert names(events) == names(sink.events)


def test_what_was_refused_stays_refused_when_it_comes_again(make_event, deliver_to):
    """It was tried while the event before it kept failing; then the delivery stopped, and went on one by one."""
    sink, events = Poisoned(), numbered(make_event, 2)
    stop = [False]
    tries = []

    def sleep(_):
        tries.append(1)
        stop[0] = len(tries) == 12
        return False

    def create(event):
        if event.involved_object.name == "pod-1":
            raise SinkRejected("invalid", code=422)
        return Poisoned.create(sink, event)

    picky = type("Picky", (), {"create": staticmethod(create), "patch": sink.patch, "close": sink.close})()
    delivery = deliver_to(picky, sleep=sleep, stopping=lambda: stop[0])
    assert [] == delivery.deliver_many(events)
    stop[0], sink.poison = False, "nobody"
    assert "delivered" == delivery.deliver(events[0]).verdict
    assert "rejected" == delivery.deliver(events[1]).verdict


def test_positions_of_sources_are_apart(make_event, deliver_to):
    sink = FakeBatchingSink()
    delivery = deliver_to(sink)
    delivery.deliver_many(numbered(make_event, 3), source="one", first_sequence=10)
    delivery.deliver_many(numbered(make_event, 3, 3), source="two", first_sequence=1)
    assert 6 == len(sink.events)


@pytest.mark.parametrize("but_keep", [False, True], ids=["lost", "only seemed lost"])
def test_a_lost_commit_is_written_again_once(make_event, deliver_to, but_keep):
    sink, events = FakeBatchingSink(), numbered(make_event, 5)
    sink.lose_commits(3, but_keep=but_keep)
    correlator = EventCorrelator(clock=SteppingClock())
    outcomes = deliver_to(sink, correlator).deliver_many([*events, *events], source="lane", first_sequence=1)
    assert ["delivered"] * 10 == verdicts(outcomes)
    assert [2] * 5 == [event.count for event in sink.events]
    assert 10 == sink.position("lane")


def test_a_failure_commits_what_stands_before_it(make_event, deliver_to):
    """The pause is not spent with a transaction open."""
    sink, events, committed = FakeBatchingSink(), numbered(make_event, 5), []

    def sleep(_):
        committed.append((sink.position("lane"), len(sink.events)))

    sink.fail(None, None, SinkUnavailable("locked"))
    outcomes = deliver_to(sink, sleep=sleep).deliver_many(events, source="lane", first_sequence=1)
    assert [(2, 2)] == committed
    assert ["delivered"] * 5 == verdicts(outcomes)
    assert names(events) == names(sink.events)


def test_refused_and_skipped_events_settle_too(make_event, deliver_to):
    sink = FakeBatchingSink()
    correlator = EventCorrelator(CorrelatorOptions(burst_size=1), SteppingClock())
    sink.fail(SinkRejected("invalid", code=422))
    events = [*numbered(make_event, 2), *numbered(make_event, 1)]
    outcomes = deliver_to(sink, correlator).deliver_many(events, source="lane", first_sequence=1)
    assert ["rejected", "delivered", "skipped"] == verdicts(outcomes)
    assert 3 == sink.position("lane")


class Poisoned(FakeSink):
    """Fails for one object, always, as a server with a bug would."""

    poison = "pod-0"

    def create(self, event):
        if event.involved_object.name == self.poison:
            self.fail(SinkUnavailable("internal error", code=500))
        return super().create(event)


class PoisonedBatches(FakeBatchingSink, Poisoned):
    pass


@pytest.mark.parametrize("make_sink", [Poisoned, PoisonedBatches])
def test_an_event_that_keeps_failing_while_others_succeed_is_given_up(make_event, deliver_to, make_sink):
    sink, events = make_sink(), numbered(make_event, 4)
    outcomes = deliver_to(sink).deliver_many(events, source="lane", first_sequence=1)
    assert ["gave up", "delivered", "delivered", "delivered"] == verdicts(outcomes)
    assert 13 == sum(call.event.involved_object.name == "pod-0" for call in sink.calls)
    assert names(events[1:]) == names(sink.events)


@pytest.mark.parametrize("failures", [11, 12, 13, 200, 201])
def test_an_outage_makes_nobody_give_up(make_event, deliver_to, failures):
    """Wherever it ends: the first event is tried once more when another one went through."""
    sink, events = FakeSink(), numbered(make_event, 3)
    sink.fail(*[SinkUnavailable("down", code=503)] * failures)
    assert ["delivered"] * 3 == verdicts(deliver_to(sink).deliver_many(events))
    assert names(events) == sorted(names(sink.events))


@pytest.mark.parametrize("make_sink", [Poisoned, PoisonedBatches])
def test_with_nothing_behind_it_the_failing_event_is_handed_back(make_event, deliver_to, make_sink):
    """The caller brings it again with what has come since, which shows whether others succeed; it counts only once."""
    sink, events = make_sink(), numbered(make_event, 3)
    delivery = deliver_to(sink, EventCorrelator(clock=SteppingClock()))
    assert [] == delivery.deliver_many(events[:1], source="lane", first_sequence=1)
    assert [] == delivery.deliver_many(events[:1], source="lane", first_sequence=1)
    outcomes = delivery.deliver_many(events, source="lane", first_sequence=1)
    assert ["gave up", "delivered", "delivered"] == verdicts(outcomes)
    assert [1, 1] == [event.count for event in sink.events]
    assert {1} == {call.event.count for call in sink.calls}


def test_events_behind_that_are_refused_say_nothing(make_event, deliver_to):
    """Only a success shows that others succeed."""
    sink, events = Poisoned(), numbered(make_event, 3)
    refused = []

    def create(event):
        if event.involved_object.name == "pod-1":
            refused.append(event)
            raise SinkRejected("invalid", code=422)
        return Poisoned.create(sink, event)

    sink_of_both = type("Both", (), {"create": staticmethod(create), "patch": sink.patch, "close": sink.close})()
    outcomes = deliver_to(sink_of_both).deliver_many(events)
    assert ["gave up", "rejected", "delivered"] == verdicts(outcomes)
    assert 1 == len(refused)


@pytest.mark.parametrize("make_sink", [FakeSink, FakeBatchingSink])
def test_stopping_returns_what_is_settled(make_event, deliver_to, make_sink):
    sink, events = make_sink(), numbered(make_event, 5)
    sink.fail(None, None)
    sink.fail_always(None)
    stop = [False]

    def sleep(_):
        stop[0] = True
        return True

    delivery = deliver_to(sink, sleep=sleep, stopping=lambda: stop[0])
    sink.fail(None, None, SinkUnavailable("no connection"))
    outcomes = delivery.deliver_many(events, source="lane", first_sequence=1)
    assert ["delivered", "delivered"] == verdicts(outcomes)
    assert names(events[:2]) == names(sink.events)


def test_a_transaction_that_is_refused_settles_its_events(make_event, deliver_to):
    class ReadOnly(FakeBatchingSink):
        def begin(self):
            raise SinkRejected("the file is read-only")

    outcomes = deliver_to(ReadOnly()).deliver_many(numbered(make_event, 3), source="lane", first_sequence=1)
    assert ["rejected"] * 3 == verdicts(outcomes)


def test_client_gos_table_gives_a_transaction_up_as_well(make_event, deliver_to):
    sink = FakeBatchingSink()
    sink.lose_commits(12)
    delivery = deliver_to(sink, retry=RetryPolicy.client_go())
    assert ["gave up"] * 3 == verdicts(delivery.deliver_many(numbered(make_event, 3), source="l", first_sequence=1))
    assert [] == sink.events


def test_series_that_leave_the_memory_are_written(make_event, deliver_to, clock):
    sink = FakeSink()
    delivery = deliver_to(sink, SeriesCorrelator(clock=clock, cache_size=1))
    event = make_event(event_time=clock.now_ns())
    delivery.deliver_many([event, event, event, make_event(reason="Other", name="other")])
    assert [3, None] == [kept.series and kept.series.count for kept in sink.events]


def test_closing_writes_the_series_and_closes_the_sink(make_event, deliver_to, clock):
    sink = FakeSink()
    delivery = deliver_to(sink, SeriesCorrelator(clock=clock))
    for _ in range(4):
        delivery.deliver(make_event(event_time=clock.now_ns()))
    assert ["delivered"] == verdicts(delivery.close())
    assert ([4], 1) == ([kept.series.count for kept in sink.events], sink.closed)


def test_only_series_have_rounds(sink, deliver_to, clock):
    assert deliver_to(sink, EventCorrelator(clock=clock)).tick() is None
    assert 360.0 == deliver_to(sink, SeriesCorrelator(clock=clock)).tick()


FAULTS = st.lists(
    st.sampled_from(
        [None, None, None, SinkUnavailable("down"), SinkUnavailable("busy", code=503), SinkRejected("no", code=422)]
    ),
    max_size=40,
)


@given(
    faults=FAULTS,
    lost=st.integers(0, 3),
    but_keep=st.booleans(),
    sizes=st.lists(st.integers(0, 6), max_size=6),
    batching=st.booleans(),
)
def test_every_event_is_settled_once_and_stored_once(faults, lost, but_keep, sizes, batching):
    """Whatever fails: each event has one outcome, and is stored exactly if that says so."""
    sink = FakeBatchingSink(faults) if batching else FakeSink(faults)
    if batching:
        sink.lose_commits(lost, but_keep=but_keep)
    clock = SteppingClock()
    correlator = EventCorrelator(CorrelatorOptions(burst_size=None), clock)
    delivery = Delivery(sink, correlator, RetryPolicy(give_up_after=None), sleep=clock.sleep, rng=random.Random(5))
    outcomes, events = [], []
    for size in sizes:
        batch = [
            Event(name=f"e.{n}", namespace="default", reason=f"R{n}", count=1)
            for n in range(len(events), len(events) + size)
        ]
        settled = delivery.deliver_many(batch, source="lane", first_sequence=len(events) + 1)
        assert len(settled) == size
        outcomes += settled
        events += batch
    delivered = [
        event.reason for event, outcome in zip(events, outcomes, strict=True) if outcome.verdict == "delivered"
    ]
    assert delivered == [event.reason for event in sink.events]
    assert {"delivered", "rejected"} >= set(verdicts(outcomes))
