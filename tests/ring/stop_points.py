"""Runs in a child interpreter with the extension that has stop points: kills processes at named points, and accounts.

    python stop_points.py EXTENSION SCENARIO ARGS...      prints "ok" and what it saw, or fails

The oracle is a list of its own: a producer writes each number to a pipe before and after the call, so that exactly one
number per killed producer is in doubt.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import struct
import sys
import time

import mpbroadcast.ring


def load(path):
    spec = importlib.util.spec_from_file_location("mpbroadcast.ring._ring", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["mpbroadcast.ring._ring"] = mpbroadcast.ring._ring = module
    return module


_ring = load(sys.argv[1])

from tests.ring.conftest import distribute, lane_numbers, make_segment, slot_numbers, stop, watch  # noqa: E402

PUTS = 60
DEATHS = 3  # in each wave


def forked(work, stop_at=""):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.environ["MPB_STOP_AT"] = stop_at
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def ended(pid, how):
    """Waits for a child; whether it was killed. Anything but a clean end or the expected kill is a failure."""
    _, status = os.waitpid(pid, 0)
    assert status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == how), status
    return status != 0


def payload(producer, number):
    return struct.pack("<II", producer, number) + bytes(number % 50 * 40)


def produce(ring, producer, pipe, first=0):
    """Writes S before and A or R after each put; the last S without an answer is the one in doubt."""
    for number in range(first, first + PUTS):
        os.write(pipe, struct.pack("<cI", b"S", number))
        accepted = ring.put(payload(producer, number), 1)
        os.write(pipe, struct.pack("<cI", b"A" if accepted else b"R", number))


def answers(pipe):
    """Numbers accepted for sure, and the one in doubt."""
    accepted, doubt = [], None
    data = os.read(pipe, 1 << 20)
    for letter, number in struct.iter_unpack("<cI", data):
        doubt = number if letter == b"S" else None
        if letter == b"A":
            accepted.append(number)
    return accepted, doubt


def drained(ring, deadline=None):
    """A distributor of this process to the end."""
    ring.begin_drain(0 if deadline is None else deadline)
    assert distribute(_ring.Distributor(ring), 2000)


def read_all(ring, slot):
    got = []
    reader = _ring.Reader(ring, slot)
    while (records := reader.get_many(1000, 1 << 30, 0)) is not None:
        assert records, "the watch has not ended"
        got += [struct.unpack_from("<II", data) for _, _, data in records]
        for (_, _, data), (producer, number) in zip(records, got[-len(records) :], strict=True):
            assert data == payload(producer, number), "garbage"
        reader.settle_through(reader.seen, _ring.HANDLED)
    return got


def check_sums(ring, slots):
    shot = ring.snapshot()
    for lane in shot["lanes"]:
        assert lane["accepted"] == lane["forwarded"], lane
        assert (0, 0) == (lane["corrupt"], lane["lost"]), lane
    total = sum(lane["accepted"] for lane in shot["lanes"])
    for slot in slots:
        one = slot_numbers(ring, slot)
        assert total == one["forwarded"] + one["dropped"] + one["outside"], (total, one)
        assert one["forwarded"] == one["handled"] + one["failed"] + one["given_up"] + one["filtered"], one
        assert one["lost"] == 0


def kill_producer(point, times):
    """The next producer takes the dead one's lane and writes behind what it published."""
    segment = make_segment(lanes=1, lane_bytes=1 << 20, slot_bytes=1 << 20)
    ring = segment.ring
    slot = watch(ring)
    killed, accepted, doubts = 0, [], []
    for producer in range(2):
        read, write = os.pipe()
        spec = f"{point}:{times}:kill" if producer == 0 else ""
        killed += ended(forked(lambda p=producer, w=write: produce(ring, p, w), spec), signal.SIGKILL)
        sure, doubt = answers(read)
        accepted += [(producer, number) for number in sure]
        doubts += [(producer, doubt)] if doubt is not None else []
        os.close(read)
        os.close(write)
    drained(ring)
    got = read_all(ring, slot)
    assert [one for one in got if one not in doubts] == accepted
    assert len(got) == len(set(got))
    assert set(got) - set(accepted) <= set(doubts)
    check_sums(ring, [slot])
    return killed


