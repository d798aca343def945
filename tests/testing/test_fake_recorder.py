"""`FakeRecorder`: the texts of client-go's fakes (spec 2.8), strictness, and that it never blocks."""

from __future__ import annotations

import pytest

from mpbroadcast.errors import InvalidEvent
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.testing import FakeRecorder, SteppingClock

POD = ObjectReference("Pod", "ns", "web-1", "uid-1", "v1")
NODE = ObjectReference("Node", "", "node-1", "uid-2", "v1")
NOTES = {"k2": "v2", "k1": "v1"}

# (options, keywords of the call, what stands after "Normal Started ")
TEXTS = [
    ({}, {}, "it runs"),
    ({}, {"annotations": NOTES}, "it runs map[k1:v1 k2:v2]"),
    ({"include_object": True}, {}, "it runs involvedObject{kind=Pod,apiVersion=v1}"),
    (
        {"include_object": True},
        {"annotations": NOTES},
        "it runs involvedObject{kind=Pod,apiVersion=v1} map[k1:v1 k2:v2]",
    ),
    ({"events_api": True}, {"annotations": NOTES, "related": NODE, "action": "Start"}, "it runs"),
    ({"verbose": True}, {"action": "Start"}, "Start it runs {kind=Pod,apiVersion=v1}"),
    (
        {"verbose": True},
        {"action": "Start", "related": NODE, "annotations": NOTES},
        "Start it runs {kind=Pod,apiVersion=v1} {kind=Node,apiVersion=v1} map[k1:v1 k2:v2]",
    ),
    (
        {"verbose": True},
        {"action": "Start", "related": ObjectReference(name="x")},
        "Start it runs {kind=Pod,apiVersion=v1}",
    ),
]


@pytest.mark.client_go("DER-34")
@pytest.mark.parametrize(("options", "keywords", "text"), TEXTS)
def test_the_texts_are_those_of_client_gos_fakes(options, keywords, text):
    recorder = FakeRecorder(**options)
    assert recorder.event(POD, "Normal", "Started", "it runs", **keywords)
    assert recorder.eventf(POD, "Normal", "Started", "it %s", "runs", **keywords)
    assert [f"Normal Started {text}"] * 2 == recorder.texts


@pytest.mark.client_go("DER-34")
def test_annotated_events_show_their_annotations_sorted():
    recorder = FakeRecorder()
    assert recorder.annotated_eventf(POD, NOTES, "Warning", "Failed", "%d of %d", 1, 2)
    assert ["Warning Failed 1 of 2 map[k1:v1 k2:v2]"] == recorder.texts


def test_a_percent_sign_in_a_reason_is_no_format():
    """W47: client-go's fake takes type, reason and format as one format."""
    recorder = FakeRecorder()
    recorder.eventf(POD, "Normal", "100%done", "%s", "yes")
    assert ["Normal 100%done yes"] == recorder.texts


def test_the_event_is_the_one_that_a_recorder_would_make():
    clock = SteppingClock()
    recorder = FakeRecorder(source=EventSource("ctl", "host"), clock=clock)
    recorder.event(NODE, "Warning", "Lost", "gone", annotations=NOTES, related=POD, action="Watching")
    (event,) = recorder.events
    now_ns = clock.now_ns()
    assert (f"node-1.{now_ns:x}", "default", NODE, POD) == (
        event.name,
        event.namespace,
        event.involved_object,
        event.related,
    )
    assert ("Warning", "Lost", "Watching", "gone", NOTES) == (
        event.type,
        event.reason,
        event.action,
        event.message,
        dict(event.annotations),
    )
    assert (EventSource("ctl", "host"), "ctl", "host") == (
        event.source,
        event.reporting_controller,
        event.reporting_instance,
    )
    assert (1, now_ns, now_ns, None) == (event.count, event.first_timestamp, event.last_timestamp, event.event_time)


def test_a_mapping_is_an_object():
    recorder = FakeRecorder(include_object=True)
    recorder.event({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}, "Normal", "Ok", "fine")
    assert ["Normal Ok fine involvedObject{kind=Deployment,apiVersion=apps/v1}"] == recorder.texts


def test_a_message_is_anything_with_a_text():
    recorder = FakeRecorder()
    recorder.event(POD, "Normal", "Failed", ValueError("broken"))
    recorder.event(POD, "Normal", "Odd", "lone \ud800 surrogate")
    assert ["Normal Failed broken", "Normal Odd lone \N{REPLACEMENT CHARACTER} surrogate"] == recorder.texts


@pytest.mark.parametrize(
    "arguments",
    [
        (None, "Normal", "Started"),
        (object(), "Normal", "Started"),
        (POD, "normal", "Started"),
        (POD, "Error", "Started"),
        (POD, "", "Started"),
        (POD, None, "Started"),
        (POD, ["Normal"], "Started"),
        (POD, "Normal", None),
    ],
)
def test_bad_input_raises_and_records_nothing(arguments):
    recorder = FakeRecorder()
    with pytest.raises(InvalidEvent) as caught:
        recorder.event(*arguments, "message")
    assert "\n" not in str(caught.value)
    assert ([], []) == (recorder.events, recorder.texts)


@pytest.mark.parametrize(
    "keywords",
    [
        {"annotations": {"a": 1}},
        {"annotations": {1: "a"}},
        {"annotations": "a=1"},
        {"related": object()},
        {"action": 3},
    ],
)
def test_bad_keywords_raise(keywords):
    with pytest.raises(InvalidEvent):
        FakeRecorder().event(POD, "Normal", "Started", "message", **keywords)


def test_it_refuses_what_is_over_its_capacity_and_never_blocks():
    recorder = FakeRecorder(capacity=2)
    assert [True, True, False, False] == [recorder.event(POD, "Normal", "R", str(i)) for i in range(4)]
    assert (2, 2) == (len(recorder.events), recorder.dropped)


def test_with_logger_is_the_same_recorder():
    recorder = FakeRecorder()
    assert recorder is recorder.with_logger(object())


def test_clear_forgets():
    recorder = FakeRecorder()
    recorder.event(POD, "Normal", "R", "m")
    recorder.clear()
    assert ([], []) == (recorder.events, recorder.texts)


def test_texts_that_no_fake_of_client_go_has_are_refused():
    with pytest.raises(ValueError, match="include_object"):
        FakeRecorder(include_object=True, verbose=True)


def test_it_knows_the_kinds_of_the_official_client_as_a_real_recorder_does():
    """Listed objects carry no kind; the default scheme knows it by the class."""
    client = pytest.importorskip("kubernetes.client", reason="the official client is not installed")
    fake = FakeRecorder()
    fake.event(client.V1Pod(metadata=client.V1ObjectMeta(name="web-1", namespace="ns")), "Normal", "Started", "it runs")
    assert ObjectReference("Pod", "ns", "web-1", api_version="v1") == fake.events[0].involved_object
