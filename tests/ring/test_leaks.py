"""No function of the extension leaks memory or descriptors; one without a leak test fails the last test here."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from mpbroadcast.ring import _ring
from tests.ring.conftest import distribute, make_segment, watch

CALLS = 10_000
TOLERATED = 400 << 10  # 40 bytes a call: the smallest Python object that could be left behind has 56 with its header
pytestmark = pytest.mark.slow


class World:
    """What the calls need; a fresh one for each function, in a process of its own."""

    def __init__(self):
        self.segment = make_segment(lanes=4, slots=2)
        self.ring = self.segment.ring
        self.slot = watch(self.ring)
        self.distributor = _ring.Distributor(self.ring)
        self.reader = _ring.Reader(self.ring, self.slot)
        self.spare = self.ring.claim_slot(b"spare", 1, False, 0)
        self.full = _ring.Segment(self.segment.fd)
        while self.full.put(b"x" * 1000):
            pass

    def record_and_take(self):
        self.ring.put(b"x" * 100)
        distribute(self.distributor, 3)
        return self.reader.get_many(10, 1 << 20, 0)

    def settle(self):
        for seq, _, _ in self.record_and_take():
            self.reader.settle(seq, _ring.HANDLED)

    def settle_through(self):
        self.record_and_take()
        self.reader.settle_through(self.reader.seen, _ring.HANDLED)

    def prefix(self):
        if self.ring.prefix(self.spare, 1, b"x" * 50) != _ring.OK:
            self.ring.slot_state_change(self.spare, _ring.SLOT_CLAIMED, _ring.SLOT_FREE)
            self.spare = self.ring.claim_slot(b"spare", 1, False, 0)

    def claim_slot(self):
        self.ring.slot_state_change(self.spare, _ring.SLOT_CLAIMED, _ring.SLOT_FREE)
        self.spare = self.ring.claim_slot(b"spare", 1, False, 0)

    def claim_lane(self):
        producer = _ring.Segment(self.segment.fd)
        producer.claim_lane()
        producer.close()

    def lock(self):
        self.ring.lock(_ring.LOCK_DIST)
        self.ring.unlock(_ring.LOCK_DIST)


CASES = {
    "total_bytes": lambda w: _ring.total_bytes(4, 65536, 2, 65536),
    "format_segment": lambda w: _ring.format_segment(w.segment.fd, 4, 65536, 2, 65536, 0, bytes(16), b"name"),
    "adopt_segment": lambda w: _ring.adopt_segment(w.segment.fd, bytes(16)),
    "start_ticks": lambda w: _ring.start_ticks(os.getpid()),
    "set_title": lambda w: _ring.set_title(b"a leak test"),
    "Segment": lambda w: _ring.Segment(w.segment.fd),
    "Segment.close": lambda w: _ring.Segment(w.segment.fd).close(),
    "Segment.fd": lambda w: w.ring.fd,
    "Segment.token": lambda w: w.ring.token,
    "Segment.sizes": lambda w: w.ring.sizes,
    "Segment.put": lambda w: (w.ring.put(b"x" * 10), w.full.put(memoryview(b"x" * 1000), 70)),
    "Segment.record": lambda w: (
        w.ring.record(b"1", "m\n\ud800", 1),
        w.ring.record(b"1", "m" * 3000, 1),
        w.full.record(b"1", 7, 1),
    ),
    "Segment.event_time": lambda w: w.ring.event_time(),
    "Segment.offer": lambda w: (w.ring.offer(b"x", 1, 0.0), w.full.offer(memoryview(b"x" * 1000), 1, 0.0)),
    "Segment.refuse": lambda w: w.ring.refuse(_ring.INVALID, b"some text"),
    "Segment.lane_index": lambda w: w.ring.lane_index(),
    "Segment.claim_lane": World.claim_lane,
    "Segment.set_lane_name": lambda w: w.ring.set_lane_name(b"name"),
    "Segment.lock": World.lock,
    "Segment.unlock": World.lock,
    "Segment.lock_is_free": lambda w: w.ring.lock_is_free(_ring.LOCK_OWNER),
    "Segment.get": lambda w: w.ring.get("created_at"),
    "Segment.set": lambda w: w.ring.set("grace_ns", 1 << 60),
    "Segment.slot_get": lambda w: w.ring.slot_get(0, "start_ts"),
    "Segment.slot_set": lambda w: w.ring.slot_set(0, "try_pos", 1 << 60),
    "Segment.slot_count": lambda w: w.ring.slot_count(0, 0, 1 << 40),
    "Segment.claim_slot": World.claim_slot,
    "Segment.prefix": World.prefix,
    "Segment.slot_state_change": lambda w: w.ring.slot_state_change(0, 77, 78),
    "Segment.slot_stop": lambda w: w.ring.slot_stop(0, 77),
    "Segment.mark_crashes": lambda w: w.ring.mark_crashes(0),
    "Segment.begin_drain": lambda w: w.ring.begin_drain(1 << 60),
    "Segment.wake": lambda w: w.ring.wake(),
    "Segment.snapshot": lambda w: w.ring.snapshot(),
    "Reader": lambda w: _ring.Reader(w.ring, w.slot),
    "Reader.get_many": World.settle_through,
    "Reader.settle": World.settle,
    "Reader.settle_through": World.settle_through,
    "Reader.in_flight": lambda w: w.reader.in_flight,
    "Reader.seen": lambda w: w.reader.seen,
    "Reader.last_ts": lambda w: w.reader.last_ts,
    "Distributor": lambda w: _ring.Distributor(w.ring),
    "Distributor.run": World.settle_through,
}
ATTRIBUTES = {"Segment.fd", "Segment.token", "Segment.sizes", "Reader.in_flight", "Reader.seen", "Reader.last_ts"}
FEWER = {"Segment": 2000, "Segment.close": 2000, "Segment.claim_lane": 2000}  # each maps and unmaps a whole segment


def wrong(name):
    """The same function with arguments that it refuses."""
    first, _, method = name.partition(".")
    arguments = (object(), object(), object(), object(), object(), object(), object(), object(), object(), object())

    def call(world):
        holder = {"Segment": world.ring, "Reader": world.reader, "Distributor": world.distributor}.get(first)
        try:
            (getattr(holder, method) if method else getattr(_ring, first))(*arguments)
        except (TypeError, ValueError):
            return
        raise AssertionError("accepted")

    return call


def growth(call, calls):
    """Bytes by which this process grew over so many calls, after as many to warm up; and descriptors."""
    world, me = World(), psutil.Process()
    for _ in range(calls):
        call(world)
    least = None
    for _ in range(4):  # what only warms up a cache does not come again
        rss, fds = me.memory_info().rss, me.num_fds()
        for _ in range(calls):
            call(world)
        assert me.num_fds() == fds, "descriptors"
        grown = me.memory_info().rss - rss
        least = grown if least is None else min(least, grown)
        if least < TOLERATED:
            break
    return least


def in_a_child(call, calls):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = f"grew {grown} bytes" if (grown := growth(call, calls)) >= TOLERATED else "ok"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    text = os.read(read, 10_000).decode()
    os.close(read)
    os.waitpid(pid, 0)
    return text


@pytest.mark.parametrize("name", CASES)
def test_it_does_not_leak(name):
    begun = time.monotonic()
    assert in_a_child(CASES[name], FEWER.get(name, CALLS)) == "ok"
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("name", [name for name in CASES if name not in ATTRIBUTES])
def test_it_does_not_leak_when_it_refuses_its_arguments(name):
    assert in_a_child(wrong(name), 2000) == "ok"


def test_the_leak_test_finds_a_leak():
    """A reference that nobody gives back; large, as an earlier test may have left room on the heap."""
    kept = []
    assert in_a_child(lambda w: kept.append(bytes(4000)), CALLS).startswith("grew")


def test_every_function_has_a_leak_test():
    every = set()
    for name, thing in vars(_ring).items():
        if isinstance(thing, type):
            every |= {name, *(f"{name}.{one}" for one in vars(thing) if not one.startswith("__"))}
        elif callable(thing) and not name.startswith("__"):
            every.add(name)
    assert every == set(CASES)
