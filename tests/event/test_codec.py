"""The bytes of an event in a ring: what goes in comes out, and any other bytes give one ValueError."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpbroadcast.base.text import well_formed
from mpbroadcast.event.codec import (
    STATIC_LIMIT,
    decode_fields,
    decode_record,
    decode_static,
    encode_record,
    encode_static,
)
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference

POD = ObjectReference("Pod", "ns", "web-1", "u-1", "v1", "42", "spec.containers{app}")
SOURCE = EventSource("ctl", "node-1")
NOW_NS = 1_784_901_930_123_456_789
STATIC = encode_static(POD, "Normal", "Started", SOURCE)
ANY_TEXT = st.text(alphabet=st.characters(), max_size=40) | st.text(
    alphabet=st.sampled_from('\ud800\udfff\x00"\\é\n'), max_size=8
)
REFERENCES = st.builds(ObjectReference, *[ANY_TEXT] * 7)


@given(
    st.integers(0, 10**19 - 1),
    REFERENCES,
    ANY_TEXT,
    ANY_TEXT,
    st.builds(EventSource, ANY_TEXT, ANY_TEXT),
    ANY_TEXT,
    st.none() | REFERENCES,
    ANY_TEXT,
    st.none() | ANY_TEXT,
    st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3),
)
def test_what_goes_in_comes_out_well_formed(
    t_ns, reference, type_, reason, source, action, related, message, name, annotations
):
    static = encode_static(reference, type_, reason, source, action, related)
    record = decode_record(encode_record(t_ns, static, message, name, annotations))
    assert (t_ns, well_formed(message), well_formed(name or "")) == (record.t_ns, record.message, record.name)
    assert {well_formed(key): well_formed(value) for key, value in annotations.items()} == record.annotations
    back = record.static
    assert tuple(map(well_formed, reference)) == tuple(back.involved_object)
    assert (well_formed(type_), well_formed(reason), well_formed(action)) == (back.type, back.reason, back.action)
    assert tuple(map(well_formed, source)) == tuple(back.source)
    assert tuple(back.source) == (back.reporting_controller, back.reporting_instance)
    assert (None if related is None else tuple(map(well_formed, related))) == (back.related and tuple(back.related))
    assert (well_formed(reference.namespace) or "default") == back.namespace


@given(st.binary(max_size=200))
@example(b"")
@example(b"[")
@example(b"[%19d,%6d," % (1, 0))
def test_any_bytes_give_a_record_or_a_value_error(payload):
    check_decoding(payload)


def check_decoding(payload):
    try:
        event = Event.from_record(payload)
    except ValueError as error:
        assert "not an event record" in str(error)  # noqa: PT017 - most bytes are refused, some are fine
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert isinstance(event.message, str)
    assert isinstance(event.name, str)


PAYLOADS = [
    encode_record(NOW_NS, STATIC, "message"),
    encode_record(NOW_NS, STATIC, "message", "a-name", {"k": "v"}),
]


@given(st.sampled_from(PAYLOADS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), st.data())
def test_damaged_records_give_a_record_or_a_value_error(payload, changes, data):
    damaged = bytearray(payload)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    check_decoding(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    check_decoding(bytes(damaged))


@given(st.recursive(st.none() | st.booleans() | st.integers(0, 9) | ANY_TEXT, lambda v: st.lists(v, max_size=3)))
def test_static_parts_of_wrong_types_are_refused(value):
    body = orjson.loads(STATIC) | {"reason": value, "involvedObject": {"name": value}}
    try:
        static = orjson.dumps(body)
    except TypeError:
        return  # lone surrogates never get into a ring
    check_decoding(b"[%19d,%6d,%b,%b]" % (NOW_NS, len(static), static, b'"m"'))


@pytest.mark.parametrize(
    "payload",
    [
        PAYLOADS[0][:-1],
        PAYLOADS[0] + b"]",
        PAYLOADS[0].replace(b'"message"', b"3"),
        PAYLOADS[0].replace(b'"message"', b'"message",{},{}'),
        PAYLOADS[0].replace(b'"message"', b'"message",[]'),
        PAYLOADS[1].replace(b'{"k":"v"}', b'{"k":3}'),
        PAYLOADS[1].replace(b'{"k":"v"}', b"[]"),
        PAYLOADS[1].replace(b'"a-name"', b"7"),
        b"[%19d,%6d,%b,%b]" % (-1, len(STATIC), STATIC, b'"m"'),
        b"[%19d,%6d,%b,%b]" % (NOW_NS, 2, b"[]", b'"m"'),
        b"[%19d,%6d,%b,%b]" % (NOW_NS, len(STATIC) + 1, STATIC, b'"m"'),
        b'[%19d,%6d,%b,"m"]' % (NOW_NS, 0, b""),
    ],
)
def test_records_with_something_wrong_are_refused(payload):
    with pytest.raises(ValueError, match="not an event record"):
        decode_fields(payload)


def test_the_payload_is_json_that_any_tool_reads():
    t_ns, length, static, message, extras = orjson.loads(PAYLOADS[1])
    assert (NOW_NS, len(STATIC), "message") == (t_ns, length, message)
    assert {"name": "a-name", "annotations": {"k": "v"}} == extras
    assert "Started" == static["reason"]


def test_without_a_name_the_event_is_called_after_its_object_and_time():
    assert f"web-1.{NOW_NS:x}" == Event.from_record(PAYLOADS[0]).name
    assert "a-name" == Event.from_record(PAYLOADS[1]).name


def test_a_message_is_anything_with_a_text():
    record = decode_record(encode_record(NOW_NS, STATIC, ValueError("broken"), None, {"n": 3}))
    assert ("broken", {"n": "3"}) == (record.message, record.annotations)


@pytest.mark.parametrize("t_ns", [-1, 10**19])
def test_times_that_nineteen_digits_cannot_say_are_refused(t_ns):
    with pytest.raises(ValueError, match="an event's time must be"):
        encode_record(t_ns, STATIC, "m")


def test_a_static_part_has_a_limit():
    room = STATIC_LIMIT - len(encode_static(POD._replace(name=""), "Normal", "R", SOURCE)) - len('"name":"",')
    big = encode_static(POD._replace(name="x" * room), "Normal", "R", SOURCE)
    assert STATIC_LIMIT == len(big)
    record = decode_record(encode_record(NOW_NS, big, "m"))
    assert room == len(record.static.involved_object.name)
    with pytest.raises(ValueError, match="at most 999999"):
        encode_static(POD._replace(name="x" * (room + 1)), "Normal", "R", SOURCE)


def test_an_equal_static_part_is_decoded_once():
    assert decode_static(STATIC) is decode_static(bytes(bytearray(STATIC)))
