"""Promises of the design that were once broken: what ends, starts and restarts a watcher, and what is said of it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
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

from mpbroadcast import broadcaster as broadcaster_module
from mpbroadcast import helper, watcher
from mpbroadcast.broadcaster import Broadcaster
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.ring import marks
from mpbroadcast.ring.counters import CELLS
from mpbroadcast.sinks import JSONLinesSink

from .conftest import alive, eventually, forked, helpers_of

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")


@pytest.fixture
def log(tmp_path):
    """What all processes that are started meanwhile say: a function that reads it."""
    path = tmp_path / "log"
    handler = logging.FileHandler(path)
    logging.getLogger("mpbroadcast").addHandler(handler)
    yield path.read_text
    logging.getLogger("mpbroadcast").removeHandler(handler)
    handler.close()


def record(broadcaster, *messages):
    recorder = broadcaster.new_recorder("test")
    for message in messages:
        assert recorder.event(POD, "Normal", "R", message)


# ---- a setup that fails


def test_the_setup_of_a_thread_watcher_is_tried_again_and_its_events_wait_for_it(make, seen):
    tries, ready = [], threading.Event()

    def setup():
        tries.append(1)
        if not ready.is_set():
            raise RuntimeError("no database")

    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="h", where="thread", setup=setup)
    record(broadcaster, "while it fails")
    eventually(lambda: len(tries) > 1)
    assert not broadcaster.flush(0.1)
    ready.set()
    assert broadcaster.flush(20)
    assert ["while it fails"] == seen.lines
    report = broadcaster.shutdown()
    assert report.complete
    assert (1, 0) == (report.watchers[0].handled, report.watchers[0].outside)


@pytest.mark.parametrize("processes", [True, False])
def test_what_a_thread_watcher_without_its_setup_did_not_handle_is_in_the_report(make, caplog, processes):
    def setup():
        raise RuntimeError("no database")

    broadcaster = make(processes=processes)
    broadcaster.start_event_watcher(lambda event: None, name="h", where="thread", setup=setup)
    eventually(lambda: "failed in its setup" in caplog.text)
    record(broadcaster, "a", "b")
    report = broadcaster.shutdown(timeout=0.5)
    assert report.drained
    assert not report.complete
    assert (2, 0) == (report.watchers[0].backlog, report.watchers[0].outside)
    assert 1 == caplog.text.count("Traceback")


def test_what_comes_after_a_thread_watcher_failed_for_good_is_in_the_report_too(make, caplog):
    class Failing(watcher.EachHandler):
        def handle(self, records, settle):
            raise RuntimeError("broken")

    broadcaster = make(processes=False)
    each = Failing(print, lambda kind, payload: payload, name="h")
    broadcaster._start_watcher(lambda _: each, name="h")
    record(broadcaster, "a")
    eventually(lambda: "mpbroadcast: watcher h failed" in caplog.text)
    record(broadcaster, "b")
    assert not broadcaster.flush(20)
    began = time.monotonic()
    report = broadcaster.shutdown(timeout=30)
    assert time.monotonic() - began < 20
    assert not report.complete
    assert (2, 0) == (report.watchers[0].backlog, report.watchers[0].outside)


def test_a_setup_that_ends_its_process_backs_off_and_says_so(make, log):
    broadcaster = make()
    broadcaster.start_event_watcher(lambda event: None, name="h", setup=lambda: os._exit(1))
    record(broadcaster, "a")
    eventually(lambda: broadcaster.stats().watchers[0].helper.restarts >= 7)
    assert marks.NOT_OPENED == broadcaster._ring.slot_get(0, "crash_mark")  # pauses grow to half a minute
    assert "takes over; the last one ended in its setup" in log()
    report = broadcaster.shutdown(timeout=0.1)
    assert (1, 0) == (report.watchers[0].backlog, report.watchers[0].given_up)


def test_a_setup_that_goes_well_at_last_is_tried_within_a_shutdown(make, seen, monkeypatch, tmp_path):
    """Although its pauses have grown: a shutdown waits for seconds, not for half minutes."""
    tries, ready = tmp_path / "tries", tmp_path / "ready"
    tries.touch()
    monkeypatch.setattr(helper, "BACKOFF_FIRST", 30.0)

    def setup():
        with tries.open("ab") as file:
            file.write(b".")
        if not ready.exists():
            raise RuntimeError("no database")

    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="h", setup=setup)
    record(broadcaster, "a")
    eventually(lambda: len(tries.read_bytes()) == 2)  # the third one has a pause
    ready.touch()
    assert broadcaster.shutdown(timeout=20).complete
    assert ["a"] == seen.lines


# ---- an event that ends its process


def exit_in_c():
    ctypes.CDLL(None).exit(3)


ENDS = {
    "os._exit": lambda: os._exit(0),
    "exit() of C": exit_in_c,
    "a signal": lambda: os.kill(os.getpid(), signal.SIGSEGV),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_event_that_ends_its_process_by_its_own_doing_is_given_up_after_three_times(make, seen, log, end):
    def handler(event):
        if event.message == "poison":
            ENDS[end]()
        seen(event)

    broadcaster = make()
    broadcaster.start_event_watcher(handler, name="h")
    record(broadcaster, "a", "poison", "b")
    assert broadcaster.flush(30)
    report = broadcaster.shutdown()
    assert ["a", "b"] == seen.lines
    assert (2, 1) == (report.watchers[0].handled, report.watchers[0].given_up)
    assert 3 == report.watchers[0].helper.restarts
    assert "it is given up" in log()


def test_an_event_whose_handler_kills_its_process_without_a_trace_is_given_up_after_ten_times(
    make, seen, log, tmp_path, monkeypatch
):
    """With pauses that grow, so that a burst of kills from outside condemns no event."""
    monkeypatch.setattr(watcher, "KILLS_PAUSE", (0.01, 0.5))
    times = tmp_path / "times"

    def handler(event):
        if event.message == "poison":
            with times.open("a") as file:
                file.write(f"{time.monotonic()} ")
            os.kill(os.getpid(), signal.SIGKILL)
        seen(event)

    broadcaster = make()
    broadcaster.start_event_watcher(handler, name="h")
    record(broadcaster, "a", "poison", "b")
    assert broadcaster.flush(40)
    report = broadcaster.shutdown()
    assert ["a", "b"] == seen.lines
    assert (2, 1) == (report.watchers[0].handled, report.watchers[0].given_up)
    assert 10 == report.watchers[0].helper.restarts
    tries = [float(word) for word in times.read_text().split()]
    assert 10 == len(tries)
    assert tries[8] - tries[7] > 0.5
    assert "was killed, or ended itself, while it handled an event" in log()


def test_a_killed_watcher_does_not_lose_the_event_that_it_was_busy_with(make, seen, tmp_path, monkeypatch):
    """Nine kills from outside in the middle of one event: it is handled, and so are all the others."""
    monkeypatch.setattr(watcher, "KILLS_PAUSE", (0.0, 0.0))
    go = tmp_path / "go"

    def handler(event):
        seen(f"begin {event.message}")
        while event.message == "slow" and not go.exists():
            time.sleep(0.001)
        seen(event)

    broadcaster = make()
    broadcaster.start_event_watcher(handler, name="h")
    record(broadcaster, "a", "slow", "b")
    for kill in range(1, 10):
        eventually(lambda kill=kill: seen.lines.count("begin slow") == kill)
        pid = eventually(lambda: helpers_of(broadcaster)["h"])
        os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid: helpers_of(broadcaster)["h"] != pid)
    go.touch()
    assert broadcaster.flush(30)
    report = broadcaster.shutdown()
    assert ["a", "slow", "b"] == [line for line in seen.lines if not line.startswith("begin")]
    assert (3, 0) == (report.watchers[0].handled, report.watchers[0].given_up)


def test_kills_behind_a_sink_never_count_against_an_event(make, tmp_path):
    """It may have the event in its hands for hours, while the other side is away."""
    go = tmp_path / "go"

    class Waiting:
        batch_records = batch_bytes = 1

        def open(self, **_):
            self.settle = None

        def handle(self, records, settle):
            (tmp_path / "began").touch()
            while not go.exists():
                time.sleep(0.001)
            for sequence, *_ in records:
                settle(sequence, 1)

        def idle(self):
            return None

        def close(self): ...

    broadcaster = make()
    broadcaster._start_watcher(lambda _: Waiting(), name="sink")
    record(broadcaster, "a")
    for _ in range(12):
        eventually((tmp_path / "began").exists)
        (tmp_path / "began").unlink()
        pid = eventually(lambda: helpers_of(broadcaster)["sink"])
        os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid: helpers_of(broadcaster)["sink"] != pid)
    go.touch()
    assert broadcaster.flush(30)
    watched = broadcaster.stats().watchers[0]
    assert (1, 0) == (watched.handled, watched.given_up)


# ---- a fork in a handler


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def fail():
    raise RuntimeError("in the child")


CHILDREN = {
    "returns": (lambda: None, 0),
    "raises": (fail, 1),
    "sys.exit": (partial(sys.exit, 7), 7),
    "os._exit": (lambda: os._exit(5), 5),
    "exit() of C": (exit_in_c, 3),
    "crashes": (crash, -signal.SIGSEGV),
}


@pytest.mark.parametrize(
    ("way", "where"),
    [*((way, "process") for way in CHILDREN), *((way, "thread") for way in ("returns", "raises", "sys.exit"))],
)
def test_a_child_that_a_handler_forks_ends_alone_whatever_becomes_of_it(make, seen, way, where):
    end, code = CHILDREN[way]

    def handler(event):
        child = os.fork()
        if child == 0:
            end()
            return
        seen(f"{event.message}:{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
        seen(f"mark {broadcaster._ring.slot_get(0, 'crash_mark') if where == 'process' else 0}")

    broadcaster = make()
    broadcaster.start_event_watcher(handler, name="h", where=where)
    record(broadcaster, "a", "b")
    assert broadcaster.flush(20)
    mark = marks.IN_HAND if where == "process" else 0
    assert [f"a:{code}", f"mark {mark}", f"b:{code}", f"mark {mark}"] == seen.lines
    report = broadcaster.shutdown()
    assert (2, 0, 0) == (report.watchers[0].handled, report.watchers[0].failed, report.watchers[0].helper.restarts)


@pytest.mark.parametrize("where", ["process", "thread"])
@pytest.mark.parametrize("way", ["returns", "raises", "sys.exit"])
def test_a_child_that_a_setup_forks_does_not_become_a_second_watcher(make, seen, way, where):
    end, code = CHILDREN[way]

    def setup():
        child = os.fork()
        if child == 0:
            end()
            return
        seen(f"child {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")

    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="h", where=where, setup=setup)
    record(broadcaster, "a")
    assert broadcaster.flush(20)
    assert [f"child {code}", "a"] == seen.lines


def test_a_child_of_a_handler_that_buffers_does_not_handle_the_events_that_follow(make, seen):
    class Buffering:
        def __call__(self, event):
            if event.message != "fork":
                seen(event)
                return
            child = os.fork()
            if child:
                os.waitpid(child, 0)

        def flush(self): ...

    held = threading.Event()
    broadcaster = make()
    broadcaster.start_event_watcher(Buffering(), name="h", where="thread", setup=lambda: held.wait(20))
    record(broadcaster, "a", "fork", "b", "c")
    held.set()
    assert broadcaster.flush(20)
    assert ["a", "b", "c"] == seen.lines


# ---- spares


def test_a_spare_that_could_not_be_forked_is_tried_again_at_a_bounded_rate(make, seen, log, monkeypatch, tmp_path):
    """The first tries fail, as where the number of processes is limited; then one goes well."""
    tries, real = tmp_path / "tries", os.fork
    tries.touch()
    monkeypatch.setattr(helper, "SPARE_PAUSE", (0.2, 0.5))

    def failing():
        if not helper._log.disabled and len(tries.read_bytes()) < 3 and threading.current_thread().name == "worker":
            with tries.open("ab") as file:
                file.write(b".")
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return real()

    def work_named(self, run=helper._Worker.run):
        threading.current_thread().name = "worker"  # the forks that start a helper go well
        run(self)

    monkeypatch.setattr(os, "fork", failing)
    monkeypatch.setattr(helper._Worker, "run", work_named)
    broadcaster = make()
    monkeypatch.undo()
    spare = eventually(lambda: broadcaster.stats().distributor.spare_pid)
    assert alive(spare)
    assert 3 == len(tries.read_bytes())
    assert 1 == log().count("mpbroadcast: distributor has no spare: Resource temporarily unavailable; tried again")
    os.kill(broadcaster.stats().distributor.pid, signal.SIGKILL)
    eventually(lambda: broadcaster.stats().distributor.pid == spare)


# ---- what recording raises


class Ending:
    """A message, an object or an argument that raises what is no Exception when it is shown."""

    def __init__(self, error):
        self.error = error

    def __str__(self):
        raise self.error

    __repr__ = __str__


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), asyncio.CancelledError(), BaseException("b")])
def test_what_comes_out_of_a_message_costs_the_event_and_not_its_caller(make, error):
    broadcaster = make(processes=False)
    recorder = broadcaster.new_recorder("test")
    assert not recorder.event(POD, "Normal", "R", Ending(error))
    assert not recorder.event(POD, "Normal", "R", Ending(error), annotations={"a": "b"})
    assert not recorder.event(Ending(error), "Normal", "R", "m")
    assert not recorder.eventf(POD, "Normal", "R", "%v", Ending(error))
    assert not recorder.annotated_eventf(POD, {"a": "b"}, "Normal", "R", "%s", Ending(error))
    assert 5 == broadcaster.stats().refused["invalid"]
    assert recorder.event(POD, "Normal", "R", "m")


class TimeLimit(Exception):
    """As frameworks raise it out of a signal handler."""


def end_on_signal(number, frame):
    signal.signal(number, signal.SIG_DFL)  # the usual way: a second signal kills
    sys.exit(4)


def limit_on_signal(*_):
    raise TimeLimit


class Handler:
    def __call__(self, number, frame):
        sys.exit(5)


@pytest.mark.parametrize("where", ["message", "object", "argument"])
@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (signal.default_int_handler, KeyboardInterrupt),
        (end_on_signal, SystemExit),
        (Handler(), SystemExit),
        (lambda *_: sys.exit(1), SystemExit),
    ],
)
def test_what_a_signal_handler_raises_during_a_call_passes_on(make, handler, error, where):
    passes_on(make, handler, error, where)


@pytest.mark.parametrize("where", ["message", "object"])
def test_a_time_limit_that_a_signal_handler_raises_passes_on(make, where):
    """An argument of a format that raises an Exception shows in the text, as in Go, whoever raised it."""
    passes_on(make, limit_on_signal, TimeLimit, where)


def passes_on(make, handler, error, where):
    class Interrupted:
        def __str__(self):
            signal.raise_signal(signal.SIGUSR1)
            return "never"

        @property
        def kind(self):
            return str(self)

        metadata = api_version = kind

    recorder = make(processes=False).new_recorder("test")
    before = signal.signal(signal.SIGUSR1, handler)
    calls = {
        "message": lambda: recorder.event(POD, "Normal", "R", Interrupted()),
        "object": lambda: recorder.event(Interrupted(), "Normal", "R", "m"),
        "argument": lambda: recorder.eventf(POD, "Normal", "R", "%s", Interrupted()),
    }
    try:
        with pytest.raises(error):
            calls[where]()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert recorder.event(POD, "Normal", "R", "m")


def test_events_that_are_refused_before_there_is_a_lane_do_not_end_the_distributor(make, log):
    """It names the last one, for which a process without a lane has no place."""
    broadcaster = make()
    broadcaster._lane.refuse_invalid("")
    pid = eventually(lambda: broadcaster.stats().distributor.pid)
    eventually(lambda: "not recorded: invalid" in log())
    assert pid == broadcaster.stats().distributor.pid
    assert "Traceback" not in log()


# ---- no descriptors

WITHOUT_DESCRIPTORS = """
    import os, resource, sys
    from mpbroadcast import EventBroadcaster, ObjectReference
    from mpbroadcast.errors import BroadcastError
    from mpbroadcast.sinks import JSONLinesSink
    POD = ObjectReference("Pod", "d", "p")
    seen, sink = sys.argv[1:]
    def handler(event):
        with open(seen, "a") as file: file.write(event.message + " ")
    broadcaster = EventBroadcaster()
    broadcaster.start_event_watcher(handler, name="before")
    recorder = broadcaster.new_recorder("app")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True: taken.append(os.dup(0))
    except OSError: pass
    def attempt(what, start):
        try: print(what, type(start()).__name__, flush=True)
        except BroadcastError as error: print(what, error, flush=True)
    attempt("watcher:", lambda: broadcaster.start_event_watcher(handler, name="w"))
    attempt("sink:", lambda: broadcaster.start_recording_to_sink(JSONLinesSink(sink)))
    attempt("broadcaster:", EventBroadcaster)
    print("recorded:", recorder.event(POD, "Normal", "R", "app"), flush=True)
    child = os.fork()
    if child == 0:
        attempt("watch:", broadcaster.watch)
        os._exit(not recorder.event(POD, "Normal", "R", "child"))
    print("in a child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    print("flushed:", broadcaster.flush(20), flush=True)
    while len(taken) > 10: os.close(taken.pop())
    attempt("later:", lambda: broadcaster.start_recording_to_sink(JSONLinesSink(sink)))
    print("recorded:", recorder.event(POD, "Normal", "R", "later"), flush=True)
    for fd in taken: os.close(fd)
    report = broadcaster.shutdown()
    print(report.complete, len(report.watchers), sum(report.refused.values()))
"""


def test_without_descriptors_recording_goes_on_and_what_cannot_be_started_says_why(tmp_path):
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(WITHOUT_DESCRIPTORS),
        str(tmp_path / "seen"),
        str(tmp_path / "sink"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    few = "cannot be started: fewer than 8 file descriptors are free (Too many open files)"
    few += "; close some, or raise ulimit -n"
    expected = [
        f"watcher: watcher w {few}",
        f"sink: the watcher of a sink {few}",
        "broadcaster: no shared memory for a segment: Too many open files",
        "recorded: True",
        "watch: Watch",
        "in a child: 0",
        "flushed: True",
        "later: WatcherHandle",
        "recorded: True",
        "True 3 0",
    ]
    assert (expected, "") == (done.stdout.splitlines(), done.stderr)
    assert "app child later " == (tmp_path / "seen").read_text()
    assert 1 == len((tmp_path / "sink").read_text().splitlines())


def test_a_slot_that_cannot_be_had_for_want_of_a_descriptor_is_not_blamed_on_max_watchers(tmp_path):
    code = """
        import os, resource
        from mpbroadcast import EventBroadcaster
        broadcaster = EventBroadcaster()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        if os.fork() == 0:
            try:
                while True: os.dup(0)
            except OSError: pass
            for start in (broadcaster.watch, lambda: broadcaster.start_event_watcher(print, name="t", where="thread")):
                try: start()
                except Exception as error: print(type(error).__name__, error, flush=True)
            os._exit(0)
        os.wait()
        broadcaster.shutdown()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=50, check=False
    )
    why = "SegmentError the kernel gave no lock on the segment: no descriptor is free, or /proc is not mounted"
    assert ([why, why], "") == (done.stdout.splitlines(), done.stderr)


