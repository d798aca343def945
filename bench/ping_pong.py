"""One paced message at a time, producer to consumer: how long until the other side has it (target 6).

The producer writes its clock into the message; the clock is the same for all processes. Ours is the whole way:
``recorder.event`` to a handler in its watcher process, or (``lanes``) put to an iterator.
"""

from __future__ import annotations

import os
import struct
import time

from bench import rivals
from bench.flooding import Gate, forked, join
from bench.harness import percentiles, result, scenario_main
from mpbroadcast.broadcaster import Broadcaster
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster

PAUSE = 0.001
POD = ObjectReference("Pod", "default", "web-0", "u", "v1")


def _figures(delays, count):
    micro = percentiles([delay / 1000 for delay in delays])
    return result(sent=count, received=len(delays), seconds=count * PAUSE, **micro)


def recorder(count):
    read_end, write_end = os.pipe()

    def handler(event):
        os.write(write_end, struct.pack("<q", time.monotonic_ns() - int(event.message)))

    broadcaster = EventBroadcaster()
    broadcaster.start_event_watcher(handler)
    record = broadcaster.new_recorder("bench")
    for _ in range(200):
        record.event(POD, "Normal", "Ping", str(time.monotonic_ns()))
        time.sleep(PAUSE)
    for _ in range(count):
        record.event(POD, "Normal", "Ping", str(time.monotonic_ns()))
        time.sleep(PAUSE)
    broadcaster.shutdown()
    os.close(write_end)
    data = b""
    while piece := os.read(read_end, 1 << 20) if len(data) < 8 * (count + 200) else b"":
        data += piece
    delays = [delay for (delay,) in struct.iter_unpack("<q", data)][200:]
    return _figures(delays, count)


def lanes(count):
    broadcaster, gate = Broadcaster(), Gate()
    read_end, write_end = os.pipe()

    def consume():
        watch = broadcaster.watch()
        gate.ready(0)
        for _ in range(count):
            now = watch.get(10).object
            os.write(write_end, struct.pack("<q", time.monotonic_ns() - now))

    pid = forked(consume)
    gate.wait_for(1)
    for _ in range(count):
        broadcaster.action_or_drop("ADDED", time.monotonic_ns())
        time.sleep(PAUSE)
    join([pid])
    broadcaster.shutdown()
    return _read_delays(read_end, count)


def _read_delays(read_end, count):
    data = b""
    while len(data) < 8 * count:
        data += os.read(read_end, 1 << 20)
    return _figures([delay for (delay,) in struct.iter_unpack("<q", data)], count)


def rival(name, count):
    """The consumer measures; each message is one ``put_all`` of one, without its closing of the channel."""
    channel, gate = rivals.make(name), Gate()
    read_end, write_end = os.pipe()
    inner = getattr(channel, "queue", None)

    def consume():
        channel.consumer()
        gate.ready(0)
        for _ in range(count):
            if name == "os_pipe":
                data = os.read(channel.read_end, 8)
            elif name == "zmq":
                data = channel.socket.recv()
            elif name == "faster_fifo":
                data = inner.get(timeout=10)
            else:
                data = inner.get()
            os.write(write_end, struct.pack("<q", time.monotonic_ns() - struct.unpack("<q", data)[0]))

    pid = forked(consume)
    channel.producer()
    gate.wait_for(1)
    time.sleep(0.1)
    for _ in range(count):
        data = struct.pack("<q", time.monotonic_ns())
        if name == "os_pipe":
            os.write(channel.write_end, data)
        elif name == "zmq":
            channel.socket.send(data)
        else:
            inner.put(data)
        time.sleep(PAUSE)
    join([pid])
    return _read_delays(read_end, count)


CONTENDERS = {"mpbroadcast": recorder, "lanes": lanes} | {
    name: lambda count, name=name: rival(name, count) for name in rivals.NAMES
}

if __name__ == "__main__":
    scenario_main(CONTENDERS, count=2000)
