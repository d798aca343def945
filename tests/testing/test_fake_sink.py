"""`FakeSink` and the clocks: what a test may rely on beyond `check_sink`."""

from __future__ import annotations

import pytest

from mpbroadcast.errors import NotFound, SinkRejected, SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.testing import FakeSink, SelfAdvancingClock, SinkCall, SteppingClock

EVENT = Event(name="e", namespace="default", message="m", count=1, first_timestamp=1_500_000_000)


def test_it_writes_down_every_call():
    sink = FakeSink()
    sink.create(EVENT)
    sink.patch(EVENT, b'{"count":2}')
    assert [SinkCall("create", EVENT), SinkCall("patch", EVENT, b'{"count":2}')] == sink.calls
    assert [2] == [event.count for event in sink.events]


def test_what_it_returns_went_through_json():
    """Times of the old shape are whole seconds, as from a server."""
    stored = FakeSink().create(EVENT)
    assert (1_000_000_000, "1") == (stored.first_timestamp, stored.resource_version)


def test_it_fails_once_for_each_fault_and_lets_none_through():
    fault = SinkUnavailable("once")
    sink = FakeSink([None, fault])
    sink.create(EVENT)
    with pytest.raises(SinkUnavailable):
        sink.patch(EVENT, b"{}")
    sink.patch(EVENT, b"{}")
    assert [None, fault, None] == [call.error for call in sink.calls]


def test_it_fails_always_until_told_otherwise():
    sink = FakeSink()
    sink.fail_always(SinkRejected("no"))
    for _ in range(3):
        with pytest.raises(SinkRejected):
            sink.create(EVENT)
    sink.fail_always(None)
    assert "e" == sink.create(EVENT).name


def test_events_expire_by_name_or_all():
    sink = FakeSink()
    for name in "abc":
        sink.create(EVENT.replace(name=name))
    sink.expire("b")
    assert ["a", "c"] == [event.name for event in sink.events]
    sink.expire()
    assert sink.get("default", "a") is None
    with pytest.raises(NotFound):
        sink.patch(EVENT.replace(name="a"), b"{}")


def test_a_patch_that_is_no_json_is_refused():
    sink = FakeSink()
    sink.create(EVENT)
    with pytest.raises(SinkRejected, match="no JSON"):
        sink.patch(EVENT, b"count=2")


def test_a_stepping_clock_moves_on_command_only():
    clock = SteppingClock(100)
    assert [100, 100] == [clock.now_ns(), clock.now_ns()]
    clock.step(5)
    clock.step(-10)
    assert 95 == clock.now_ns()
    assert not clock.sleep(1.5)
    assert 1_500_000_095 == clock.now_ns()


def test_a_self_advancing_clock_moves_before_each_reading():
    clock = SelfAdvancingClock(100, interval_ns=7)
    assert [107, 114] == [clock.now_ns(), clock.now_ns()]
