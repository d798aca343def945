"""`create_records` stores what `create` would, from the bytes of the ring."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpbroadcast.errors import SinkRejected, StoreError
from mpbroadcast.event import template
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.store import records
from mpbroadcast.store.records import RowMaker
from mpbroadcast.store.row import as_stored, encode

NOW = 1_767_323_045_123_456_789
PREFIX = "3b0e4b5e-0000-4000-8000-"

texts = st.text(max_size=20) | st.sampled_from(["", "%", "%b%d%%", '"\\', "\x00\x1f", "日本", "a\ud800"])
references = st.builds(ObjectReference, texts, texts, texts, texts, texts, texts, texts)
statics = st.builds(
    encode_static, references, texts, texts, st.builds(EventSource, texts, texts), texts, st.none() | references
)
payloads = st.builds(
    encode_record,
    st.integers(0, 10**19 - 1),
    statics,
    texts,
    st.none() | texts,
    st.none() | st.dictionaries(texts, texts, max_size=2),
)


def row_of(item, version):
    """The row by the way that single events go."""
    event = Event.from_record(item)
    stored = as_stored(event, resource_version=version, uid=f"{PREFIX}{version:012x}", created=NOW)
    return tuple(encode(stored, resource_version=version, written=NOW, precise=event))


@given(st.lists(payloads, min_size=1, max_size=5))
def test_rows_are_byte_for_byte_those_of_single_events(items):
    expected = [row_of(item, version) for version, item in enumerate(items, 7)]
    if all(row[3] for row in expected):
        assert expected == [tuple(row) for row in RowMaker(PREFIX).rows(items, first_version=7, written=NOW)]


@pytest.mark.parametrize("t_ns", [0, NOW - 1, NOW + 1, 10**19 - 1])
def test_no_event_was_last_seen_after_it_was_written(t_ns):
    item = encode_record(t_ns, encode_static(ObjectReference("Pod", "ns", "web"), "Normal", "R", EventSource("c")), "m")
    [row] = RowMaker(PREFIX).rows([item], first_version=7, written=NOW)
    assert row_of(item, 7) == tuple(row)
    assert min(t_ns, NOW) == row[11]


@settings(max_examples=20)
@given(st.lists(payloads, min_size=1, max_size=3))
def test_rows_are_the_same_from_a_used_cache(items):
    maker = RowMaker(PREFIX)
    if all(Event.from_record(item).name for item in items):
        maker.rows(items, first_version=1, written=NOW - 10**12)
        expected = [row_of(item, version) for version, item in enumerate(items, 7)]
        assert expected == [tuple(row) for row in maker.rows(items, first_version=7, written=NOW)]


OWN = [getattr(records, name) for name in ("_UID", "_VERSION", "_CREATED")]
SHARED = [getattr(template, name) for name in ("_NAME", "_MESSAGE", "_OBJECT", "_SEEN")]


@pytest.mark.parametrize("placeholder", [*OWN, *SHARED])
def test_a_placeholder_in_an_event_does_no_harm(placeholder):
    """Nobody can guess the random ones; the dates can be written by anybody."""
    reference = ObjectReference("Pod", "ns", "web", "uid", "v1")
    static = encode_static(reference, "Normal", placeholder, EventSource(placeholder))
    item = encode_record(NOW, static, placeholder)
    assert [row_of(item, 7)] == [tuple(row) for row in RowMaker(PREFIX).rows([item], first_version=7, written=NOW)]


def test_the_events_of_a_batch_can_be_read(store, make_payload):
    store.begin()
    first = store.create_records([make_payload(number) for number in range(100)])
    store.commit()
    events = store.list().events
    assert [str(first + number) for number in range(100)] == [event.resource_version for event in events]
    assert [f"message {number}" for number in range(100)] == [event.message for event in events]
    assert store.get("apps", events[7].name) == events[7]
    assert first + 99 == store.resource_version()


def test_payloads_and_events_can_be_mixed(store, make_payload, make_event):
    store.begin()
    store.create_records([make_payload(1), make_event(2), make_payload(3, annotations={"a": "1"})])
    store.create(make_event(4))
    store.create_records([make_payload(5)])
    store.commit()
    assert [f"message {number}" for number in range(1, 6)] == [event.message for event in store.list().events]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("twice", (409, "AlreadyExists")),
        ("there", (409, "AlreadyExists")),
        ("garbage", (422, "Invalid")),
        ("nameless", (422, "Invalid")),
        ("count", (422, "Invalid")),
    ],
)
def test_a_batch_with_a_bad_one_is_refused(store, make_payload, make_event, bad, expected):
    item = {
        "twice": make_payload(1),
        "there": make_payload(99),
        "garbage": b"garbage",
        "nameless": make_event(name=""),
        "count": make_event(count=1 << 40),
    }[bad]
    store.create(Event.from_record(make_payload(99)))
    store.begin()
    with pytest.raises(SinkRejected) as caught:
        store.create_records([make_payload(1), item])
    assert expected == (caught.value.code, caught.value.reason)
    store.rollback()
    assert ["message 99"] == [event.message for event in store.list().events]
    store.begin()
    store.create_records([make_payload(1)])
    store.commit()
    assert 2 == len(store.list().events)


def test_it_needs_a_batch(store, make_payload):
    with pytest.raises(StoreError, match="none was begun"):
        store.create_records([make_payload()])
