"""The queue itself (Q1-Q5)."""

from __future__ import annotations

import gc
import pickle
import threading
import time
import weakref

import pytest

from mpbroadcast.workqueue import FIFO, DelayingQueue, Queue, RateLimitingQueue, default_item_based_rate_limiter

pytestmark = pytest.mark.timeout(30)

KINDS = {
    "queue": Queue,
    "delaying queue": DelayingQueue,
    "rate limiting queue": lambda **options: RateLimitingQueue(default_item_based_rate_limiter(), **options),
}
SHUT_DOWNS = [
    pytest.param(Queue.shut_down, marks=[pytest.mark.client_go("WQ-01")], id="shut_down"),
    pytest.param(Queue.shut_down_with_drain, marks=[pytest.mark.client_go("WQ-02")], id="shut_down_with_drain"),
]
SHUT_DOWNS_WHILE_PROCESSING = [
    pytest.param(Queue.shut_down, marks=[pytest.mark.client_go("WQ-03")], id="shut_down"),
    pytest.param(Queue.shut_down_with_drain, marks=[pytest.mark.client_go("WQ-04")], id="shut_down_with_drain"),
]


class TouchyFIFO(FIFO):
    """A FIFO that writes down what was touched."""

    __slots__ = ("touched",)

    def __init__(self) -> None:
        super().__init__()
        self.touched = []

    def touch(self, item, /):
        self.touched.append(item)


@pytest.fixture(params=KINDS)
def make(request):
    """Make a queue of every kind: each must behave as the plain one."""
    return KINDS[request.param]


@pytest.fixture
def queue(make, clock):
    return make(clock=clock)


@pytest.mark.parametrize("shut_down", SHUT_DOWNS)
def test_producers_and_consumers_end_with_an_empty_queue(make, threads, shut_down):
    queue = make()
    seen = []

    def produce(number):
        for _ in range(50):
            queue.add(number)
            time.sleep(0.001)

    def consume():
        for item in queue:
            with queue.processing(item):
                seen.append(item)
                time.sleep(0.003)

    consumers = [threads.start(consume) for _ in range(10)]
    for producer in [threads.start(produce, number) for number in range(50)]:
        producer.result()
    shut_down(queue)
    queue.add("added after the shutdown")
    for consumer in consumers:
        consumer.result()
    assert set(range(50)) == set(seen)
    assert 0 == len(queue)


@pytest.mark.parametrize("shut_down", SHUT_DOWNS_WHILE_PROCESSING)
def test_items_added_while_in_process_come_again_and_everything_ends(make, threads, shut_down):
    queue = make()
    seen = []
    seen_lock = threading.Lock()

    def consume():
        for item in queue:
            with queue.processing(item):
                with seen_lock:
                    first = item not in seen
                    seen.append(item)
                if first:
                    queue.add(item)

    consumers = [threads.start(consume) for _ in range(10)]
    for producer in [threads.start(queue.add, number) for number in range(50)]:
        producer.result()
    shut_down(queue)
    for consumer in consumers:
        consumer.result()
    assert set(range(50)) == set(seen)
    assert all(seen.count(number) <= 2 for number in range(50))
    assert 0 == len(queue)


@pytest.mark.client_go("WQ-05")
def test_the_length_counts_each_waiting_item_once(queue):
    lengths = []
    for item in ("foo", "bar", "foo"):
        queue.add(item)
        lengths.append(len(queue))
    assert [1, 2, 2] == lengths


@pytest.mark.client_go("WQ-06")
def test_an_item_added_while_in_process_comes_back_after_done(queue):
    queue.add("foo")
    assert ("foo", False) == queue.get()
    queue.add("foo")
    assert 0 == len(queue)
    queue.done("foo")
    assert ("foo", False) == queue.get()
    queue.done("foo")
    assert 0 == len(queue)


@pytest.mark.client_go("WQ-07")
def test_an_item_added_twice_is_delivered_once_and_its_storage_is_told(make):
    storage = TouchyFIFO()
    queue = make(storage=storage)
    queue.add("bar")
    assert [] == storage.touched
    queue.add("bar")
    assert ["bar"] == storage.touched
    assert ("bar", False) == queue.get()
    queue.done("bar")
    assert 0 == len(queue)


