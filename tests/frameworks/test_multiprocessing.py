"""multiprocessing: the page's programs, strictly, and nothing of them left."""

from __future__ import annotations

import pytest

PAGE = "multiprocessing"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_records_without_a_warning_and_leaves_nothing(page, method):
    done = page.run("python", "-X", "dev", "-W", "error", "pool.py", method)
    assert "accepted 20, refused 0, left in lanes 0" == done.stdout.splitlines()[0], done.stderr
    assert 20 == len(page.messages())
    assert "Warning" not in done.stderr
    assert 0 == done.returncode
    assert {} == page.left()


def test_a_daemonic_process_of_a_pool_starts_a_broadcaster(page):
    done = page.run("python", "inside.py")
    assert "True\n" == done.stdout, done.stderr
    for number in range(2):
        assert [f"job {number} is done"] == page.messages(f"inside-{number}.jsonl")
    assert {} == page.left()


def test_pythons_warning_about_a_fork_with_threads_is_left_to_python_and_never_breaks_the_start(program):
    """3.12 and later warn in the parent; turned into an error it comes too late to be raised, and all goes on."""
    program.write("threaded.py", """
import os, sys, threading
from mpbroadcast import EventBroadcaster, ObjectReference
threading.Thread(target=threading.Event().wait, daemon=True).start()
broadcaster = EventBroadcaster(context=sys.argv[1])
broadcaster.start_event_watcher(print)
broadcaster.new_recorder("x").event(ObjectReference("Pod", "default", "p"), "Normal", "Said", "hello")
assert broadcaster.shutdown().complete
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
""")  # fmt: skip
    for action in ("default", "error"):
        for context in ("fork", "spawn"):
            done = program.run("python", "-W", action, "threaded.py", context)
            assert 0 == done.returncode, done.stderr
            assert "hello" in done.stdout
            assert "no child" in done.stdout
            assert "Traceback" not in done.stderr
    assert {} == program.left()
