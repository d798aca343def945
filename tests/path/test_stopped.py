"""SIGSTOP, or a CPU share of nothing: nobody else is slowed, and when the process goes on all is well."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from mpbroadcast.broadcaster import FullChannelBehavior
from mpbroadcast.event.parts import ObjectReference

from .conftest import eventually, helpers_of

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")
WAIT = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
DROP = FullChannelBehavior.DROP_IF_CHANNEL_FULL
SMALL = {"lane_bytes": 1 << 16, "watcher_bytes": 1 << 16}


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def pid_of(broadcaster, name):
    pids = eventually(lambda: (found := helpers_of(broadcaster)) and all(found.values()) and found)
    return pids[name]


def record(recorder, count, first=0):
    """The numbers that were accepted, and the longest call."""
    accepted, longest = [], 0.0
    for number in range(first, first + count):
        began = time.perf_counter()
        if recorder.event(POD, "Normal", "Counted", f"{number}:{'x' * 100}"):
            accepted.append(number)
        longest = max(longest, time.perf_counter() - began)
    return accepted, longest


def arrived(seen):
    return [int(line.split(":")[0]) for line in seen.lines]


def test_a_stopped_distributor_fills_lanes_which_then_refuse_and_count(make, seen):
    broadcaster = make(**SMALL, full_channel_behavior=WAIT)
    broadcaster.start_event_watcher(seen, name="seen")
    recorder = broadcaster.new_recorder("tests")
    with stopped(pid_of(broadcaster, "distributor")):
        accepted, longest = record(recorder, 2000)
        assert 100 < len(accepted) < 2000
        assert 2000 - len(accepted) == broadcaster.stats().refused["lane_full"]
        assert longest < 0.5  # refusing waits for nobody
        assert list(range(len(accepted))) == accepted
    assert broadcaster.flush(30)
    assert accepted == arrived(seen)
    later, _ = record(recorder, 10, 5000)
    assert broadcaster.flush(30)
    assert accepted + later == arrived(seen)


def test_a_stopped_distributor_is_not_presumed_dead(make, seen):
    """Two at a time would corrupt: its spare waits for as long as it exists, and nothing moves meanwhile."""
    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="seen")
    recorder = broadcaster.new_recorder("tests")
    pid = pid_of(broadcaster, "distributor")
    with stopped(pid):
        accepted, _ = record(recorder, 20)
        time.sleep(1.5)
        assert (pid, 0) == (broadcaster.stats().distributor.pid, broadcaster.stats().distributor.restarts)
        assert [] == seen.lines
    assert broadcaster.flush(30)
    assert accepted == arrived(seen)


def test_a_stopped_watcher_that_drops_holds_up_neither_the_others_nor_the_workers(make, seen, tmp_path):
    broadcaster = make(**SMALL)
    broadcaster.start_event_watcher(lambda event: None, name="stopped", full_channel_behavior=DROP)
    broadcaster.start_event_watcher(seen, name="seen", full_channel_behavior=WAIT)
    recorder = broadcaster.new_recorder("tests")
    with stopped(pid_of(broadcaster, "stopped")):
        sent = []
        for batch in range(20):
            accepted, _ = record(recorder, 100, batch * 100)
            sent += accepted
            eventually(lambda sent=sent: len(arrived(seen)) == len(sent))
        assert list(range(2000)) == sent == arrived(seen)
        assert broadcaster.stats().watcher("stopped").dropped > 0
    assert broadcaster.flush(30)
    stats = broadcaster.stats().watcher("stopped")
    assert 2000 == stats.handled + stats.dropped


def test_a_stopped_watcher_that_is_waited_for_makes_recorders_refuse_and_loses_nothing(make, seen):
    broadcaster = make(**SMALL)
    broadcaster.start_event_watcher(seen, name="seen", full_channel_behavior=WAIT)
    recorder = broadcaster.new_recorder("tests")
    with stopped(pid_of(broadcaster, "seen")):
        accepted = []
        for batch in range(20):
            accepted += record(recorder, 100, batch * 100)[0]
            time.sleep(0.01)  # the distributor may move what it can
        assert len(accepted) < 2000
        refused = broadcaster.stats().refused["lane_full"]
        assert 2000 == len(accepted) + refused
    assert broadcaster.flush(30)
    assert accepted == arrived(seen)
    assert 0 == broadcaster.stats().watcher("seen").dropped


@pytest.mark.parametrize("spare", ["distributor spare", "seen spare"])
def test_a_stopped_spare_takes_over_when_it_goes_on(make, seen, spare):
    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="seen")
    recorder = broadcaster.new_recorder("tests")
    worker = pid_of(broadcaster, spare.removesuffix(" spare"))
    with stopped(pid_of(broadcaster, spare)):
        os.kill(worker, signal.SIGKILL)
        accepted, longest = record(recorder, 50)
        assert (list(range(50)), True) == (accepted, longest < 0.5)
    assert broadcaster.flush(30)
    assert accepted == arrived(seen)


def test_a_distributor_killed_while_it_is_stopped_is_followed_by_its_spare(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="seen")
    recorder = broadcaster.new_recorder("tests")
    pid = pid_of(broadcaster, "distributor")
    os.kill(pid, signal.SIGSTOP)
    accepted, _ = record(recorder, 50)
    os.kill(pid, signal.SIGKILL)
    assert broadcaster.flush(30)
    assert accepted == arrived(seen) == list(range(50))


def test_shutdown_holds_its_time_out_beside_a_stopped_distributor(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="seen")
    recorder = broadcaster.new_recorder("tests")
    with stopped(pid_of(broadcaster, "distributor")):
        record(recorder, 5)
        began = time.monotonic()
        report = broadcaster.shutdown(timeout=0.5)
        assert time.monotonic() - began < 5
        assert (False, 5) == (report.drained, report.in_lanes)
        assert not report.complete
