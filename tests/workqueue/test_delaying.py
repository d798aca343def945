"""Delayed items (Q6-Q11), on a clock that only the test moves."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.workqueue import DelayingQueue, MonotonicClock
from mpbroadcast.workqueue.delaying import Schedule

pytestmark = pytest.mark.timeout(30)

MS = 1_000_000


class Delayed:
    """A delaying queue whose thread has always seen the time that the clock shows."""

    def __init__(self, clock):
        self.clock = clock
        self.queue = DelayingQueue(clock=clock)

    def add_after(self, item, ms):
        self.queue.add_after(item, ms / 1000)

    def step(self, ms):
        """Move the clock, wait until the queue's thread waits again, and return what was added."""
        self.settle()
        self.clock.step(ms * MS)
        self.settle()
        return self.take()

    def settle(self):
        self.clock.await_waiting(self.queue._alarm._changed)

    def take(self):
        items = []
        while len(self.queue):
            items.append(self.queue.get()[0])
            self.queue.done(items[-1])
        return items


@pytest.fixture
def delayed(clock):
    made = Delayed(clock)
    yield made
    made.queue.shut_down()


@pytest.mark.client_go("DLY-01")
def test_a_delayed_item_comes_once_when_it_is_due(delayed):
    delayed.add_after("foo", 50)
    assert [] == delayed.step(0)
    assert ["foo"] == delayed.step(60)
    assert [] == delayed.step(10_000)


@pytest.mark.client_go("DLY-02")
def test_a_later_delay_of_the_same_item_is_ignored(delayed):
    delayed.add_after("foo", 50)
    delayed.add_after("foo", 70)
    assert [] == delayed.step(0)
    assert ["foo"] == delayed.step(60)
    assert [] == delayed.step(20)


@pytest.mark.client_go("DLY-03")
def test_an_earlier_delay_of_the_same_item_replaces_the_first(delayed):
    delayed.add_after("foo", 50)
    delayed.add_after("foo", 30)
    assert [] == delayed.step(0)
    assert ["foo"] == delayed.step(40)
    assert [] == delayed.step(20)


@pytest.mark.client_go("DLY-04")
def test_each_of_several_items_comes_at_its_time(delayed):
    delayed.add_after("foo", 1000)
    delayed.add_after("bar", 50)
    assert [] == delayed.step(0)
    assert ["bar"] == delayed.step(60)
    delayed.add_after("baz", 2000)
    assert ["foo"] == delayed.step(1000)
    assert ["baz"] == delayed.step(2000)


@pytest.mark.client_go("DLY-05")
def test_items_that_are_due_together_come_in_the_order_of_their_times(delayed):
    delayed.add_after("foo", 1000)
    delayed.add_after("bar", 500)
    delayed.add_after("baz", 250)
    assert ["baz", "bar", "foo"] == delayed.step(2000)


@pytest.mark.client_go("DLY-06")
def test_a_thousand_random_delays_all_come(delayed):
    chance = random.Random(6)
    for number in range(1000):
        delayed.add_after(number, chance.randrange(10 * 60 * 1000))
    assert list(range(1000)) == sorted(delayed.step(11 * 60 * 1000))


@pytest.mark.client_go("DER-37")
@pytest.mark.parametrize("delay", [0, -1, float("-inf")])
def test_without_a_delay_an_item_is_added_at_once(clock, delay):
    queue = DelayingQueue(clock=clock)
    queue.add_after("foo", delay)
    assert 1 == len(queue)


@pytest.mark.client_go("DER-37")
def test_a_delayed_item_that_is_added_as_well_comes_twice(delayed):
    delayed.add_after("foo", 50)
    delayed.queue.add("foo")
    assert ["foo"] == delayed.take()
    assert ["foo"] == delayed.step(60)


@pytest.mark.client_go("DER-36")
@pytest.mark.parametrize("shut_down", [DelayingQueue.shut_down, DelayingQueue.shut_down_with_drain])
def test_delayed_items_are_forgotten_at_shutdown(delayed, shut_down):
    delayed.add_after("foo", 50)
    delayed.settle()
    assert 1 == delayed.queue.num_delayed()
    thread = delayed.queue._alarm._thread
    shut_down(delayed.queue)
    delayed.add_after("bar", 50)
    delayed.add_after("baz", 0)
    assert 0 == delayed.queue.num_delayed()
    # In client-go the thread goes on for up to 10 s after a drain (W48).
    thread.join(20)
    assert not thread.is_alive()
    delayed.clock.step(100 * MS)
    assert (None, True) == delayed.queue.get()


