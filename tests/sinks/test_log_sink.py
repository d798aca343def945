"""`LogSink`: what it logs, and that nobody can forge a line."""

from __future__ import annotations

import logging
import pickle

import pytest

from mpbroadcast.correlator import CorrelatorOptions, EventCorrelator
from mpbroadcast.event.parts import EventSeries, ObjectReference
from mpbroadcast.sinks.delivery import Delivery
from mpbroadcast.sinks.log import LogSink


@pytest.fixture
def sink(caplog):
    caplog.set_level(logging.DEBUG, "events")
    return LogSink("events")


def test_an_event_is_logged_as_client_go_logs_it(sink, caplog, make_event):
    sink.create(make_event())
    expected = (
        '"Event occurred" object="baz/foo" fieldPath="spec.containers[2]" kind="Pod" apiVersion="v1" type="Normal"'
        ' reason="Started" message="some verbose message: 1"'
    )
    assert [expected] == caplog.messages


def test_an_object_without_a_namespace_is_logged_by_its_name(sink, caplog, make_event):
    sink.create(make_event(involved_object=ObjectReference("Node", "", "node-1")))
    assert 'object="node-1"' in caplog.messages[0]


def test_the_count_stands_behind_a_repeat(sink, caplog, make_event):
    sink.patch(make_event(count=7), b"{}")
    sink.patch(make_event(series=EventSeries(3)), b"{}")
    assert [" count=7", " count=3"] == [line[-8:] for line in caplog.messages]


def test_only_what_passed_the_correlator_is_logged(sink, caplog, make_event):
    delivery = Delivery(sink, EventCorrelator(CorrelatorOptions(burst_size=2)))
    for _ in range(5):
        delivery.deliver(make_event())
    assert 2 == len(caplog.messages)


def test_no_event_can_forge_a_line_or_command_a_terminal(sink, caplog, make_event):
    """A line break in a value begins a line that is indented by a tab, as klog writes it."""
    evil = 'x" forged="1\nE0101 forged\x1b[2J %s %d {}\r'
    sink.create(make_event(message=evil, type='x" forged="1'))
    [text] = caplog.messages
    assert ["\tE0101 forged"] == [line[:13] for line in text.split("\n") if "E0101" in line]
    assert not any(character in text for character in "\r\x1b")
    assert r'type="x\" forged=\"1"' in text


def test_klog_is_the_default(caplog, make_event):
    caplog.set_level(logging.DEBUG, "klog")
    LogSink().create(make_event(count=2))
    [record] = caplog.records
    assert ("klog", logging.INFO) == (record.name, record.levelno)
    assert record.getMessage().startswith('"Event occurred" object="baz/foo"')
    assert record.getMessage().endswith(" count=2")


def test_level_and_logger_can_be_chosen_and_survive_pickling(caplog, make_event):
    caplog.set_level(logging.DEBUG, "mine")
    for sink in (LogSink(logging.getLogger("mine"), level=logging.DEBUG), LogSink("mine")):
        pickle.loads(pickle.dumps(sink)).create(make_event())
    assert [("mine", 10), ("mine", 20)] == [(record.name, record.levelno) for record in caplog.records]
