"""Many real threads at once: no item is lost, and none is ever with two workers."""

from __future__ import annotations

import random
import sys
import threading

import pytest

from mpbroadcast.workqueue import ItemExponentialFailureRateLimiter, RateLimitingQueue

ITEMS = 12
PRODUCERS = 6
WORKERS = 8
ADDS = 1500  # by each producer
LONG = 60.0  # seconds


@pytest.fixture
def restless():
    """Let threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Work:
    """Each item has a version, which an add raises before it adds and a worker reads after it has got the item.

    So whatever version an item had when it was added last, a worker must see it in the end.
    """

    def __init__(self):
        self.queue = RateLimitingQueue(ItemExponentialFailureRateLimiter(0.0001, 0.001))
        self.wanted = [0] * ITEMS
        self.seen = [0] * ITEMS
        self.busy = [threading.Lock() for _ in range(ITEMS)]
        self.changed = threading.Condition()
        self.processed = 0
        self.overlaps = 0

    def produce(self, seed):
        chance = random.Random(seed)
        for _ in range(ADDS):
            item = chance.randrange(ITEMS)
            with self.changed:
                self.wanted[item] += 1
            way = chance.randrange(4)
            if way == 0:
                self.queue.add_after(item, chance.random() / 1000)
            elif way == 1:
                self.queue.add_rate_limited(item)
            else:
                self.queue.add(item)

    def work(self):
        for item in self.queue:
            with self.queue.processing(item):
                if not self.busy[item].acquire(blocking=False):
                    self.overlaps += 1
                    continue
                with self.changed:
                    self.seen[item] = self.wanted[item]
                    self.processed += 1
                    self.changed.notify_all()
                self.queue.forget(item)
                self.busy[item].release()

    def everything_seen(self):
        return self.seen == self.wanted


@pytest.mark.timeout(120)
def test_no_item_is_lost_and_none_is_with_two_workers_at_once(threads, restless):
    work = Work()
    workers = [threads.start(work.work) for _ in range(WORKERS)]
    for producer in [threads.start(work.produce, seed) for seed in range(PRODUCERS)]:
        producer.result(LONG)
    assert PRODUCERS * ADDS == sum(work.wanted)
    with work.changed:
        assert work.changed.wait_for(work.everything_seen, LONG), (work.wanted, work.seen)
    assert work.queue.shut_down_with_drain(LONG, include_waiting=True)
    for worker in workers:
        worker.result(LONG)
    assert 0 == work.overlaps
    assert ITEMS <= work.processed


@pytest.mark.timeout(120)
def test_a_drain_waits_for_all_that_was_added_before_it(threads, restless):
    """Twenty times, as a lost wake-up shows rarely."""
    for round_number in range(20):
        work = Work()
        workers = [threads.start(work.work) for _ in range(WORKERS)]
        for item in range(ITEMS):
            work.wanted[item] = round_number + 1
            work.queue.add(item)
        assert work.queue.shut_down_with_drain(LONG, include_waiting=True)
        assert work.wanted == work.seen
        for worker in workers:
            worker.result(LONG)
        assert 0 == work.overlaps
