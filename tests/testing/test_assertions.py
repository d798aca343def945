"""`assert_events` and the pytest plugin."""

from __future__ import annotations

import pytest

from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.testing import FakeRecorder, FakeSink, assert_events

pytest_plugins = ["pytester"]

POD = ObjectReference("Pod", "ns", "web-1", "uid-1", "v1")


@pytest.fixture
def recorder():
    recorder = FakeRecorder()
    recorder.event(POD, "Normal", "Pulled", "image pulled")
    recorder.event(POD, "Normal", "Started", "it runs")
    recorder.event(POD, "Warning", "Failed", "exit 1")
    return recorder


def test_what_was_recorded_passes_in_each_form(recorder):
    assert_events(recorder, ["Normal Pulled image pulled", {"reason": "Started"}, recorder.events[2]])
    assert_events(recorder.events, [{"count": 1}, {"type": "Normal"}, {"message": "exit 1", "reason": "Failed"}])


def test_nothing_is_nothing():
    assert_events(FakeRecorder(), [])


def test_a_sink_can_be_compared_as_well(recorder):
    sink = FakeSink()
    for event in recorder.events:
        sink.create(event.replace(name=event.reason))
    assert_events(sink, [{"reason": "Pulled"}, {"reason": "Started"}, {"reason": "Failed"}])


def test_the_order_matters_unless_it_does_not(recorder):
    backwards = ["Warning Failed exit 1", {"reason": "Started"}, "Normal Pulled image pulled"]
    assert_events(recorder, backwards, any_order=True)
    with pytest.raises(AssertionError):
        assert_events(recorder, backwards)


def test_one_event_is_not_enough_for_two_expectations(recorder):
    with pytest.raises(AssertionError):
        assert_events(recorder.events[:2], [{"reason": "Pulled"}, {"reason": "Pulled"}], any_order=True)


def test_the_difference_is_shown_line_by_line(recorder):
    with pytest.raises(AssertionError) as caught:
        assert_events(recorder, ["Normal Pulled image pulled", "Normal Created made", "Normal Started it runs"])
    assert [
        "expected 3 events, recorded 3 events (- missing, + not expected):",
        "  Normal Pulled image pulled",
        "- Normal Created made",
        "  Normal Started it runs",
        "+ Warning Failed exit 1",
    ] == str(caught.value).splitlines()


def test_what_the_expectations_look_at_is_shown(recorder):
    with pytest.raises(AssertionError) as caught:
        assert_events(recorder.events[:1], [{"reason": "Pulled", "count": 2}])
    assert [
        "expected 1 event, recorded 1 event (- missing, + not expected):",
        "- reason='Pulled', count=2",
        "+ Normal Pulled image pulled  reason='Pulled', count=1",
    ] == str(caught.value).splitlines()


def test_a_line_break_in_a_message_does_not_break_the_difference():
    recorder = FakeRecorder()
    recorder.event(POD, "Normal", "R", "a\nb")
    with pytest.raises(AssertionError) as caught:
        assert_events(recorder, [])
    assert r"+ Normal R a\nb" == str(caught.value).splitlines()[-1]


def test_two_events_that_only_differ_elsewhere_are_told_apart(recorder):
    event = recorder.events[0]
    with pytest.raises(AssertionError) as caught:
        assert_events([event], [event.replace(count=2)])
    missing, unexpected = str(caught.value).splitlines()[1:]
    assert missing.startswith("- ")
    assert "'count': 2" in missing
    assert unexpected.startswith("+ ")
    assert "'count': 1" in unexpected


def test_the_plugin_gives_a_recorder_and_a_sink(pytester):
    pytester.makepyfile(
        """
        from mpbroadcast.event.parts import ObjectReference
        from mpbroadcast.testing import assert_events

        def test_recording(event_recorder):
            event_recorder.event(ObjectReference("Pod", "ns", "p"), "Normal", "Started", "it runs")
            assert_events(event_recorder, ["Normal Started it runs"])

        def test_each_test_has_its_own(event_recorder, event_sink):
            assert_events(event_recorder, [])
            assert [] == event_sink.calls
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")  # loaded by its entry point
    result.assert_outcomes(passed=2)