# ---- watchers of a worker


@contextlib.contextmanager
def worker_with_watcher(broadcaster, handler, then):
    """A forked worker that starts the watcher "h", and does ``then`` when it is told to."""
    ready, go = os.pipe(), os.pipe()

    def work():
        broadcaster.start_event_watcher(handler, name="h")
        os.write(ready[1], b".")
        os.read(go[0], 1)
        then()

    with forked(work):
        os.read(ready[0], 1)
        yield
        os.write(go[1], b".")
    for end in (*ready, *go):
        os.close(end)


def kill_both(broadcaster, name):
    pids = eventually(lambda: (found := helpers_of(broadcaster)) and all(found.values()) and found)
    for pid in (pids[f"{name} spare"], pids[name]):
        os.kill(pid, signal.SIGKILL)
    for pid in (pids[f"{name} spare"], pids[name]):
        eventually(lambda pid=pid: not alive(pid))


def test_a_watcher_that_a_worker_started_is_started_again_by_that_worker(make, seen, log):
    def look_again():
        broadcaster_module.STARTING_SECONDS = 0.0
        broadcaster.stats()

    broadcaster = make()
    with worker_with_watcher(broadcaster, seen, look_again):
        kill_both(broadcaster, "h")
        record(broadcaster, "a")
        assert not broadcaster.flush(0.1)
        eventually(
            lambda: "watcher 'h' has no process any more, worker and spare are both gone; 1 events wait" in log()
        )
    assert broadcaster.flush(30)
    assert ["a"] == seen.lines
    assert 1 == broadcaster.stats().watcher("h").counts["both_gone"]
    assert broadcaster.shutdown().complete


