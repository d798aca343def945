"""A worker that is interrupted while it waits: Ctrl-C in the main thread."""

from __future__ import annotations

import signal
import threading

import pytest

from mpbroadcast.workqueue import Queue


class SignalledError(Exception):
    """What the signal handler of this test raises."""


@pytest.fixture
def interrupting_signal():
    def interrupt(_number, _frame):
        raise SignalledError

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.timeout(30)
@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread only"
)
def test_an_interrupted_worker_hands_its_wake_up_to_the_next(clock, threads, interrupting_signal):
    queue = Queue(clock=clock)

    def add_and_interrupt():
        clock.await_waiting(queue._ready, 1)
        second = threads.start(queue.get)
        clock.await_waiting(queue._ready, 2)
        with queue._lock:  # the first worker is notified, and interrupted before it can look
            queue.add("foo")
            signal.pthread_kill(threading.main_thread().ident, interrupting_signal)
        return second

    orchestrator = threads.start(add_and_interrupt)
    with pytest.raises(SignalledError):
        queue.get()
    assert ("foo", False) == orchestrator.result(20).result(20)
