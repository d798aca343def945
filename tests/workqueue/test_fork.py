"""What a forked child finds: locks that work, and a queue of its own."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from mpbroadcast.workqueue import (
    DelayingQueue,
    ItemExponentialFailureRateLimiter,
    Queue,
    RateLimitingQueue,
    TokenBucketRateLimiter,
)

pytestmark = [
    pytest.mark.timeout(60),
    # Later versions of Python warn of any fork with threads; that is just what these tests are about.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

HANG_SECONDS = 20


def in_child(check):
    """Run a function in a forked child, which the kernel ends if it hangs."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(HANG_SECONDS)
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def held(threads):
    """Hold a lock in another thread, and its owner too, for as long as the test lasts."""
    release = threading.Event()
    owners = []

    def hold(owner, lock):
        owners.append(owner)
        taken = threading.Event()

        def run():
            with lock:
                taken.set()
                release.wait(HANG_SECONDS)

        threads.start(run)
        assert taken.wait(HANG_SECONDS)

    yield hold
    release.set()


@pytest.mark.parametrize("kind", [Queue, DelayingQueue])
def test_a_child_has_an_empty_queue_that_works_whoever_held_its_lock(kind, held):
    queue = kind()
    for item in ("waiting", "in process"):
        queue.add(item)
    assert ("waiting", False) == queue.get()
    queue.add("waiting")
    held(queue, queue._lock)

    def check():
        empty = len(queue) == 0 and queue.shut_down_with_drain(0.0)
        return empty and queue.get() == (None, True)

    assert 0 == in_child(check)


def test_a_child_can_process_items_of_its_own(held):
    queue = Queue()
    queue.add("foo")
    held(queue, queue._lock)

    def check():
        queue.add("foo")
        queue.add("bar")
        return [queue.get(), queue.get()] == [("foo", False), ("bar", False)]

    assert 0 == in_child(check)


def test_the_items_stay_with_the_parent():
    queue = Queue()
    queue.add("foo")
    assert 0 == in_child(lambda: len(queue) == 0)
    assert ("foo", False) == queue.get()


def test_a_queue_that_was_shut_down_is_so_in_the_child():
    queue = Queue()
    queue.shut_down()
    assert 0 == in_child(lambda: queue.shutting_down() and queue.get() == (None, True))


def test_a_child_delays_items_with_a_thread_of_its_own(held):
    queue = DelayingQueue()
    queue.add_after("the parent's", 3600)
    held(queue, queue._alarm._changed)

    def check():
        nothing = queue.num_delayed() == 0
        queue.add_after("foo", 0.01)
        return nothing and queue.get() == ("foo", False)

    assert 0 == in_child(check)


def test_a_child_goes_on_with_the_counts_of_a_limiter(held):
    limiter = ItemExponentialFailureRateLimiter(0.001, 1.0)
    bucket = TokenBucketRateLimiter(0.001, 2)
    queue = RateLimitingQueue(limiter)
    queue.add_rate_limited("foo")
    assert bucket.try_accept()
    held(limiter, limiter._lock)
    held(bucket, bucket._waiting)

    def check():
        queue.add_rate_limited("foo")
        return queue.num_requeues("foo") == 2 and [bucket.try_accept(), bucket.try_accept()] == [True, False]

    assert 0 == in_child(check)


def test_a_child_measures_anew(held):
    class Kept:
        def __init__(self):
            self.values = []
            self.set = self.observe = self.values.append
            self.told = threading.Event()

        def inc(self):
            pass

        dec = inc

    class Provider:
        def __init__(self):
            self.unfinished = Kept()

        def __getattr__(self, name):
            return lambda _queue: self.unfinished if "unfinished" in name else Kept()

    provider = Provider()
    queue = Queue(name="test", metrics_provider=provider)
    queue.add("foo")
    queue.get()
    held(queue, queue._lock)

    def check():
        provider.unfinished.set = lambda value: provider.unfinished.told.set()
        queue.add("bar")
        queue.get()
        return provider.unfinished.told.wait(HANG_SECONDS)

    assert 0 == in_child(check)
