"""Both JSON shapes of an event: written as Go writes them, read back, and wrong input refused with one line."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSeries, EventSource, ObjectReference
from mpbroadcast.event.shapes import events_v1_for_create, reference_from_json, reference_to_json
from mpbroadcast.event.times import MICROSECOND, SECOND

TEXT = st.text(max_size=12)
TEXTS = st.dictionaries(TEXT, TEXT, max_size=3)
REFERENCES = st.builds(ObjectReference, *[TEXT] * 7)
COUNTS = st.integers(-(2**31), 2**31 - 1)
SECONDS = st.none() | st.integers(-(10**9), 4 * 10**9).map(lambda s: s * SECOND)
MICROSECONDS = st.none() | st.integers(-(10**15), 4 * 10**15).map(lambda us: us * MICROSECOND)
EVENTS = st.builds(
    Event,
    name=TEXT,
    namespace=TEXT,
    annotations=TEXTS,
    labels=TEXTS,
    involved_object=REFERENCES,
    related=st.none() | REFERENCES,
    type=TEXT,
    reason=TEXT,
    action=TEXT,
    message=TEXT,
    source=st.builds(EventSource, TEXT, TEXT),
    reporting_controller=TEXT,
    reporting_instance=TEXT,
    count=COUNTS,
    first_timestamp=SECONDS,
    last_timestamp=SECONDS,
    event_time=MICROSECONDS,
    series=st.none() | st.builds(EventSeries, COUNTS, MICROSECONDS),
    resource_version=TEXT,
    uid=TEXT,
    creation_timestamp=SECONDS,
)
FULL = Event(
    name="web-1.18",
    namespace="ns",
    annotations={"b": "2", "a": "1"},
    involved_object=ObjectReference("Pod", "ns", "web-1", "u-1", "v1", "42", "spec"),
    related=ObjectReference("Node", name="n1"),
    type="Warning",
    reason="Failed",
    action="Start",
    message="it <broke>",
    source=EventSource("ctl", "node-1"),
    reporting_controller="example.com/ctl",
    reporting_instance="ctl-1",
    count=2,
    first_timestamp=1_784_901_930_999_999_999,
    last_timestamp=1_784_901_931_000_000_000,
    event_time=1_784_901_930_123_456_789,
    series=EventSeries(4, 1_784_901_930_123_456_789),
    resource_version="7",
    uid="e-1",
)


@given(EVENTS)
def test_an_event_comes_back_from_either_shape(event):
    for write, read in (
        (Event.to_core_v1, Event.from_core_v1),
        (lambda e: e.to_events_v1(as_stored=True), Event.from_events_v1),
    ):
        assert event == read(orjson.loads(orjson.dumps(write(event))))


def test_a_full_core_v1_event_key_by_key():
    reference = {
        "kind": "Pod",
        "namespace": "ns",
        "name": "web-1",
        "uid": "u-1",
        "apiVersion": "v1",
        "resourceVersion": "42",
        "fieldPath": "spec",
    }
    expected = {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": "web-1.18",
            "namespace": "ns",
            "uid": "e-1",
            "resourceVersion": "7",
            "annotations": {"a": "1", "b": "2"},
        },
        "involvedObject": reference,
        "reason": "Failed",
        "message": "it <broke>",
        "source": {"component": "ctl", "host": "node-1"},
        "firstTimestamp": "2026-07-24T14:05:30Z",
        "lastTimestamp": "2026-07-24T14:05:31Z",
        "count": 2,
        "type": "Warning",
        "eventTime": "2026-07-24T14:05:30.123456Z",
        "series": {"count": 4, "lastObservedTime": "2026-07-24T14:05:30.123456Z"},
        "action": "Start",
        "related": {"kind": "Node", "name": "n1"},
        "reportingComponent": "example.com/ctl",
        "reportingInstance": "ctl-1",
    }
    assert orjson.dumps(expected) == orjson.dumps(FULL.to_core_v1())


def test_an_empty_event_keeps_what_go_never_leaves_out():
    empty = Event()
    assert {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {},
        "involvedObject": {},
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    } == empty.to_core_v1()
    assert {
        "kind": "Event",
        "apiVersion": "events.k8s.io/v1",
        "metadata": {},
        "eventTime": None,
        "regarding": {},
        "deprecatedSource": {},
        "deprecatedFirstTimestamp": None,
        "deprecatedLastTimestamp": None,
    } == empty.to_events_v1(as_stored=True)


def test_the_shape_for_create_has_no_deprecated_fields_set():
    body, cuts = events_v1_for_create(FULL.replace(message="x" * 1025))
    assert 1 == cuts
    assert 1024 == len(body["note"].encode())
    assert ({}, None, None) == tuple(body[f"deprecated{k}"] for k in ("Source", "FirstTimestamp", "LastTimestamp"))
    assert "deprecatedCount" not in body
    assert body == FULL.replace(message="x" * 1025).to_events_v1()


def test_missing_null_and_unknown_keys_are_fine():
    for body in ({}, {"metadata": None, "involvedObject": None, "count": None, "series": None, "other": [1]}):
        assert Event() == Event.from_core_v1(body)
        assert Event() == Event.from_events_v1(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "a list, not an object"),
        ("x", "a str, not an object"),
        ({"metadata": []}, "metadata is list, not an object"),
        ({"metadata": {"name": 3}}, "name is int, not a string"),
        ({"involvedObject": "pod"}, "involvedObject is str, not an object"),
        ({"regarding": {"uid": 1}}, "uid is int"),
        ({"reason": ["a"]}, "reason is list"),
        ({"count": "3"}, "count is no 32-bit integer"),
        ({"count": True}, "count is no 32-bit integer"),
        ({"count": 2**31}, "count is no 32-bit integer"),
        ({"eventTime": 5}, "eventTime is int, not a time"),
        ({"eventTime": "yesterday"}, "eventTime: not an RFC 3339 time"),
        ({"metadata": {"annotations": {"a": 1}}}, "annotations holds something else than strings"),
        ({"series": {"count": 1.5}}, "count is no 32-bit integer"),
        ({"related": 3}, "related is int, not an object"),
    ],
)
def test_wrong_types_are_refused_with_one_line(body, text):
    refusals = []
    for read in (Event.from_core_v1, Event.from_events_v1):
        try:
            read(body)
        except ValueError as error:
            refusals.append(str(error))
    assert refusals
    assert all(refusal.startswith("not an event: ") and "\n" not in refusal for refusal in refusals)
    assert text in refusals[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3),
    max_leaves=8,
)
KEYS = [*FULL.to_core_v1(), *FULL.to_events_v1(as_stored=True)]


@given(st.dictionaries(st.sampled_from(KEYS), JSON) | JSON)
def test_any_json_is_an_event_or_a_value_error(body):
    for read in (Event.from_core_v1, Event.from_events_v1):
        try:
            assert isinstance(read(body), Event)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most bodies are refused


@given(REFERENCES)
def test_a_reference_comes_back(reference):
    assert reference == reference_from_json(reference_to_json(reference))


def test_lone_surrogates_never_get_out():
    event = Event(name="\ud800", message="a\udfffb", annotations={"\ud800": "\ud800"}, source=EventSource("\ud800"))
    for body in (event.to_core_v1(), event.to_events_v1(as_stored=True), event.to_events_v1()):
        assert "\N{REPLACEMENT CHARACTER}" == orjson.loads(orjson.dumps(body))["metadata"]["name"]
