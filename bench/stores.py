"""1 producer ──▶ SQLiteSink: distinct objects, correlation off and on (target 10); JSONLinesSink beside it.

The whole way: ``recorder.event``, lane, distributor, the sink's own process, the file. The clock stops when all is
stored.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.flooding import forked, join
from bench.harness import cpu_of_helpers, result, scenario_main
from bench.recorder import TEXT
from mpbroadcast.broadcaster import FullChannelBehavior
from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.sinks import JSONLinesSink, SQLiteSink

COUNT_ONLY = CorrelatorOptions(max_events=None, burst_size=None)


def _run(make_sink, correlator, count):
    wait = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
    with tempfile.TemporaryDirectory() as folder:
        broadcaster = EventBroadcaster(full_channel_behavior=wait)
        broadcaster.start_recording_to_sink(make_sink(Path(folder)), correlator=correlator)
        event = broadcaster.new_recorder("bench").event
        event(ObjectReference("Pod", "default", "first", "u", "v1"), "Normal", "Scheduled", TEXT)
        broadcaster.flush()

        def produce():
            sent = 0
            while sent < count:
                reference = ObjectReference("Pod", "default", f"web-{sent}", f"uid-{sent}", "v1", str(sent))
                if event(reference, "Normal", "Scheduled", TEXT):
                    sent += 1
                else:
                    time.sleep(0.002)

        began = time.perf_counter()
        join([forked(produce)])
        broadcaster.flush()
        seconds = time.perf_counter() - began
        helpers = cpu_of_helpers(broadcaster)
        report = broadcaster.shutdown(timeout=60)
        handled = report.watchers[0].handled - 1
        return result(sent=report.accepted - 1, received=handled, seconds=seconds, helpers=helpers)


CONTENDERS = {
    "sqlite, correlation off": lambda count: _run(lambda at: SQLiteSink(at / "events.db"), None, count),
    "sqlite, repeats counted": lambda count: _run(lambda at: SQLiteSink(at / "events.db"), COUNT_ONLY, count),
    "sqlite, client-go's correlator": lambda count: _run(
        lambda at: SQLiteSink(at / "events.db"), CorrelatorOptions(), count
    ),
    "jsonlines": lambda count: _run(lambda at: JSONLinesSink(at / "events.jsonl"), None, count),
}

if __name__ == "__main__":
    scenario_main(CONTENDERS, count=120_000)