def kill_distributor(point, times):  # noqa: C901  # one story, told in order
    """Producers put all the while; each distributor is killed at the point, until one gets through."""
    segment = make_segment(lanes=4, lane_bytes=1 << 20, slot_bytes=1 << 16)
    ring = segment.ring
    slots = [watch(ring), watch(ring, _ring.POLICY_WAIT), watch(ring, limit=40)]
    accepted, killed = [], 0
    pipes = [os.pipe() for _ in range(2)]
    reader = _ring.Reader(ring, slots[1])
    waited = []

    def take():
        for _, _, data in reader.get_many(1000, 1 << 30, 0) or ():
            waited.append(struct.unpack_from("<II", data))
        reader.settle_through(reader.seen, _ring.HANDLED)

    for wave in range(4):
        for producer, (_, write) in enumerate(pipes):
            assert not ended(forked(lambda p=producer, w=write, first=wave * PUTS: produce(ring, p, w, first)), 0)
        if wave == 2:
            slots.append(watch(ring))
        if wave == 3:
            stop(ring, slots[0])
            ring.begin_drain(time.monotonic_ns() + 60_000_000_000)
        deaths = 0
        while True:
            # a later time after each death, so that one that is passed in every round does not end all progress
            spec = f"{point}:{times + deaths}:kill" if deaths < DEATHS else ""
            died = ended(forked(lambda: distribute(_ring.Distributor(ring), 60), spec), signal.SIGKILL)
            deaths += died
            take()
            waiting = any(lane["accepted"] != lane["forwarded"] for lane in ring.snapshot()["lanes"])
            if not died and not waiting and (wave < 3 or ring.get("state") == _ring.DRAINED):
                break
        killed += deaths
    for producer, (read, _) in enumerate(pipes):
        sure, doubt = answers(read)
        assert doubt is None
        accepted += [(producer, number) for number in sure]
    take()
    assert len(accepted) == 2 * 4 * PUTS
    assert sorted(accepted) == sorted(waited), "the watcher that is waited for"
    for slot in (slots[0], slots[2], slots[3]):
        got = read_all(ring, slot)
        assert len(got) == len(set(got)), "a duplicate"
        for producer in range(2):
            numbers = [number for one, number in got if one == producer]
            assert numbers == sorted(numbers), "order of a lane"
    check_sums(ring, slots[:3])
    late = slot_numbers(ring, slots[3])
    assert 2 * PUTS == late["forwarded"] + late["dropped"], "everything since the watch, and nothing before"
    return killed


def kill_consumer(point, times):
    """What was in flight comes again, what was settled does not; the sums hold."""
    segment = make_segment(lanes=1, lane_bytes=1 << 20, slot_bytes=1 << 20)
    ring = segment.ring
    slot = watch(ring)
    for number in range(PUTS):
        assert ring.put(payload(0, number), 1)
    drained(ring)
    read, write = os.pipe()
    killed = 0

    def consume():
        reader = _ring.Reader(ring, slot)
        while records := reader.get_many(7, 1 << 30, 0):
            for seq, _, _ in sorted(records, key=lambda one: one[0] % 3):  # out of order, as a sink does
                os.write(write, struct.pack("<cI", b"S", seq))
                assert reader.settle(seq, _ring.HANDLED)
                os.write(write, struct.pack("<cI", b"A", seq))

    for attempt in range(50):
        died = ended(forked(consume, f"{point}:{times + attempt}:kill" if attempt < 20 else ""), signal.SIGKILL)
        killed += died
        if not died:
            break
    settled = [number for letter, number in struct.iter_unpack("<cI", os.read(read, 1 << 20)) if letter == b"A"]
    assert len(settled) == len(set(settled)), "settled twice"
    one = slot_numbers(ring, slot)
    assert PUTS == one["handled"] == one["forwarded"]
    check_sums(ring, [slot])
    return killed


def kill_registrant(point, times):
    """A slot that was half claimed is claimed by the next, and empty."""
    segment = make_segment(slots=1)
    ring = segment.ring
    killed = ended(forked(lambda: watch(ring), f"{point}:{times}:kill"), signal.SIGKILL)
    if killed:
        slot = watch(ring)
        assert ring.put(payload(0, 1), 1)
        drained(ring)
        assert [(0, 1)] == read_all(ring, slot)
    return killed


def sleep_through_a_trim():
    """A producer is stopped in the middle of writing into a chunk that is given back meanwhile, from begin to end."""
    segment = make_segment(lanes=1, lane_bytes=1 << 20, slot_bytes=1 << 20)
    ring = segment.ring
    slot = watch(ring)
    distributor = _ring.Distributor(ring)
    big = bytes([7]) * 150_000
    read, write = os.pipe()

    def work():
        for number in range(4):  # the fourth lies beyond what stays mapped
            if number == 3:
                os.write(write, b"x")
                os.environ["MPB_STOP_AT"] = "put.before_publish:1:stop"
            assert ring.put(struct.pack("<II", 0, number) + big, 1)

    pid = forked(work)
    os.read(read, 1)
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    for _ in range(3):
        distributor.run(0.25)  # takes what is there, then gives back what the burst has left, and again
    os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0
    ring.begin_drain(0)
    assert distribute(distributor, 100)
    got = _ring.Reader(ring, slot).get_many(100, 1 << 30, 0)
    assert [struct.pack("<II", 0, number) + big for number in range(4)] == [data for _, _, data in got]
    return 1


def scan_between_two_puts():
    """Happens-before: the distributor has looked at lane 0, then A puts there, then B into lane 1: A comes first."""
    segment = make_segment(lanes=2)
    ring = segment.ring
    slot = watch(ring)
    first, second = _ring.Segment(segment.fd), _ring.Segment(segment.fd)
    lanes = sorted((one.claim_lane(), one) for one in (first, second))
    pid = forked(lambda: distribute(_ring.Distributor(ring), 20), "dist.looked_at_tail:1:stop")
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    assert lanes[0][1].put(payload(0, 0), 1)
    assert lanes[1][1].put(payload(1, 0), 1)
    os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0
    drained(ring)
    assert [(0, 0), (1, 0)] == read_all(ring, slot)
    return 1


