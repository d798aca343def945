"""The application dies, in every way there is: its helpers deliver what was accepted, finish, and go."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from .conftest import alive, eventually

NOTICE_SECONDS = 2.0
TO_BE_SURE = 3.0  # of scheduling on a loaded machine, beside what is promised

PRELUDE = """
    import os, signal, sys, time
    from mpbroadcast import EventBroadcaster, FullChannelBehavior, ObjectReference
    import mpbroadcast.broadcaster
    OUT = sys.argv[1]
    POD = ObjectReference("Pod", "default", "p")
    def handler(event):
        fd = os.open(OUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, event.message.encode() + b"\\n")
        os.close(fd)
    def told(broadcaster):
        while True:
            s = broadcaster.stats()
            w = s.watchers[0].helper
            pids = (s.distributor.pid, s.distributor.spare_pid, w.pid, w.spare_pid)
            if all(pids): break
            time.sleep(0.01)
        print(*pids, flush=True)
    def start(handler=handler, **options):
        broadcaster = EventBroadcaster(**options)
        broadcaster.start_event_watcher(handler, name="w")
        return broadcaster, broadcaster.new_recorder("app")
    def record(recorder, first, last):
        for number in range(first, last):
            assert recorder.event(POD, "Normal", "Counted", str(number))
"""


@contextlib.contextmanager
def application(code, *arguments):
    """A program in an interpreter of its own; yields it with its standard output; whatever is left of it is killed."""
    program = textwrap.dedent(PRELUDE) + textwrap.dedent(code)
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def pids_of(process):
    return [int(word) for word in process.stdout.readline().split()]


def all_gone(pids, timeout=20.0):
    eventually(lambda: not any(alive(pid) for pid in pids), timeout)


def numbers(path):
    return [int(line) for line in path.read_text().split()] if path.exists() else []


WAYS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "os._exit": "os._exit(3)",
    "an exception that nobody caught": "raise RuntimeError('the end')",
    "SIGTERM without a handler": "os.kill(os.getpid(), signal.SIGTERM)",
    "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
    "SIGABRT": "os.abort()",
    "sys.exit": "sys.exit(0)",
}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_accepted_arrives_and_every_helper_is_gone_soon_after(tmp_path, way):
    out = tmp_path / "seen"
    code = f"""
        broadcaster, recorder = start()
        told(broadcaster)
        record(recorder, 0, 500)
        {WAYS[way]}
    """
    with application(code, out) as process:
        pids = pids_of(process)
        process.wait(20)
        began = time.monotonic()
        all_gone(pids)
        assert time.monotonic() - began < NOTICE_SECONDS + TO_BE_SURE
        assert list(range(500)) == numbers(out)


def test_as_when_the_kernel_is_out_of_memory_only_the_application_is_killed_in_the_middle_of_a_flood(tmp_path):
    """The number before the call is written first, so that one number at the most is in doubt."""
    out, page = tmp_path / "seen", tmp_path / "page"
    page.write_bytes(bytes(4096))
    code = """
        import mmap
        broadcaster, recorder = start()
        told(broadcaster)
        with open(sys.argv[2], "r+b") as file:
            cells = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
        while True:
            if recorder.event(POD, "Normal", "Counted", str(cells[0])):
                cells[0] += 1
            else:
                time.sleep(0.001)
    """
    with application(code, out, page) as process:
        pids = pids_of(process)
        eventually(lambda: int.from_bytes(page.read_bytes()[:8], "little") > 3000)
        process.kill()
        process.wait(20)
        all_gone(pids)
        accepted = int.from_bytes(page.read_bytes()[:8], "little")
        arrived = numbers(out)
        assert list(range(len(arrived))) == arrived
        assert accepted <= len(arrived) <= accepted + 1


def test_living_workers_go_on_and_theirs_arrives_too(tmp_path):
    """The application is killed; its worker records on, and its events are delivered until it ends."""
    out, go = tmp_path / "seen", tmp_path / "go"
    code = """
        broadcaster, recorder = start()
        told(broadcaster)
        if os.fork() == 0:
            record(recorder, 0, 10)
            print("ready", flush=True)
            while not os.path.exists(sys.argv[2]):
                time.sleep(0.01)
            record(recorder, 10, 50)
            os._exit(0)
        signal.pause()
    """
    with application(code, out, go) as process:
        pids = pids_of(process)
        assert "ready\n" == process.stdout.readline()
        process.kill()
        process.wait(20)
        time.sleep(NOTICE_SECONDS + 0.5)  # the helpers have noticed by now, and stay: the worker still has its lane
        assert all(alive(pid) for pid in pids)
        go.touch()
        all_gone(pids)
        assert list(range(50)) == numbers(out)


def test_a_worker_that_never_ends_is_waited_for_until_the_grace_time_is_over(tmp_path):
    out = tmp_path / "seen"
    code = """
        mpbroadcast.broadcaster.GRACE_SECONDS = 1.5
        broadcaster, recorder = start()
        told(broadcaster)
        pid = os.fork()
        if pid == 0:
            number = 0
            while True:
                accepted = recorder.event(POD, "Normal", "Counted", str(number))
                number += accepted
                if not accepted:
                    print("refused", number, flush=True)
                    signal.pause()
                time.sleep(0.01)
        print(pid, flush=True)
        time.sleep(0.3)
        os._exit(0)
    """
    with application(code, out) as process:
        pids = pids_of(process)
        worker = pids_of(process)[0]
        process.wait(20)
        all_gone(pids)
        word, number = process.stdout.readline().split()
        os.kill(worker, signal.SIGKILL)
        assert "refused" == word  # its lane was sealed; False is exact: nobody has seen that event
        assert list(range(int(number))) == numbers(out)


def test_a_handler_that_hangs_is_ended_when_the_grace_time_is_over(tmp_path):
    code = """
        mpbroadcast.broadcaster.GRACE_SECONDS = 1.0
        broadcaster, recorder = start(lambda event: time.sleep(10_000))
        told(broadcaster)
        record(recorder, 0, 3)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with application(code, tmp_path / "seen") as process:
        all_gone(pids_of(process))


