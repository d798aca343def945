"""What travels through a ring: any object that orjson encodes, with any type, and events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.wire import ADDED, BOOKMARK, DELETED, ERROR, KIND_RECORD, MODIFIED, WatchEvent, decode, encode

TYPES = [ADDED, MODIFIED, DELETED, BOOKMARK, ERROR]
TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3),
    max_leaves=6,
)
EVENT = Event(name="a", namespace="ns", involved_object=ObjectReference("Pod", "ns", "a"), count=2, first_timestamp=0)


@given(st.sampled_from(TYPES) | st.text(min_size=1, max_size=60), JSON)
def test_any_object_and_type_come_out_as_they_went_in(type_, obj):
    assert WatchEvent(type_, obj) == decode(*encode(type_, obj))


@pytest.mark.parametrize("type_", [*TYPES, "internal-do-function", "é"])
def test_an_event_stays_an_event(type_):
    assert WatchEvent(type_, EVENT) == decode(*encode(type_, EVENT))


def test_what_a_recorder_wrote_is_an_added_event():
    static = encode_static(ObjectReference("Pod", name="a"), "Normal", "R", EventSource("c"))
    event = decode(KIND_RECORD, encode_record(5, static, "m"))
    assert (ADDED, "m", "a.5") == (event.type, event.object.message, event.object.name)


@pytest.mark.parametrize("type_", ["", "x" * 256, None, 3, b"ADDED"])
def test_types_are_strings_of_1_to_255_bytes(type_):
    with pytest.raises(TypeError, match="1 to 255 bytes"):
        encode(type_, {})


@pytest.mark.parametrize("obj", [object(), {1: object()}, "\ud800", {1, 2}])
def test_what_orjson_cannot_encode_is_refused_with_its_type(obj):
    with pytest.raises(TypeError, match="orjson cannot encode this"):
        encode(ADDED, obj)


@given(st.integers(0, 255), st.binary(max_size=60))
def test_any_bytes_are_a_watch_event_or_a_value_error(kind, payload):
    try:
        assert isinstance(decode(kind, payload).type, str)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most bytes are refused
