"""`SinkHandler`: every record is settled once, by what became of it; nothing is written twice."""

from __future__ import annotations

import logging
import pickle
import random
import signal
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpbroadcast.base.outcome import Settled
from mpbroadcast.correlator import CorrelatorOptions, SeriesCorrelator
from mpbroadcast.errors import SinkRejected, SinkUnavailable
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.wire import ADDED, KIND_RECORD, MODIFIED, encode
from mpbroadcast.sinks.handler import COUNTERS, SinkHandler
from mpbroadcast.sinks.jsonlines import JSONLinesSink
from mpbroadcast.sinks.log import LogSink
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.sinks.sqlite import SQLiteSink
from mpbroadcast.store.sqlite import Store
from mpbroadcast.testing import FakeBatchingSink, FakeSink

START_NS = 1_767_323_045_123_456_789
AT_ONCE = RetryPolicy(base_seconds=0.0, give_up_after=3)
HANDLED, FAILED, GIVEN_UP, FILTERED = Settled
REPEATS = CorrelatorOptions(max_events=None, burst_size=None)


def payload(number, message=None, reason="Started"):
    about = ObjectReference("Pod", "apps", f"web-{number % 10}", f"uid-{number % 10}", "v1")
    static = encode_static(about, "Normal", reason, EventSource("kubelet"))
    return encode_record(START_NS + number, static, f"message {number}" if message is None else message)


def record(number, *arguments, **options):
    return number, KIND_RECORD, payload(number, *arguments, **options)


def records(first, last):
    return [record(number) for number in range(first, last + 1)]


class Ring:
    """Where a handler settles: once each, and only what it was given."""

    def __init__(self):
        self.settled = {}
        self.counts = Counter()

    def settle(self, sequence, outcome):
        assert sequence not in self.settled
        self.settled[sequence] = Settled(outcome)

    def count(self, name, n=1):
        assert name in COUNTERS
        self.counts[name] += n


@pytest.fixture
def ring():
    return Ring()


@pytest.fixture
def opened(ring):
    """Makes a handler and opens it."""
    made = []

    def make(sink, *, stopping=lambda: False, repeated_until=0, **options):
        options = {"name": "test", "source": "ring-1", "retry": AT_ONCE} | options
        handler = SinkHandler(sink, **options)
        handler.open(count=ring.count, stopping=stopping, repeated_until=repeated_until)
        made.append(handler)
        return handler

    yield make
    for handler in made:
        handler._pending = []
        handler.close()


@pytest.fixture(params=["fake", "batching", "sqlite"])
def any_sink(request, tmp_path):
    sink = {
        "fake": FakeSink,
        "batching": FakeBatchingSink,
        "sqlite": lambda: SQLiteSink(tmp_path / "events.db"),
    }[request.param]()

    def stored():
        if isinstance(sink, FakeSink):
            return [(event.message, event.count) for event in sink.events]
        with Store.open(sink.path, read_only=True) as store:
            return [(event.message, event.count) for event in store.list().events]

    sink.stored = stored
    return sink


def test_every_event_is_written_and_settled_in_order(any_sink, opened, ring):
    handler = opened(any_sink)
    handler.handle(records(1, 5), ring.settle)
    handler.handle(records(6, 20), ring.settle)
    assert dict.fromkeys(range(1, 21), HANDLED) == ring.settled
    assert list(range(1, 21)) == list(ring.settled)
    assert [(f"message {number}", 1) for number in range(1, 21)] == any_sink.stored()
    assert {"created": 20} == ring.counts


def test_repeats_are_counted_in_the_sink(any_sink, opened, ring):
    """Within a batch and from batch to batch."""
    handler = opened(any_sink, correlator=REPEATS)
    for first in (1, 31):
        handler.handle([record(number, message="the same") for number in range(first, first + 30)], ring.settle)
    assert [("the same", 6)] * 10 == any_sink.stored()
    assert {"created": 10, "patched": 50} == ring.counts
    assert 60 == len(ring.settled)


