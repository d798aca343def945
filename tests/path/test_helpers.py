"""The helper processes: what they do to the application (nothing), and what happens when they die."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mpbroadcast.event.parts import ObjectReference

from .conftest import alive, eventually, helpers_of

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")


def run(code: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Runs a program in a fresh interpreter."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, **options)


def test_no_thread_and_no_child_in_the_application():
    code = """
        import os, threading
        from mpbroadcast import EventBroadcaster
        broadcaster = EventBroadcaster()
        broadcaster.start_event_watcher(print)
        print(threading.active_count(), len(os.listdir("/proc/self/task")))
        try:
            print("a child", os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("no child")
        broadcaster.shutdown()
    """
    assert ["1 1", "no child"] == run(code).stdout.splitlines()


def test_every_helper_has_a_spare_and_a_name(make):
    broadcaster = make()
    broadcaster.start_event_watcher(lambda event: None, name="mine")

    def named():
        pids = helpers_of(broadcaster)
        return all(pids.values()) and {
            name: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", "") for name, pid in pids.items()
        }

    expected = {
        "distributor": "mpbroadcast: distributor",
        "distributor spare": "mpbroadcast: distributor (spare)",
        "mine": "mpbroadcast: watcher mine",
        "mine spare": "mpbroadcast: watcher mine (spare)",
    }
    assert eventually(lambda: named() == expected)


@pytest.mark.parametrize("victim", ["distributor", "seen"])
def test_the_spare_of_a_killed_helper_goes_on_and_nothing_is_lost(make, seen, victim):
    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="seen")
    recorder = broadcaster.new_recorder("tests")
    sent = 0
    for _ in range(5):
        pids = eventually(lambda: (found := helpers_of(broadcaster)) and all(found.values()) and found)
        for _ in range(200):
            assert recorder.event(POD, "Normal", "Counted", f"n:{sent}")
            sent += 1
        os.kill(pids[victim], signal.SIGKILL)
        for _ in range(200):
            assert recorder.event(POD, "Normal", "Counted", f"n:{sent}")
            sent += 1
        eventually(lambda pids=pids: helpers_of(broadcaster)[victim] not in (0, pids[victim]), timeout=40)
    assert broadcaster.shutdown(timeout=50).complete
    lines = seen.lines
    repeated = 5 if victim == "seen" else 0  # what was in flight at a killed watcher may come twice
    assert {f"n:{number}" for number in range(sent)} == set(lines)
    assert sent <= len(lines) <= sent + repeated


def test_a_helper_whose_worker_and_spare_are_both_killed_is_started_again_by_the_next_call(make, seen, monkeypatch):
    monkeypatch.setattr("mpbroadcast.broadcaster.STARTING_SECONDS", 0.0)
    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="seen")
    recorder = broadcaster.new_recorder("tests")
    pids = eventually(lambda: (found := helpers_of(broadcaster)) and all(found.values()) and found)
    for name in ("distributor spare", "seen spare", "distributor", "seen"):
        os.kill(pids[name], signal.SIGKILL)
    for pid in pids.values():
        eventually(lambda pid=pid: not alive(pid))
    for number in range(10):
        assert recorder.event(POD, "Normal", "Counted", f"n:{number}")
    assert broadcaster.flush(30)
    assert [f"n:{number}" for number in range(10)] == seen.lines


def test_after_shutdown_no_helper_is_left(make):
    broadcaster = make()
    broadcaster.start_event_watcher(lambda event: None)
    pids = eventually(lambda: (found := helpers_of(broadcaster)) and all(found.values()) and found)
    broadcaster.shutdown()
    for pid in pids.values():
        eventually(lambda pid=pid: not alive(pid))


def test_a_stuck_handler_does_not_outlast_the_time_out(make):
    broadcaster = make()
    broadcaster.start_event_watcher(lambda event: time.sleep(1000), name="stuck")
    recorder = broadcaster.new_recorder("tests")
    for _ in range(3):
        recorder.event(POD, "Normal", "Counted", "x")
    pids = eventually(lambda: (found := helpers_of(broadcaster)) and all(found.values()) and found)
    began = time.monotonic()
    report = broadcaster.shutdown(timeout=0.3)
    assert time.monotonic() - began < 10
    assert report.drained
    assert not report.complete
    assert 3 == report.watchers[0].backlog
    for pid in pids.values():
        eventually(lambda pid=pid: not alive(pid))


def test_a_full_lane_and_a_stuck_watcher_never_make_event_wait(make):
    from mpbroadcast.broadcaster import FullChannelBehavior

    broadcaster = make(lane_bytes=1 << 16, watcher_bytes=1 << 16)
    wait = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
    broadcaster.start_event_watcher(lambda event: time.sleep(1000), name="stuck", full_channel_behavior=wait)
    recorder = broadcaster.new_recorder("tests")
    answers, longest = [], 0.0
    for _ in range(20_000):
        began = time.perf_counter()
        answers.append(recorder.event(POD, "Normal", "Counted", "x" * 100))
        longest = max(longest, time.perf_counter() - began)
    assert not answers[-1]
    assert answers.count(False) == broadcaster.stats().refused["lane_full"]
    assert longest < 1.0  # it never waits for anybody; a descheduled process is the kernel's doing
    broadcaster.shutdown(timeout=0.1)


def test_a_handler_that_raises_loses_its_event_alone(make, seen, capfd):
    def handler(event):
        if event.message == "n:3":
            raise RuntimeError("no threes")
        seen(event)

    broadcaster = make()
    broadcaster.start_event_watcher(handler, name="picky")
    recorder = broadcaster.new_recorder("tests")
    for number in range(6):
        recorder.event(POD, "Normal", "Counted", f"n:{number}")
    report = broadcaster.shutdown()
    assert ["n:0", "n:1", "n:2", "n:4", "n:5"] == seen.lines
    assert (5, 1) == (report.watchers[0].handled, report.watchers[0].failed)


def test_an_event_that_crashes_its_handler_three_times_is_given_up(make, seen):
    def handler(event):
        if event.message == "poison":
            os.kill(os.getpid(), signal.SIGSEGV)
        seen(event)

    broadcaster = make()
    broadcaster.start_event_watcher(handler, name="crashing")
    recorder = broadcaster.new_recorder("tests")
    for message in ("a", "poison", "b"):
        recorder.event(POD, "Normal", "Counted", message)
    assert broadcaster.flush(30)
    report = broadcaster.shutdown()
    assert ["a", "b"] == seen.lines
    assert (2, 1) == (report.watchers[0].handled, report.watchers[0].given_up)
    assert 3 == report.watchers[0].helper.restarts


def test_helpers_let_go_of_listening_sockets(make):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        broadcaster = make()
        broadcaster.start_event_watcher(lambda event: None)
        pids = eventually(lambda: (found := helpers_of(broadcaster)) and all(found.values()) and found)
    with socket.socket() as again:  # would fail with EADDRINUSE while a helper listened
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
        again.listen()
    assert all(alive(pid) for pid in pids.values())


def test_async_handlers_setup_and_filters(make, seen):
    state = []

    async def handler(event):
        seen(f"{state} {event.message}")

    broadcaster = make()
    broadcaster.start_event_watcher(
        handler, name="async", setup=lambda: state.append("ready"), filter=lambda event: event.reason == "Wanted"
    )
    recorder = broadcaster.new_recorder("tests")
    recorder.event(POD, "Normal", "Wanted", "one")
    recorder.event(POD, "Normal", "Unwanted", "two")
    report = broadcaster.shutdown()
    assert ["['ready'] one"] == seen.lines
    assert (1, 1) == (report.watchers[0].handled, report.watchers[0].filtered)


def test_the_application_dies_and_its_last_events_arrive(tmp_path):
    """SIGKILL of the application: helpers notice, deliver what was accepted, and go; no memory file is left."""
    out = tmp_path / "seen"
    code = """
        import os, signal, sys
        from mpbroadcast import EventBroadcaster, ObjectReference
        def handler(event):
            with open(sys.argv[1], "a") as file:
                file.write(event.message + "\\n")
        broadcaster = EventBroadcaster()
        broadcaster.start_event_watcher(handler, name="w")
        recorder = broadcaster.new_recorder("app")
        for number in range(1000):
            assert recorder.event(ObjectReference("Pod", "default", "p"), "Normal", "Counted", str(number))
        s = broadcaster.stats()
        w = s.watchers[0].helper
        print(s.distributor.pid, s.distributor.spare_pid, w.pid, w.spare_pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run(code, str(out))
    assert -signal.SIGKILL == done.returncode, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    for pid in pids:
        eventually(lambda pid=pid: not pid or not alive(pid))
    assert [str(number) for number in range(1000)] == out.read_text().split()


def test_an_application_that_just_ends_loses_nothing(tmp_path):
    """Without shutdown(): in process mode the helpers deliver afterwards, in thread mode at the interpreter's exit."""
    for processes, said in (("True", "the application ended without shutdown()"), ("False", "")):
        out = tmp_path / processes
        code = f"""
            import sys
            from mpbroadcast import EventBroadcaster, ObjectReference
            def handler(event):
                with open(sys.argv[1], "a") as file:
                    file.write(event.message + "\\n")
            broadcaster = EventBroadcaster(processes={processes})
            broadcaster.start_event_watcher(handler, name="w")
            recorder = broadcaster.new_recorder("app")
            for number in range(1000):
                assert recorder.event(ObjectReference("Pod", "default", "p"), "Normal", "Counted", str(number))
        """
        done = run(code, str(out))
        assert 0 == done.returncode
        assert said == done.stderr[: len(said)]
        assert len(done.stderr.splitlines()) <= 1
        eventually(lambda out=out: out.exists() and len(out.read_text().split()) == 1000)


def test_the_import_is_light():
    code = """
        import sys
        import mpbroadcast
        from mpbroadcast import EventBroadcaster, ObjectReference
        broadcaster = EventBroadcaster()
        broadcaster.start_event_watcher(print)
        broadcaster.new_recorder("app").event(ObjectReference("Pod", "default", "p"), "Normal", "R", "m")
        broadcaster.shutdown()
        heavy = {"kubernetes", "sqlite3", "rich", "typer", "aiohttp", "asyncio", "psutil", "yaml"}
        print(sorted(heavy & set(sys.modules)))
    """
    done = run(code)
    assert "[]" == done.stdout.splitlines()[-1], done.stdout + done.stderr


def test_a_forked_helper_costs_little_beside_a_large_application():
    """Under 3 MiB of its own beside 200 MiB of the application's objects, after work."""
    code = """
        import os, sys, time
        from mpbroadcast import EventBroadcaster, ObjectReference
        from mpbroadcast.stats import process_use
        ballast = [str(number) * 10 for number in range(1_600_000)]
        broadcaster = EventBroadcaster()
        broadcaster.start_event_watcher(lambda event: None, name="w")
        recorder = broadcaster.new_recorder("app")
        for number in range(30_000):
            recorder.event(ObjectReference("Pod", "default", "p"), "Normal", "R", str(number))
            if number % 1000 == 0: broadcaster.flush(20)
        broadcaster.flush(20)
        time.sleep(1.5)
        rss = process_use(os.getpid()).rss_bytes
        stats = broadcaster.stats()
        shared = ("memfd", ".so", "bin/python")
        def private(pid):
            # what the segment itself holds is shared memory, counted apart
            total = 0
            for line in open(f"/proc/{pid}/smaps"):
                if line[0].isdigit() or line[0] in "abcdef": name = line.split()[-1]
                elif line.startswith(("Private_Dirty:", "Private_Clean:")) and not any(part in name for part in shared):
                    total += int(line.split()[1])
            return total // 1024
        print(rss >> 20, *[private(pid) for pid in (stats.distributor.pid, stats.distributor.spare_pid,
              stats.watchers[0].helper.pid, stats.watchers[0].helper.spare_pid)])
        broadcaster.shutdown()
    """
    done = run(code)
    rss, *own = [int(word) for word in done.stdout.split()]
    assert rss >= 150, done.stderr
    assert max(own) < 3, own


def test_a_broadcaster_that_nobody_holds_any_more_lets_its_helpers_go(make):
    from mpbroadcast.event_broadcaster import EventBroadcaster

    held = [EventBroadcaster()]
    held[0].start_event_watcher(print)
    pids = eventually(lambda: (found := helpers_of(held[0])) and all(found.values()) and found)
    held.clear()
    gc.collect()
    for pid in pids.values():
        eventually(lambda pid=pid: not alive(pid))
