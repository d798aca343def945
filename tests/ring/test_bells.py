"""Sleeping and waking: who waits is woken at once, its signal handlers run, and who must not wait does not."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from mpbroadcast.ring import _ring
from tests.ring.conftest import distribute, lane_numbers, make_segment, watch

SLICE = 0.2  # the longest sleep of a distributor; a wake-up by the bell is far below


@pytest.fixture
def running(segment):
    """A distributor in a thread of its own; drained at the end."""
    distributor = _ring.Distributor(segment.ring)
    thread = threading.Thread(target=lambda: [None for _ in iter(lambda: distributor.run(0.5), True)])
    thread.start()
    yield segment.ring
    segment.ring.begin_drain(0)
    thread.join()


def later(seconds, action):
    thread = threading.Timer(seconds, action)
    thread.start()
    return thread


def test_a_put_wakes_the_distributor_and_the_distributor_wakes_the_reader(running):
    """Both are asleep; the record arrives long before either of them would have looked by itself."""
    reader = _ring.Reader(running, watch(running))
    took = []
    for _ in range(7):
        begun = []
        timer = later(0.05, lambda begun=begun: (begun.append(time.monotonic()), running.put(b"x")))
        assert reader.get_many(1, 1 << 20, 10, 5.0)
        took.append(time.monotonic() - begun[0])
        timer.join()
    assert sorted(took)[3] < SLICE / 5


def test_the_end_of_a_watch_wakes_its_reader(running):
    slot = watch(running)
    reader = _ring.Reader(running, slot)

    def stop():
        running.slot_set(slot, "stop_ts", time.monotonic_ns())
        assert running.slot_state_change(slot, _ring.SLOT_ACTIVE, _ring.SLOT_STOPPING)

    timer = later(0.1, stop)
    begun = time.monotonic()
    assert reader.get_many(1, 1, None, 30.0) is None
    assert time.monotonic() - begun < 5
    timer.join()


@pytest.fixture
def alarm():
    """Rings SIGALRM every 20 ms; the test sees when its handler ran, and whether it raises."""
    rang = []

    class Rang(Exception):
        pass

    def handler(*_):
        rang.append(time.monotonic())
        if len(rang) == 3:
            raise Rang

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    yield Rang, rang
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_signal_handlers_run_and_may_raise_while_a_reader_sleeps(ring, alarm):
    rang, times = alarm
    reader = _ring.Reader(ring, watch(ring))
    with pytest.raises(rang):
        reader.get_many(1, 1, 30, 30.0)
    assert 3 == len(times)


def test_signal_handlers_run_and_may_raise_while_a_put_waits_for_room(ring, alarm):
    while ring.put(b"x" * 1000):
        pass
    with pytest.raises(alarm[0]):
        ring.offer(b"x" * 1000, 0, 30)


def test_signal_handlers_run_and_may_raise_while_a_lock_is_waited_for(segment, alarm):
    other = _ring.Segment(segment.fd)
    assert other.lock(_ring.LOCK_DIST)
    with pytest.raises(alarm[0]):
        segment.ring.lock(_ring.LOCK_DIST, True)


def test_a_put_into_a_full_lane_answers_at_once_and_is_counted(ring):
    while ring.put(b"x" * 1000):
        pass
    took = []
    for _ in range(20_000):
        begun = time.perf_counter_ns()
        assert not ring.put(b"x" * 1000)
        took.append(time.perf_counter_ns() - begun)
    assert 20_001 == lane_numbers(ring)["refused"][_ring.FULL]
    assert sorted(took)[len(took) // 2] < 20_000, "median of 20 us; it is well under one when idle"


def test_an_offer_in_vain_ends_in_time_and_is_counted_once(ring):
    while ring.put(b"x" * 1000):
        pass
    before = lane_numbers(ring)["refused"][_ring.FULL]
    begun = time.monotonic()
    assert _ring.FULL == ring.offer(b"x" * 1000, 0, 0.15)
    assert 0.14 < time.monotonic() - begun < 5
    assert before + 1 == lane_numbers(ring)["refused"][_ring.FULL]


def test_an_offer_is_woken_as_soon_as_there_is_room(segment):
    ring = segment.ring
    while ring.put(b"x" * 1000):
        pass
    distributor = _ring.Distributor(ring)
    timer = later(0.1, lambda: distribute(distributor))
    begun = time.monotonic()
    assert _ring.OK == ring.offer(b"x" * 1000, 0, 10)
    assert time.monotonic() - begun < 5
    timer.join()


def test_an_offer_ends_when_the_broadcaster_stops(segment):
    while segment.ring.put(b"x" * 1000):
        pass
    timer = later(0.05, lambda: segment.ring.begin_drain(0))
    assert _ring.STOPPED == segment.ring.offer(b"x" * 1000, 0, None)
    timer.join()


def test_a_watcher_that_is_waited_for_stops_lanes_and_only_until_it_reads(segment):
    """Policy WAIT: the distributor stands still, lanes fill and refuse; nothing is dropped."""
    ring = segment.ring
    slot = watch(ring, _ring.POLICY_WAIT)
    distributor, reader = _ring.Distributor(ring), _ring.Reader(ring, slot)
    accepted = 0
    for _ in range(400):
        accepted += ring.put(b"x" * 1000)
        distributor.run(0)
    assert accepted < 400
    got = 0
    while records := reader.get_many(50, 1 << 20, 0):
        got += len(records)
        reader.settle_through(records[-1][0], _ring.HANDLED)
        distribute(distributor)
    assert accepted == got


def test_an_idle_distributor_and_an_idle_reader_use_no_processor(running):
    reader = _ring.Reader(running, watch(running))
    reader.get_many(1, 1, 0.1)
    before = time.process_time()
    reader.get_many(1, 1, 1.0, 1.0)
    assert time.process_time() - before < 0.05


@pytest.mark.parametrize(
    "call", [(0, 1, 0), (1, 0, 0), (1, 1, 0, 0.0), (1, 1, 0, -1.0), (1, 1, 0, float("nan")), (1, 1, 0, 1e300)]
)
def test_a_call_that_could_never_return_is_refused(ring, call):
    with pytest.raises(ValueError, match="at least one record"):
        _ring.Reader(ring, watch(ring)).get_many(*call)


def test_a_wait_without_end_is_refused_where_it_makes_no_sense(ring):
    for seconds in (float("inf"), float("nan"), 1e300):
        with pytest.raises(ValueError, match="3600"):
            _ring.Distributor(ring).run(seconds)


def test_two_distributors_of_one_process_do_not_run_one_object_at_a_time(segment):
    distributor = _ring.Distributor(segment.ring)
    thread = threading.Thread(target=lambda: distributor.run(0.3))
    thread.start()
    failed = []
    while thread.is_alive() and not failed:
        try:
            distributor.run(0)
        except Exception as error:
            failed.append(str(error))
    thread.join()
    assert failed == ["this distributor runs in another thread"]


def test_readers_in_several_threads_get_each_record_once(running):
    reader, got, lock = _ring.Reader(running, watch(running)), [], threading.Lock()

    def take():
        while (records := reader.get_many(3, 1 << 20, 30)) is not None:
            with lock:
                got.extend(seq for seq, _, _ in records)
            for seq, _, _ in records:
                reader.settle(seq, _ring.HANDLED)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(500):
        while not running.put(b"%d" % n):
            os.sched_yield()
    running.begin_drain(time.monotonic_ns() + 10**10)
    for thread in threads:
        thread.join()
    assert list(range(1, 501)) == sorted(got)


def test_a_segment_of_nobody_can_be_drained():
    segment = make_segment()
    assert segment.ring.begin_drain(0)
    assert not segment.ring.begin_drain(0)
    assert distribute(_ring.Distributor(segment.ring))
    assert segment.ring.get("state") == _ring.DRAINED
