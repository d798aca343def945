"""Workers of every kind record; every accepted event arrives at every watcher, once, in each worker's order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest

from mpbroadcast.broadcaster import FullChannelBehavior
from mpbroadcast.event.parts import EventType, ObjectReference

from .conftest import eventually, forked

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")


def record(recorder, worker, count):
    """Records numbered events and returns how many were accepted."""
    return sum(recorder.event(POD, EventType.NORMAL, "Counted", f"{worker}:{number}") for number in range(count))


def numbers_by_worker(lines):
    found: dict[str, list[int]] = {}
    for line in lines:
        worker, number = line.split(":")
        found.setdefault(worker, []).append(int(number))
    return found


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing(make, seen, context):
    broadcaster = make()
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("tests")
    started = multiprocessing.get_context(context)
    workers = [started.Process(target=record, args=(recorder, worker, 500)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [0, 0, 0] == [worker.exitcode for worker in workers]
    report = broadcaster.shutdown()
    assert report.complete
    assert {str(worker): list(range(500)) for worker in range(3)} == numbers_by_worker(seen.lines)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_concurrent_futures(make, seen, context):
    broadcaster = make()
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("tests")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(context)) as pool:
        futures = [pool.submit(record, recorder, worker, 200) for worker in range(4)]
        assert 800 == sum(future.result() for future in futures)
    broadcaster.shutdown()
    assert {str(worker): list(range(200)) for worker in range(4)} == numbers_by_worker(seen.lines)


def test_children_of_a_plain_fork_and_their_children(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("tests")
    assert record(recorder, "parent", 10) == 10

    def child():
        assert record(recorder, "child", 10) == 10
        with forked(lambda: record(recorder, "grandchild", 10)):
            pass

    with forked(child):
        pass
    broadcaster.shutdown()
    expected = {name: list(range(10)) for name in ("parent", "child", "grandchild")}
    assert expected == numbers_by_worker(seen.lines)
    assert 3 == len(broadcaster.stats().lanes)


def test_a_recorder_is_usable_from_many_threads_of_a_worker(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("tests")

    def work():
        threads = [threading.Thread(target=record, args=(recorder, name, 300)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with forked(work):
        pass
    broadcaster.shutdown()
    assert {str(name): list(range(300)) for name in range(8)} == numbers_by_worker(seen.lines)
    assert 1 == len(broadcaster.stats().lanes)


def test_four_flooding_workers_are_accounted_for_at_every_watcher(make, seen, tmp_path):
    """With small rings, so that lanes refuse and watchers drop: what was accepted is handled or counted as dropped."""
    broadcaster = make(lane_bytes=1 << 17, watcher_bytes=1 << 17)
    names = ["a", "b", "c"]
    for name in names:
        broadcaster.start_event_watcher(lambda event: None, name=name)
    slow = broadcaster.start_event_watcher(seen, name="slow")
    recorder = broadcaster.new_recorder("tests")
    counts = multiprocessing.get_context("fork").Array("q", 4, lock=False)

    def flood(worker):
        counts[worker] = record(recorder, worker, 20_000)

    workers = [multiprocessing.get_context("fork").Process(target=flood, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    report = broadcaster.shutdown(timeout=30)
    stats = broadcaster.stats()
    assert report.complete
    assert sum(counts) == report.accepted == stats.forwarded
    assert 80_000 - sum(counts) == sum(report.refused.values())
    for watcher in report.watchers:
        assert sum(counts) == watcher.handled + watcher.dropped, watcher
    assert len(seen.lines) == stats.watcher("slow").handled
    assert slow.ended


def test_a_worker_killed_in_a_flood_loses_nothing_that_was_accepted(make, seen):
    """The worker writes down each number only after its event was accepted; SIGKILL comes at any moment."""
    broadcaster = make()
    wait = FullChannelBehavior.WAIT_IF_CHANNEL_FULL  # the flood is faster than the handler: nothing is to be dropped
    broadcaster.start_event_watcher(seen, full_channel_behavior=wait)
    recorder = broadcaster.new_recorder("tests")
    written = multiprocessing.get_context("fork").Array("q", 20, lock=False)
    for victim in range(20):

        def flood(victim=victim):
            number = 0
            while True:
                if recorder.event(POD, "Normal", "Counted", f"{victim}:{number}"):
                    number += 1
                    written[victim] = number

        with forked(flood) as pid:
            eventually(lambda victim=victim: written[victim] > 200 + 37 * victim)
            os.kill(pid, signal.SIGKILL)
    assert broadcaster.shutdown(timeout=60).complete
    found = numbers_by_worker(seen.lines)
    for victim in range(20):
        arrived = found[str(victim)]
        assert list(range(len(arrived))) == arrived
        assert written[victim] <= len(arrived) <= written[victim] + 1


def test_a_stopped_worker_holds_nobody_up(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("tests")
    begun, enough = multiprocessing.get_context("fork").Array("q", 2, lock=False), 1

    def flood():
        while not begun[enough]:
            recorder.event(POD, "Normal", "Counted", "stopped:0")
            begun[0] = 1

    with forked(flood) as pid:
        eventually(lambda: begun[0])
        os.kill(pid, signal.SIGSTOP)
        assert 100 == record(recorder, "other", 100)
        assert broadcaster.flush(20)
        assert list(range(100)) == numbers_by_worker(seen.lines)["other"]
        begun[enough] = 1
        os.kill(pid, signal.SIGCONT)


def test_more_processes_than_lanes_are_refused_with_a_count_and_lanes_of_the_dead_are_used_again(make, seen):
    broadcaster = make(max_processes=2)
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("tests")
    assert recorder.event(POD, "Normal", "Counted", "parent:0")
    for number in range(5):  # one after another they take the second lane over
        with forked(lambda number=number: record(recorder, "child", number + 1)):
            pass
    hold_read, hold_write = os.pipe()

    def hold():
        record(recorder, "holder", 1)
        os.write(hold_write, b".")
        signal.pause()

    with forked(hold) as holder:
        os.read(hold_read, 1)

        def refused():
            assert not recorder.event(POD, "Normal", "Counted", "refused:0")

        with forked(refused):
            pass
        os.kill(holder, signal.SIGKILL)
    report = broadcaster.shutdown()
    assert 1 == report.refused["no_lane"]
    assert 1 + (1 + 2 + 3 + 4 + 5) + 1 == report.accepted == len(seen.lines)
    os.close(hold_read)
    os.close(hold_write)
