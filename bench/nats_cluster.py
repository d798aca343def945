"""1 producer ──▶ NATSSink ──▶ 3 servers, a replicated stream on disk, its leader killed twice and started again.

The whole way: ``recorder.event``, lane, distributor, the sink's own process, the cluster. ``flood`` records as fast as
the path takes it, ``paced`` a given number of events a second. Afterwards the stream is read: each event once, and
those of each object in their order. ``calm`` is the flood with nobody killed.

Publisher, servers and bench share the cores of one machine, which is what the figures are figures of. Run as a module
without ``--contender`` it makes each run and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.flooding import forked, join
from bench.harness import Missing, machine, median, result, run_once, scenario_main
from bench.recorder import TEXT
from mpbroadcast.broadcaster import FullChannelBehavior
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.relay.reader import StreamReader, stream_state
from mpbroadcast.sinks import NATSSink
from mpbroadcast.sinks.jetstream import Access
from mpbroadcast.stats import process_use

KILLS = 2
LOOK = 0.25  # seconds between two looks at what was acknowledged
STANDSTILL = 0.5  # seconds without a single acknowledgement; shorter ones are scheduling
WARM_UP = 2000  # events; the sink's process, its connection and the stream are there after them
RING = 512 << 20  # virtual: what waits while the servers elect a leader


def _cluster(folder):
    try:
        from tests.nats.servers import PROGRAM, Servers
    except ImportError as error:
        raise Missing(f"nats-py: {error}") from None
    if PROGRAM is None:
        raise Missing("nats-server")
    return Servers(folder, 3)


class Processor:
    """CPU seconds of the servers, of those that were killed as well."""

    def __init__(self, servers):
        self._servers = servers
        self._gone = 0.0

    def _of(self, number):
        return process_use(self._servers.pid(number)).cpu_seconds

    def kill(self, number):
        self._gone += self._of(number)
        self._servers.kill(number)

    @property
    def seconds(self):
        return self._gone + sum(self._of(number) for number in range(3))


def _producer(event, count, objects, rate):
    references = [ObjectReference("Pod", "default", f"web-{n}", f"uid-{n}", "v1") for n in range(objects)]

    def produce():
        began, sent = time.monotonic(), 0
        while sent < count:
            if rate and sent >= (time.monotonic() - began) * rate:
                time.sleep(0.001)
            elif event(references[sent % objects], "Normal", "Tick", f"{sent} {TEXT}"):
                sent += 1
            else:
                time.sleep(0.002)

    return produce


def _watch(broadcaster, servers, processor, count, kills):
    """Looks until everything is acknowledged, and kills leaders meanwhile; gives (seconds, acknowledged) pairs."""
    began, looks = time.monotonic(), []
    pending = [count * number // (kills + 1) for number in range(1, kills + 1)]
    back = None
    while True:
        acknowledged = broadcaster.stats().watchers[0].handled - WARM_UP
        now = time.monotonic() - began
        looks.append((now, acknowledged))
        if acknowledged >= count:
            return looks
        if back and (acknowledged > back[1] or now > back[2]):
            servers.start(back[0])
            back = None
        if pending and acknowledged >= pending[0] and back is None:
            pending.pop(0)
            servers.in_step()  # one that is only catching up cannot be part of a majority
            leader = servers.leader()
            processor.kill(leader)
            # Started again when the others go on without it, or after the longest time that they need for that.
            back = leader, broadcaster.stats().watchers[0].handled - WARM_UP + 5000, now + 12
        time.sleep(LOOK)


def _standstills(looks):
    found, since = [], looks[0][0]
    for (_, before), (now, acknowledged) in itertools.pairwise(looks):
        if acknowledged > before:
            if now - since > STANDSTILL + LOOK:
                found.append(now - since)
            since = now
    return found


def _moving_rate(looks):
    """The median of the seconds in which something was acknowledged."""
    rates, start = [], 0
    for at in range(len(looks)):
        seconds = looks[at][0] - looks[start][0]
        if seconds >= 1:
            rates.append((looks[at][1] - looks[start][1]) / seconds)
            start = at
    return median([rate for rate in rates if rate > 1000])


def _check(urls, count, objects):
    """Reads the stream: how many events are there twice, how many not, how many objects are out of order."""

    async def read():
        client = await Access.of(urls).connect("bench")
        reader = StreamReader(client, "EVENTS")
        last = (await stream_state(client, "EVENTS")).last
        seen, twice, disordered = bytearray(count), 0, set()
        latest = [-1] * objects
        while reader.seen < last:
            for message in await reader.read():
                at = message.data.index(b'"message":"') + 11
                number = int(message.data[at : message.data.index(b" ", at)])
                if number < 0:
                    continue
                twice += seen[number]
                seen[number] = 1
                if number < latest[number % objects]:
                    disordered.add(number % objects)
                latest[number % objects] = number
        await reader.close()
        await client.close()
        return twice, seen.count(0), len(disordered)

    return asyncio.run(read())


def _run(count, objects, rate=0, kills=KILLS, window=512):
    with tempfile.TemporaryDirectory() as folder:
        servers = _cluster(Path(folder))
        try:
            return _measured(servers.ready(3), count, objects, rate, kills, window)
        finally:
            servers.close()


def _measured(servers, count, objects, rate, kills, window):
    processor = Processor(servers)
    broadcaster = EventBroadcaster(watcher_bytes=RING, full_channel_behavior=FullChannelBehavior.WAIT_IF_CHANNEL_FULL)
    sink = NATSSink(servers.urls, replicas=3, window=window, timeout=30)
    broadcaster.start_recording_to_sink(sink)
    event = broadcaster.new_recorder("bench").event
    warm = ObjectReference("Pod", "default", "warm", "u", "v1")
    for number in range(WARM_UP):
        event(warm._replace(name=f"warm-{number}"), "Normal", "Tick", f"-1 {TEXT}")
    broadcaster.flush()
    helper = broadcaster.stats().watchers[0].helper.pid
    cpu, servers_cpu = process_use(helper).cpu_seconds, processor.seconds
    producer = forked(_producer(event, count, objects, rate))
    looks = _watch(broadcaster, servers, processor, count, kills)
    cpu, servers_cpu = process_use(helper).cpu_seconds - cpu, processor.seconds - servers_cpu
    join([producer])
    report = broadcaster.shutdown(timeout=60)
    twice, missing, disordered = _check(servers.urls, count, objects)
    handled = report.watchers[0].handled - WARM_UP
    run = result(
        sent=count,
        received=count - missing + twice,
        seconds=looks[-1][0],
        handled=handled,
        twice=twice,
        missing=missing,
        disordered=disordered,
        moving=_moving_rate(looks),
        standstills=[round(seconds, 1) for seconds in _standstills(looks)],
        sink_us=cpu / count * 1e6,
        servers_us=servers_cpu / count * 1e6,
        load=os.getloadavg()[0],
    )
    if disordered or handled != count:
        run["void"] = f"{disordered} objects out of order, {handled} of {count} acknowledged"
    return run


CONTENDERS = {
    "flood": lambda rate, count, objects, window: _run(count, objects, window=window),
    "paced": lambda rate, count, objects, window: _run(count, objects, rate, window=window),
    "calm": lambda rate, count, objects, window: _run(count, objects, kills=0, window=window),
}


def main():
    """Each run once, and a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    options, more = parser.parse_known_args()
    where = machine()
    print(f"{where['cpu']}, {where['cores']} cores, load {where['load']:.1f} before; servers share the cores\n")
    print("| | stored of sent | twice | objects out of order | in all | while it moves | standstills | CPU per event |")
    print("|---|---|---|---|---|---|---|---|")
    failed = False
    for name in options.only:
        run = run_once("bench.nats_cluster", name, more)
        if "missing" in run and not isinstance(run["missing"], int):
            sys.exit(f"not installed: {run['missing']}")
        failed = failed or "void" in run
        if "rate" not in run:
            print(f"| {name} | void: {run['void']} |")
            continue
        still = ", ".join(f"{seconds:g} s" for seconds in run["standstills"]) or "none"
        moving = "" if math.isnan(run["moving"]) else f"{run['moving']:,.0f}/s"
        print(
            f"| {name} | {run['received'] - run['twice']:,} of {run['sent']:,} | {run['twice']} | {run['disordered']} "
            f"| {run['rate']:,.0f}/s ({run['seconds']:.1f} s) | {moving} | {still} "
            f"| sink {run['sink_us']:.0f} us, servers {run['servers_us']:.0f} us |"
            f"{' void: ' + run['void'] if 'void' in run else ''}",
            flush=True,
        )
    print(f"\nload {os.getloadavg()[0]:.1f} after")
    if failed:
        sys.exit("a run is void")


if __name__ == "__main__":
    if "--contender" in sys.argv:
        scenario_main(CONTENDERS, count=1_000_000, objects=4000, rate=20_000, window=512)
    else:
        main()