@pytest.mark.client_go("WQ-08")
def test_an_item_in_process_that_is_added_twice_comes_once_to_a_second_worker(make, clock, threads):
    storage = TouchyFIFO()
    queue = make(storage=storage, clock=clock)
    queue.add("foo")
    assert ("foo", False) == queue.get()
    queue.add("foo")
    queue.add("foo")
    second = threads.start(queue.get)
    clock.await_waiting(queue._ready)
    assert not second.done()
    queue.done("foo")
    assert ("foo", False) == second.result()
    assert [] == storage.touched
    queue.done("foo")
    assert 0 == len(queue)


@pytest.mark.client_go("WQ-09")
def test_a_drain_returns_when_everything_in_process_is_done(queue, clock, threads):
    for item in ("foo", "bar"):
        queue.add(item)
        assert (item, False) == queue.get()
    drain = threads.start(queue.shut_down_with_drain)
    clock.await_waiting(queue._idle)
    assert (None, True) == queue.get()
    queue.done("foo")
    clock.step(0)
    clock.await_waiting(queue._idle)
    assert not drain.done()
    queue.done("bar")
    assert drain.result() is True


@pytest.mark.client_go("WQ-10")
def test_a_shutdown_does_not_wait_for_what_is_in_process(queue):
    for item in ("foo", "bar"):
        queue.add(item)
        assert (item, False) == queue.get()
    queue.shut_down()
    assert queue.shutting_down()
    assert (None, True) == queue.get()


@pytest.mark.client_go("WQ-11")
def test_a_shutdown_releases_a_drain(queue, clock, threads):
    for item in ("foo", "bar"):
        queue.add(item)
        assert (item, False) == queue.get()
    drain = threads.start(queue.shut_down_with_drain)
    clock.await_waiting(queue._idle)
    queue.shut_down()
    assert drain.result() is False


@pytest.mark.client_go("WQ-12")
def test_a_drain_waits_for_an_item_that_was_added_again_while_in_process(queue, clock, threads):
    queue.add("foo")
    assert ("foo", False) == queue.get()
    queue.add("foo")
    drain = threads.start(queue.shut_down_with_drain)
    clock.await_waiting(queue._idle)
    queue.done("foo")
    clock.step(0)  # a waking for no reason must not end the drain either
    clock.await_waiting(queue._idle)
    assert not drain.done()
    assert ("foo", False) == queue.get()
    queue.done("foo")
    assert (None, True) == queue.get()
    assert drain.result() is True


class Thing:
    """Something that can be referred to weakly."""


@pytest.mark.client_go("WQ-13")
def test_after_done_the_queue_holds_no_reference_to_the_item(queue):
    thing = Thing()
    gone = weakref.ref(thing)
    queue.add(thing)
    assert thing is queue.get()[0]
    queue.done(thing)
    del thing
    gc.collect()
    assert gone() is None


def test_a_worker_that_waits_for_the_next_item_holds_none(queue, clock, threads):
    """An iteration must not keep the item it handed out last."""
    thing = Thing()
    gone = weakref.ref(thing)
    queue.add(thing)
    del thing

    def work():
        for item in queue:
            queue.done(item)
            del item

    threads.start(work)
    clock.await_waiting(queue._ready)
    gc.collect()
    assert gone() is None
    queue.shut_down()


@pytest.mark.client_go("WQ-14")
def test_a_hundred_items_go_through_a_fresh_queue_in_order(make):
    queue = make()
    for number in range(100):
        queue.add(number)
    got = []
    for _ in range(100):
        item, shutdown = queue.get()
        got.append(item)
        assert not shutdown
        queue.done(item)
    assert list(range(100)) == got


@pytest.mark.client_go("DER-36")
def test_a_drain_does_not_wait_for_what_no_worker_has_begun(queue):
    queue.add("foo")
    assert queue.shut_down_with_drain() is True
    assert 1 == len(queue)
    assert ("foo", False) == queue.get()
    queue.done("foo")
    assert (None, True) == queue.get()


