"""What an application has to itself: children, locks, sockets, pipes, its terminal, its signals. And a crash loop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.path.conftest import eventually

START = """
import os, signal, sys, time
from mpbroadcast import EventBroadcaster, ObjectReference
from mpbroadcast.sinks import JSONLinesSink
POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")
def start():
    broadcaster = EventBroadcaster()
    broadcaster.start_event_watcher(lambda event: time.sleep(float(event.message)), name="handler")
    broadcaster.start_recording_to_sink(JSONLinesSink("events.jsonl"))
    return broadcaster, broadcaster.new_recorder("x")
"""


@pytest.fixture
def begin(program):
    program.write("begin.py", START)
    return program


def test_an_application_that_waits_for_any_child_sees_its_own_alone(begin):
    """Also when SIGCHLD has a handler that reaps everything, as servers have, while helpers are started."""
    begin.write("waits.py", """
from begin import *
own, seen = set(), []
def reap(*_):
    try:
        while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            seen.append(found)
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
for number in range(3):
    pid = os.fork()
    if pid == 0:
        os._exit(3 + number)
    own.add((pid, (3 + number) << 8))
broadcaster, recorder = start()
deadline = time.monotonic() + 10
while len(seen) < 3 and time.monotonic() < deadline:
    time.sleep(0.01)
broadcaster.shutdown()
assert own <= set(seen), (own, seen)
assert all(status == 0 for pid, status in set(seen) - own), seen  # at most the short-lived go-between, which ended well
""")  # fmt: skip
    done = begin.run("python", "waits.py")
    assert (0, "") == (done.returncode, done.stderr)
    assert {} == begin.left()


def test_sigchld_may_be_ignored(begin):
    begin.write("ignores.py", """
from begin import *
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
broadcaster, recorder = start()
recorder.event(POD, "Normal", "Said", "0")
assert broadcaster.shutdown().complete
""")  # fmt: skip
    done = begin.run("python", "ignores.py")
    assert (0, "") == (done.returncode, done.stderr)
    assert ["0"] == begin.messages()


@pytest.mark.parametrize("kind", ["flock", "open file description lock"])
def test_a_pid_files_lock_is_free_the_moment_the_application_is_dead(begin, kind):
    begin.write("locks.py", f"""
from begin import *
import fcntl, struct
file = open("pid", "w")
os.set_inheritable(file.fileno(), True)
if {kind!r} == "flock":
    fcntl.flock(file, fcntl.LOCK_EX)
else:
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0))
broadcaster, recorder = start()
recorder.event(POD, "Normal", "Said", "1.0")
while not all((broadcaster.stats().distributor.spare_pid, *(w.helper.spare_pid for w in broadcaster.stats().watchers))):
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
""")  # fmt: skip
    assert -signal.SIGKILL == begin.python("locks.py").wait(30)
    with (begin.directory / "pid").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # would raise
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert begin.helpers(), "they still deliver"
    assert {} == begin.left()
    assert ["1.0"] == begin.messages()


def test_the_reader_of_the_applications_output_gets_its_end(begin):
    """After shutdown at once; and after a death without it as soon as everything is delivered."""
    begin.write("prints.py", """
from begin import *
broadcaster, recorder = start()
print("said", end="")  # still in the buffer when helpers are forked: must not come twice
broadcaster.start_event_watcher(lambda event: None, name="late")
recorder.event(POD, "Normal", "Said", "0")
if sys.argv[1] == "shutdown":
    broadcaster.shutdown()
else:
    sys.stdout.flush()
    os._exit(7)
""")  # fmt: skip
    done = begin.run("python", "prints.py", "shutdown", timeout=20)
    assert ("said", "", 0) == (done.stdout, done.stderr, done.returncode)
    done = begin.run("python", "prints.py", "exit", timeout=20)
    assert ("said", 7) == (done.stdout, done.returncode)
    assert {} == begin.left()


def test_ctrl_c_and_hang_up_of_the_terminal_reach_the_application_alone(begin):
    begin.write("terminal.py", """
from begin import *
broadcaster, recorder = start()
recorder.event(POD, "Normal", "Said", "0")
while not all((broadcaster.stats().distributor.spare_pid, *(w.helper.spare_pid for w in broadcaster.stats().watchers))):
    time.sleep(0.01)
