"""A clock that wakes whoever waits on it, and threads that a test is sure to see end."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from mpbroadcast.testing import SteppingClock

PATIENCE = 20.0  # seconds, far above what anything here takes: only a hang reaches it


class WakingClock(SteppingClock):
    """A stepping clock for threads: a step wakes all that wait, and a test can wait until they wait again."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._waiting: dict[object, tuple[threading.Condition, int | None]] = {}

    def now_ns(self) -> int:
        with self._changed:
            return super().now_ns()

    def step(self, ns: int) -> None:
        with self._changed:
            super().step(ns)
            woken = list(self._waiting.values())
            self._waiting.clear()
        for condition, _ in woken:
            with condition:
                condition.notify_all()

    def wait_until(self, condition: threading.Condition, deadline_ns: int | None) -> None:
        me = object()
        with self._changed:
            if deadline_ns is not None and deadline_ns <= super().now_ns():
                return
            self._waiting[me] = (condition, deadline_ns)
            self._changed.notify_all()
        try:
            assert condition.wait(PATIENCE)
        finally:
            with self._changed:
                self._waiting.pop(me, None)
                self._changed.notify_all()

    def await_waiting(self, condition: threading.Condition, number: int = 1, *, timed: bool | None = None) -> None:
        """Block until so many threads wait on a condition (by the end of a step each has looked at the new time).

        With ``timed`` only those count that wait with (or without) a deadline.
        """

        def enough() -> bool:
            return number == sum(
                waiting is condition and timed in (None, deadline_ns is not None)
                for waiting, deadline_ns in self._waiting.values()
            )

        with self._changed:
            assert self._changed.wait_for(enough, PATIENCE)


class JumpingClock(SteppingClock):
    """A clock that nobody waits for: a wait sets it to the deadline."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def wait_until(self, condition: threading.Condition, deadline_ns: int | None) -> None:
        assert deadline_ns is not None
        with self._lock:
            self._now_ns = max(self._now_ns, deadline_ns)


class Threads:
    """Starts functions in threads; each has a future with its result or exception."""

    def __init__(self) -> None:
        self._futures: list[Future[object]] = []

    def start(self, function, *args) -> Future:
        future: Future[object] = Future()

        def run() -> None:
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)

        self._futures.append(future)
        threading.Thread(target=run, daemon=True).start()
        return future

    def join(self) -> None:
        for future in self._futures:
            future.result(PATIENCE)


@pytest.fixture
def clock() -> WakingClock:
    return WakingClock()


@pytest.fixture
def jumping_clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
def threads():
    started = Threads()
    yield started
    started.join()
