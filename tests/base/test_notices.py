"""Log lines that are limited to one for each kind and minute, and count what they leave out."""

from __future__ import annotations

import logging
import os
import pickle

import pytest

from mpbroadcast.base import notices
from mpbroadcast.base.notices import EVERY_SECONDS, Notices, Said


class Seconds:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def log(seconds):
    return Notices(logging.getLogger("noticed"), clock=seconds)


def test_the_first_is_said_at_once_and_the_others_are_counted(log, seconds, caplog):
    for number in range(1000):
        log.say("kind", "it failed: %d", number)
        seconds.now += 0.01
    assert ["it failed: 0"] == caplog.messages
    seconds.now = 1000 + EVERY_SECONDS
    log.say("kind", "it failed: %d", 1000)
    assert ["it failed: 1000 (1000 like this since the last line)"] == caplog.messages[1:]


def test_what_was_counted_is_said_when_its_minute_is_over_though_nothing_follows(log, seconds, caplog):
    for text in ("it failed", "it failed again", "and again"):
        log.say("kind", text)
    log.flush()
    assert 1 == len(caplog.messages)
    assert log.unsaid
    seconds.now += EVERY_SECONDS
    log.flush()
    assert "and again (2 like this since the last line)" == caplog.messages[-1]
    log.flush(final=True)
    assert 2 == len(caplog.messages)
    assert not log.unsaid


def test_the_end_leaves_nothing_unsaid(log, caplog):
    for kind in "aabbb":
        log.say(kind, kind)
    log.flush(final=True)
    assert ["a", "b", "a (1 like this since the last line)", "b (2 like this since the last line)"] == caplog.messages


def test_kinds_do_not_wait_for_each_other(log, caplog):
    log.say("a", "an outage")
    log.say("b", "a refusal", level=logging.WARNING)
    assert ["ERROR", "WARNING"] == [record.levelname for record in caplog.records]


def test_a_line_that_must_not_wait_says_what_was_counted_before_it(log, caplog):
    for number in range(3):
        log.say("kind", "%d", number)
    log.say("kind", "now", at_once=True)
    assert "now (3 like this since the last line)" == caplog.messages[-1]


def test_however_many_kinds_there_are_memory_is_bounded_and_nothing_is_forgotten(log, caplog, monkeypatch):
    monkeypatch.setattr(notices, "_MOST_KINDS", 4)
    for number in range(100):
        log.say(number, "kind %d", number)
    log.flush(final=True)
    assert 5 == len(log._kinds)
    assert "kind 99 (95 like this since the last line)" == caplog.messages[-1]
    assert 6 == len(caplog.messages)


def test_a_traceback_goes_with_the_line_that_is_said(log, caplog):
    for _ in range(2):
        try:
            int("a bug")
        except ValueError as error:
            log.say("kind", "it failed", error=error)
    log.flush(final=True)
    assert [True, False] == [record.exc_info is not None for record in caplog.records]


def test_without_a_limit_everything_is_said(caplog):
    log = Notices(logging.getLogger("noticed"), seconds=0)
    for number in range(3):
        log.say("kind", "%d", number)
    assert ["0", "1", "2"] == caplog.messages
    assert not log.unsaid


@pytest.fixture
def monotonic(monkeypatch, seconds):
    monkeypatch.setattr(notices.time, "monotonic", seconds)
    return seconds


def test_a_total_is_said_as_what_came_since_it_was_said(monotonic):
    said = Said(2)
    assert 0 == said.due(1)
    said.set(1, 5)
    assert (5, 0, 0) == (said.due(1), said.due(1), said.due(0))
    said.set(1, 12)
    said.add(1)
    assert 0 == said.due(1)
    assert 8 == said.due(1, final=True)
    said.add(1, 3)
    monotonic.now += EVERY_SECONDS
    assert 3 == said.due(1)


def test_another_generation_begins_anew(monotonic):
    """A watcher slot that is used again has other totals."""
    said = Said(1)
    said.set(0, 100, generation=1)
    assert 100 == said.due(0)
    said.set(0, 3, generation=2)
    assert 3 == said.due(0)


def test_a_successor_that_was_forked_before_knows_what_was_said():
    said = Said(1)
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.read(ready, 1)
        said.add(0, 2)
        os._exit(said.due(0, final=True))
    os.close(ready)
    said.add(0, 40)
    assert 40 == said.due(0)
    os.close(go)
    assert 2 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_pickled_it_begins_anew():
    said = Said(3)
    said.add(2)
    copy = pickle.loads(pickle.dumps(said))
    assert 0 == copy.due(2)
    assert 1 == said.due(2)