def test_spam_is_handled_and_counted_apart(any_sink, opened, ring):
    handler = opened(any_sink, correlator=CorrelatorOptions(burst_size=2, max_events=None))
    handler.handle([record(10 * number, message="the same") for number in range(1, 6)], ring.settle)
    assert [HANDLED] * 5 == list(ring.settled.values())
    assert [("the same", 2)] == any_sink.stored()
    assert {"created": 1, "patched": 1, "skipped": 3} == ring.counts


SPAM_OF_2 = CorrelatorOptions(burst_size=2, max_events=None)


def test_the_first_spam_of_an_object_is_named_with_the_option_that_lifts_the_limit(any_sink, opened, ring, caplog):
    """kubernetes#97367; each object once, and how many more there were."""
    handler = opened(any_sink, correlator=SPAM_OF_2)
    handler.handle([record(number, message="the same") for number in range(1, 81)], ring.settle)  # of ten objects
    handler.handle([record(number, message="other") for number in range(81, 101)], ring.settle)
    first = [line for line in caplog.messages if "from now on" in line]
    assert [f'object="Pod apps/web-{n % 10}"' in first[n - 1] for n in range(1, 11)] == [True] * len(first)
    assert "it may have 2 at once and one more every 300 s" in first[0]
    assert "burst_size=None lifts it" in first[0]
    assert 'reason="Started"' in first[0]
    assert first == caplog.messages
    handler._delivery.notices.flush(final=True)
    assert "The spam filter holds back events: " in caplog.messages[-1]
    assert "(70 like this since the last line)" in caplog.messages[-1]
    assert 80 == ring.counts["skipped"]


def test_the_names_of_spammed_objects_take_bounded_memory(opened, ring, caplog, monkeypatch):
    monkeypatch.setattr("mpbroadcast.sinks.notices._OBJECTS", 3)
    handler = opened(FakeSink(), correlator=SPAM_OF_2)
    handler.handle([record(number, message="the same") for number in range(1, 101)], ring.settle)
    assert 3 == len(handler._delivery.notices._named)
    assert 10 <= sum("from now on" in line for line in caplog.messages)


def test_an_outage_of_an_hour_does_not_fill_the_log(opened, ring, caplog):
    """A line for each kind and minute, however many tries there were."""
    now = [0.0]

    class Away(FakeSink):
        def create(self, event):
            now[0] += 0.5
            if now[0] < 3600:
                raise SinkUnavailable("connection refused", code=0)
            return super().create(event)

    handler = opened(Away(), retry=RetryPolicy(base_seconds=0.0))
    handler._delivery.notices._clock = lambda: now[0]
    handler.handle(records(1, 20), ring.settle)
    assert dict.fromkeys(range(1, 21), HANDLED) == ring.settled
    assert 7000 < ring.counts["retries"]
    assert 60 <= len(caplog.messages) <= 61
    assert "(120 like this since the last line)" in caplog.messages[30]


def test_similar_events_are_combined_if_asked_for(any_sink, opened, ring):
    handler = opened(any_sink, correlator=CorrelatorOptions(burst_size=None, max_events=3))
    handler.handle([record(10 * number) for number in range(1, 8)], ring.settle)
    assert [
        ("message 10", 1),
        ("message 20", 1),
        ("(combined from similar events): message 70", 5),
    ] == any_sink.stored()


def test_gaps_between_sequence_numbers_are_fine(any_sink, opened, ring):
    handler = opened(any_sink, correlator=REPEATS)
    numbers = [3, 4, 9, 11, 12]
    handler.handle([record(number) for number in numbers], ring.settle)
    assert dict.fromkeys(numbers, HANDLED) == ring.settled
    if hasattr(any_sink, "position"):
        assert 12 == any_sink.position("ring-1")


