"""Promises of the design that were once broken: what ends, starts and restarts a watcher, and what is said of it."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import signal
import sys
import threading
import time
from functools import partial

import pytest

from mpbroadcast import helper, watcher
from mpbroadcast.event.parts import ObjectReference

from .conftest import alive, eventually, helpers_of

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
    assert watcher.NOT_OPENED == broadcaster._ring.slot_get(0, "crash_mark")  # pauses grow to half a minute
    assert "takes over; the last one ended in its setup" in log()
    report = broadcaster.shutdown(timeout=0.1)
    assert (1, 0) == (report.watchers[0].backlog, report.watchers[0].given_up)


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


def test_an_event_whose_handler_kills_its_process_without_a_trace_is_given_up_after_ten_times(make, seen, log):
    def handler(event):
        if event.message == "poison":
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
    assert "was killed, or ended itself, while it handled an event" in log()


def test_a_killed_watcher_does_not_lose_the_event_that_it_was_busy_with(make, seen, tmp_path):
    """Nine kills from outside in the middle of one event: it is handled, and so are all the others."""
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


@pytest.mark.parametrize("where", ["process", "thread"])
@pytest.mark.parametrize("way", CHILDREN)
def test_a_child_that_a_handler_forks_ends_alone_whatever_becomes_of_it(make, seen, way, where):
    if where == "thread" and way in ("exit() of C", "crashes"):
        pytest.skip("the child of an application may do what it likes")
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
    mark = watcher.IN_HAND if where == "process" else 0
    assert [f"a:{code}", f"mark {mark}", f"b:{code}", f"mark {mark}"] == seen.lines
    report = broadcaster.shutdown()
    assert (2, 0, 0) == (report.watchers[0].handled, report.watchers[0].failed, report.watchers[0].helper.restarts)


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
        (limit_on_signal, TimeLimit),
        (Handler(), SystemExit),
        (lambda *_: sys.exit(1), SystemExit),
    ],
)
def test_what_a_signal_handler_raises_during_a_call_passes_on(make, monkeypatch, handler, error, where):
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
        if where == "argument" and issubclass(error, Exception):
            pytest.skip("as in Go, an argument that raises shows in the text")
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
    eventually(lambda: "events were not recorded: they were invalid" in log())
    assert pid == broadcaster.stats().distributor.pid
    assert "Traceback" not in log()
