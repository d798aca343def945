"""What the tests with real processes share."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.ring import _ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mpbroadcast.broadcaster import Broadcaster


@pytest.fixture
def make(request) -> Iterator[Callable[..., Broadcaster]]:
    """Makes broadcasters and shuts them down at the end, whatever the test did to their processes."""
    made: list[Broadcaster] = []

    def make(kind: type[Broadcaster] = EventBroadcaster, **options) -> Broadcaster:
        broadcaster = kind(**options)
        made.append(broadcaster)
        return broadcaster

    yield make
    for broadcaster in made:
        broadcaster.shutdown(timeout=2)


@pytest.fixture
def seen(tmp_path) -> Seen:
    return Seen(tmp_path / "seen")


class Seen:
    """A handler that writes each item down in a file, one line each: whole lines, whoever is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def __call__(self, item: object) -> None:
        text = getattr(item, "message", None) or str(item)
        with self.path.open("ab", buffering=0) as file:
            file.write(text.encode() + b"\n")

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()


def eventually(holds: Callable[[], object], timeout: float = 20.0) -> object:
    """Waits for something that another process does; fails when it does not come."""
    deadline = time.monotonic() + timeout
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.002)
    return value


def alive(pid: int) -> bool:
    return _ring.start_ticks(pid) != 0


def helpers_of(broadcaster: Broadcaster) -> dict[str, int]:
    """The process ids of workers and spares, by name."""
    stats = broadcaster.stats()
    found = {"distributor": stats.distributor.pid, "distributor spare": stats.distributor.spare_pid}
    for watcher in stats.watchers:
        if watcher.managed:
            found |= {watcher.name: watcher.helper.pid, f"{watcher.name} spare": watcher.helper.spare_pid}
    return found


@contextlib.contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """A plain child of os.fork; it is waited for, and must end well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    try:
        yield pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -9)
