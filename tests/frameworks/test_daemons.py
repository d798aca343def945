"""Daemons: they close every descriptor; the page's programs, and what the numbers of those descriptors become."""

from __future__ import annotations

import os

import pytest

from tests.frameworks.conftest import needs
from tests.path.conftest import eventually

needs("daemon")
PAGE = "daemons"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("after", ["the daemon is up"]),
        ("before", ["the daemon is about to detach", "the daemon is up"]),
        ("byhand", ["the daemon is up"]),
    ],
)
def test_a_daemon_of_the_page_records_and_leaves_nothing(page, name, expected):
    done = page.run("python", f"{name}.py")
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    eventually(lambda: expected == page.messages(f"{name}.jsonl"))
    assert {} == page.left()


STRANGER = """
import fcntl, os, sys, time
from mpbroadcast import EventBroadcaster, ObjectReference
from mpbroadcast.errors import BroadcastError
from mpbroadcast.sinks import JSONLinesSink
NODE = ObjectReference("Node", "", "node-1", "", "v1")
broadcaster = EventBroadcaster()
broadcaster.start_recording_to_sink(JSONLinesSink("events.jsonl"))
recorder = broadcaster.new_recorder("x")
recorder.event(NODE, "Normal", "Counted", "before")
if os.fork():
    os._exit(0)
os.setsid()
os.closerange(0, 4096)
os.open(os.devnull, os.O_RDWR)
log = os.open("daemon.log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
os.dup2(log, 2)
while os.open("stranger", os.O_RDWR | os.O_CREAT) < 60:
    pass
if sys.argv[1] == "other user":
    os.chmod(".", 0o777)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
broadcaster.adopt()
assert recorder.event(NODE, "Normal", "Counted", "daemon")
for number in range(70):  # more than there are lanes: those of the dead are used again
    pid = os.fork()
    if pid == 0:
        os._exit(0 if recorder.event(NODE, "Normal", "Counted", f"child {number}") else 1)
    assert 0 == os.waitpid(pid, 0)[1], number
try:
    broadcaster.start_event_watcher(lambda event: None)
    os.write(2, b"started late\\n")
except BroadcastError as error:
    os.write(2, str(error).encode() + b"\\n")
inode = os.stat("stranger").st_ino
with open("/proc/locks") as locks:
    assert not [line for line in locks if line.split()[-3].endswith(f":{inode}")]
time.sleep(2.5)  # helpers look for their owner once a second, and see it alive by its pid
assert recorder.event(NODE, "Normal", "Counted", "last")
report = broadcaster.shutdown()
assert report.complete and report.accepted == 73, report
del recorder, broadcaster
assert os.fstat(59).st_ino == inode
os.write(2, b"good\\n")
os._exit(0)
"""


CANNOT = (
    "watcher lambda cannot be started: this process has closed the broadcaster's descriptor, as daemons do, and no"
    " helper that it may look into has it;"
    " start watchers before that, or keep the descriptor open\n"
)


@pytest.mark.timeout(90)
@pytest.mark.parametrize(("user", "said"), [("same user", "started late\n"), ("other user", CANNOT)])
def test_descriptors_whose_numbers_are_strangers_files_by_now_are_not_touched(program, user, said):
    if user == "other user" and os.getuid() != 0:
        pytest.skip("changing the user needs root")
    if user == "other user":
        program.directory.chmod(0o777)
    program.write("stranger.py", STRANGER)
    done = program.run("python", "stranger.py", user)
    assert (0, "") == (done.returncode, done.stderr)
    log = program.directory / "daemon.log"
    eventually(lambda: "good" in log.read_text() or "Error" in log.read_text(), timeout=60)
    assert said + "good\n" == log.read_text()
    assert ["before", "daemon", *(f"child {number}" for number in range(70)), "last"] == program.messages()
    assert b"" == (program.directory / "stranger").read_bytes()
    assert {} == program.left()


def test_a_daemon_that_adopts_nothing_still_gets_its_events_delivered(page):
    """The helpers see the process that created the broadcaster gone; the daemon's own lane keeps them at work."""
    text = (page.directory / "byhand.py").read_text().replace("broadcaster.adopt()\n", "")
    page.write("byhand.py", text)
    assert 0 == page.run("python", "byhand.py").returncode
    eventually(lambda: page.messages("byhand.jsonl") == ["the daemon is up"])
    assert {} == page.left()


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6, 0.9])
def test_whenever_the_first_process_exits_the_one_that_goes_on_has_the_time_to_adopt(page, seconds):
    """Helpers look once a second, at any moment: a single look without an owner means nothing yet."""
    text = (
        (page.directory / "byhand.py").read_text().replace("if os.fork():", f"time.sleep({seconds})\nif os.fork():", 1)
    )
    page.write(
        "byhand.py", "import time\n" + text.replace("broadcaster.adopt()", "time.sleep(0.7)\nbroadcaster.adopt()")
    )
    done = page.run("python", "byhand.py")
    assert (0, "") == (done.returncode, done.stderr)
    eventually(lambda: page.messages("byhand.jsonl") == ["the daemon is up"])
    assert {} == page.left()


def test_an_adoption_that_comes_too_late_says_so(page):
    text = (page.directory / "byhand.py").read_text().replace("os.closerange(0, 4096)\n", "")
    text = text.replace("for _ in range(3):\n    os.open(os.devnull, os.O_RDWR)\n", "time.sleep(4)\n")
    page.write("byhand.py", "import time\n" + text)
    done = page.run("python", "byhand.py")  # to the end of its output, which the daemon has, too
    assert "mpbroadcast.errors.BroadcasterStopped: broadcaster already stopped" in done.stderr
