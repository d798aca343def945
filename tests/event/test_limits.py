"""The API server's limits, and how an event is made to meet them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.base.text import well_formed
from mpbroadcast.event.limits import FIELD_LIMIT, NOTE_LIMIT, fill_for_events_v1, shorten
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference

NOW_NS = 1_784_901_930_123_456_789


def old_event(**fields):
    defaults = {
        "name": "web-1.18",
        "namespace": "ns",
        "involved_object": ObjectReference("Pod", "ns", "web-1"),
        "type": "Normal",
        "reason": "Started",
        "message": "it runs",
        "source": EventSource("ctl", "node-1"),
        "reporting_controller": "ctl",
        "reporting_instance": "node-1",
        "count": 3,
        "first_timestamp": NOW_NS,
        "last_timestamp": NOW_NS + 5,
    }
    return Event(**defaults | fields)


@given(st.text(max_size=60), st.integers(0, 70))
def test_a_text_is_cut_between_characters_to_at_most_the_limit(text, limit):
    short = shorten(text, limit)
    assert len(short.encode()) <= limit
    if len(text.encode()) <= limit:
        assert text is short
    else:
        kept = short.removesuffix("…") if limit >= 3 else short
        assert text.startswith(kept)
        # No more was cut than necessary: the next character would not have fitted.
        room = limit - 3 if limit >= 3 else limit
        assert len(text[: len(kept) + 1].encode()) > room


@pytest.mark.parametrize(
    ("text", "limit", "short"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "ab…"),
        ("ééé", 5, "é…"),
        ("ééé", 6, "ééé"),
        ("😀😀", 7, "😀…"),
        ("abc", 2, "ab"),
        ("abc", 0, ""),
        ("abc", -1, ""),
    ],
)
def test_some_cuts(text, limit, short):
    assert short == shorten(text, limit)


def test_lone_surrogates_count_as_what_they_become():
    assert "\N{REPLACEMENT CHARACTER}…" == shorten("\ud800" * 3, 6)
    assert 9 == len(well_formed(shorten("\ud800" * 3, 9)).encode())


def test_cutting_does_not_depend_on_how_long_the_text_is():
    assert 1024 == len(shorten("x" * 10_000_000, NOTE_LIMIT).encode())


def test_an_old_event_is_filled_from_what_it_has():
    filled, cuts = fill_for_events_v1(old_event())
    assert (0, "Started", "ctl", "node-1") == (
        cuts,
        filled.action,
        filled.reporting_controller,
        filled.reporting_instance,
    )
    assert (NOW_NS, None, None, 0, EventSource("")) == (
        filled.event_time,
        filled.first_timestamp,
        filled.last_timestamp,
        filled.count,
        filled.source,
    )


def test_without_a_host_the_instance_names_this_one():
    event = old_event(source=EventSource("ctl"), reporting_controller="", reporting_instance="")
    filled, _ = fill_for_events_v1(event)
    assert ("ctl", f"ctl-{os.uname().nodename}") == (filled.reporting_controller, filled.reporting_instance)


def test_what_is_there_already_stays():
    event = old_event(action="Act", event_time=7, reporting_controller="c", reporting_instance="i")
    filled, _ = fill_for_events_v1(event)
    assert ("Act", 7, "c", "i") == (
        filled.action,
        filled.event_time,
        filled.reporting_controller,
        filled.reporting_instance,
    )


def test_what_is_too_long_is_cut_and_counted():
    event = old_event(message="é" * 600, reason="R" * 200, action="A" * 128, reporting_instance="i" * 129)
    filled, cuts = fill_for_events_v1(event)
    assert 3 == cuts
    assert NOTE_LIMIT - 1 == len(filled.message.encode())  # two bytes to a character, and three for the ellipsis
    assert [FIELD_LIMIT] * 3 == [len(t.encode()) for t in (filled.reason, filled.action, filled.reporting_instance)]
    assert "A" * 128 == filled.action
    assert event.message == "é" * 600