def test_a_drain_waits_for_what_waits_if_it_is_told_to(queue, clock, threads):
    queue.add("foo")
    queue.add("bar")
    drain = threads.start(lambda: queue.shut_down_with_drain(include_waiting=True))
    clock.await_waiting(queue._idle)
    for item in ("foo", "bar"):
        assert not drain.done()
        assert (item, False) == queue.get()
        queue.done(item)
    assert drain.result() is True


def test_a_drain_gives_up_after_its_timeout(queue, clock, threads):
    queue.add("foo")
    queue.get()
    drain = threads.start(queue.shut_down_with_drain, 30.0)
    clock.await_waiting(queue._idle)
    clock.step(29_999_999_999)
    clock.await_waiting(queue._idle)
    assert not drain.done()
    clock.step(1)
    assert drain.result() is False
    queue.done("foo")
    assert queue.shut_down_with_drain() is True


def test_all_of_several_drains_return(queue, clock, threads):
    """In client-go one of two may hang (W48)."""
    queue.add("foo")
    queue.get()
    drains = [threads.start(queue.shut_down_with_drain) for _ in range(3)]
    clock.await_waiting(queue._idle, 3)
    queue.done("foo")
    assert [True, True, True] == [drain.result() for drain in drains]


def test_a_drain_that_begins_after_a_shutdown_waits_nevertheless(queue, clock, threads):
    queue.add("foo")
    queue.get()
    queue.shut_down()
    drain = threads.start(queue.shut_down_with_drain)
    clock.await_waiting(queue._idle)
    queue.done("foo")
    assert drain.result() is True


def test_done_without_get_changes_nothing(queue):
    """In client-go the waiting item would be there twice (W48)."""
    queue.add("foo")
    queue.done("foo")
    queue.done("unknown")
    assert 1 == len(queue)
    assert ("foo", False) == queue.get()
    assert 0 == len(queue)


def test_what_waits_at_a_shutdown_is_delivered_before_the_end(queue):
    queue.add("foo")
    queue.add("bar")
    queue.shut_down()
    queue.shut_down()
    queue.add("baz")
    assert [("foo", False), ("bar", False), (None, True), (None, True)] == [queue.get() for _ in range(4)]


def test_a_shutdown_releases_every_worker(queue, clock, threads):
    workers = [threads.start(queue.get) for _ in range(5)]
    clock.await_waiting(queue._ready, 5)
    queue.shut_down()
    assert [(None, True)] * 5 == [worker.result() for worker in workers]


def test_none_and_other_false_items_are_items(queue):
    for item in (None, 0, ""):
        queue.add(item)
    assert [(None, False), (0, False), ("", False)] == [queue.get() for _ in range(3)]


def test_processing_is_done_also_when_it_fails(queue):
    queue.add("foo")

    def work():
        for item in queue:
            with queue.processing(item) as same:
                assert item == same
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert queue.shut_down_with_drain() is True


def test_the_storage_decides_the_order(make):
    class Stack(FIFO):
        def pop(self):
            return self._items.pop()

    queue = make(storage=Stack())
    for number in range(3):
        queue.add(number)
    assert [2, 1, 0] == [queue.get()[0] for _ in range(3)]


def test_a_storage_that_fails_costs_no_item(make):
    class Full(FIFO):
        full = True

        def push(self, item, /):
            if self.full:
                raise MemoryError("full")
            super().push(item)

    storage = Full()
    queue = make(storage=storage)
    with pytest.raises(MemoryError, match="full"):
        queue.add("foo")
    storage.full = False
    queue.add("foo")
    queue.get()
    queue.add("foo")
    storage.full = True
    with pytest.raises(MemoryError, match="full"):
        queue.done("foo")
    storage.full = False
    queue.done("foo")
    assert ("foo", False) == queue.get()


def test_an_item_that_cannot_be_hashed_is_refused(queue):
    with pytest.raises(TypeError, match="unhashable"):
        queue.add([])
    assert 0 == len(queue)


def test_it_cannot_be_pickled_and_says_why(queue):
    with pytest.raises(TypeError, match="belongs to the threads of one process"):
        pickle.dumps(queue)