def test_what_is_no_event_is_filtered_as_in_client_go(any_sink, opened, ring, make_event):
    """L2; an event counts whatever its watch type is."""
    handler = opened(any_sink)
    obj = encode(ADDED, {"kind": "Pod"})
    event = encode(MODIFIED, make_event())
    own = encode("mine", make_event(2, message="other"))
    handler.handle([(1, *obj), (2, *event), (3, *own), record(4)], ring.settle)
    assert {1: FILTERED, 2: HANDLED, 3: HANDLED, 4: HANDLED} == ring.settled
    assert {"created": 3} == ring.counts


@pytest.mark.parametrize("correlator", [None, REPEATS])
def test_what_cannot_be_decoded_fails_alone_with_one_line(any_sink, opened, ring, caplog, correlator):
    handler = opened(any_sink, correlator=correlator)
    handler.handle([record(1), (2, KIND_RECORD, b"gar\x1bbage\n"), (3, 99, b"x"), record(4)], ring.settle)
    assert {1: HANDLED, 2: FAILED, 3: FAILED, 4: HANDLED} == ring.settled
    handler.close()
    assert 2 == len(caplog.messages), "one at once, the other one within the minute is counted and said at the end"
    assert not any(character in line for line in caplog.messages for character in "\n\x1b")
    assert [("message 1", 1), ("message 4", 1)] == any_sink.stored()


def test_the_predicate_filters_and_one_that_raises_fails_the_event(any_sink, opened, ring, caplog):
    def keep(event):
        if event.message == "message 2":
            raise RuntimeError("a bug")
        return event.message != "message 3"

    handler = opened(any_sink, keep=keep)
    handler.handle(records(1, 4), ring.settle)
    assert {1: HANDLED, 2: FAILED, 3: FILTERED, 4: HANDLED} == ring.settled
    assert 1 == sum("RuntimeError: a bug" in line for line in caplog.messages)
    assert [("message 1", 1), ("message 4", 1)] == any_sink.stored()


def test_a_refused_event_fails_and_the_others_are_written(any_sink, opened, ring, make_event):
    if isinstance(any_sink, FakeSink):
        any_sink.fail(None, SinkRejected("no"), None)
    handler = opened(any_sink)
    # An event without a name is nothing that a store can keep.
    handler.handle([record(1), (2, *encode(ADDED, make_event(name=""))), record(3)], ring.settle)
    assert {1: HANDLED, 2: FAILED, 3: HANDLED} == ring.settled
    assert [("message 1", 1), ("message 3", 1)] == any_sink.stored()
    assert {"created": 2, "rejected": 1} == ring.counts


def test_an_outage_is_waited_for_and_counted(opened, ring):
    sink = FakeSink([SinkUnavailable("away")] * 5)
    opened(sink).handle(records(1, 3), ring.settle)
    assert [HANDLED] * 3 == list(ring.settled.values())
    assert {"created": 3, "retries": 5} == ring.counts


def test_an_event_that_keeps_failing_while_others_succeed_is_given_up(opened, ring):
    class Sink(FakeSink):
        def create(self, event):
            if event.message == "message 2":
                raise SinkUnavailable("not this one")
            return super().create(event)

    opened(Sink()).handle(records(1, 4), ring.settle)
    assert {1: HANDLED, 2: GIVEN_UP, 3: HANDLED, 4: HANDLED} == dict(sorted(ring.settled.items()))
    assert 1 == ring.counts["gave_up"]


def test_an_event_that_keeps_failing_at_the_end_is_left_over_and_goes_on_when_idle(opened, ring):
    sink = FakeSink()
    sink.fail(None, *[SinkUnavailable("not this one")] * 5)
    handler = opened(sink, correlator=REPEATS)
    handler.handle(records(1, 2), ring.settle)
    assert {1: HANDLED} == ring.settled
    assert 0.0 == handler.idle()
    while 2 not in ring.settled:
        handler.idle()
    assert None is handler.idle()
    assert [1, 1] == [event.count for event in sink.events]
    assert {"created": 2, "retries": 5} == ring.counts


