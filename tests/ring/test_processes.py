"""Real processes: life signs, lanes that change hands, kills in the middle of a flood, order between processes."""

from __future__ import annotations

import ctypes
import os
import pathlib
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest

from mpbroadcast.errors import SegmentError
from mpbroadcast.ring import _ring
from tests.ring.building import ROOT
from tests.ring.conftest import distribute, lane_numbers, make_segment, slot_numbers, watch

PR_SET_PDEATHSIG = 1


class Child:
    """A forked child that does one thing, says so, and then waits to be killed or told to go on."""

    def __init__(self, work=lambda: None, after=lambda: None):
        self.from_child, said = os.pipe()
        wait, self.to_child = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a failed test leaves nobody behind
                os.write(said, b"%d" % (work() or 0))
                os.read(wait, 1)
                after()
                code = 0
            finally:
                os._exit(code)
        os.close(said)
        os.close(wait)

    def said(self):
        return int(os.read(self.from_child, 100))

    def go_on(self):
        os.write(self.to_child, b"x")
        return self.end()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        return self.end()

    def end(self):
        _, status = os.waitpid(self.pid, 0)
        os.close(self.from_child)
        os.close(self.to_child)
        return status


# ---- kernel locks


def test_a_lock_is_free_for_its_owner_and_held_for_everybody_else(segment):
    child = Child(lambda: segment.ring.lock(_ring.LOCK_DIST))
    assert child.said()
    assert (False, False) == (segment.ring.lock_is_free(_ring.LOCK_DIST), segment.ring.lock(_ring.LOCK_DIST))
    child.kill()
    assert (True, True) == (segment.ring.lock_is_free(_ring.LOCK_DIST), segment.ring.lock(_ring.LOCK_DIST))


