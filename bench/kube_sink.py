"""Records ──▶ KubernetesSink ──▶ server, against a bare aiohttp loop that posts the same ready bytes (target: 0.95).

Both have 16 requests under way, connections that are kept, and a server process that answers each create with what it
was sent. ``--delay-us`` is how long the server thinks: at 0 the client's own processor time is all that counts, which
no API server comes near to; a real one takes some milliseconds.

Run as a module without ``--contender`` it prints pairs of runs and their ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import socket
import statistics
import sys
import time

import orjson

from bench.harness import result, run_once, scenario_main
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.wire import KIND_RECORD
from mpbroadcast.sinks.kubernetes import KubernetesSink

CONCURRENCY = 16
BATCH = 512
START_NS = 1_767_323_045_000_000_000
SOURCE = EventSource("bench-controller", "node-1")


def records_of(count):
    """Distinct events about 1,000 pods."""
    return [
        (n + 1, KIND_RECORD, encode_record(START_NS + n, static_of(n % 1000), f"{n}: " + "m" * 80))
        for n in range(count)
    ]


def static_of(number, cache={}):  # noqa: B006 - made once for each pod
    if number not in cache:
        about = ObjectReference("Pod", "default", f"web-{number}", "0" * 36, "v1", "", "spec.containers{app}")
        # A reason of its own for each event would be no recorder's; a limit on similar ones is not what is measured.
        cache[number] = encode_static(about, "Normal", "Scheduled", SOURCE)
    return cache[number]


class Echo(asyncio.Protocol):
    """Answers each request with its body, after a time."""

    delay = 0.0

    def connection_made(self, transport):
        self._transport, self._rest = transport, b""

    def data_received(self, data):
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n") + 4) > 3:
            head = self._rest[:end].lower()
            size = int(head[head.index(b"content-length:") + 15 :].split(b"\r\n")[0])
            if len(self._rest) < end + size:
                return
            body, self._rest = self._rest[end : end + size], self._rest[end + size :]
            answer = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            reply = answer % (len(body), body)
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self._transport.write, reply)
            else:
                self._transport.write(reply)


def serve(listening, delay):
    async def main():
        Echo.delay = delay
        server = await asyncio.get_running_loop().create_server(Echo, sock=listening)
        await server.serve_forever()

    asyncio.run(main())


@contextlib.contextmanager
def server(delay_us):
    """A server process; gives its URL."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    process = multiprocessing.get_context("fork").Process(target=serve, args=(listening, delay_us / 1e6))
    process.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        process.kill()
        process.join()
        listening.close()


def ours(count, delay_us):
    from kubernetes.client import Configuration

    from mpbroadcast.correlator import CorrelatorOptions

    records = records_of(count)
    # What is aggregated or taken for spam is not posted; everything else of the correlator is at work.
    options = CorrelatorOptions(max_events=1_000_000, burst_size=1_000_000)
    with server(delay_us) as url:
        configuration = Configuration(host=url)
        configuration.proxy = None
        sink = KubernetesSink(configuration, concurrency=CONCURRENCY)
        handler = sink.make_handler(sink, correlator=options, name="bench", source="bench")
        settled = []
        handler.open()
        handler.handle(records[:CONCURRENCY], lambda *outcome: settled.append(outcome))  # connect
        while len(settled) < CONCURRENCY:
            time.sleep(0.001)
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(CONCURRENCY, count, BATCH):
            handler.handle(records[start : start + BATCH], lambda *outcome: settled.append(outcome))
        handler.close()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    handled = sum(outcome == 1 for _, outcome in settled) - CONCURRENCY
    return result(sent=count - CONCURRENCY, received=handled, seconds=seconds, client_us=cpu / handled * 1e6)


def bare(count, delay_us):
    """A loop that somebody would write who knows aiohttp."""
    import aiohttp

    bodies = [orjson.dumps(Event.from_record(payload).to_core_v1()) for _, _, payload in records_of(count)]

    async def main(url):
        connector = aiohttp.TCPConnector(limit=CONCURRENCY)
        async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:
            received = 0

            async def post(todo):
                nonlocal received
                for body in todo:
                    async with session.post(url, data=body) as answer:
                        await answer.read()
                        received += answer.status == 201

            async def post_all(bodies):
                todo = iter(bodies)
                await asyncio.gather(*[post(todo) for _ in range(CONCURRENCY)])

            await post_all(bodies[:CONCURRENCY])
            began, cpu, received = time.perf_counter(), time.process_time(), 0
            await post_all(bodies[CONCURRENCY:])
            return received, time.perf_counter() - began, time.process_time() - cpu

    with server(delay_us) as url:
        received, seconds, cpu = asyncio.run(main(f"{url}/api/v1/namespaces/default/events"))
    return result(sent=count - CONCURRENCY, received=received, seconds=seconds, client_us=cpu / received * 1e6)


CONTENDERS = {"mpbroadcast": ours, "aiohttp": bare}


def main():
    """Pairs of runs, one right after the other, with a server that answers at once and with one that takes its time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--count", type=int, default=20_000)
    options = parser.parse_args()
    for delay_us in (0, 2_000, 10_000):
        count = options.count if delay_us < 10_000 else options.count // 4
        ratios, processor = [], []
        for number in range(options.pairs):
            arguments = ["--count", str(count), "--delay-us", str(delay_us)]
            runs = {name: run_once("bench.kube_sink", name, arguments) for name in CONTENDERS}
            if any("void" in run for run in runs.values()):
                sys.exit(f"a run is void: {runs}")
            one, other = runs["mpbroadcast"], runs["aiohttp"]
            ratios.append(one["rate"] / other["rate"])
            processor.append(other["client_us"] / one["client_us"])
            print(
                f"delay {delay_us / 1000:g} ms, pair {number + 1}: mpbroadcast {one['rate']:,.0f}/s"
                f" ({one['client_us']:.0f} us CPU), aiohttp {other['rate']:,.0f}/s ({other['client_us']:.0f} us CPU),"
                f" ratio {ratios[-1]:.2f}"
            )
        print(
            f"delay {delay_us / 1000:g} ms: median ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), by processor time {statistics.median(processor):.2f}; "
            f"load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    if "--contender" in sys.argv:
        scenario_main(CONTENDERS, count=20_000, delay_us=0)
    else:
        main()
