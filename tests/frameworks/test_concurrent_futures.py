"""concurrent.futures: the page's program, strictly, and nothing of it left."""

from __future__ import annotations

import pytest

PAGE = "concurrent-futures"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_executor_records_without_a_warning_of_ours_and_leaves_nothing(page, method):
    done = page.run("python", "-X", "dev", "-W", "error", "executor.py", method)
    assert "accepted 20, refused 0, left in lanes 0" == done.stdout.splitlines()[0], done.stderr
    assert 20 == len(page.messages())
    assert "mpbroadcast" not in done.stderr
    assert 0 == done.returncode
    assert {} == page.left()


def test_a_broken_executor_breaks_no_broadcaster(page):
    page.write("broken.py", """
import os, signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import executor
from mpbroadcast import EventBroadcaster, ObjectReference
from mpbroadcast.sinks import JSONLinesSink

def die(number):
    assert executor.recorder.event(ObjectReference("Job", "default", "j"), "Normal", "Dying", str(number))
    os.kill(os.getpid(), signal.SIGKILL)

with EventBroadcaster() as broadcaster:
    broadcaster.start_recording_to_sink(JSONLinesSink("events.jsonl"))
    recorder = broadcaster.new_recorder("x")
    with ProcessPoolExecutor(1, initializer=executor.set_up, initargs=(recorder,)) as pool:
        try:
            pool.submit(die, 1).result()
        except BrokenProcessPool:
            assert recorder.event(ObjectReference("Job", "default", "j"), "Normal", "Broken", "2")
""")  # fmt: skip
    done = page.run("python", "broken.py")
    assert 0 == done.returncode, done.stderr
    assert ["1", "2"] == page.messages()
    assert {} == page.left()
