"""`Event` is a value: immutable, comparable, hashable, picklable, shared with nobody."""

from __future__ import annotations

import copy
import pickle

import pytest

from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSeries, EventSource, EventType, ObjectReference

POD = ObjectReference("Pod", "ns", "web-1", "u-1", "v1")
NOW_NS = 1_784_901_930_123_456_789
STATIC = encode_static(
    POD, "Normal", "Started", EventSource("ctl", "node-1"), "Start", ObjectReference("Node", name="n")
)


def ring_event(**extras):
    return Event.from_record(encode_record(NOW_NS, STATIC, "it runs", **extras))


def built_event(**fields):
    defaults = {
        "name": f"web-1.{NOW_NS:x}",
        "namespace": "ns",
        "involved_object": POD,
        "related": ObjectReference("Node", name="n"),
        "type": "Normal",
        "reason": "Started",
        "action": "Start",
        "message": "it runs",
        "source": EventSource("ctl", "node-1"),
        "reporting_controller": "ctl",
        "reporting_instance": "node-1",
        "count": 1,
        "first_timestamp": NOW_NS,
        "last_timestamp": NOW_NS,
    }
    return Event(**defaults | fields)


def test_an_event_out_of_a_ring_equals_one_that_was_built():
    assert built_event() == ring_event()
    assert hash(built_event()) == hash(ring_event())
    assert built_event(annotations={"k": "v"}) == ring_event(annotations={"k": "v"})
    assert built_event(name="other") == ring_event(name="other")


@pytest.mark.parametrize("name", Event.__annotations__ or ["name", "message", "count", "annotations"])
def test_no_field_can_be_set_or_deleted(name):
    event = ring_event()
    with pytest.raises(AttributeError, match="immutable"):
        setattr(event, name, None)
    with pytest.raises(AttributeError, match="immutable"):
        delattr(event, name)
    with pytest.raises(AttributeError):
        event.something = 1


def test_annotations_are_copied_and_read_only():
    """W43: client-go shares them between the caller, all watchers and the sink."""
    given = {"k": "v"}
    event = built_event(annotations=given)
    given["k"] = "changed"
    assert {"k": "v"} == dict(event.annotations)
    with pytest.raises(TypeError):
        event.annotations["k"] = "changed"
    with pytest.raises(TypeError):
        ring_event(annotations=given).annotations["k"] = "x"


def test_replace_gives_a_changed_copy():
    event = ring_event()
    other = event.replace(count=2, series=EventSeries(2, NOW_NS), annotations={"k": "v"})
    assert (1, None, {}) == (event.count, event.series, dict(event.annotations))
    assert (2, EventSeries(2, NOW_NS), {"k": "v"}) == (other.count, other.series, dict(other.annotations))
    assert event == other.replace(count=1, series=None, annotations=None)
    with pytest.raises(TypeError, match="no field 'cuont'"):
        event.replace(cuont=3)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("make", [ring_event, built_event])
def test_an_event_can_be_pickled(make, protocol):
    event = make(annotations={"k": "v"})
    back = pickle.loads(pickle.dumps(event, protocol))
    assert event == back
    assert Event is type(back)
    assert event == copy.deepcopy(event)


def test_events_differ_in_any_field():
    event = built_event()
    others = [event.replace(**{name: "other"}) for name in ("name", "reason", "message", "uid", "resource_version")]
    others += [
        event.replace(count=2),
        event.replace(involved_object=POD._replace(uid="x")),
        event.replace(labels={"a": ""}),
    ]
    assert all(event != other for other in others)
    assert event != "an event"


def test_an_event_has_no_other_attributes():
    with pytest.raises(AttributeError, match="no attribute 'note'"):
        _ = ring_event().note


def test_a_long_message_does_not_fill_the_screen():
    text = repr(built_event(message="x\n" * 1000))
    assert "Pod/web-1" in text
    assert "\n" not in text
    assert len(text) < 250


def test_the_types_are_client_gos_two():
    assert ["Normal", "Warning"] == [str(each) for each in EventType]