def test_what_is_left_over_goes_before_what_comes_next(opened, ring):
    sink = FakeSink()
    sink.fail(*[SinkUnavailable("not now")] * 3)
    handler = opened(sink, correlator=REPEATS)
    handler.handle([record(1, message="m")], ring.settle)
    assert {} == ring.settled
    sink.fail()
    handler.handle([record(11, message="m"), record(2)], ring.settle)
    assert [1, 11, 2] == list(ring.settled)
    assert [("m", 2), ("message 2", 1)] == [(event.message, event.count) for event in sink.events]


class Choosy(SQLiteSink):
    """Cannot write some messages now."""

    away: frozenset[str] = frozenset()
    patches = 0

    def create_records(self, items):
        if self.away:
            raise SinkUnavailable("not all of these")
        return super().create_records(items)

    def create(self, event):
        if event.message in self.away:
            raise SinkUnavailable("not this one")
        return super().create(event)

    def patch(self, event, patch):
        self.patches += 1
        return super().patch(event, patch)


def test_what_is_left_over_in_the_fast_way_is_counted_once(tmp_path, opened, ring):
    """Everything was correlated when the transaction failed; the delivery stopped somewhere in the middle."""
    sink, stopping = Choosy(tmp_path / "events.db"), [True]
    handler = opened(sink, correlator=REPEATS, stopping=lambda: stopping[0])
    sink.away = frozenset("x")
    handler.handle([record(1, message="a"), *[record(number, message="x") for number in (2, 12, 22)]], ring.settle)
    assert {1: HANDLED} == ring.settled
    assert 0.0 == handler.idle()
    stopping[0], sink.away = False, frozenset()
    handler.handle([record(32, message="x")], ring.settle)
    assert [1, 2, 12, 22, 32] == list(ring.settled)
    with Store.open(sink.path, read_only=True) as store:
        assert {"a": 1, "x": 4} == {event.message: event.count for event in store.list().events}


def test_of_the_repeats_of_a_batch_only_the_last_is_written(tmp_path, opened, ring):
    sink = Choosy(tmp_path / "events.db")
    opened(sink, correlator=REPEATS).handle([record(number, message="m") for number in range(1, 101)], ring.settle)
    assert 10 == sink.patches
    assert {"created": 10, "patched": 90} == ring.counts


@pytest.mark.parametrize("correlator", [None, REPEATS])
def test_what_was_stored_and_deleted_since_is_not_stored_again(tmp_path, opened, ring, correlator):
    """The position says so, though no event of that name is there any more."""
    path = tmp_path / "events.db"
    opened(SQLiteSink(path)).handle(records(1, 5), ring.settle)
    with Store.open(path) as store:
        for event in store.list().events:
            store.delete(event.namespace, event.name)
    again = Ring()
    handler = SinkHandler(SQLiteSink(path), correlator=correlator, name="test", source="ring-1")
    handler.open(count=again.count, repeated_until=5)
    handler.handle(records(1, 6), again.settle)
    handler.close()
    assert {"repeated": 5, "created": 1} == again.counts
    with Store.open(path, read_only=True) as store:
        assert ["message 6"] == [event.message for event in store.list().events]


def test_close_writes_what_is_left_over(opened, ring):
    sink = FakeSink()
    sink.fail(*[SinkUnavailable("not now")] * 10)
    handler = opened(sink)
    handler.handle(records(1, 1), ring.settle)
    handler.close()
    assert {1: HANDLED} == ring.settled
    assert 1 == sink.closed


def test_when_everything_stops_the_rest_is_left_unsettled(opened, ring):
    """It stays in the ring, for the report of the shutdown, or for the next start."""
    sink = FakeSink([None])
    sink.fail_always(SinkUnavailable("away"))
    policy = RetryPolicy(base_seconds=3600.0, cap_seconds=3600.0)
    handler = opened(sink, stopping=lambda: len(sink.calls) > 1, retry=policy)
    handler.handle(records(1, 5), ring.settle)
    handler.close()
    assert {1: HANDLED} == ring.settled
    assert (2, 1) == (len(sink.calls), sink.closed)


