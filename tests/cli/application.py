"""An application for the commands that look at one: ``python application.py NAME MODE WORKERS``.

It records, prints ``ready`` with its process ids, and goes on until its input ends. Modes: ``well``; ``stuck``, a
watcher that never returns, with a small ring; ``failing``, a handler that raises; ``refused``, invalid events.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time

from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster

name, mode, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
logging.disable()


def log(event):
    pass


def store(event):
    if mode == "stuck":
        time.sleep(1e6)
    if mode == "failing":
        raise RuntimeError("no")


def work(recorder, number):
    reference = ObjectReference("Pod", "default", f"web-{number}", api_version="v1")
    while True:
        for _ in range(20):
            recorder.event(reference, "normal" if mode == "refused" else "Normal", "Ticked", "x" * 400)
        time.sleep(0.02)


def main():
    broadcaster = EventBroadcaster(name=name, watcher_bytes=1 << 18 if mode == "stuck" else 16 << 20)
    broadcaster.start_event_watcher(log, name="log")
    broadcaster.start_event_watcher(store, name="store")
    recorder = broadcaster.new_recorder("application")
    forked = multiprocessing.get_context("fork")
    processes = [
        forked.Process(target=work, args=(recorder, n), name=f"worker-{n}", daemon=True) for n in range(workers)
    ]
    for process in processes:
        process.start()
    recorder.event(ObjectReference("Node", "", "n1"), "Normal", "Began", "hello")
    while sum(lane.accepted + sum(lane.refused.values()) > 0 for lane in broadcaster.stats().lanes) < workers + 1:
        time.sleep(0.01)
    print("ready", os.getpid(), *(process.pid for process in processes), flush=True)
    sys.stdin.read()
    for process in processes:
        process.kill()
    broadcaster.shutdown(0.5)


if __name__ == "__main__":
    main()
