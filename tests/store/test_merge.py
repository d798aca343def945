"""The short way for the patch of a repeat gives what the long way gives."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.event.model import Event, EventSeries, EventSource, ObjectReference
from mpbroadcast.event.times import SECOND, encode_time
from mpbroadcast.store.merge import patched, read_patch, repeated
from mpbroadcast.store.row import as_stored

NOW = 1_784_901_930 * SECOND
STORED = as_stored(
    Event(
        name="web-0.1", namespace="default", involved_object=ObjectReference("Pod", "default", "web-0"), type="Normal",
        reason="Pulled", message="before", source=EventSource("kubelet"), count=3, first_timestamp=NOW,
        last_timestamp=NOW, labels={"a": "b"},
    ),
    resource_version=7, uid="u", created=NOW,
)  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def both_ways(current, changes):
    body = current.to_core_v1()
    return repeated(body, current, changes), patched(current, changes), body


@given(st.integers(1, 2**31 - 1), st.integers(-62_135_596_799, 253_402_300_799), TEXTS.filter(bool))
def test_a_repeat_is_applied_as_any_patch_is(count, seconds, message):
    changes = {"count": count, "lastTimestamp": encode_time(seconds * SECOND), "message": message}
    short, long, body = both_ways(STORED, read_patch(orjson.dumps(changes)))
    assert long == short
    assert long.to_core_v1() == body


@pytest.mark.parametrize("last", ["2026-07-24T14:05:30.999Z", "2026-07-24T16:05:30+02:00"])
def test_the_time_of_a_repeat_is_stored_as_kubernetes_writes_it(last):
    short, long, body = both_ways(STORED, {"count": 4, "lastTimestamp": last, "message": "m"})
    assert long == short
    assert "2026-07-24T14:05:30Z" == body["lastTimestamp"]


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 4, "lastTimestamp": "2026-07-24T14:05:30Z"},
        {"count": 4, "lastTimestamp": "2026-07-24T14:05:30Z", "message": "m", "reason": "r"},
        {"count": 4, "lastTimestamp": "yesterday", "message": "m"},
        {"count": 4, "lastTimestamp": None, "message": "m"},
        {"count": "4", "lastTimestamp": "2026-07-24T14:05:30Z", "message": "m"},
        {"count": True, "lastTimestamp": "2026-07-24T14:05:30Z", "message": "m"},
        {"count": 2**31, "lastTimestamp": "2026-07-24T14:05:30Z", "message": "m"},
        {"count": 4, "lastTimestamp": "2026-07-24T14:05:30Z", "message": ""},
        {"count": 4, "lastTimestamp": "2026-07-24T14:05:30Z", "message": None},
    ],
)
def test_any_other_patch_goes_the_long_way(changes):
    body = STORED.to_core_v1()
    assert repeated(body, STORED, changes) is None
    assert STORED.to_core_v1() == body


def test_an_event_with_a_series_goes_the_long_way():
    event = STORED.replace(series=EventSeries(2, NOW))
    changes = {"count": 4, "lastTimestamp": "2026-07-24T14:05:30Z", "message": "m"}
    assert repeated(event.to_core_v1(), event, changes) is None
