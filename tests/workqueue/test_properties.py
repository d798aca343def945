"""Any order of calls on a delaying queue, compared step by step with a model in a few plain collections."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpbroadcast.workqueue import FIFO, DelayingQueue
from tests.workqueue.conftest import WakingClock

MS = 1_000_000
ITEMS = st.integers(0, 4)


class Storage(FIFO):
    """A FIFO that counts touches."""

    __slots__ = ("touched",)

    def __init__(self):
        super().__init__()
        self.touched = 0

    def touch(self, item, /):
        self.touched += 1


class QueueMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.clock, self.storage = WakingClock(), Storage()
        self.queue = DelayingQueue(clock=self.clock, storage=self.storage)
        self.threaded = False
        self.waiting: list[int] = []
        self.processing: set[int] = set()
        self.again: set[int] = set()  # added while in process
        self.delayed: dict[int, tuple[int, int]] = {}  # when it is due, and the number of its call
        self.touched = self.calls = 0
        self.shutting_down = False

    def model_add(self, item):
        if self.shutting_down:
            return
        if item in self.waiting:
            self.touched += 1
        elif item in self.processing:
            self.again.add(item)
        else:
            self.waiting.append(item)

    @rule(item=ITEMS)
    def add(self, item):
        self.queue.add(item)
        self.model_add(item)

    @precondition(lambda self: self.waiting or self.shutting_down)
    @rule()
    def get(self):
        expected = (self.waiting[0], False) if self.waiting else (None, True)
        assert expected == self.queue.get()
        if self.waiting:
            self.processing.add(self.waiting.pop(0))

    @rule(item=ITEMS)
    def done(self, item):
        self.queue.done(item)
        if item in self.processing:
            self.processing.remove(item)
            if item in self.again:
                self.again.remove(item)
                self.waiting.append(item)

    @rule(item=ITEMS, ms=st.integers(0, 50))
    def add_after(self, item, ms):
        self.queue.add_after(item, ms / 1000)
        if self.shutting_down:
            return
        if ms == 0:
            self.model_add(item)
            return
        self.threaded = True
        self.calls += 1
        due = (self.clock.now_ns() + ms * MS, self.calls)
        if item not in self.delayed or due[0] < self.delayed[item][0]:
            self.delayed[item] = due

    @rule(ms=st.integers(-20, 50))
    def step(self, ms):
        self.settle()
        self.clock.step(ms * MS)
        self.settle()
        for item, (due_ns, _) in sorted(self.delayed.items(), key=lambda entry: entry[1]):
            if due_ns <= self.clock.now_ns():
                del self.delayed[item]
                self.model_add(item)

    def settle(self):
        if self.threaded and not self.shutting_down:
            self.clock.await_waiting(self.queue._alarm._changed)

    @precondition(lambda self: not self.shutting_down)
    @rule(rarely=st.integers(0, 9))
    def shut_down(self, rarely):
        if rarely == 0:
            self.queue.shut_down()
            self.shutting_down = True
            self.delayed.clear()

    @precondition(lambda self: self.shutting_down)
    @rule(include_waiting=st.booleans())
    def drain_without_waiting(self, include_waiting):
        finished = self.queue.shut_down_with_drain(0.0, include_waiting=include_waiting)
        if finished:
            assert not self.processing
        if include_waiting:
            assert finished == (not self.processing and not self.waiting)

    @invariant()
    def agrees(self):
        assert len(self.waiting) == len(self.queue)
        assert len(self.delayed) == self.queue.num_delayed()
        assert self.touched == self.storage.touched
        assert self.shutting_down == self.queue.shutting_down()
        # Whatever waits is dirty and not in process.
        assert not set(self.waiting) & self.queue._processing
        assert set(self.waiting) | self.again == self.queue._dirty

    def teardown(self):
        self.queue.shut_down()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestQueueMachine.pytestmark = [pytest.mark.timeout(120)]