def test_items_that_are_due_at_the_same_time_come_in_the_order_of_their_calls(delayed):
    for item in ("c", "a", "b"):
        delayed.add_after(item, 50)
    assert ["c", "a", "b"] == delayed.step(50)


def test_an_item_is_due_exactly_at_its_time(delayed):
    delayed.add_after("foo", 50)
    assert [] == delayed.step(49)
    assert ["foo"] == delayed.step(1)


def test_a_clock_that_goes_back_delays_and_loses_nothing(delayed):
    delayed.add_after("foo", 50)
    assert [] == delayed.step(-1000)
    assert ["foo"] == delayed.step(1050)


def test_an_infinite_delay_is_accepted(delayed):
    delayed.add_after("foo", float("inf"))
    assert [] == delayed.step(10**9)
    assert 1 == delayed.queue.num_delayed()


def test_a_delay_that_is_no_number_is_refused(clock):
    with pytest.raises(ValueError, match="not NaN"):
        DelayingQueue(clock=clock).add_after("foo", float("nan"))


def test_there_is_no_thread_before_the_first_delay(clock):
    queue = DelayingQueue(clock=clock)
    queue.add("foo")
    queue.add_after("bar", 0)
    assert queue._alarm._thread is None
    queue.add_after("baz", 1)
    assert queue._alarm._thread in threading.enumerate()
    queue.shut_down()


class WatchedClock(MonotonicClock):
    """The real clock; it tells when somebody begins to wait for a deadline."""

    __slots__ = ("waits",)

    def __init__(self):
        self.waits = threading.Event()

    def wait_until(self, condition, deadline_ns):
        if deadline_ns is not None:
            self.waits.set()  # the condition's lock is held until the wait has begun
        super().wait_until(condition, deadline_ns)


def test_an_earlier_item_wakes_the_thread_in_real_time(threads):
    clock = WatchedClock()
    queue = DelayingQueue(clock=clock)
    worker = threads.start(queue.get)
    queue.add_after("late", 600)
    assert clock.waits.wait(20)
    start = time.monotonic()
    queue.add_after("foo", 0.05)
    assert ("foo", False) == worker.result(20)
    assert 0.05 <= time.monotonic() - start < 10
    queue.shut_down()


def test_a_queue_that_nobody_holds_ends_its_thread(clock):
    queue = DelayingQueue(clock=clock)
    queue.add_after("foo", 50)
    clock.await_waiting(queue._alarm._changed)
    thread, gone = queue._alarm._thread, weakref.ref(queue)
    del queue
    gc.collect()
    assert gone() is None
    thread.join(20)
    assert not thread.is_alive()


def test_after_it_was_due_the_thread_holds_no_reference_to_the_item(delayed):
    class Thing:
        pass

    things = [Thing(), Thing()]
    gone = [weakref.ref(thing) for thing in things]
    delayed.add_after(things[0], 50)
    delayed.add_after(things[1], 80)
    delayed.add_after(things[1], 20)  # its first entry stays behind in the heap,
    delayed.add_after("other", 70)  # and this one stays before it
    assert 2 == len(delayed.step(60))
    things.clear()
    gc.collect()
    assert [None, None] == [reference() for reference in gone]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("insert"), st.integers(0, 5), st.integers(0, 100)),
            st.tuples(st.just("pop"), st.just(0), st.integers(0, 100)),
        ),
        max_size=200,
    )
)
def test_a_schedule_behaves_as_a_plain_dictionary_of_times(operations):
    schedule, model = Schedule(), {}
    for operation, item, time_ns in operations:
        if operation == "insert":
            schedule.insert(item, time_ns)
            model[item] = min(time_ns, model.get(item, time_ns))
        else:
            due = sorted(due_ns for due_ns in model.values() if due_ns <= time_ns)
            popped = schedule.pop_due(time_ns)
            assert due == [model.pop(item) for item in popped]
        assert len(model) == len(schedule)
        assert min(model.values(), default=None) == schedule.next_due_ns()


def test_replaced_times_do_not_pile_up():
    schedule = Schedule()
    for time_ns in range(10_000, 0, -1):
        assert schedule.insert("foo", time_ns)
    assert len(schedule._heap) < 100
    assert ["foo"] == schedule.pop_due(1)