def test_what_the_position_says_is_stored_is_settled_and_not_written_again(tmp_path, ring, opened):
    opened(SQLiteSink(tmp_path / "events.db")).handle(records(1, 10), ring.settle)
    for correlator in (None, REPEATS):
        again = Ring()
        handler = SinkHandler(
            SQLiteSink(tmp_path / "events.db"), correlator=correlator, name="test", source="ring-1", retry=AT_ONCE
        )
        handler.open(count=again.count, repeated_until=10)
        handler.handle(records(6, 12), again.settle)
        handler.close()
        assert dict.fromkeys(range(6, 13), HANDLED) == again.settled
    with Store.open(tmp_path / "events.db", read_only=True) as store:
        assert [f"message {number}" for number in range(1, 13)] == [event.message for event in store.list().events]
        assert 12 == store.position("ring-1")


def test_repeats_of_a_dead_process_are_known_by_their_names_where_there_is_no_position(opened, ring):
    """Only up to the number that is given: from there on a name that is taken belongs to somebody else (W23)."""
    sink = FakeSink()
    opened(sink).handle(records(1, 4), ring.settle)
    again = Ring()
    handler = SinkHandler(sink, name="test", source="ring-1", retry=AT_ONCE)
    handler.open(count=again.count, repeated_until=3)
    handler.handle(records(2, 5), again.settle)
    assert [HANDLED] * 4 == list(again.settled.values())
    assert {"repeated": 2, "created": 2} == again.counts
    messages = [event.message for event in sink.events]
    assert ["message 1", "message 2", "message 3", "message 4", "message 4", "message 5"] == sorted(messages)


def test_a_name_that_is_taken_gets_another_one_and_its_repeats_follow(tmp_path, opened, ring):
    """W23, in the fast way as well: the event of somebody else is not touched."""
    path = tmp_path / "events.db"
    with Store.open(path) as store:
        other = store.create(Event.from_record(payload(5, message="of another process")))
    handler = opened(SQLiteSink(path), correlator=REPEATS)
    handler.handle([record(4), record(5, message="m"), record(15, message="m"), record(25, message="m")], ring.settle)
    handler.handle([record(35, message="m")], ring.settle)
    with Store.open(path, read_only=True) as store:
        assert other == store.get(other.namespace, other.name)
        stored = {event.message: event.count for event in store.list().events}
    assert {"of another process": 1, "message 4": 1, "m": 4} == stored
    assert {"created": 2, "patched": 3} == ring.counts


def test_an_event_that_retention_deleted_is_created_again_with_its_count(tmp_path, opened, ring):
    path = tmp_path / "events.db"
    handler = opened(SQLiteSink(path), correlator=REPEATS)
    handler.handle([record(1, message="m")], ring.settle)
    with Store.open(path) as store:
        [event] = store.list().events
        store.delete(event.namespace, event.name)
    handler.handle([record(11, message="m"), record(21, message="m")], ring.settle)
    with Store.open(path, read_only=True) as store:
        assert [3] == [event.count for event in store.list().events]


def test_a_store_that_is_away_for_a_while_loses_nothing_and_counts_nothing_twice(tmp_path, opened, ring):
    """Also from the fast way to the slow one: each event is correlated once."""
    directory = tmp_path / "later"
    sink = SQLiteSink(directory / "events.db")
    handler = opened(sink, correlator=REPEATS)
    pauses = []

    def sleep(_):
        pauses.append(1)
        if len(pauses) == 3:
            directory.mkdir()

    handler._delivery._sleep = sleep
    handler.handle([record(number, message="m") for number in (1, 11, 21)], ring.settle)
    handler.handle([record(31, message="m")], ring.settle)
    with Store.open(sink.path, read_only=True) as store:
        assert [("m", 4)] == [(event.message, event.count) for event in store.list().events]
    assert (3, 3) == (len(pauses), ring.counts["retries"])


