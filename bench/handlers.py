"""1 producer ──▶ 3 watchers whose Python handlers read ``reason`` and ``message`` (target 5).

The rival is the same out of ``multiprocessing.Queue``: the event as a dict, one queue per watcher, filled by the
producer.
"""

from __future__ import annotations

import multiprocessing
import time

from bench.flooding import Gate, forked, join
from bench.harness import cpu_of_helpers, result, scenario_main
from bench.recorder import REFERENCE, TEXT
from mpbroadcast.broadcaster import FullChannelBehavior
from mpbroadcast.event_broadcaster import EventBroadcaster

WATCHERS = 3


class Reading:
    """A handler that reads what a handler reads."""

    def __init__(self):
        self.characters = 0

    def __call__(self, event):
        self.characters += len(event.reason) + len(event.message)


def ours(count):
    wait = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
    broadcaster = EventBroadcaster(full_channel_behavior=wait)
    for number in range(WATCHERS):
        broadcaster.start_event_watcher(Reading(), name=f"reading-{number}")
    event = broadcaster.new_recorder("bench").event
    broadcaster.flush(10)
    sent, began = 0, time.perf_counter()
    while sent < count:
        if event(REFERENCE, "Normal", "Scheduled", TEXT):
            sent += 1
        else:
            time.sleep(0.0005)
    broadcaster.flush()
    seconds = time.perf_counter() - began
    helpers = cpu_of_helpers(broadcaster)
    report = broadcaster.shutdown()
    received = min(w.handled for w in report.watchers)
    return result(sent=report.accepted, received=received, seconds=seconds, helpers=helpers)


def mp_queue(count):
    queues = [multiprocessing.get_context("fork").Queue(1000) for _ in range(WATCHERS)]
    gate = Gate()

    def watch(index):
        reading = Reading()
        gate.ready(index)
        for _ in range(count):
            body = queues[index].get()
            reading.characters += len(body["reason"]) + len(body["message"])

    pids = [forked(lambda index=index: watch(index)) for index in range(WATCHERS)]
    gate.wait_for(WATCHERS)
    began = time.perf_counter()
    for _ in range(count):
        body = {"reason": "Scheduled", "message": TEXT, "involvedObject": REFERENCE._asdict(), "type": "Normal"}
        for queue in queues:
            queue.put(body)
    join(pids)
    return result(sent=count, received=count, seconds=time.perf_counter() - began)


CONTENDERS = {"mpbroadcast": ours, "mp_queue": mp_queue}

if __name__ == "__main__":
    scenario_main(CONTENDERS, count=200_000)