def test_a_worker_does_not_start_again_what_its_parent_has_started(make, seen, monkeypatch):
    broadcaster = make()
    broadcaster.start_event_watcher(seen, name="h")
    kill_both(broadcaster, "h")
    monkeypatch.setattr("mpbroadcast.broadcaster.STARTING_SECONDS", 0.0)
    with forked(broadcaster.stats):
        pass
    assert 0 == broadcaster._ring.snapshot()["slots"][0]["cells"][CELLS["both_gone"]]
    record(broadcaster, "a")
    assert broadcaster.flush(30)
    assert 1 == broadcaster.stats().watcher("h").counts["both_gone"]


# ---- names, and slots that are used again


@pytest.mark.parametrize(
    ("name", "error"), [("a\0b", ValueError), (5, TypeError), (b"b", TypeError), (0, TypeError), ([], TypeError)]
)
def test_a_name_that_can_be_none_is_refused_in_one_line_and_takes_no_slot(make, tmp_path, name, error):
    broadcaster = make(processes=False)
    for start in (
        partial(broadcaster.start_event_watcher, print),
        partial(broadcaster.start_logging, print),
        broadcaster.start_structured_logging,
        partial(broadcaster.start_recording_to_sink, JSONLinesSink(tmp_path / "unused")),
    ):
        with pytest.raises(error, match=r"^the name of a watcher (has no NUL, unlike|is a string, not) [^\n\0]+$"):
            start(name=name)
    with pytest.raises(error, match=r"^the name of a broadcaster [^\n\0]+$"):
        EventBroadcaster(name=name)
    assert () == broadcaster.stats().watchers