print("ready", flush=True)
try:
    signal.pause()
except KeyboardInterrupt:
    recorder.event(POD, "Normal", "Interrupted", "0.0")
    print("complete", broadcaster.shutdown().complete, broadcaster.stats().distributor.restarts, flush=True)
""")  # fmt: skip
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(begin.directory)
        os.execve(sys.executable, [sys.executable, "terminal.py"], begin.environment)
    said = b""

    def reads(text):
        nonlocal said
        if select.select([terminal], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                said += os.read(terminal, 1000)
        return text in said

    try:
        eventually(lambda: reads(b"ready"))
        sessions = {os.getsid(helper) for helper in begin.helpers()}
        assert pid not in sessions, "helpers have sessions of their own"
        os.write(terminal, b"\x03")
        eventually(lambda: reads(b"complete True 0"))
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(terminal)
    assert ["0", "0.0"] == begin.messages()
    assert {} == begin.left()


def test_the_applications_signal_handlers_and_mask_stay_as_they_are(begin):
    begin.write("signals.py", """
from begin import *
import faulthandler
mark = lambda *_: None
signal.signal(signal.SIGUSR1, mark)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
wake, _ = os.pipe2(os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
os.set_blocking(_, False)
signal.set_wakeup_fd(_)
before = [signal.getsignal(n) for n in signal.valid_signals()], signal.pthread_sigmask(signal.SIG_BLOCK, ())
broadcaster, recorder = start()
broadcaster.shutdown()
assert before == ([signal.getsignal(n) for n in signal.valid_signals()], signal.pthread_sigmask(signal.SIG_BLOCK, ()))
assert signal.set_wakeup_fd(-1) == _
assert os.getsid(0) == os.getsid(os.getppid())
""")  # fmt: skip
    done = begin.run("python", "signals.py")
    assert (0, "") == (done.returncode, done.stderr)


def test_an_inheritable_listening_socket_is_not_kept_by_a_fresh_helper(begin):
    begin.write("listens.py", """
from begin import *
import socket
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
listening.set_inheritable(True)
port = listening.getsockname()[1]
read, write = os.pipe()
os.set_inheritable(write, True)
broadcaster = EventBroadcaster(context="spawn")
broadcaster.start_recording_to_sink(JSONLinesSink("events.jsonl"))
while not all((broadcaster.stats().distributor.spare_pid, broadcaster.stats().watchers[0].helper.spare_pid)):
    time.sleep(0.01)
os.close(write)
assert os.read(read, 1) == b""  # would block while a fresh helper held the other end
listening.close()
again = socket.socket()
again.bind(("127.0.0.1", port))
again.listen()
broadcaster.shutdown()
""")  # fmt: skip
    done = begin.run("python", "listens.py")
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.timeout(60)
def test_a_helper_that_crashes_at_its_start_over_and_over_does_not_spin(begin):
    """Six seconds of a crash loop: with a back-off, so few starts and little CPU; then it recovers."""
    begin.write("loops.py", """
from begin import *
def setup():
    if not os.path.exists("mended"):
        os.kill(os.getpid(), signal.SIGSEGV)
broadcaster = EventBroadcaster()
def handler(event):
    with open("handled", "a") as file:
        file.write(event.message)
broadcaster.start_event_watcher(handler, name="looping", setup=setup)
recorder = broadcaster.new_recorder("x")
assert recorder.event(POD, "Normal", "Said", "0")
time.sleep(6)
restarts = broadcaster.stats().watchers[0].helper.restarts
open("mended", "w").close()
assert broadcaster.flush(30)
print(restarts)
assert broadcaster.shutdown(20).complete
""")  # fmt: skip
    loop = begin.python("loops.py", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    used: dict[int, float] = {}
    deadline = time.monotonic() + 5.5
    while time.monotonic() < deadline:  # of every helper that was ever seen, its last known CPU time
        for pid in begin.helpers():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                used[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        time.sleep(0.02)
    said, _ = loop.communicate(timeout=40)
    assert 0 == loop.returncode
    assert 3 <= int(said) <= 16, "0, 0.1, 0.2, 0.4, 0.5, 0.5, ... seconds apart"
    assert sum(used.values()) < 1.0, used
    assert "0" == (begin.directory / "handled").read_text()
    assert {} == begin.left()
