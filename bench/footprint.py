"""What a broadcaster with three watchers costs: time to the first event, memory, CPU while nothing happens.

Targets 12 and 13. Unshared memory is what ``smaps_rollup`` calls private.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.harness import result, scenario_main
from bench.recorder import REFERENCE
from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.stats import process_use

WATCHERS = 3


def _helpers(broadcaster):
    stats = broadcaster.stats()
    pids = [stats.distributor.pid, stats.distributor.spare_pid]
    for watcher in stats.watchers:
        pids += [watcher.helper.pid, watcher.helper.spare_pid]
    return pids


def _private_kib(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _started():
    broadcaster = EventBroadcaster()
    for number in range(WATCHERS):
        broadcaster.start_event_watcher(lambda event: None, name=f"w{number}")
    return broadcaster


def start(seconds):
    began = time.perf_counter()
    broadcaster = _started()
    broadcaster.new_recorder("bench").event(REFERENCE, "Normal", "First", "event")
    broadcaster.flush(30)
    took = time.perf_counter() - began
    broadcaster.shutdown()
    return result(sent=1, received=1, seconds=took, ms=took * 1000)


def idle(seconds):
    broadcaster = _started()
    recorder = broadcaster.new_recorder("bench")
    for number in range(1000):
        recorder.event(REFERENCE, "Normal", "Before", str(number))
    broadcaster.flush(30)
    time.sleep(1)
    pids = _helpers(broadcaster)
    before = sum(process_use(pid).cpu_seconds for pid in pids)
    time.sleep(seconds)
    used = sum(process_use(pid).cpu_seconds for pid in pids) - before
    private = max(_private_kib(pid) for pid in pids) / 1024
    broadcaster.shutdown()
    return result(
        sent=1000, received=1000, seconds=seconds, core_percent=used / seconds * 100, largest_private_mib=private
    )


CONTENDERS = {"start": start, "idle": idle}

if __name__ == "__main__":
    scenario_main(CONTENDERS, seconds=20.0)
