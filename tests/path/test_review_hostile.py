"""What hostile and unlucky users do: each test stands for something that once went wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial

import pytest

from mpbroadcast import helper
from mpbroadcast.broadcaster import Broadcaster
from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.errors import HelperError
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.sinks import JSONLinesSink

from .conftest import alive, eventually, forked

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")


def run(code: str, *arguments: str, shell: str = '"$0" -c "$@"') -> subprocess.CompletedProcess[str]:
    """Runs a program in a fresh interpreter, started by a line of shell."""
    command = ["sh", "-c", shell, sys.executable, textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_flush_ends_with_false_when_a_shutdown_gives_up_the_watcher_it_waits_for(make):
    broadcaster = make()
    broadcaster.start_event_watcher(lambda event: time.sleep(1000), name="stuck")
    broadcaster.new_recorder("test").event(POD, "Normal", "R", "m")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(broadcaster.flush()))
    thread.start()
    eventually(lambda: broadcaster.stats().watchers[0].forwarded)
    broadcaster.shutdown(timeout=0.1)
    thread.join(20)
    assert [False] == answers


def test_flush_does_not_wait_for_a_watcher_that_ended_and_whose_slot_was_used_again(make, monkeypatch):
    broadcaster = make(Broadcaster, max_watchers=1, processes=False)
    held = threading.Event()
    first = broadcaster._start_watcher(lambda _: _Holding(held), name="first")
    broadcaster.action("ADDED", 1)
    eventually(lambda: broadcaster.stats().watchers[0].forwarded)
    wait, calls = broadcaster._wait, iter(["distributed", "handled"])

    def wait_and_reuse(done, deadline):
        if next(calls, None) == "handled":  # flush has looked at the slots, and now waits for the watcher
            first.stop()
            held.set()
            eventually(lambda: first.ended)
            broadcaster.watch()
        return wait(done, deadline)

    monkeypatch.setattr(broadcaster, "_wait", wait_and_reuse)
    assert broadcaster.flush(5)


class _Holding:
    batch_records, batch_bytes = 1, 1

    def __init__(self, until: threading.Event) -> None:
        self.until = until

    def open(self, **_: object) -> None: ...

    def handle(self, records, settle) -> None:
        self.until.wait(20)
        for sequence, *_ in records:
            settle(sequence, 1)

    def idle(self) -> None: ...

    def close(self) -> None: ...


def test_a_slot_whose_watcher_has_ended_can_be_had_at_once_a_hundred_times(make):
    broadcaster = make(max_watchers=1)
    recorder = broadcaster.new_recorder("test")
    for _ in range(100):
        handle = broadcaster.start_event_watcher(lambda event: None, name="again")
        assert recorder.event(POD, "Normal", "R", "m")
        handle.stop()
        eventually(lambda handle=handle: handle.ended)
    stats = broadcaster.stats()
    assert 100 == stats.accepted == stats.retired["handled"] + stats.watchers[0].handled


def test_threads_that_share_a_watch_get_every_item_once(make):
    broadcaster = make(Broadcaster, processes=False)
    watch, got = broadcaster.watch(), []

    def read():
        while (item := watch.get(20)) is not None:
            got.append(item.object)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for number in range(20_000):
            assert broadcaster.action("ADDED", number)
        broadcaster.shutdown()
        for thread in threads:
            thread.join(20)
    finally:
        sys.setswitchinterval(interval)
    assert list(range(20_000)) == sorted(got)
    assert 20_000 == broadcaster.stats().watchers[0].handled


def test_a_filter_of_a_watch_that_raises_fails_its_event_and_the_next_one_follows(make):
    broadcaster = make(Broadcaster, processes=False)
    watch = broadcaster.watch(filter=lambda event: 1 / event.object)
    for number in (1, 0, 2):
        broadcaster.action("ADDED", number)
    assert 1 == watch.get(20).object
    with pytest.raises(ZeroDivisionError):
        watch.get(20)
    assert 2 == watch.get(20).object
    assert (2, 1) == (broadcaster.stats().watchers[0].handled, broadcaster.stats().watchers[0].failed)


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, SystemExit, GeneratorExit])
def test_whatever_a_handler_raises_costs_one_event_and_no_process(make, seen, error):
    def handler(event):
        if event.message == "n:1":
            raise error
        seen(event)

    broadcaster = make()
    broadcaster.start_event_watcher(handler, name="h")
    recorder = broadcaster.new_recorder("test")
    for number in range(3):
        recorder.event(POD, "Normal", "R", f"n:{number}")
    report = broadcaster.shutdown()
    assert ["n:0", "n:2"] == seen.lines
    assert (1, 0) == (report.watchers[0].failed, report.watchers[0].helper.restarts)


def test_a_setup_that_raises_is_said_once_and_tried_ever_more_seldom(make, capfd, tmp_path):
    tries = tmp_path / "tries"
    tries.touch()

    def setup():
        with tries.open("a") as file:
            file.write(f"{time.monotonic()}\n")
        raise RuntimeError("no database")

    log = logging.FileHandler(tmp_path / "log")
    logging.getLogger("mpbroadcast").addHandler(log)
    try:
        broadcaster = make()
        broadcaster.start_event_watcher(lambda event: None, name="h", setup=setup)
    finally:
        logging.getLogger("mpbroadcast").removeHandler(log)
        log.close()
    eventually(lambda: len(tries.read_text().split()) >= 7)
    times = [float(line) for line in tries.read_text().split()]
    assert times[6] - times[5] > 1.0  # 0.1, 0.2, 0.4, 0.8, 1.6
    broadcaster.shutdown(timeout=0.1)
    assert 1 == (tmp_path / "log").read_text().count("Traceback")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_daemon_whose_first_process_exits_in_the_usual_way_keeps_its_broadcaster(tmp_path, when):
    """``sys.exit`` runs finalizers, which must not take the broadcaster from the process that adopted it."""
    out = tmp_path / "out"
    code = """
        import os, sys, time
        from mpbroadcast import EventBroadcaster, ObjectReference
        broadcaster = EventBroadcaster()
        first, (read, write) = os.getpid(), os.pipe()
        if os.fork():
            if sys.argv[2] == "before": os.read(read, 1)
            sys.exit(0)
        if sys.argv[2] == "after":
            while os.getppid() == first: time.sleep(0.001)
        broadcaster.adopt()
        os.write(write, b".")
        time.sleep(2.5)  # the distributor looks for its owner once a second
        accepted = broadcaster.new_recorder("daemon").event(ObjectReference("Pod", "d", "p"), "Normal", "R", "m")
        with open(sys.argv[1], "w") as file:
            print(accepted, broadcaster.shutdown().complete, file=file)
    """
    assert 0 == run(code, str(out), when).returncode
    assert "True True\n" == eventually(lambda: out.exists() and out.read_text())


def test_an_application_that_just_ends_delivers_what_its_thread_watchers_have_not_handled(tmp_path):
    code = """
        import sys, time
        from mpbroadcast import EventBroadcaster, ObjectReference
        def handler(event):
            time.sleep(0.001)
            with open(sys.argv[1], "a") as file: file.write(event.message + " ")
        broadcaster = EventBroadcaster()
        broadcaster.start_event_watcher(handler, where="thread")
        recorder = broadcaster.new_recorder("app")
        for number in range(100): assert recorder.event(ObjectReference("Pod", "d", "p"), "Normal", "R", str(number))
    """
    done = run(code, str(tmp_path / "out"))
    assert (0, "") == (done.returncode, done.stderr)
    assert [str(number) for number in range(100)] == (tmp_path / "out").read_text().split()


@pytest.mark.parametrize("descriptors", ["<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_without_stdin_stdout_or_stderr_everything_works(tmp_path, descriptors):
    code = """
        import os, sys
        from mpbroadcast import EventBroadcaster, ObjectReference
        from mpbroadcast.sinks import JSONLinesSink
        broadcaster = EventBroadcaster()
        broadcaster.start_event_watcher(lambda event: None, name="handler")
        broadcaster.start_recording_to_sink(JSONLinesSink(sys.argv[1] + ".jsonl"))
        broadcaster.new_recorder("app").event(ObjectReference("Pod", "d", "p"), "Normal", "R", "m")
        low = broadcaster._segment.fd <= 2
        with open(sys.argv[1], "w") as file:
            print(broadcaster.flush(20), broadcaster.shutdown().complete, low, file=file)
    """
    assert 0 == run(code, str(tmp_path / "out"), shell=f'"$0" -c "$@" {descriptors}').returncode
    assert "True True False\n" == (tmp_path / "out").read_text()


def test_an_embedded_interpreter_runs_its_sinks_in_forks(make, tmp_path, monkeypatch):
    broadcaster = make()
    monkeypatch.setattr(sys, "executable", "")
    broadcaster.start_recording_to_sink(JSONLinesSink(tmp_path / "events.jsonl"))
    broadcaster.new_recorder("test").event(POD, "Normal", "R", "m")
    assert broadcaster.flush(20)
    assert 1 == len((tmp_path / "events.jsonl").read_text().splitlines())
    with pytest.raises(HelperError, match=r"sys\.executable is empty"):
        helper.start_process(broadcaster._distributor(), context="spawn")


def test_a_correlator_function_that_no_fresh_interpreter_could_find_works(make, tmp_path):
    """Of the main module, or a lambda: such a sink is forked."""
    broadcaster = make()
    options = CorrelatorOptions(key_func=lambda event: ((event.reason,), event.message))
    broadcaster.start_recording_to_sink(JSONLinesSink(tmp_path / "events.jsonl"), correlator=options)
    broadcaster.new_recorder("test").event(POD, "Normal", "R", "m")
    assert broadcaster.flush(20)
    assert 1 == len((tmp_path / "events.jsonl").read_text().splitlines())


@pytest.mark.parametrize("fork", [1, 2])
def test_no_process_for_a_helper_is_said_to_who_starts_it(make, monkeypatch, fork):
    """The second fork happens in a child: its failure comes home by the exit status."""
    broadcaster, count, real = make(), [0], os.fork

    def failing():
        count[0] += 1
        if count[0] == fork:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real()

    monkeypatch.setattr(os, "fork", failing)
    with pytest.raises(HelperError, match=r"^no process for a helper: Resource temporarily unavailable$"):
        broadcaster.start_event_watcher(lambda event: None)
    monkeypatch.undo()
    recorder = broadcaster.new_recorder("test")
    assert recorder.event(POD, "Normal", "R", "m")
    assert broadcaster.flush(20)


def test_stats_and_shutdown_do_not_raise_when_a_dead_helper_cannot_be_started_again(make, monkeypatch, caplog):
    broadcaster = make()
    pids = eventually(lambda: (d := broadcaster.stats().distributor).pid and d.spare_pid and (d.spare_pid, d.pid))
    monkeypatch.setattr("mpbroadcast.broadcaster.STARTING_SECONDS", 0.0)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        eventually(lambda pid=pid: not alive(pid))

    def failing():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", failing)
        assert "running" == broadcaster.stats().state
    assert "cannot be started again now: no process for a helper" in caplog.text
    assert broadcaster.shutdown().drained


@pytest.mark.parametrize("where", ["thread", "process"])
def test_a_worker_that_has_started_a_watcher_is_never_killed_in_place_of_its_helper(make, monkeypatch, where):
    """It stands beside the slot as its consumer: with a thread it is, with a process until the helper has come."""
    broadcaster = make()
    recorder = broadcaster.new_recorder("test")
    ready, go = os.pipe(), os.pipe()

    def worker():
        os.setsid()
        helper._run_forked = lambda *_: os._exit(0)  # a helper that never comes
        broadcaster.start_event_watcher(lambda event: time.sleep(1000), name="stuck", where=where)
        recorder.event(POD, "Normal", "R", "m")
        os.write(ready[1], b".")
        os.read(go[0], 1)
        os._exit(7)

    pid = os.fork()
    if pid == 0:
        worker()
    os.read(ready[0], 1)
    eventually(lambda: broadcaster.stats().watchers[0].forwarded)
    broadcaster.shutdown(timeout=0.1)
    os.write(go[1], b".")
    assert 7 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for end in (*ready, *go):
        os.close(end)


def test_helpers_end_after_a_dead_application_although_a_watcher_belongs_to_a_living_worker(tmp_path):
    """The distributor sees that watcher off once, and its spare does not do so again and again."""
    code = """
        import os, sys, time
        import mpbroadcast.broadcaster, mpbroadcast.helper
        mpbroadcast.broadcaster.GRACE_SECONDS = 0.5
        from mpbroadcast import EventBroadcaster
        broadcaster = EventBroadcaster()
        (read, write) = os.pipe()
        if os.fork() == 0:
            os.setsid()
            mpbroadcast.helper._run_forked = lambda *_: os._exit(0)
            broadcaster.start_event_watcher(print, name="w")
            os.write(write, b".")
            deadline = time.monotonic() + 40
            while not os.path.exists(sys.argv[1]) and time.monotonic() < deadline: time.sleep(0.01)
            with open(sys.argv[1], "a") as file: file.write("alive")
            os._exit(0)
        os.read(read, 1)
        while not broadcaster.stats().distributor.spare_pid: time.sleep(0.01)
        print(broadcaster.stats().distributor.pid, broadcaster.stats().distributor.spare_pid, flush=True)
        os._exit(0)
    """
    log, out = tmp_path / "log", tmp_path / "out"
    with log.open("w") as err, out.open("w") as pids_file:
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "end")]
        subprocess.run(command, stdout=pids_file, stderr=err, timeout=50, check=True)
    pids = [int(word) for word in out.read_text().split()]
    for pid in pids:
        eventually(lambda pid=pid: not alive(pid))
    assert 1 == log.read_text().count("did not end in time")
    (tmp_path / "end").touch()
    eventually(lambda: (tmp_path / "end").read_text() == "alive")


def test_a_logger_that_raises_does_not_fail_the_caller(make):
    class Full(logging.Logger):
        def handle(self, record):
            raise OSError("disk full")

    recorder = make(processes=False).new_recorder("test").with_logger(Full("full"))
    assert not recorder.event(None, "Normal", "R", "m")
    assert recorder.event(POD, "Normal", "R", "m", related=5)


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e12, 0, -5])
def test_every_number_of_seconds_is_a_time_out_of_shutdown(make, timeout):
    broadcaster = make(processes=False)
    broadcaster.new_recorder("test").event(POD, "Normal", "R", "m")
    assert broadcaster.flush(20)
    assert 1 == broadcaster.shutdown(timeout).accepted


def test_what_cannot_be_called_is_refused_before_anything_is_started(make):
    broadcaster = make(processes=False)
    for start in (
        partial(broadcaster.start_event_watcher, None),
        partial(broadcaster.start_event_watcher, print, filter=5),
        partial(broadcaster.start_event_watcher, print, setup=5),
        partial(broadcaster.start_logging, None),
        partial(broadcaster.start_recording_to_sink, object()),
        partial(broadcaster.watch, filter=5),
    ):
        with pytest.raises(TypeError):
            start()
    for length in (0, 1.5):
        with pytest.raises(ValueError, match="queue_length must be None or at least 1"):
            broadcaster.watch(queue_length=length)
    assert () == broadcaster.stats().watchers


def test_a_sink_whose_handler_cannot_be_made_takes_no_slot(make, tmp_path):
    class Broken(JSONLinesSink):
        def make_handler(self, *_, **__):
            raise RuntimeError("no")

    broadcaster = make(max_watchers=1, processes=False)
    for _ in range(3):
        with pytest.raises(RuntimeError, match=r"^no$"):
            broadcaster.start_recording_to_sink(Broken(tmp_path / "unused.jsonl"))
    assert broadcaster.start_event_watcher(print)


def test_a_handler_may_forward_to_a_second_broadcaster_and_their_numbers_never_mix(make, seen):
    one, other = make(name="one"), make(name="other")
    forward = other.new_recorder("forward")
    one.start_event_watcher(lambda event: forward.event(POD, "Normal", "F", event.message), name="forward")
    other.start_event_watcher(seen, name="seen")
    recorder = one.new_recorder("test")
    for number in range(50):
        assert recorder.event(POD, "Normal", "R", f"n:{number}")
    assert one.flush(20)
    assert other.flush(20)
    assert [f"n:{number}" for number in range(50)] == seen.lines
    assert (50, 50) == (one.stats().accepted, other.stats().accepted)


def test_several_processes_may_flush_at_once(make, seen):
    broadcaster = make()
    broadcaster.start_event_watcher(seen)
    recorder = broadcaster.new_recorder("test")

    def work(name):
        for number in range(20):
            assert recorder.event(POD, "Normal", "R", f"{name}:{number}")
            assert broadcaster.flush(20)
            assert f"{name}:{number}" in seen.lines

    with forked(partial(work, "a")), forked(partial(work, "b")):
        work("c")
    assert 60 == len(seen.lines)


def test_a_lock_that_cannot_be_had_for_want_of_descriptors_is_not_taken_for_one(tmp_path):
    """Or two distributors would work at once."""
    code = """
        import os, resource
        from mpbroadcast.errors import SegmentError
        from mpbroadcast.ring import _ring
        from mpbroadcast.ring.segment import Segment
        segment = Segment.create(name="t", lanes=1, lane_bytes=1 << 16, slots=1, slot_bytes=1 << 16, queue_length=None)
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        try:
            while True: os.dup(0)
        except OSError: pass
        try: print(segment.ring.lock(_ring.LOCK_DIST))
        except SegmentError as error: print(error)
    """
    assert "no descriptor is free" in run(code).stdout


def test_a_spawned_helper_without_a_working_directory_is_refused_in_one_line(make, tmp_path, monkeypatch):
    broadcaster = make(context="spawn")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(HelperError, match="working directory: No such file or directory"):
        broadcaster.start_event_watcher(print)
