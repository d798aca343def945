"""What the machinery logs: one line for each kind and minute with the number since the last one, whoever is killed."""

from __future__ import annotations

import logging
import os
import re
import signal

import pytest

from mpbroadcast.event.parts import ObjectReference

from .conftest import alive, eventually, helpers_of

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")


@pytest.fixture
def lines(tmp_path):
    """The lines of the logger ``mpbroadcast`` of all processes: whole ones, from a file that all append to."""
    path = tmp_path / "log"
    handler = logging.FileHandler(path)
    logger = logging.getLogger("mpbroadcast")
    logger.addHandler(handler)
    yield lambda: path.read_text().splitlines()
    logger.removeHandler(handler)
    handler.close()


def numbers_in(found):
    """The number of each line: that in its parentheses, or at its beginning, or 1."""
    return [int((re.search(r"\((\d+) ", line) or re.match(r"(\d+)", line) or [0, "1"])[1]) for line in found]


def restart(broadcaster, name):
    pid = eventually(lambda: all(helpers_of(broadcaster).values()) and helpers_of(broadcaster)[name])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid) and helpers_of(broadcaster)[name] not in (0, pid))


@pytest.mark.parametrize("name", ["distributor", "mine"])
def test_restarts_are_one_line_and_in_the_end_their_number(make, lines, name):
    broadcaster = make()
    broadcaster.start_event_watcher(lambda event: None, name="mine")
    recorder = broadcaster.new_recorder("test")
    for _ in range(4):
        restart(broadcaster, name)
        assert recorder.event(POD, "Normal", "Step", "so that it gets something done")
        assert broadcaster.flush(10)
    said = [line for line in lines() if "takes over" in line]
    assert 1 == len(said)
    assert f"{name}: process " in said[0]
    broadcaster.shutdown(10)
    said = eventually(lambda: len(found := [line for line in lines() if "takes over" in line]) == 2 and found)
    assert [1, 3] == numbers_in(said)


def test_a_distributor_that_takes_over_does_not_say_again_what_was_said(make, lines):
    broadcaster = make()
    recorder = broadcaster.new_recorder("test")

    def refused(times):
        for _ in range(times):
            assert not recorder.event(POD, "Odd", "NoSuchType", "neither Normal nor Warning")

    def said():
        return [line for line in lines() if "were not recorded" in line]

    assert recorder.event(POD, "Normal", "Step", "for a lane")
    refused(5)
    eventually(said)
    restart(broadcaster, "distributor")
    refused(3)
    assert recorder.event(POD, "Normal", "Step", "so that the new one works")
    assert broadcaster.flush(10)
    assert 1 == len(said())
    broadcaster.shutdown(10)
    eventually(lambda: len(said()) > 1)
    assert [5, 3] == numbers_in(said())
    assert "not recorded: invalid; the last one: " in said()[1]


def test_a_handler_that_always_raises_is_one_traceback_and_a_number(make, lines):
    broadcaster = make()

    def broken(event):
        raise RuntimeError("a bug")

    broadcaster.start_event_watcher(broken, name="broken")
    recorder = broadcaster.new_recorder("test")
    for number in range(500):
        assert recorder.event(POD, "Normal", "Step", str(number))
    assert broadcaster.shutdown(10).complete
    text = eventually(lambda: "like this" in "".join(found := lines()) and found)
    said = [line for line in text if "failed on" in line]
    assert [1, 499] == numbers_in([line.rpartition("RuntimeError")[2] for line in said])
    assert 1 == sum(line.startswith("Traceback") for line in text)
    assert 500 == broadcaster.stats().watcher("broken").failed
