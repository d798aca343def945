"""A worker that computes in Python and records each step of 15 µs: how much is delivered while it runs (target 8)."""

from __future__ import annotations

import multiprocessing
import time

from bench.flooding import Gate, forked, join
from bench.harness import cpu_of_helpers, result, scenario_main
from bench.recorder import REFERENCE
from mpbroadcast.event_broadcaster import EventBroadcaster


def _step():
    total = 0
    for number in range(300):
        total += number * number
    return total


def ours(seconds):
    broadcaster = EventBroadcaster()
    broadcaster.start_event_watcher(lambda event: None, name="w")
    event = broadcaster.new_recorder("bench").event
    broadcaster.flush(10)
    accepted, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        _step()
        accepted += event(REFERENCE, "Normal", "Step", "one step further")
    delivered = broadcaster.stats().watchers[0].handled  # while it runs: no flush before
    helpers = cpu_of_helpers(broadcaster)
    report = broadcaster.shutdown()
    return result(
        sent=accepted,
        received=report.watchers[0].handled,
        seconds=seconds,
        helpers=helpers,
        steps_per_second=accepted / seconds,
        delivered_per_second=delivered / seconds,
    )


def mp_queue(seconds):
    queue, gate = multiprocessing.get_context("fork").Queue(1000), Gate()
    counted = multiprocessing.get_context("fork").Value("q", 0, lock=False)

    def consume():
        gate.ready(0)
        while queue.get() is not None:
            counted.value += 1

    pid = forked(consume)
    gate.wait_for(1)
    sent, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        _step()
        queue.put({"reason": "Step", "message": "one step further", "involvedObject": REFERENCE._asdict()})
        sent += 1
    delivered = counted.value
    queue.put(None)
    join([pid])
    return result(
        sent=sent,
        received=counted.value,
        seconds=seconds,
        steps_per_second=sent / seconds,
        delivered_per_second=delivered / seconds,
    )


CONTENDERS = {"mpbroadcast": ours, "mp_queue": mp_queue}

if __name__ == "__main__":
    scenario_main(CONTENDERS, seconds=2.0)