def test_sinks_are_finished_when_the_application_dies(tmp_path):
    """Both built-in files hold every event, whole, after a SIGKILL of the application."""
    import orjson

    from mpbroadcast.store.sqlite import Store

    code = """
        from mpbroadcast.sinks import JSONLinesSink, SQLiteSink
        broadcaster, recorder = start()
        broadcaster.start_recording_to_sink(SQLiteSink(sys.argv[2] + "/events.db"))
        broadcaster.start_recording_to_sink(JSONLinesSink(sys.argv[2] + "/events.jsonl"))
        told(broadcaster)
        record(recorder, 0, 300)
        pids = [p for w in broadcaster.stats().watchers for p in (w.helper.pid, w.helper.spare_pid)]
        print(*pids, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with application(code, tmp_path / "seen", tmp_path) as process:
        pids = pids_of(process) + pids_of(process)
        process.wait(20)
        all_gone(pids, 40)
        sinks = lambda: [  # noqa: E731
            len((tmp_path / "events.jsonl").read_text().splitlines()),
            len(numbers(tmp_path / "seen")),
        ]
        eventually(lambda: sinks() == [300, 300])
        lines = (tmp_path / "events.jsonl").read_text().splitlines()
        assert [str(number) for number in range(300)] == [orjson.loads(line)["message"] for line in lines]

        def stored():
            store = Store.open(str(tmp_path / "events.db"), read_only=True)
            with contextlib.closing(store):
                return len(store.list(limit=1000).events)

        eventually(lambda: stored() == 300)


def test_the_distributor_and_its_spare_die_before_the_application_and_a_watcher_starts_another(tmp_path):
    """Nobody is left who would distribute: the watcher's helper starts a distributor, and nothing is lost."""
    out = tmp_path / "seen"
    code = """
        broadcaster, recorder = start()
        told(broadcaster)
        record(recorder, 0, 10)
        broadcaster.flush(20)
        s = broadcaster.stats()
        os.kill(s.distributor.spare_pid, signal.SIGKILL)
        os.kill(s.distributor.pid, signal.SIGKILL)
        record(recorder, 10, 100)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with application(code, out) as process:
        pids = pids_of(process)
        process.wait(20)
        all_gone(pids, 40)
        assert list(range(100)) == numbers(out)


def test_no_memory_of_it_is_left(tmp_path):
    """The kernel frees the segment with its last process: no process has it open or mapped any more."""
    code = """
        broadcaster, recorder = start(name="unique-%d" % os.getpid())
        told(broadcaster)
        record(recorder, 0, 100)
        os.kill(os.getpid(), signal.SIGKILL)
    """

    def having(name):
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError):
                    if name in (process / "maps").read_text():
                        found.append(process.name)
        return found

    with application(code, tmp_path / "seen") as process:
        name = f"mpbroadcast:unique-{process.pid} "
        pids = pids_of(process)
        assert having(name)
        process.wait(20)
        all_gone(pids)
        eventually(lambda: not having(name))
