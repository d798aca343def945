"""shutdown(): again and again, from many threads, from a signal handler in the middle of anything, from a child."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from mpbroadcast.errors import BroadcasterStopped
from mpbroadcast.event.parts import ObjectReference

from .conftest import alive, eventually, forked, helpers_of

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")
HANDLED_IN = """
    import os, signal, sys, threading, time
    from mpbroadcast import EventBroadcaster, ObjectReference
    POD = ObjectReference("Pod", "default", "p")
    OUT = sys.argv[1]
    def handler(event):
        with open(OUT, "a") as file:
            file.write(event.message + "\\n")
    broadcaster = EventBroadcaster()
    broadcaster.start_event_watcher(handler, name="w")
    recorder = broadcaster.new_recorder("app")
    reports = []
    signal.signal(signal.SIGUSR1, lambda *_: reports.append(broadcaster.shutdown(20)))
"""


def run(code, *arguments):
    program = textwrap.dedent(HANDLED_IN) + textwrap.dedent(code)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout.split()


def test_a_second_shutdown_changes_nothing_and_returns_the_same(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(seen)
    assert broadcaster.new_recorder("tests").event(POD, "Normal", "Counted", "one")
    first = broadcaster.shutdown()
    began = time.monotonic()
    assert first is broadcaster.shutdown() is broadcaster.shutdown(timeout=0)
    assert time.monotonic() - began < 0.5
    assert (True, ["one"]) == (first.complete, seen.lines)


def test_shutdowns_of_many_threads_at_once_all_return_the_whole_report(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("tests")
    for number in range(500):
        assert recorder.event(POD, "Normal", "Counted", str(number))
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(broadcaster.shutdown(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 8 == len(reports)
    assert {id(reports[0])} == {id(report) for report in reports}
    assert reports[0].complete
    assert [str(number) for number in range(500)] == seen.lines


def test_the_earliest_time_out_of_several_ends_the_waiting_of_all(make):
    broadcaster = make()
    broadcaster.start_event_watcher(lambda event: time.sleep(1000), name="stuck")
    assert broadcaster.new_recorder("tests").event(POD, "Normal", "Counted", "x")
    took = []

    def end(timeout):
        began = time.monotonic()
        broadcaster.shutdown(timeout)
        took.append(time.monotonic() - began)

    patient = threading.Thread(target=end, args=(30,))
    patient.start()
    eventually(lambda: broadcaster.stats().state == "drained")
    end(0.2)
    patient.join()
    assert max(took) < 10


@pytest.mark.parametrize(
    "busy", ["flush", "shutdown", "event", "stats", "action"], ids=lambda busy: f"in the middle of {busy}"
)
def test_a_signal_handler_may_shut_down(tmp_path, busy):
    """The handler interrupts the main thread in that call, many times over; everything accepted is delivered."""
    code = f"""
        accepted = 0
        timer = 0.02
        signal.signal(signal.SIGALRM, lambda *_: reports.append(broadcaster.shutdown(20)))
        signal.setitimer(signal.ITIMER_REAL, timer)
        busy = {busy!r}
        try:
            while not reports:
                if busy == "action":
                    accepted += broadcaster.action_or_drop("ADDED", {{"n": accepted}})
                    continue
                accepted += recorder.event(POD, "Normal", "Counted", str(accepted))
                if busy == "flush": broadcaster.flush(20)
                if busy == "stats": broadcaster.stats()
                if busy == "shutdown" and accepted >= 200: reports.append(broadcaster.shutdown(20))
        except Exception as error:
            assert "already stopped" in str(error), error
        signal.setitimer(signal.ITIMER_REAL, 0)  # it must not fire while the interpreter ends
        final = broadcaster.shutdown()
        assert final.complete, final
        print(accepted, final.accepted)
    """
    accepted, reported = run(code, tmp_path / "seen")
    assert accepted == reported
    if busy != "action":
        assert [str(n) for n in range(int(accepted))] == (tmp_path / "seen").read_text().split()


def test_a_signal_handler_may_shut_down_while_another_thread_records(tmp_path):
    code = """
        accepted = 0
        def record():
            global accepted
            while recorder.event(POD, "Normal", "Counted", str(accepted)):
                accepted += 1
        thread = threading.Thread(target=record)
        thread.start()
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)
        thread.join()
        assert reports[0].complete
        print(accepted)
    """
    (accepted,) = run(code, tmp_path / "seen")
    assert [str(n) for n in range(int(accepted))] == (tmp_path / "seen").read_text().split()


def test_a_forked_child_does_not_shut_its_parents_broadcaster_down(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("tests")

    def child():
        assert recorder.event(POD, "Normal", "Counted", "from the child")
        with broadcaster:
            pass  # leaving it is a shutdown
        broadcaster.shutdown()
        assert recorder.event(POD, "Normal", "Counted", "still running")

    with forked(child):
        pass
    assert "running" == broadcaster.stats().state
    assert recorder.event(POD, "Normal", "Counted", "from the parent")
    assert broadcaster.shutdown().complete
    assert ["from the child", "still running", "from the parent"] == seen.lines


def test_a_forked_child_that_ends_normally_does_not_either(tmp_path):
    """Its interpreter runs every exit handler and finalizer that it inherited."""
    code = """
        pid = os.fork()
        if pid == 0:
            recorder.event(POD, "Normal", "Counted", "child")
            sys.exit(0)
        os.waitpid(pid, 0)
        time.sleep(1.2)
        assert recorder.event(POD, "Normal", "Counted", "parent")
        assert broadcaster.shutdown().complete
    """
    run(code, tmp_path / "seen")
    assert ["child", "parent"] == (tmp_path / "seen").read_text().split()


def test_what_a_stuck_handler_did_not_handle_is_in_the_report_and_the_others_get_everything(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(lambda event: time.sleep(1000), name="stuck")
    broadcaster.start_event_watcher(seen, name="seen")
    recorder = broadcaster.new_recorder("tests")
    for number in range(20):
        assert recorder.event(POD, "Normal", "Counted", str(number))
    pids = eventually(lambda: (found := helpers_of(broadcaster)) and all(found.values()) and found)
    began = time.monotonic()
    report = broadcaster.shutdown(timeout=1.0)
    assert time.monotonic() - began < 10
    assert {"stuck": 20, "seen": 0} == {watcher.name: watcher.backlog for watcher in report.watchers}
    assert [str(number) for number in range(20)] == seen.lines
    eventually(lambda: not any(alive(pid) for pid in pids.values()))


def test_workers_that_record_meanwhile_get_an_exact_answer(make, seen):
    """Each True arrives and each False does not, to the last event; with room for all of them."""
    broadcaster = make(lane_bytes=1 << 26, watcher_bytes=1 << 28)
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("tests")
    read, write = os.pipe()

    def flood(worker):
        number = 0
        os.write(write, b".")
        while recorder.event(POD, "Normal", "Counted", f"{worker}:{number}"):
            number += 1
        assert not recorder.event(POD, "Normal", "Counted", f"{worker}:{number}")
        os.write(write, f"{worker}:{number};".encode())

    with forked(lambda: flood(0)), forked(lambda: flood(1)), forked(lambda: flood(2)):
        assert 3 == sum(len(os.read(read, 1)) for _ in range(3))
        assert broadcaster.shutdown(timeout=40).complete
    os.close(write)
    told = dict(part.split(":") for part in os.read(read, 4096).decode().strip(".;").split(";"))
    os.close(read)
    for worker, count in told.items():
        assert list(range(int(count))) == [
            int(line.split(":")[1]) for line in seen.lines if line.startswith(f"{worker}:")
        ]


def test_start_flush_and_watch_after_it_say_so_plainly(make):
    broadcaster = make()
    broadcaster.shutdown()
    with pytest.raises(BroadcasterStopped, match="broadcaster already stopped"):
        broadcaster.start_event_watcher(print)
    with pytest.raises(BroadcasterStopped):
        broadcaster.watch()
    assert broadcaster.flush(1)
