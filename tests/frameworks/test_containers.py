"""Containers: first process, other users, no place to write, no /proc, little memory, little CPU."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.path.conftest import eventually

PAGE = "containers"
SAID = "event 0\nevent 1\nevent 2\n"
REFUSED = """
from mpbroadcast import EventBroadcaster
try:
    EventBroadcaster()
except Exception as error:
    print(error)
"""


def namespaces(*options):
    """``unshare`` with these options; skips where that is not allowed."""
    command = ["unshare", *options]
    tried = (
        subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
        if shutil.which("unshare")
        else None
    )
    if tried is None or tried.returncode:
        pytest.skip("no namespaces here: " + (tried.stderr.strip() if tried else "unshare is not installed"))
    return command


FIRST = """
import os, signal, sys, time
from mpbroadcast import EventBroadcaster, ObjectReference
POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")
assert os.getpid() == 1
def zombies():
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with open(f"/proc/{name}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    found.append(int(name))
    return found
def wait(ready):
    deadline = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
def handler(event):
    with open("seen", "a") as file:
        file.write(event.message + "\\n")
broadcaster = EventBroadcaster()
broadcaster.start_event_watcher(handler, name="w")
recorder = broadcaster.new_recorder("x")
own = os.fork()
if own == 0:
    os._exit(5)
for turn in range(3):
    wait(lambda: broadcaster.stats().distributor.spare_pid and broadcaster.stats().watchers[0].helper.spare_pid)
    victims = broadcaster.stats().distributor.pid, broadcaster.stats().watchers[0].helper.pid
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert recorder.event(POD, "Normal", "Said", str(turn))
    wait(lambda: broadcaster.stats().distributor.pid not in (0, victims[0]))
    wait(lambda: broadcaster.stats().watchers[0].helper.pid not in (0, victims[1]))
wait(lambda: broadcaster.stats() and zombies() == [own])
assert os.waitpid(own, 0) == (own, 5 << 8)  # an own child is left to its parent
assert broadcaster.shutdown().complete
wait(lambda: broadcaster.stats() and not [name for name in os.listdir("/proc") if name.isdigit() and name != "1"])
print("good")
"""


@pytest.mark.timeout(90)
def test_as_process_1_helpers_are_inherited_and_reaped_and_own_children_left_alone(page):
    page.write("first.py", FIRST)
    done = page.run(*namespaces("-pf", "--mount-proc"), sys.executable, "first.py")
    assert (0, "good\n") == (done.returncode, done.stdout), done.stderr
    assert ["0", "1", "2"] == sorted(set((page.directory / "seen").read_text().split()))


def test_the_program_of_the_page_as_process_1(page):
    done = page.run(*namespaces("-pf", "--mount-proc"), sys.executable, "application.py")
    assert (0, SAID) == (done.returncode, done.stdout), done.stderr


def test_another_user_without_a_place_to_write(page):
    """User nobody, every file system read-only, no writable /dev/shm or /tmp either."""
    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("changing the user needs root and setpriv")
    here = "/tmp /dev/shm" if not sys.executable.startswith("/tmp/") else "/dev/shm"
    shell = f"mount -o remount,ro,bind / && for at in {here}; do mount -t tmpfs -o ro none $at; done; "
    program = (page.directory / "application.py").read_text()
    tried = page.run(
        *namespaces("-mpf", "--mount-proc"), "sh", "-c",
        shell + "cd /; ! touch /tmp/x /x 2> /dev/null && exec " + as_nobody + ' "$0" "$@"',
        sys.executable, "-c", program,
    )  # fmt: skip
    if any(text in tried.stderr for text in ("Permission denied", "can't find", "shared libraries")):
        pytest.skip("the interpreter is not where another user may read it: " + tried.stderr.strip()[-100:])
    assert (0, SAID) == (tried.returncode, tried.stdout), tried.stderr


def test_without_proc_it_is_refused_in_one_sentence(page):
    """Never half a broadcaster: no process is left behind either."""
    page.write("application.py", REFUSED.replace("error)", "type(error).__name__, error)"))
    done = page.run(
        *namespaces("-m"), "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" application.py', sys.executable
    )
    assert (0, "SegmentError /proc is not mounted here; it tells who is alive\n") == (done.returncode, done.stdout)
    assert {} == page.left()


def proportional_kib(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this kernel has no smaps_rollup")
def test_application_and_helpers_together_stay_far_below_128_mib(page):
    text = (page.directory / "application.py").read_text()
    flood = text.replace("range(3)", "range(30_000)").replace("print(event.message, flush=True)", "pass")
    page.write(
        "application.py",
        flood.replace("        print(broadcaster.shutdown", "        input()\n        print(broadcaster.shutdown"),
    )
    running = page.python("application.py", stdin=subprocess.PIPE)
    most = 0

    def quiet():
        nonlocal most
        pids = page.processes()
        now = proportional_kib(pids)
        most = max(most, now)
        return len(pids) >= 5 and any(status == "S" for status in states(running.pid))

    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        quiet()
    assert 5 == len(page.processes())
    running.communicate("\n", timeout=30)
    assert 0 == running.returncode, page.log
    assert "accepted 30000, refused 0" in page.log
    assert most < 64 << 10, f"{most >> 10} MiB"


def states(pid):
    with contextlib.suppress(OSError):
        yield Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_limited_address_space_is_refused_with_what_makes_it_smaller(page):
    page.write("large.py", REFUSED)
    limit = 300 << 20
    done = page.run("python", "large.py", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert "the segment cannot be mapped" in done.stdout, done.stderr
    assert "lane_bytes" in done.stdout
    done = page.run("python", "small.py", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert (0, "12 MiB of addresses are enough\n") == (done.returncode, done.stdout), done.stderr


_MEMORY = str(128 << 20)
_GROUPS = (  # folder of the hierarchy, file, limit: version 2 has one hierarchy, version 1 one for each controller
    ("/sys/fs/cgroup", "cpu.max", "20000 100000"),
    ("/sys/fs/cgroup", "memory.max", _MEMORY),
    ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "20000"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", _MEMORY),
)


@contextlib.contextmanager
def small_group(pid):
    """Puts a process and what it starts into groups with 0.2 CPU and 128 MiB; without such groups: the lowest priority.

    Yields the limits that hold, by the file that says so.
    """
    limits, folders = {}, set()
    for root, limit, value in _GROUPS:
        folder = Path(root) / f"mpbroadcast-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            if (folder.parent / "cgroup.procs").exists():
                folder.mkdir(exist_ok=True)
                folders.add(folder)
                (folder / limit).write_text(value)
                (folder / "cgroup.procs").write_text(str(pid))
                limits[limit] = folder
    if not any("cpu" in limit for limit in limits):
        os.setpriority(os.PRIO_PROCESS, pid, 19)
    try:
        yield limits
    finally:
        for folder in folders:
            eventually(lambda folder=folder: not (folder / "cgroup.procs").read_text())
            folder.rmdir()


SMALL = """
import sys
input()
from mpbroadcast import EventBroadcaster, ObjectReference
from mpbroadcast.sinks import SQLiteSink
broadcaster = EventBroadcaster()
broadcaster.start_event_watcher(lambda event: None, name="handler")
broadcaster.start_recording_to_sink(SQLiteSink("events.db"))
recorder = broadcaster.new_recorder("app")
for number in range(5000):
    assert recorder.event(ObjectReference("Pod", "default", f"web-{number}"), "Normal", "Started", "It started.")
print(broadcaster.shutdown(80))
"""


@pytest.mark.timeout(150)
def test_with_128_mib_and_a_fifth_of_a_cpu_everything_arrives_in_the_end(page):
    """Groups of the kernel hold the limits where they can be made: a process that needs more memory is killed there."""
    page.write("small_group.py", SMALL)
    running = page.python("small_group.py", stdin=subprocess.PIPE)
    with small_group(running.pid) as limits:
        running.communicate("\n", timeout=120)
        for limit, folder in limits.items():
            if limit == "memory.limit_in_bytes":
                assert int((folder / "memory.max_usage_in_bytes").read_text()) <= 128 << 20
                assert "oom_kill 0" in (folder / "memory.oom_control").read_text()
            if limit == "memory.max":
                assert "oom_kill 0" in (folder / "memory.events").read_text()
        assert 0 == running.returncode, page.log
        assert {} == page.left()
    assert "accepted 5000, refused 0" in page.log
    assert 2 == page.log.count("handled 5000"), page.log
