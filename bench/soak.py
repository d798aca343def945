"""20,000 events a second for a long time: memory stays flat and nothing is unaccounted for (target 15).

``python -m bench.soak --minutes 60``; ten by default.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.footprint import _helpers, _private_kib
from bench.harness import result, scenario_main
from bench.recorder import TEXT
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.sinks import SQLiteSink

RATE = 20_000
OBJECTS = 500


def soak(minutes):
    with tempfile.TemporaryDirectory() as folder:
        broadcaster = EventBroadcaster()
        broadcaster.start_event_watcher(lambda event: None, name="handler")
        broadcaster.start_recording_to_sink(SQLiteSink(Path(folder) / "events.db"))
        event = broadcaster.new_recorder("soak").event
        references = [ObjectReference("Pod", "default", f"web-{n}", f"uid-{n}", "v1", "1") for n in range(OBJECTS)]
        began, sent, refused, early, memory = time.monotonic(), 0, 0, 0.0, 0.0
        while (elapsed := time.monotonic() - began) < minutes * 60:
            while sent + refused < elapsed * RATE:
                reference = references[sent % OBJECTS]
                if event(reference, "Normal", "Tick", TEXT):
                    sent += 1
                else:
                    refused += 1
            time.sleep(0.005)
            if not early and elapsed > min(60, minutes * 15):
                early = sum(_private_kib(pid) for pid in _helpers(broadcaster)) / 1024
        memory = sum(_private_kib(pid) for pid in _helpers(broadcaster)) / 1024
        report = broadcaster.shutdown(timeout=120)
        handled = min(w.handled + w.dropped + w.failed for w in report.watchers)
        return result(
            sent=sent + refused,
            received=handled,
            lost=sum(report.refused.values()),
            seconds=minutes * 60,
            dropped=[w.dropped for w in report.watchers],
            early_mib=early,
            late_mib=memory,
        )


CONTENDERS = {"soak": soak}

if __name__ == "__main__":
    scenario_main(CONTENDERS, minutes=10.0)
