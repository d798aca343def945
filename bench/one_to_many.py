"""1 producer ──▶ distributor ──▶ 3 watchers: a flood of 600-byte messages, bytes in, bytes out (target 4).

The rivals are the same design out of their queues, and pyzmq's own way: PUB to SUB over ipc, without a distributor.
"""

from __future__ import annotations

import os
import tempfile
import time

from bench.flooding import MESSAGE, Gate, fan_out_rival, flood_ours, forked, join
from bench.harness import Missing, result, scenario_main

WATCHERS = 3


def zmq_pub_sub(count):
    """Without a high-water mark: at one, PUB throws away, and tells nobody how much."""
    try:
        import zmq
    except ImportError:
        raise Missing("pip install pyzmq") from None
    address, gate = f"ipc://{tempfile.mkdtemp()}/{os.getpid()}", Gate()

    def consume(index):
        socket = zmq.Context().socket(zmq.SUB)
        socket.rcvhwm = 0
        socket.connect(address)
        socket.subscribe(b"")
        gate.timed(1 + index, lambda: [socket.recv() and None for _ in range(count)])

    def produce():
        context = zmq.Context()
        socket = context.socket(zmq.XPUB)
        socket.sndhwm = 0
        socket.linger = -1
        socket.xpub_verbose = True  # else one subscription stands for all that are alike
        socket.bind(address)
        for _ in range(WATCHERS):
            socket.recv()  # the subscription of one: what is sent before it is lost to it

        def send():
            for _ in range(count):
                socket.send(MESSAGE)
            socket.close()
            context.term()

        gate.timed(0, send)

    pids = [forked(produce), *(forked(lambda index=index: consume(index)) for index in range(WATCHERS))]
    gate.wait_for(1 + WATCHERS)
    gate.open()
    began = time.perf_counter()
    join(pids)
    seconds = time.perf_counter() - began
    return result(sent=count, received=count, seconds=seconds) | {"cpu_seconds": sum(gate.cpu[: 1 + WATCHERS])}


CONTENDERS = {
    "mpbroadcast": lambda count: flood_ours(1, count, watchers=WATCHERS),
    "default rings": lambda count: flood_ours(1, count, watchers=WATCHERS, rings={}),
    "zmq_pub_sub": zmq_pub_sub,
} | {name: lambda count, name=name: fan_out_rival(name, 1, count, WATCHERS) for name in ("faster_fifo", "mp_queue")}

if __name__ == "__main__":
    scenario_main(CONTENDERS, count=2_000_000)