def test_a_commit_that_only_seems_to_fail_writes_nothing_twice(tmp_path, opened, ring):
    sink = SQLiteSink(tmp_path / "events.db")
    handler = opened(sink, correlator=REPEATS)
    commit, lost = sink.commit, [True, False]

    def once():
        commit()
        if lost.pop(0) if lost else False:
            raise SinkUnavailable("no answer")

    sink.commit = once
    for first in (1, 4):
        handler.handle([record(10 * number + 1, message="m") for number in range(first, first + 3)], ring.settle)
    with Store.open(sink.path, read_only=True) as store:
        assert [6] == [event.count for event in store.list().events]


def test_series_are_written_by_idle_and_by_close(opened, ring, make_event):
    """The rounds come when they are due, whether or not there are records."""
    sink = FakeSink()
    handler = opened(sink, correlator=SeriesCorrelator)
    event = make_event(event_time=START_NS, first_timestamp=None, last_timestamp=None, count=0, action="a")
    handler.handle([(number, *encode(ADDED, event)) for number in (1, 2, 3, 4)], ring.settle)
    assert 0 < handler.idle() <= 360
    handler.close()
    assert 4 == sink.events[0].series.count
    assert [HANDLED] * 4 == list(ring.settled.values())
    assert 2 == ring.counts["skipped"]


def test_flush_comes_before_settling_and_is_tried_again(opened, ring):
    class Sink(FakeSink):
        flushes = 0

        def flush(self):
            assert {} == ring.settled
            self.flushes += 1
            if self.flushes < 3:
                raise SinkUnavailable("the disk reports an error")

    sink = Sink()
    opened(sink).handle(records(1, 3), ring.settle)
    assert (3, 3) == (sink.flushes, len(ring.settled))
    assert {"created": 3, "retries": 2} == ring.counts


def test_cut_texts_of_a_sink_are_counted(opened, ring):
    class Sink(FakeSink):
        cut_texts = 5

        def create(self, event):
            self.cut_texts += 2
            return super().create(event)

    opened(Sink()).handle(records(1, 3), ring.settle)
    assert 6 == ring.counts["cut_texts"]


def test_upkeep_runs_when_idle_and_a_failing_one_is_logged(opened, ring, caplog):
    class Sink(FakeSink):
        idled = 0

        def idle(self):
            self.idled += 1
            if self.idled == 2:
                raise RuntimeError("a bug")
            return 5.0

    sink = Sink()
    handler = opened(sink)
    assert 5.0 == handler.idle()
    assert None is handler.idle()
    assert ["RuntimeError: a bug" in line for line in caplog.messages] == [True]


def test_upkeep_runs_also_when_records_never_end(opened, ring):
    class Sink(FakeSink):
        idled = 0

        def idle(self):
            self.idled += 1
            return 0.0

    sink = Sink()
    handler = opened(sink)
    for number in range(1, 6):
        handler.handle(records(number, number), ring.settle)
    assert 5 == sink.idled


def test_a_sink_that_cannot_be_opened_is_opened_by_the_first_write(tmp_path, opened, ring, caplog):
    sink = JSONLinesSink(tmp_path / "later" / "events.jsonl")
    handler = opened(sink)
    assert 1 == len(caplog.messages)
    (tmp_path / "later").mkdir()
    handler.handle(records(1, 3), ring.settle)
    handler.close()
    assert 3 == len((tmp_path / "later" / "events.jsonl").read_bytes().splitlines())


def test_a_handler_can_be_pickled_before_it_is_opened(tmp_path, ring):
    handler = SinkHandler(
        SQLiteSink(tmp_path / "events.db", batch=77), correlator=REPEATS, retry=AT_ONCE, name="store", source="ring-1"
    )
    copy = pickle.loads(pickle.dumps(handler))
    copy.open(count=ring.count)
    copy.handle(records(1, 3), ring.settle)
    copy.close()
    assert (3, 77) == (len(ring.settled), copy.batch_records)


