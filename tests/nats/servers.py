"""Real NATS servers on loopback, one or a cluster, that can be killed and started again; and what a stream holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time

import nats
import nats.errors

from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.wire import KIND_RECORD
from mpbroadcast.sinks.retry import RetryPolicy

PROGRAM = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/bin")
FAST = RetryPolicy(base_seconds=0.02, cap_seconds=0.2)
START_NS = 1_767_323_045_000_000_000


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Servers:
    """One server, or a cluster of them.

    Args:
        folder: for their files.
        count: how many.
        extra: more of their configuration.
    """

    def __init__(self, folder, count=1, extra=""):
        self.folder = folder
        self.ports = free_ports(count)
        self.urls = [f"nats://127.0.0.1:{port}" for port in self.ports]
        self._routes = free_ports(count)
        self._extra = extra
        self._processes = [None] * count
        for number in range(count):
            self.start(number)

    def start(self, number):
        path = self.folder / f"s{number}.conf"
        lines = [
            f"server_name: s{number}",
            f"listen: 127.0.0.1:{self.ports[number]}",
            f'jetstream {{ store_dir: "{self.folder}/js{number}", max_mem: 1G, max_file: 4G }}',
            self._extra,
        ]
        if len(self.ports) > 1:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes)
            lines.append(f"cluster {{ name: c, listen: 127.0.0.1:{self._routes[number]}, routes: [{routes}] }}")
        path.write_text("\n".join(lines))
        with (self.folder / f"s{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen([PROGRAM, "-c", str(path)], stderr=log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.ports[number]), 1).close()
                return
            time.sleep(0.02)
        raise AssertionError(f"server {number} did not start: {(self.folder / f's{number}.log').read_text()[-500:]}")

    def pid(self, number):
        return self._processes[number].pid

    def kill(self, number):
        self._processes[number].kill()
        self._processes[number].wait()

    def signal(self, number, what):
        self._processes[number].send_signal(what)

    def close(self):
        for process in self._processes:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    def run(self, act, seconds=30):
        """Runs ``await act(js)`` over a connection of its own."""

        async def main():
            async def quiet(_):
                pass

            client = await nats.connect(
                self.urls, error_cb=quiet, connect_timeout=2, reconnect_time_wait=0.1, max_reconnect_attempts=100
            )
            try:
                return await asyncio.wait_for(act(client.jetstream(timeout=2)), seconds)
            finally:
                await client.close()

        return asyncio.run(main())

    def ready(self, replicas=1):
        """Waits until a stream can be made."""

        async def act(js):
            while True:
                with contextlib.suppress(Exception):
                    await js.add_stream(name="PROBE", subjects=["probe"], num_replicas=replicas)
                    await js.delete_stream("PROBE")
                    return
                await asyncio.sleep(0.1)

        self.run(act)
        return self

    def leader(self, stream="EVENTS"):
        """The number of the server that leads a stream; waits for one."""

        async def act(js):
            while True:
                with contextlib.suppress(Exception):
                    name = (await js.stream_info(stream)).cluster.leader
                    if name and self._processes[int(name[1:])].poll() is None:
                        return int(name[1:])
                await asyncio.sleep(0.1)

        return self.run(act)

    def in_step(self, stream="EVENTS"):
        """Waits until every server has the whole stream: before that, the next death may leave no majority."""

        async def act(js):
            while True:
                with contextlib.suppress(Exception):
                    cluster = (await js.stream_info(stream)).cluster
                    if cluster.leader and all(peer.current and not peer.offline for peer in cluster.replicas):
                        return
                await asyncio.sleep(0.1)

        self.run(act)

    def messages(self, stream="EVENTS"):
        """Every message: subject, headers, body."""

        async def read(js, found):
            state = await settled_state(js, stream)
            if not state.messages:
                return
            sub = await js.subscribe("", stream=stream, ordered_consumer=True, pending_bytes_limit=0)
            while len(found) < state.messages:
                message = await sub.next_msg(timeout=10)
                found.append((message.subject, message.headers or {}, json.loads(message.data)))

        async def act(js):
            while True:
                found = []
                with contextlib.suppress(nats.errors.Error):  # a server that was started again is not ready at once
                    await read(js, found)
                    return found
                await asyncio.sleep(0.2)

        return self.run(act)

    def count(self, stream="EVENTS"):
        async def act(js):
            return (await settled_state(js, stream)).messages

        return self.run(act)


async def settled_state(js, stream):
    while True:
        with contextlib.suppress(Exception):
            return (await js.stream_info(stream)).state
        await asyncio.sleep(0.1)


def record(sequence, obj="web", message="m", *, reason="Started", namespace="default", kind="Pod"):
    """One record as a recorder writes it; its time is its sequence number."""
    about = ObjectReference(kind, namespace, obj, f"uid-{obj}", "v1")
    static = encode_static(about, "Normal", reason, EventSource("lab", "h"))
    return sequence, KIND_RECORD, encode_record(START_NS + sequence, static, message)


def records_of(count, objects=97, first=1, reasons=1):
    """Distinct events about some objects; a message says which number it is."""
    return [
        record(n, f"pod-{n % objects}", f"m-{n}", reason=f"R{n // objects % reasons}")
        for n in range(first, first + count)
    ]


def check_log(bodies, count, objects=97):
    """Each event once, and those of each object in their order."""
    found = [int(body["message"][2:]) for body in bodies]
    assert list(range(1, count + 1)) == sorted(found)
    by_object = {}
    for number, body in zip(found, bodies, strict=True):
        assert f"pod-{number % objects}" == body["involvedObject"]["name"]
        by_object.setdefault(body["involvedObject"]["name"], []).append(number)
    for numbers in by_object.values():
        assert sorted(numbers) == numbers


class Run:
    """A handler between its opening and its close.

    Attributes:
        settled: what each sequence number was settled as, in that order.
    """

    def __init__(self, sink, *, retry=FAST, repeated_until=0):
        self.handler = sink.make_handler(sink, correlator=None, retry=retry, name="nats", source="ring-1")
        self.settled = {}
        self.counts = {}
        self.stop = False
        self._repeated_until = repeated_until

    def __enter__(self):
        self.handler.open(count=self._count, stopping=lambda: self.stop, repeated_until=self._repeated_until)
        return self

    def __exit__(self, type_, *_):
        self.stop = self.stop or type_ is not None
        self.handler.close()

    def _count(self, name, n=1):
        self.counts[name] = self.counts.get(name, 0) + n

    def settle(self, sequence, outcome):
        assert sequence not in self.settled, "settled twice"
        self.settled[sequence] = outcome

    def give(self, records):
        for start in range(0, len(records), 512):
            self.handler.handle(records[start : start + 512], self.settle)

    def wait(self, condition, seconds=40):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come to that in time"
            self.handler.idle()
            time.sleep(0.005)
