"""client-go's ``tools/record`` tests that need a whole broadcaster (spec 3.1), in both process models."""

from __future__ import annotations

import logging
import sqlite3
import threading

import pytest

from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.errors import BroadcasterStopped, SinkUnavailable, StoreError
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.sinks import RetryPolicy, SQLiteSink
from mpbroadcast.testing import FakeSink

from .conftest import eventually

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "foo", "namespace": "baz", "uid": "bar"},
}
A = ObjectReference("Pod", "baz", "foo", "bar", "v1", "", "spec.containers[2]")
B = ObjectReference("Pod", "baz", "foo", "differentUid", "v1", "", "spec.containers[3]")
VERBOSE, OTHER = "some verbose message: %v", "some other verbose message: %v"
ROWS = [  # object, reason, format, what the sink is asked for, its count
    (A, "Started", VERBOSE, "create", 1),
    (POD, "Killed", OTHER, "create", 1),
    (A, "Started", VERBOSE, "patch", 2),
    (B, "Started", VERBOSE, "create", 1),
    (A, "Started", VERBOSE, "patch", 3),
    (B, "Stopped", VERBOSE, "create", 1),
    (B, "Stopped", VERBOSE, "patch", 2),
]
NO_PAUSE = RetryPolicy(base_seconds=0.0)


def legacy_text(ref: ObjectReference) -> str:
    return (
        f'v1.ObjectReference{{Kind:"{ref.kind}", Namespace:"{ref.namespace}", Name:"{ref.name}", UID:"{ref.uid}",'
        f' APIVersion:"{ref.api_version}", ResourceVersion:"{ref.resource_version}", FieldPath:"{ref.field_path}"}}'
    )


def record_rows(broadcaster, sink):
    """Records the rows of REC-04 to REC-10 and checks what reaches the sink."""
    recorder = broadcaster.new_recorder(EventSource("eventTest"))
    already = len(sink.calls)
    for number, (obj, reason, fmt, op, count) in enumerate(ROWS):
        assert recorder.eventf(obj, "Normal", reason, fmt, 1)
        assert broadcaster.flush(20)
        call = sink.calls[already + number]
        assert (op, count, fmt.replace("%v", "1")) == (call.op, call.event.count, call.event.message)
        assert ("baz", "eventTest", "eventTest") == (
            call.event.namespace,
            call.event.source.component,
            call.event.reporting_controller,
        )
        assert (count == 1) == (call.event.first_timestamp == call.event.last_timestamp)
        assert call.event.name.startswith("foo.")
    assert already + len(ROWS) == len(sink.calls)


@pytest.mark.client_go("REC-04")
@pytest.mark.client_go("REC-05")
@pytest.mark.client_go("REC-06")
@pytest.mark.client_go("REC-07")
@pytest.mark.client_go("REC-08")
@pytest.mark.client_go("REC-09")
@pytest.mark.client_go("REC-10")
def test_eventf_creates_once_and_patches_from_then_on(make):
    broadcaster, sink = make(processes=False), FakeSink()
    broadcaster.start_recording_to_sink(sink)
    record_rows(broadcaster, sink)
    assert A == sink.calls[0].event.involved_object
    assert sink.calls[1].event.involved_object.field_path == ""


@pytest.mark.client_go("REC-11")
@pytest.mark.client_go("REC-04")
@pytest.mark.client_go("REC-05")
def test_log_watchers_started_per_event_see_that_event_alone(make, caplog):
    broadcaster = make(processes=False)
    recorder = broadcaster.new_recorder("eventTest")
    caplog.set_level(logging.INFO, logger="klog")
    for obj, reason, fmt, _, _ in ROWS:
        lines: list[str] = []
        caplog.clear()
        log = broadcaster.start_logging(lambda fmt, *args, lines=lines: lines.append(fmt % args))
        structured = broadcaster.start_structured_logging()
        recorder.eventf(obj, "Normal", reason, fmt, 1)
        assert broadcaster.flush(20)
        log.stop()
        structured.stop()
        ref = obj if isinstance(obj, ObjectReference) else ObjectReference("Pod", "baz", "foo", "bar", "v1")
        message = fmt.replace("%v", "1")
        assert [f"Event({legacy_text(ref)}): type: 'Normal' reason: '{reason}' {message}"] == lines
        expected = (
            f'"Event occurred" object="baz/foo" fieldPath="{ref.field_path}" kind="Pod" apiVersion="v1" type="Normal"'
            f' reason="{reason}" message="{message}"'
        )
        assert [expected] == [record.getMessage() for record in caplog.records]