def kill_sleeper(point, times):
    """A distributor, or who rings its bell, dies around a sleep: what is put then is delivered all the same."""
    segment = make_segment()
    ring = segment.ring
    slot = watch(ring)
    at_sleep = point.startswith("sleep")
    distributor = forked(lambda: _ring.Distributor(ring).run(20), f"{point}:{times}:kill" if at_sleep else "")
    producer = forked(
        lambda: [(ring.put(payload(0, n), 1), time.sleep(0.02)) for n in range(20)],
        "" if at_sleep else f"{point}:{times}:kill",
    )
    killed = ended(producer, signal.SIGKILL)
    if at_sleep:
        killed += ended(distributor, signal.SIGKILL)
        distributor = forked(lambda: _ring.Distributor(ring).run(20))
    accepted = lane_numbers(ring, next(one["index"] for one in ring.snapshot()["lanes"]))["accepted"]
    reader, got = _ring.Reader(ring, slot), 0
    while got < accepted:
        records = reader.get_many(100, 1 << 20, 5)
        assert records, "not delivered"
        got += len(records)
    ring.begin_drain(0)
    assert not ended(distributor, 0)
    return killed


def stop_while_ringing():
    """One producer is stopped in the middle of ringing the bell; another's put wakes the sleeper all the same."""
    segment = make_segment()
    ring = segment.ring
    slot = watch(ring)
    distributor = forked(lambda: _ring.Distributor(ring).run(60))
    reader, took = _ring.Reader(ring, slot), []
    for _ in range(9):
        while not reader.get_many(1, 1 << 20, 0):  # until it is asleep again: nothing but a put can wake it
            if ring.snapshot()["lanes"] or ring.put(payload(0, 0), 1):
                time.sleep(0.03)
                break
        pid = forked(lambda: ring.put(payload(1, 0), 1), "bell.before_wake:1:stop")
        _, status = os.waitpid(pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status) or status == 0
        begun = time.monotonic()
        ring.put(payload(2, 0), 1)
        seen = False
        while not seen:
            records = reader.get_many(10, 1 << 20, 5)
            assert records
            seen = any(data == payload(2, 0) for _, _, data in records)
        took.append(time.monotonic() - begun)
        if os.WIFSTOPPED(status):
            os.kill(pid, signal.SIGCONT)
            os.waitpid(pid, 0)
    ring.begin_drain(0)
    assert not ended(distributor, 0)
    assert sorted(took)[len(took) // 2] < 0.05, f"the end of a slice did it, not the bell: {took}"
    return 1


def kill_trimmer():
    """A distributor dies while it gives memory back: producers go on, and so does the next distributor."""
    segment = make_segment(lanes=1, lane_bytes=1 << 20, slot_bytes=1 << 20)
    ring = segment.ring
    slot = watch(ring)
    reader = _ring.Reader(ring, slot)
    for n in range(6):
        assert ring.put(payload(0, n) + bytes(150_000), 1)
    pid = forked(lambda: _ring.Distributor(ring).run(5), "dist.trimming:1:kill")
    killed = ended(pid, signal.SIGKILL)
    got = [struct.unpack_from("<II", data)[1] for _, _, data in reader.get_many(100, 1 << 30, 0)]
    reader.settle_through(reader.seen, _ring.HANDLED)
    for n in range(6, 10):  # the chunk is still closed to them
        assert ring.put(payload(0, n) + bytes(90_000), 1)
    distributor = _ring.Distributor(ring)
    distribute(distributor)
    for n in range(10, 12):  # the successor has opened it again: two records that need the whole lane fit
        assert ring.put(payload(0, n) + bytes(490_000), 1)
        got += [struct.unpack_from("<II", data)[1] for _, _, data in reader.get_many(100, 1 << 30, 0)]
        reader.settle_through(reader.seen, _ring.HANDLED)
    drained(ring)
    got += [struct.unpack_from("<II", data)[1] for _, _, data in reader.get_many(100, 1 << 30, 0)]
    assert list(range(12)) == got
    check = slot_numbers(ring, slot)
    assert (12, 0) == (check["forwarded"], check["dropped"])
    return killed


def seal_between_look_and_publish():
    """A put that was written but not published when its lane was sealed answers False and is never seen."""
    segment = make_segment(lanes=1)
    ring = segment.ring
    slot = watch(ring)
    read, write = os.pipe()

    def work():
        os.write(write, b"T" if ring.put(payload(0, 0), 1) else b"F")

    pid = forked(work, "put.before_publish:1:stop")
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    drained(ring)
    os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0
    assert (b"F", []) == (os.read(read, 1), read_all(ring, slot))
    assert lane_numbers(ring, 0)["accepted"] == 0
    return 1


if __name__ == "__main__":
    seen = globals()[sys.argv[2]](*(int(arg) if arg.isdigit() else arg for arg in sys.argv[3:]))
    print("ok", int(seen))