def test_a_stopped_process_keeps_its_lock(segment):
    child = Child(lambda: segment.ring.lock(_ring.LOCK_DIST))
    assert child.said()
    os.kill(child.pid, signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert not segment.ring.lock(_ring.LOCK_DIST)
    child.kill()


def test_a_forked_child_neither_holds_nor_keeps_its_parents_lock(segment):
    """The parent of this test's grandchild dies; the grandchild lives on and the lock is free all the same."""

    def work():
        assert segment.ring.lock(_ring.LOCK_OWNER)
        grandchild = os.fork()
        if grandchild == 0:
            signal.alarm(20)
            signal.pause()
        return grandchild

    child = Child(work)
    grandchild = child.said()
    assert not segment.ring.lock(_ring.LOCK_OWNER)
    child.kill()
    os.kill(grandchild, 0)
    assert segment.ring.lock(_ring.LOCK_OWNER)
    os.kill(grandchild, signal.SIGKILL)


def test_who_waits_for_a_lock_gets_it_when_the_holder_is_killed(segment):
    holder = Child(lambda: segment.ring.lock(_ring.LOCK_DIST))
    assert holder.said()
    spare = Child(lambda: segment.ring.lock(_ring.LOCK_DIST, True))
    begun = time.monotonic()
    holder.kill()
    assert spare.said()
    assert time.monotonic() - begun < 5
    assert not segment.ring.lock(_ring.LOCK_DIST)
    spare.kill()


# ---- lanes


def test_a_forked_child_claims_a_lane_of_its_own(segment):
    assert segment.ring.put(b"parent")
    mine = segment.ring.lane_index()
    child = Child(lambda: segment.ring.put(b"child") and segment.ring.lane_index())
    assert mine != child.said()
    assert segment.ring.put(b"parent again")
    assert (2, 1) == (
        lane_numbers(segment.ring, mine)["accepted"],
        sum(1 for one in segment.ring.snapshot()["lanes"]) - 1,
    )
    child.kill()


def test_a_raw_clone_without_fork_handlers_cannot_write_into_its_parents_lane(segment):
    """The page with the lane's state reads as zeros in any child; no code of ours runs in between."""
    assert segment.ring.put(b"parent")
    mine = segment.ring.lane_index()
    libc = ctypes.PyDLL(None, use_errno=True)
    read, write = os.pipe()
    pid = (
        libc.syscall(56, signal.SIGCHLD, 0, 0, 0, 0)
        if os.uname().machine == "x86_64"
        else libc.syscall(220, signal.SIGCHLD, 0, 0, 0, 0)
    )
    if pid == 0:
        os.write(write, b"%d" % (segment.ring.put(b"child") and segment.ring.lane_index()))
        os._exit(0)
    os.waitpid(pid, 0)
    assert mine != int(os.read(read, 10))
    assert 1 == lane_numbers(segment.ring, mine)["accepted"]
    assert not _ring.Segment(segment.fd).lock(_ring.LOCK_LANE + mine), "and the parent's lock is still the parent's"


def test_threads_share_the_lane_of_their_process(segment):
    threads = [threading.Thread(target=lambda: [segment.ring.put(b"x") for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [800] == [one["accepted"] for one in segment.ring.snapshot()["lanes"]]


def test_the_next_claimer_takes_a_dead_owners_lane_and_what_it_published_goes_out_first():
    segment = make_segment(lanes=1)
    ring = segment.ring
    slot = watch(ring)
    child = Child(lambda: [ring.put(b"dead %d" % n) for n in range(3)] and 0)
    child.said()
    assert not ring.put(b"no lane")
    assert 1 == ring.snapshot()["refused"][_ring.NO_LANE]
    child.kill()
    assert ring.claim_lane() == 0
    assert ring.put(b"living")
    distribute(_ring.Distributor(ring))
    got = _ring.Reader(ring, slot).get_many(10, 1 << 20, 0)
    assert [b"dead 0", b"dead 1", b"dead 2", b"living"] == [data for _, _, data in got]
    assert (2, os.getpid()) == (lane_numbers(ring)["claims"], lane_numbers(ring)["owner_pid"])


def test_an_empty_lane_is_taken_before_one_with_a_backlog():
    """Whoever writes behind a dead owner's records shares their fate, should the bytes be damaged."""
    segment = make_segment(lanes=2)
    ring = segment.ring

    def put_and_tell():
        ring.put(b"left behind")
        return ring.lane_index()

    dead = Child(put_and_tell)
    lane = dead.said()
    dead.kill()
    for _ in range(8):  # where a claimer begins to look depends on its pid
        child = Child(ring.claim_lane)
        assert 1 - lane == child.said()
        child.kill()


def test_a_refusal_for_want_of_a_lane_is_cheap_and_ends_when_a_lane_is_free():
    segment = make_segment(lanes=64)
    holders = [_ring.Segment(segment.fd) for _ in range(64)]
    assert sorted(one.claim_lane() for one in holders) == list(range(64))
    begun = time.process_time()
    assert not any(segment.ring.put(b"x") for _ in range(20_000))
    assert time.process_time() - begun < 0.2, "a look at 64 locks for each refusal takes longer"
    assert 20_000 == segment.ring.snapshot()["refused"][_ring.NO_LANE]
    holders.pop().close()
    until(lambda: segment.ring.put(b"x"))


def until(ready, seconds=10):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "not in time"


def test_a_lane_is_not_given_away_while_its_owner_lives_without_its_descriptor():
    """A daemon that closed every descriptor lost its lock, but its pid and start time still say that it lives."""
    segment = make_segment(lanes=1)

    def work():
        assert segment.ring.put(b"x")
        for link in list(pathlib.Path("/proc/self/fd").iterdir()):
            if "memfd" in str(link.resolve()):
                os.close(int(link.name))

    child = Child(work)
    child.said()
    assert segment.ring.lock_is_free(_ring.LOCK_LANE)
    assert segment.ring.claim_lane() == -1
    child.kill()
    assert segment.ring.claim_lane() == 0


# ---- slots and readers


def test_a_forked_child_is_no_consumer_and_no_distributor(segment):
    reader, distributor = _ring.Reader(segment.ring, watch(segment.ring)), _ring.Distributor(segment.ring)

    def work():
        refused = 0
        for use in (lambda: reader.get_many(1, 1, 0), lambda: reader.settle(1, 1), lambda: distributor.run(0)):
            try:
                use()
            except SegmentError:
                refused += 1
        return refused

    child = Child(work)
    assert 3 == child.said()
    assert 0 == child.go_on()


def test_a_slot_claimed_by_a_dead_process_is_claimed_again():
    segment = make_segment(slots=1)
    child = Child(lambda: segment.ring.claim_slot(b"dead", _ring.POLICY_WAIT, True, 7))
    assert 0 == child.said()
    assert -1 == segment.ring.claim_slot(b"w", _ring.POLICY_DROP, False, 0)
    child.kill()
    assert 0 == segment.ring.claim_slot(b"w", _ring.POLICY_DROP, False, 0)
    one = slot_numbers(segment.ring, 0)
    assert (b"w", _ring.POLICY_DROP, 0, 0, 2) == tuple(
        one[n] for n in ("name", "policy", "managed", "limit", "generation")
    )


def test_the_numbers_of_a_slot_that_is_used_again_are_kept_in_the_header():
    segment = make_segment(slots=1)
    ring = segment.ring
    distributor = _ring.Distributor(ring)
    for _ in range(2):
        slot = watch(ring)
        ring.put(b"x")
        distribute(distributor)
        reader = _ring.Reader(ring, slot)
        reader.settle_through(reader.get_many(9, 1 << 20, 0)[-1][0], _ring.HANDLED)
        ring.slot_set(slot, "stop_ts", time.monotonic_ns())
        assert ring.slot_state_change(slot, _ring.SLOT_ACTIVE, _ring.SLOT_STOPPING)
        distribute(distributor)
        assert reader.get_many(1, 1, 0) is None
        assert ring.slot_state_change(slot, _ring.SLOT_CLOSED, _ring.SLOT_FREE)
    watch(ring)
    retired = ring.snapshot()["retired"]
    assert (2, 2) == (retired[0], retired[6]), "forwarded, handled"


@pytest.mark.slow
def test_a_fatal_signal_leaves_its_number_in_the_slot(segment):
    slot = watch(segment.ring)

    def crash():
        segment.ring.mark_crashes(slot)
        ctypes.string_at(8)

    child = Child(after=crash)
    child.said()
    os.write(child.to_child, b"x")
    assert signal.SIGSEGV == os.WTERMSIG(child.end())
    assert signal.SIGSEGV == segment.ring.slot_get(slot, "crash_mark")


def test_a_process_is_named_for_ps():
    code = (
        "from mpbroadcast.ring import _ring; print(_ring.set_title(b'mpbroadcast: test of a name'));"
        "print(open('/proc/self/cmdline').read().strip(chr(0)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ["0", "mpbroadcast: test of a name"] == done.stdout.split("\n")[:2]


# ---- floods, kills, order


def flood(ring, stop_pipe=None):
    """Puts numbers until killed; the pipe has each number that was accepted, written after the call."""
    me, number = os.getpid(), 0
    while True:
        if ring.put(struct.pack("<II", me, number) + b"x" * (number % 300)):
            number += 1
        else:
            time.sleep(0.0002)


@pytest.mark.slow
def test_a_flooding_producer_killed_100_times_stops_nobody_and_loses_nothing():
    segment = make_segment(lanes=8, lane_bytes=1 << 18, slots=1, slot_bytes=1 << 20)
    ring = segment.ring
    slot = watch(ring, _ring.POLICY_WAIT)
    survivors = [Child(after=lambda: flood(ring)) for _ in range(3)]
    distributor = Child(after=lambda: _ring.Distributor(ring).run(120))
    got, reader = {}, _ring.Reader(ring, slot)

    def take():
        """One handful; True when the watch has ended."""
        records = reader.get_many(2000, 1 << 30, 10)
        for _, _, data in records or ():
            pid, number = struct.unpack_from("<II", data)
            assert got.get(pid, -1) + 1 == number, "lost, repeated or out of order"
            assert data[8:] == b"x" * (number % 300), "garbage"
            got[pid] = number
        reader.settle_through(reader.seen, _ring.HANDLED)
        return records is None

    for child in (*survivors, distributor):
        child.said()
        os.write(child.to_child, b"x")
    begun = time.monotonic()
    for _ in range(100):
        victim = Child(after=lambda: flood(ring))
        victim.said()
        os.write(victim.to_child, b"x")
        until(lambda pid=victim.pid: take() or pid in got)
        before = [got.get(child.pid, -1) for child in survivors]
        victim.kill()
        until(
            lambda before=before: take() or all(got.get(c.pid, -1) > n for c, n in zip(survivors, before, strict=True))
        )
    assert time.monotonic() - begun < 40
    for child in survivors:
        child.kill()
    ring.begin_drain(time.monotonic_ns() + 30_000_000_000)
    until(take, 30)
    shot = ring.snapshot()
    accepted = sum(lane["accepted"] for lane in shot["lanes"])
    assert accepted == sum(number + 1 for number in got.values()) == shot["slots"][0]["handled"]
    assert (0, 0) == tuple(sum(lane[name] for lane in shot["lanes"]) for name in ("corrupt", "lost"))
    assert 0 == distributor.end()


@pytest.mark.slow
def test_what_one_process_put_before_another_began_is_seen_first():
    """100,000 causally ordered pairs: two workers hand a token through a word of shared memory, putting in between."""
    pairs = 100_000
    segment = make_segment(lanes=2, lane_bytes=1 << 20, slot_bytes=4 << 20)
    ring = segment.ring
    slot = watch(ring, _ring.POLICY_WAIT)
    token = segment.ring

    def play(mine):
        """Whose turn it is stands in a field that nothing else uses; it is loaded and stored as seq_cst."""
        turn = mine
        while turn < pairs:
            while token.slot_get(slot, "try_pos") != turn:
                os.sched_yield()
            while not ring.put(struct.pack("<I", turn)):
                os.sched_yield()
            token.slot_set(slot, "try_pos", turn + 1)
            turn += 2

    players = [Child(after=lambda mine=mine: play(mine)) for mine in range(2)]
    distributor = Child(after=lambda: _ring.Distributor(ring).run(100))
    for child in (*players, distributor):
        child.said()
        os.write(child.to_child, b"x")
    reader, expected = _ring.Reader(ring, slot), 0
    while expected < pairs:
        records = reader.get_many(5000, 1 << 30, 20)
        assert records, f"nothing after {expected}"
        for _, _, data in records:
            assert expected == struct.unpack("<I", data)[0]
            expected += 1
        reader.settle_through(records[-1][0], _ring.HANDLED)
    ring.begin_drain(0)
    assert [0, 0, 0] == [child.end() for child in (*players, distributor)]
