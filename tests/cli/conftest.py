"""The real program, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.store.sqlite import Store

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = [sys.executable, "-m", "mpbroadcast"]
SECOND = 1_000_000_000


def clean_environment(**more: str) -> dict[str, str]:
    """An environment without what would change the output of a command."""
    dropped = {"MPBROADCAST_STORE", "MPBROADCAST_DEBUG", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "KUBECONFIG"}
    return {key: value for key, value in os.environ.items() if key not in dropped} | {"TERM": "xterm-256color"} | more


class Cli:
    """Runs ``mpbroadcast`` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *args: str, code: int | None = 0, timeout: float = 50, **environment: str):
        done = subprocess.run(
            [*PROGRAM, *args],
            cwd=self.directory,
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        if code is not None:
            assert code == done.returncode, done.stdout + done.stderr
        return done

    @contextmanager
    def started(self, *args: str, **environment: str):
        """A command that goes on; killed at the end if it still does."""
        process = subprocess.Popen(
            [*PROGRAM, *args],
            cwd=self.directory,
            env=clean_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def cli(tmp_path):
    return Cli(tmp_path)


def make_event(pod: str = "web-1", /, **fields) -> Event:
    """An event about a pod, ten minutes old."""
    then = time.time_ns() - 600 * SECOND
    reference = ObjectReference("Pod", "default", pod, api_version="v1")
    values = {
        "name": f"{pod}.1",
        "namespace": "default",
        "involved_object": reference,
        "type": "Normal",
        "reason": "Started",
        "message": "Started container app",
        "source": EventSource("kubelet", "node-1"),
        "reporting_controller": "kubelet",
        "reporting_instance": "node-1",
        "count": 1,
        "first_timestamp": then,
        "last_timestamp": then,
    }
    return Event(**(values | fields))


@pytest.fixture
def store(tmp_path):
    """An empty store where the command looks by default."""
    with Store.open(tmp_path / "events.db") as opened:
        yield opened


def eventually(look, timeout: float = 20.0):
    """What ``look`` gives as soon as it is true; it is the other process that decides when."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found
