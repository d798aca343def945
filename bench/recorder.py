"""One call, in nanoseconds: ``recorder.event`` for each sort of object, and a put of ready bytes (targets 1, 2 and 7).

The yardstick is what everybody would write: the Event as a dict with the time formatted, dumped by orjson. Batches are
small enough for the lane to take them, with the distributor at work, and both are measured in the same process, in
turn.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime

import orjson

from bench.flooding import MESSAGE
from bench.harness import Missing, percentiles, result, scenario_main
from mpbroadcast.broadcaster import FullChannelBehavior
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster

TEXT = "Successfully assigned default/web-5d9c7b6f8-x2x7k to node-17.example.internal, 12 ms"
REFERENCE = ObjectReference("Pod", "default", "web-0", "7e0f7a3e-8d5c-4d61-9b8e-0c6b6f0e3b9a", "v1", "123456")
BATCH = 2000


def mapping():
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-0",
            "namespace": "default",
            "uid": "7e0f7a3e-8d5c-4d61-9b8e-0c6b6f0e3b9a",
            "resourceVersion": "123456",
        },
    }


def model():
    from kubernetes import client

    meta = client.V1ObjectMeta(
        name="web-0", namespace="default", uid="7e0f7a3e-8d5c-4d61-9b8e-0c6b6f0e3b9a", resource_version="123456"
    )
    return client.V1Pod(metadata=meta)


def as_a_dict(ref: ObjectReference, type_: str, reason: str, message: str) -> bytes:
    """The same Event, built anew for each call."""
    now = time.time_ns()
    stamp = datetime.fromtimestamp(now // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return orjson.dumps(
        {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": f"{ref.name}.{now:x}", "namespace": ref.namespace},
            "involvedObject": {
                "kind": ref.kind,
                "namespace": ref.namespace,
                "name": ref.name,
                "uid": ref.uid,
                "apiVersion": ref.api_version,
                "resourceVersion": ref.resource_version,
            },
            "reason": reason,
            "message": message,
            "source": {"component": "bench"},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "type": type_,
            "eventTime": None,
            "reportingComponent": "bench",
            "reportingInstance": "",
        }
    )


def _timed(call, n):
    began = time.perf_counter_ns()
    for _ in range(n):
        call()
    return (time.perf_counter_ns() - began) / n


def calls(obj, rounds):
    broadcaster = EventBroadcaster()
    event = broadcaster.new_recorder("bench").event
    sent = rounds * BATCH + BATCH

    def ours():
        event(obj, "Normal", "Scheduled", TEXT)

    def yardstick():
        as_a_dict(REFERENCE, "Normal", "Scheduled", TEXT)

    _timed(ours, BATCH)
    _timed(yardstick, BATCH)
    figures, ratios = [], []
    for _ in range(rounds):
        broadcaster.flush(10)
        figures.append(_timed(ours, BATCH))
        ratios.append(figures[-1] / _timed(yardstick, BATCH))
    report = broadcaster.shutdown()
    refused = sum(report.refused.values())
    return result(
        sent=sent,
        received=report.accepted,
        lost=refused,
        seconds=1.0,
        ns=statistics.median(figures),
        ratio=statistics.median(ratios),
    )


def put(rounds):
    broadcaster = EventBroadcaster()
    send = broadcaster._ring.put
    figures = []
    for number in range(rounds + 1):
        broadcaster.flush(10)
        nanoseconds = _timed(lambda: send(MESSAGE, 1), BATCH)
        if number:
            figures.append(nanoseconds)
    report = broadcaster.shutdown()
    sent = (rounds + 1) * BATCH
    lost = sum(report.refused.values())
    return result(sent=sent, received=report.accepted, lost=lost, seconds=1.0, ns=statistics.median(figures))


def zmq_send(rounds):
    """Pyzmq's ``send`` of the same bytes, with a PULL that keeps up in another process."""
    from bench import rivals
    from bench.flooding import Gate, forked, join

    channel, gate = rivals.make("zmq"), Gate()
    sent = (rounds + 1) * BATCH

    def consume():
        channel.consumer()
        gate.ready(0)
        received = 0
        while received < sent:
            received += channel.get_some()

    pid = forked(consume)
    channel.producer()
    gate.wait_for(1)
    send, figures = channel.socket.send, []
    for number in range(rounds + 1):
        nanoseconds = _timed(lambda: send(MESSAGE), BATCH)
        time.sleep(0.01)
        if number:
            figures.append(nanoseconds)
    join([pid])
    return result(sent=sent, received=sent, seconds=1.0, ns=statistics.median(figures))


def stuck(rounds):
    """Every watcher stuck and the lane full: each call answers False, and how long does that take."""
    wait = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
    broadcaster = EventBroadcaster(lane_bytes=1 << 16, watcher_bytes=1 << 16)
    broadcaster.start_event_watcher(lambda event: time.sleep(1000), full_channel_behavior=wait)
    event = broadcaster.new_recorder("bench").event
    while event(REFERENCE, "Normal", "Scheduled", TEXT):
        pass
    time.sleep(0.3)
    while event(REFERENCE, "Normal", "Scheduled", TEXT):
        pass
    delays, refused = [], 0
    before = broadcaster.stats().refused["lane_full"]
    for _ in range(rounds * BATCH):
        began = time.perf_counter_ns()
        refused += not event(REFERENCE, "Normal", "Scheduled", TEXT)
        delays.append((time.perf_counter_ns() - began) / 1000)
    counted = broadcaster.stats().refused["lane_full"] - before
    broadcaster.shutdown(timeout=0.1)
    return result(
        sent=rounds * BATCH, received=rounds * BATCH - refused, lost=counted, seconds=1.0, **percentiles(delays)
    )


def _model(rounds):
    try:
        return calls(model(), rounds)
    except ImportError as error:
        raise Missing("pip install kubernetes") from error


CONTENDERS = {
    "reference": lambda rounds: calls(REFERENCE, rounds),
    "mapping": lambda rounds: calls(mapping(), rounds),
    "V1Pod": _model,
    "put": put,
    "zmq": zmq_send,
    "stuck": stuck,
}

if __name__ == "__main__":
    scenario_main(CONTENDERS, rounds=25)