@pytest.mark.client_go("REC-02")
@pytest.mark.client_go("REC-00")
def test_shutdown_ends_every_watcher_thread(make):
    before = threading.active_count()
    broadcaster = make(processes=False)
    broadcaster.start_structured_logging()
    broadcaster.start_event_watcher(lambda event: None)
    assert before + 3 == threading.active_count()
    broadcaster.shutdown()
    eventually(lambda: threading.active_count() == before)


@pytest.mark.client_go("REC-03")
@pytest.mark.parametrize("processes", [True, False])
def test_a_hundred_threads_and_a_shutdown(make, processes):
    broadcaster = make(processes=processes)
    recorder = broadcaster.new_recorder("test")
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(recorder.eventf(ObjectReference(), "Normal", "a", "b")))
        for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [True] * 100 == answers
    assert 100 == broadcaster.shutdown().accepted


@pytest.mark.client_go("REC-20")
def test_lots_of_events_reach_log_and_sink_although_the_sink_fails_at_first(make):
    """A thousand threads, a thousand objects; each write fails four times before it is taken."""
    broadcaster = make(processes=False)

    class Failing(FakeSink):
        def __init__(self):
            super().__init__()
            self.tries: dict[str, int] = {}

        def create(self, event):
            self.tries[event.reason] = self.tries.get(event.reason, 0) + 1
            if self.tries[event.reason] < 5:
                raise SinkUnavailable("not yet")
            return super().create(event)

    sink, logged = Failing(), []
    broadcaster.start_recording_to_sink(sink, retry=NO_PAUSE)
    broadcaster.start_event_watcher(lambda event: logged.append(event.reason), name="log")
    recorder = broadcaster.new_recorder("eventTest")

    def record(number):
        ref = ObjectReference("Pod", "baz", f"foo-{number}", "bar", "v1")
        assert recorder.eventf(ref, "Normal", f"Reason-{number}", "%d", number)

    threads = [threading.Thread(target=record, args=(number,)) for number in range(1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = broadcaster.shutdown(timeout=50)
    assert report.complete
    assert {f"Reason-{number}" for number in range(1000)} == set(logged) == {event.reason for event in sink.events}
    assert min(sink.tries.values()) >= 5


@pytest.mark.client_go("REC-21")
def test_an_object_without_namespace_has_its_events_in_default(make):
    broadcaster, sink = make(processes=False), FakeSink()
    broadcaster.start_recording_to_sink(sink)
    ref = A._replace(namespace="")
    broadcaster.new_recorder("eventTest").eventf(ref, "Normal", "Started", VERBOSE, 1)
    assert broadcaster.flush(20)
    event = sink.calls[0].event
    assert ("create", "default", "", 1) == (
        sink.calls[0].op,
        event.namespace,
        event.involved_object.namespace,
        event.count,
    )


@pytest.mark.client_go("REC-22")
@pytest.mark.client_go("REC-23")
@pytest.mark.client_go("REC-24")
@pytest.mark.client_go("REC-25")
@pytest.mark.client_go("REC-26")
@pytest.mark.client_go("REC-27")
@pytest.mark.client_go("REC-28")
@pytest.mark.client_go("REC-29")
@pytest.mark.client_go("REC-30")
@pytest.mark.client_go("REC-31")
@pytest.mark.client_go("REC-32")
@pytest.mark.client_go("REC-33")
@pytest.mark.client_go("REC-34")
@pytest.mark.client_go("REC-35")
@pytest.mark.client_go("REC-36")
def test_a_second_sink_counts_from_one_again_and_the_stopped_one_gets_nothing(make):
    broadcaster, first, second = make(processes=False), FakeSink(), FakeSink()
    handle = broadcaster.start_recording_to_sink(first)
    record_rows(broadcaster, first)
    handle.stop()
    eventually(lambda: handle.ended)
    broadcaster.start_recording_to_sink(second)
    record_rows(broadcaster, second)
    assert len(ROWS) == len(first.calls)


@pytest.mark.client_go("DER-20")
def test_two_sinks_at_once_count_independently(make):
    broadcaster, one, other = make(processes=False), FakeSink(), FakeSink()
    broadcaster.start_recording_to_sink(one)
    broadcaster.start_recording_to_sink(other, correlator=None)
    recorder = broadcaster.new_recorder("test")
    for _ in range(3):
        recorder.event(A, "Normal", "Started", "same")
    assert broadcaster.flush(20)
    assert ["create", "patch", "patch"] == [call.op for call in one.calls]
    assert ["create", "create", "create"] == [call.op for call in other.calls]


@pytest.mark.client_go("DER-17")
def test_what_cannot_be_recorded_is_refused_counted_and_said_once(make, caplog):
    broadcaster = make(processes=False)
    logger = logging.getLogger("told")
    recorder = broadcaster.new_recorder("test").with_logger(logger)
    bad = [
        (None, "Normal"),
        (object(), "Normal"),
        (A, "normal"),
        (A, "Error"),
        ("a string", "Warning"),
    ]
    assert [False] * len(bad) == [recorder.event(obj, type_, "Reason", "message") for obj, type_ in bad]
    assert len(bad) == broadcaster.stats().refused["invalid"]
    assert len(bad) == len([record for record in caplog.records if record.name == "told"])
    assert recorder.event(A, "Normal", "Reason", "message")


@pytest.mark.client_go("DER-18")
def test_after_shutdown_event_answers_false_and_raises_nothing(make):
    broadcaster = make()
    recorder = broadcaster.new_recorder("test")
    assert recorder.event(A, "Normal", "Reason", "message")
    broadcaster.shutdown()
    assert not recorder.event(A, "Normal", "Reason", "message")
    assert 1 == broadcaster.stats().refused["stopped"]


@pytest.mark.client_go("DER-19")
def test_starting_a_watcher_after_shutdown_raises(make, tmp_path):
    broadcaster = make()
    broadcaster.shutdown()
    for start in (
        lambda: broadcaster.start_event_watcher(print),
        lambda: broadcaster.start_logging(print),
        broadcaster.start_structured_logging,
        lambda: broadcaster.start_recording_to_sink(SQLiteSink(tmp_path / "events.db")),
    ):
        with pytest.raises(BroadcasterStopped):
            start()


@pytest.mark.client_go("DER-31")
def test_a_related_object_that_cannot_be_referenced_is_left_out(make):
    broadcaster, seen = make(processes=False), []
    broadcaster.start_event_watcher(seen.append)
    recorder = broadcaster.new_recorder("test")
    assert recorder.event(A, "Normal", "Reason", "m", related=object(), action="Act")
    assert recorder.event(A, "Normal", "Reason", "m", related=B)
    assert broadcaster.flush(20)
    assert [(None, "Act"), (B, "")] == [(event.related, event.action) for event in seen]


def test_messages_of_every_sort_arrive(make):
    broadcaster, seen = make(processes=False), []
    broadcaster.start_event_watcher(lambda event: seen.append(event.message))
    recorder = broadcaster.new_recorder("test")

    class Broken:
        def __str__(self):
            raise RuntimeError("no text")

    sent = [
        "",
        "plain",
        'quo"ted\\',
        "line\nbreak\x00\x1f",
        "größer ☃ 🎉",
        42,
        None,
        ValueError("x"),
        "lone \ud800 half",
    ]
    assert [True] * len(sent) == [recorder.event(A, "Normal", "R", message) for message in sent]
    assert not recorder.event(A, "Normal", "R", Broken())
    assert not recorder.event(A, "Normal", "R", "x" * 10_000_000)
    assert broadcaster.flush(20)
    assert [*map(str, sent[:-1]), "lone \ufffd half"] == seen
    assert {"invalid": 1, "too_large": 1} == {name: n for name, n in broadcaster.stats().refused.items() if n}


def test_names_are_unique_and_ascend_within_a_process(make):
    broadcaster, names = make(processes=False), []
    broadcaster.start_event_watcher(lambda event: names.append(event.name))
    recorder = broadcaster.new_recorder("test")
    for number in range(20_000):
        assert recorder.event(A, "Normal", "R", number)
        if number % 4000 == 0:
            assert broadcaster.flush(20)
    assert broadcaster.flush(20)
    assert 20_000 == len(set(names))
    assert sorted(names) == names


def test_correlator_options_of_the_callers_own(make):
    broadcaster, sink = make(processes=False), FakeSink()
    broadcaster.start_recording_to_sink(sink, correlator=CorrelatorOptions(burst_size=2, max_events=None))
    recorder = broadcaster.new_recorder("test")
    for number in range(5):
        recorder.event(A, "Normal", "R", number)
    report = broadcaster.shutdown()
    assert 2 == len(sink.calls)
    assert {"created": 2, "skipped": 3} == dict(report.watchers[0].counts)


def test_a_burst_from_one_process_arrives_whole_at_log_store_and_handler_on_one_core(make, seen, tmp_path, monkeypatch):
    """With the default sizes; everything on one core."""
    import os

    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        broadcaster = make()
        lines = tmp_path / "log"
        broadcaster.start_logging(_AppendTo(lines))
        broadcaster.start_event_watcher(seen, name="handler")
        store = tmp_path / "events.db"
        broadcaster.start_recording_to_sink(SQLiteSink(store))
        recorder = broadcaster.new_recorder("burst")
        for number in range(10_000):
            ref = ObjectReference("Pod", "default", f"pod-{number}", "u", "v1")
            assert recorder.event(ref, "Normal", "Burst", f"n:{number}")
        report = broadcaster.shutdown(timeout=50)
    finally:
        os.sched_setaffinity(0, allowed)
    assert report.complete
    assert [10_000] * 3 == [watcher.handled for watcher in report.watchers]
    assert [f"n:{number}" for number in range(10_000)] == seen.lines
    assert 10_000 == len(lines.read_text().splitlines())
    with sqlite3.connect(store) as connection:
        assert (10_000,) == connection.execute("select count(distinct object_name) from event").fetchone()
    connection.close()


class _AppendTo:
    def __init__(self, path):
        self.path = path
        self.file = None

    def __call__(self, fmt, *args):
        if self.file is None:
            self.file = self.path.open("a", buffering=1)
        self.file.write(fmt % args + "\n")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"lane_bytes": 1000}, "lane_bytes must be a power of two"),
        ({"watcher_bytes": 3 << 20}, "watcher_bytes must be a power of two"),
        ({"max_processes": 0}, "max_processes must be between 1 and 1024"),
        ({"max_watchers": 1000}, "max_watchers must be between 1 and 256"),
        ({"queue_length": 0}, "queue_length must be None or at least 1"),
        ({"name": ""}, "the name of a broadcaster has 1 to 63 bytes"),
        ({"context": "threads"}, "context must be 'fork' or 'spawn'"),
    ],
)
def test_sizes_that_make_no_sense_are_refused_in_one_line(make, options, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        make(**options)
    assert 1 == len(str(caught.value).splitlines())


@pytest.mark.parametrize("path", ["/proc/nowhere/events.db", "missing/events.db", "."])
def test_a_store_that_cannot_be_written_is_said_at_once_and_nothing_is_started(make, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    broadcaster = make()
    with pytest.raises(StoreError) as caught:
        broadcaster.start_recording_to_sink(SQLiteSink(path))
    assert 1 == len(str(caught.value).splitlines())
    assert () == broadcaster.stats().watchers


def test_a_handler_that_cannot_be_pickled_is_said_plainly(make):
    from mpbroadcast.errors import HelperError

    broadcaster = make(context="spawn")
    with pytest.raises(HelperError, match="cannot be pickled") as caught:
        broadcaster.start_event_watcher(lambda event: None, name="closure")
    assert 1 == len(str(caught.value).splitlines())
    assert broadcaster.new_recorder("test").event(A, "Normal", "Reason", "nothing else is hurt")
    assert broadcaster.flush(20)


def test_objects_of_another_sort_are_passed_over_by_event_watchers(make):
    broadcaster, seen = make(processes=False), []
    broadcaster.start_event_watcher(seen.append)
    broadcaster.action("ADDED", {"no": "event"})
    broadcaster.new_recorder("test").event(A, "Normal", "R", "m")
    assert broadcaster.flush(20)
    assert ["R"] == [event.reason for event in seen]
    assert 1 == broadcaster.stats().watchers[0].filtered


def test_a_sink_that_is_started_again_under_its_name_gets_all_of_its_events(make, tmp_path):
    """Its slot is used again and counts from one; the position of the first watcher in the store is another's."""
    broadcaster = make()
    recorder = broadcaster.new_recorder("test")
    for round_number in range(2):
        handle = broadcaster.start_recording_to_sink(SQLiteSink(tmp_path / "events.db"), name="store")
        for number in range(50):
            assert recorder.event(A._replace(name=f"pod-{round_number}-{number}"), "Normal", "R", "m")
        assert broadcaster.flush(20)
        handle.stop()
        eventually(lambda handle=handle: handle.ended)
    with sqlite3.connect(tmp_path / "events.db") as connection:
        assert (100,) == connection.execute("select count(*) from event").fetchone()
    connection.close()