def test_opening_again_starts_anew(opened, ring):
    """A spare that was forked from a worker has the worker's memory, but not its ring."""
    sink = FakeSink()
    sink.fail(*[SinkUnavailable("not now")] * 3)
    handler = opened(sink)
    handler.handle(records(1, 1), ring.settle)
    handler.open(count=ring.count)
    assert None is handler.idle()
    assert [] == sink.events


def test_a_log_can_be_a_sink(opened, ring, caplog):
    caplog.set_level(logging.INFO, "klog")
    opened(LogSink()).handle(records(1, 2), ring.settle)
    assert 2 == sum(line.startswith('"Event occurred"') for line in caplog.messages)
    assert [HANDLED] * 2 == list(ring.settled.values())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["A", "B"])), min_size=1, max_size=30),
    st.integers(1, 7),
    st.sampled_from([REPEATS, CorrelatorOptions(max_events=3, burst_size=3), None]),
)
def test_the_fast_way_stores_what_the_slow_way_stores(tmp_path_factory, happened, size, correlator):
    """Whatever happens in whatever batches: the store of a `Bulk` and a sink that knows none hold the same."""
    happened = [
        (number, KIND_RECORD, payload(10 * number + pod, message=f"m {pod}", reason=reason))
        for number, (pod, reason) in enumerate(happened, 1)
    ]
    fast, slow = SQLiteSink(tmp_path_factory.mktemp("fast") / "events.db"), FakeSink()
    for sink in (fast, slow):
        ring = Ring()
        handler = SinkHandler(sink, correlator=correlator, name="test", source="ring-1")
        handler.open()
        for at in range(0, len(happened), size):
            handler.handle(happened[at : at + size], ring.settle)
        assert [HANDLED] * len(happened) == list(ring.settled.values())
        handler.close()
    with Store.open(fast.path, read_only=True) as store:
        stored = [(event.name, event.message, event.count, event.last_timestamp) for event in store.list().events]
    assert stored == [(event.name, event.message, event.count, event.last_timestamp) for event in slow.events]


SINK_PROCESS = """
import sys
from mpbroadcast.correlator import CorrelatorOptions
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.wire import KIND_RECORD
from mpbroadcast.sinks.handler import SinkHandler
from mpbroadcast.sinks.sqlite import SQLiteSink

path, total, correlated = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
static = encode_static(ObjectReference("Pod", "apps", "web", "uid", "v1"), "Normal", "Started", EventSource("kubelet"))
correlator = CorrelatorOptions(max_events=None, burst_size=None) if correlated else None
handler = SinkHandler(SQLiteSink(path), correlator=correlator, name="store", source="ring-1")
handler.open(repeated_until=total)
records = [(number, KIND_RECORD, encode_record(10**18 + number, static, str(number))) for number in range(1, total + 1)]
print("open", flush=True)
for at in range(0, total, 100):
    handler.handle(records[at:at + 100], lambda sequence, outcome: None)
handler.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("correlated", [False, True])
def test_a_sink_process_that_is_killed_again_and_again_stores_every_event_once(tmp_path, correlated):
    """The worst case: no process ever settles anything, so each gets all records from the first one on."""
    path, total, kills, rng = tmp_path / "events.db", 30_000, 0, random.Random(3)
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", SINK_PROCESS, str(path), str(total), str(correlated)], stdout=subprocess.PIPE
        )
        assert b"open\n" == process.stdout.readline()
        try:
            process.wait(rng.uniform(0.01, 0.1) * (1 + kills / 4))  # in the end also a slow machine gets through
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
        if process.returncode == 0:
            break
    with Store.open(path, read_only=True) as store:
        assert [str(number) for number in range(1, total + 1)] == [event.message for event in store.list().events]
    assert kills >= 3
