"""What the floods share: a message, rivals' channels, our broadcaster with raw bytes, processes that start together."""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any

from bench import rivals
from bench.harness import cpu_of_helpers, result
from mpbroadcast.broadcaster import Broadcaster, FullChannelBehavior
from mpbroadcast.ring import _ring

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MESSAGE", "fan_out_rival", "flood_ours", "flood_rival", "forked"]

MESSAGE = (b'{"reason":"Started","message":"' + b"x" * 600)[:598] + b'"}'
_PAGE = 4096
_BOUND = 8 << 20  # bytes in all rings of a flood together


class Gate:
    """A shared page: processes say that they are ready, wait for the start, and say what CPU they took since."""

    def __init__(self) -> None:
        import mmap

        self.page = mmap.mmap(-1, _PAGE)
        self.cpu = memoryview(self.page)[_PAGE // 2 :].cast("d")

    def ready(self, index: int) -> None:
        self.page[1 + index] = 1

    def wait_for(self, processes: int) -> None:
        while sum(self.page[1 : 1 + processes]) < processes:
            time.sleep(0.001)

    def open(self) -> None:
        self.page[0] = 1

    def wait(self) -> None:
        while not self.page[0]:
            time.sleep(0.0005)

    def timed(self, index: int, work: Callable[[], object]) -> None:
        """Ready, wait, work: what the work took of this process's CPU is kept."""
        self.ready(index)
        self.wait()
        began = time.process_time()
        work()
        self.cpu[index] = time.process_time() - began


def forked(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def join(pids: list[int]) -> None:
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(f"a process of this run failed: {os.waitstatus_to_exitcode(status)}")


def producers_of(count: int, producers: int, gate: Gate, send: Callable[[int], None]) -> list[int]:
    """Forks producers that send their share of ``count`` messages when the gate opens."""

    def produce(index: int) -> None:
        gate.timed(index, lambda: send(count // producers))

    return [forked(lambda index=index: produce(index)) for index in range(producers)]


def flood_rival(name: str, producers: int, count: int) -> dict[str, Any]:
    """``count`` messages from so many producers to one consumer, this process."""
    channel, gate = rivals.make(name), Gate()
    count -= count % producers

    def send(share: int) -> None:
        channel.producer()
        channel.put_all(MESSAGE, share)

    pids = producers_of(count, producers, gate, send)
    channel.consumer()
    gate.wait_for(producers)
    own = time.process_time()
    gate.open()
    began, received = time.perf_counter(), 0
    while received < count:
        received += channel.get_some()
    seconds = time.perf_counter() - began
    join(pids)
    cpu = time.process_time() - own + sum(gate.cpu[:producers])
    return result(sent=count, received=received, seconds=seconds) | {"cpu_seconds": cpu}


def put_all(broadcaster: Broadcaster, share: int, lanes: int) -> None:
    """Puts ready bytes as fast as it can, waiting where the lane is full.

    ``lanes`` are used in turn; a process has one, so the others are claimed as other processes would.
    """
    rings = [broadcaster._ring, *(_ring.Segment(broadcaster._ring.fd) for _ in range(lanes - 1))]
    calls = itertools.cycle([(ring.put, ring.offer) for ring in rings])
    for put, offer in itertools.islice(calls, share):
        if not put(MESSAGE, 1) and offer(MESSAGE, 1, None) != _ring.OK:
            raise SystemExit("a put was refused for another reason than a full lane")


def bounded(watchers: int) -> dict[str, int]:
    """Rings that together hold about what the rivals' queues hold.

    A full ring of the default size does not fit into a processor's cache, and a flood that waits keeps every ring full:
    that costs half of the rate, and is what the contender ``default rings`` measures.
    """
    size = max(1 << (_BOUND // (1 + watchers)).bit_length() - 1, 256 << 10)
    return {"lane_bytes": size, "watcher_bytes": size}


def flood_ours(
    producers: int, count: int, watchers: int = 1, *, rings: dict[str, int] | None = None, lanes: int = 1
) -> dict[str, Any]:
    """The same through lanes, distributor and watcher rings; the last watcher is this process.

    ``rings`` are their sizes, None for `bounded`; ``lanes`` how many each producer uses.
    """
    wait = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
    sizes = bounded(watchers) if rings is None else rings
    broadcaster, gate = Broadcaster(full_channel_behavior=wait, **sizes), Gate()
    count -= count % producers

    def consume(watch: Any) -> int:
        reader, received = watch._reader, 0
        while received < count:
            records = reader.get_many(64, 1 << 20, 10.0)
            received += len(records)
            reader.settle_through(records[-1][0], _ring.HANDLED)
        return received

    def consumer(index: int) -> None:
        watch = broadcaster.watch()
        gate.timed(producers + index, lambda: check(consume(watch)))

    def check(received: int) -> None:
        if received != count:
            raise SystemExit("a watcher missed something")

    pids = producers_of(count, producers, gate, lambda share: put_all(broadcaster, share, lanes))
    pids += [forked(lambda index=index: consumer(index)) for index in range(watchers - 1)]
    watch = broadcaster.watch()
    gate.wait_for(producers + watchers - 1)
    helpers, own = cpu_of_helpers(broadcaster), time.process_time()
    gate.open()
    began = time.perf_counter()
    received = consume(watch)
    join(pids)
    seconds = time.perf_counter() - began
    cpu = cpu_of_helpers(broadcaster) - helpers + time.process_time() - own + sum(gate.cpu[: producers + watchers - 1])
    report = broadcaster.shutdown()
    return result(sent=report.accepted, received=received, seconds=seconds) | {"cpu_seconds": cpu}


def fan_out_rival(name: str, producers: int, count: int, watchers: int) -> dict[str, Any]:
    """The same design as ours out of a rival's queues: producers, one distributor process, one queue per watcher."""
    inbox, gate = rivals.make(name), Gate()
    outboxes = [rivals.make(name) for _ in range(watchers)]
    count -= count % producers

    def send(share: int) -> None:
        inbox.producer()
        inbox.put_all(MESSAGE, share)

    def distribute() -> None:
        inbox.consumer()
        for outbox in outboxes:
            outbox.producer()
        pump(name, inbox, outboxes, count)

    def consume(index: int) -> None:
        outboxes[index].consumer()
        gate.timed(producers + index, lambda: take(outboxes[index]))

    def take(outbox: Any) -> None:
        received = 0
        while received < count:
            received += outbox.get_some()

    pids = producers_of(count, producers, gate, send)
    pids += [forked(lambda index=index: consume(index)) for index in range(watchers)]
    pids.append(forked(lambda: gate.timed(producers + watchers, distribute)))
    gate.wait_for(producers + watchers + 1)
    gate.open()
    began = time.perf_counter()
    join(pids)
    seconds = time.perf_counter() - began
    cpu = sum(gate.cpu[: producers + watchers + 1])
    return result(sent=count, received=count, seconds=seconds) | {"cpu_seconds": cpu}


def pump(name: str, inbox: Any, outboxes: list[Any], count: int) -> None:
    """The distributor of a rival: takes messages and puts each into every watcher's queue."""
    done = 0
    if name == "faster_fifo":
        while done < count:
            batch = inbox.queue.get_many(timeout=1000, max_messages_to_get=1000)
            for outbox in outboxes:
                outbox.queue.put_many(batch, timeout=1000)
            done += len(batch)
        return
    queues = [outbox.queue for outbox in outboxes]
    while done < count:
        message = inbox.queue.get()
        for queue in queues:
            queue.put(message)
        done += 1
    for queue in queues:
        if hasattr(queue, "join_thread"):
            queue.close()
            queue.join_thread()