def test_who_stops_a_watch_late_does_not_stop_the_next_one_in_its_slot(make, monkeypatch):
    """Its slot is used again in the very moment between its look at the slot and what it does to it."""
    broadcaster = make(Broadcaster, max_watchers=1, processes=False)
    late = broadcaster.watch()
    slot, next_one = late._slot, []
    clock = time.monotonic_ns

    def use_again():
        if not next_one:
            next_one.append(None)
            monkeypatch.setattr(time, "monotonic_ns", clock)
            broadcaster._ring.slot_stop(slot.index, slot.generation)
            assert late.get(20) is None
            next_one[0] = broadcaster.watch()
        return clock()

    monkeypatch.setattr(time, "monotonic_ns", use_again)
    slot.stop()
    monkeypatch.setattr(time, "monotonic_ns", clock)
    if not next_one:  # there is no such moment any more
        assert late.get(20) is None
        next_one.append(broadcaster.watch())
    slot.stop()
    assert broadcaster.action("ADDED", 1)
    assert 1 == next_one[0].get(20).object


def test_a_watch_is_stopped_once_and_only_by_who_names_its_generation(make):
    broadcaster = make(Broadcaster, processes=False)
    watch = broadcaster.watch()
    slot = watch._slot
    stop_ts = lambda: broadcaster._ring.slot_get(slot.index, "stop_ts")  # noqa: E731
    assert not broadcaster._ring.slot_stop(slot.index, slot.generation + 1)
    assert (0, True) == (stop_ts(), slot.registered)
    began = time.monotonic_ns()
    assert broadcaster._ring.slot_stop(slot.index, slot.generation)
    stopped_at = stop_ts()
    assert began <= stopped_at <= time.monotonic_ns()
    assert not broadcaster._ring.slot_stop(slot.index, slot.generation)
    assert stopped_at == stop_ts()
