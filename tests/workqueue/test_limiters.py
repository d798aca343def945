"""Rate limiters (Q12-Q15) and the queue that asks one."""

from __future__ import annotations

import threading

import pytest

from mpbroadcast.workqueue import (
    BucketRateLimiter,
    ItemExponentialFailureRateLimiter,
    ItemFastSlowRateLimiter,
    MaxOfRateLimiter,
    RateLimitingQueue,
    TokenBucketRateLimiter,
    WithMaxWaitRateLimiter,
    default_controller_rate_limiter,
    default_item_based_rate_limiter,
)

pytestmark = pytest.mark.timeout(30)

MS = 0.001
HOUR = 3600.0


def delays(limiter, item, calls):
    return [limiter.when(item) for _ in range(calls)]


@pytest.mark.client_go("RLQ-01")
def test_each_item_is_delayed_by_its_own_failures(clock):
    queue = RateLimitingQueue(ItemExponentialFailureRateLimiter(1 * MS, 1.0), clock=clock)
    asked = []
    queue.add_after = lambda item, delay: asked.append((item, delay))
    for item in ("one", "one", "two", "two"):
        queue.add_rate_limited(item)
    assert [("one", 1 * MS), ("one", 2 * MS), ("two", 1 * MS), ("two", 2 * MS)] == asked
    assert [2, 2] == [queue.num_requeues("one"), queue.num_requeues("two")]
    queue.forget("one")
    assert 0 == queue.num_requeues("one")
    queue.add_rate_limited("one")
    assert ("one", 1 * MS) == asked[-1]


def test_a_rate_limited_item_comes_when_its_delay_is_over(clock, threads):
    queue = RateLimitingQueue(ItemExponentialFailureRateLimiter(1.0, 100.0), clock=clock)
    queue.add_rate_limited("one")
    worker = threads.start(queue.get)
    clock.await_waiting(queue._alarm._changed)
    clock.step(999_999_999)
    clock.await_waiting(queue._alarm._changed)
    assert not worker.done()
    clock.step(1)
    assert ("one", False) == worker.result()
    queue.shut_down()


@pytest.mark.client_go("LIM-01")
def test_the_exponential_delay_doubles_until_the_item_is_forgotten():
    limiter = ItemExponentialFailureRateLimiter(1 * MS, 1.0)
    assert [1 * MS, 2 * MS, 4 * MS, 8 * MS, 16 * MS] == delays(limiter, "one", 5)
    assert 5 == limiter.num_requeues("one")
    assert [1 * MS, 2 * MS] == delays(limiter, "two", 2)
    assert 2 == limiter.num_requeues("two")
    limiter.forget("one")
    assert 0 == limiter.num_requeues("one")
    assert 1 * MS == limiter.when("one")


@pytest.mark.client_go("LIM-02")
def test_the_exponential_delay_stays_at_its_maximum():
    limiter = ItemExponentialFailureRateLimiter(1 * MS, 1000.0)
    assert 32 * MS == delays(limiter, "one", 6)[-1]
    assert 1000.0 == delays(limiter, "overflow1", 1001)[-1]


@pytest.mark.client_go("LIM-03")
def test_a_long_exponential_delay_does_not_overflow():
    limiter = ItemExponentialFailureRateLimiter(60.0, 1000 * HOUR)
    assert 240.0 == delays(limiter, "two", 3)[-1]
    assert 1000 * HOUR == delays(limiter, "overflow2", 2000)[-1]


@pytest.mark.client_go("LIM-04")
def test_fast_delays_are_followed_by_slow_ones():
    limiter = ItemFastSlowRateLimiter(5 * MS, 10.0, 3)
    assert [5 * MS, 5 * MS, 5 * MS, 10.0, 10.0] == delays(limiter, "one", 5)
    assert 5 == limiter.num_requeues("one")
    assert [5 * MS, 5 * MS] == delays(limiter, "two", 2)
    assert 2 == limiter.num_requeues("two")
    limiter.forget("one")
    assert 0 == limiter.num_requeues("one")
    assert 5 * MS == limiter.when("one")


@pytest.mark.client_go("LIM-05")
def test_the_longest_delay_of_several_limiters_counts():
    limiter = MaxOfRateLimiter(ItemFastSlowRateLimiter(5 * MS, 3.0, 3), ItemExponentialFailureRateLimiter(1 * MS, 1.0))
    assert [5 * MS, 5 * MS, 5 * MS, 3.0, 3.0] == delays(limiter, "one", 5)
    assert 5 == limiter.num_requeues("one")
    assert [5 * MS, 5 * MS] == delays(limiter, "two", 2)
    assert 2 == limiter.num_requeues("two")
    limiter.forget("one")
    assert 0 == limiter.num_requeues("one")
    assert 5 * MS == limiter.when("one")


def test_every_limiter_of_several_counts_also_when_another_one_is_longer():
    """Q15: all of them advance."""
    short = ItemExponentialFailureRateLimiter(1 * MS, 1.0)
    limiter = MaxOfRateLimiter(ItemFastSlowRateLimiter(10.0, 10.0, 1), short)
    assert [10.0, 10.0] == delays(limiter, "one", 2)
    assert 2 == short.num_requeues("one")


def test_without_a_limiter_there_is_no_delay():
    limiter = MaxOfRateLimiter()
    assert (0.0, 0) == (limiter.when("one"), limiter.num_requeues("one"))


@pytest.mark.client_go("LIM-06")
def test_a_delay_is_cut_at_the_longest_wait():
    limiter = WithMaxWaitRateLimiter(ItemFastSlowRateLimiter(5 * MS, 1000.0, 100), 500.0)
    assert [5 * MS] * 100 + [500.0] * 100 == delays(limiter, "one", 200)
    assert 200 == limiter.num_requeues("one")
    limiter.forget("one")
    assert 5 * MS == limiter.when("one")


def test_a_bucket_serves_all_items_and_goes_into_debt(clock):
    """Q14, T4."""
    limiter = BucketRateLimiter(TokenBucketRateLimiter(10.0, 2, clock=clock))
    assert [0.0, 0.0, 0.1, 0.2] == [limiter.when(item) for item in ("a", "b", "a", "c")]
    assert 0 == limiter.num_requeues("a")
    limiter.forget("a")
    clock.step(200_000_000)
    assert 0.1 == limiter.when("a")


def test_a_bucket_without_a_burst_delays_for_ever(clock):
    assert float("inf") == BucketRateLimiter(TokenBucketRateLimiter(10.0, 0, clock=clock)).when("a")


def test_the_default_for_controllers_is_the_longer_of_bucket_and_backoff(clock):
    """Spec 0.3: 5 ms doubling up to 1000 s; 10 a second with a burst of 100."""
    limiter = default_controller_rate_limiter(clock=clock)
    assert [0.005, 0.01, 0.02] == delays(limiter, "one", 3)
    assert [0.005] * 97 == [limiter.when(number) for number in range(97)]
    assert [0.1, 0.2, 0.3] == [limiter.when(number) for number in range(97, 100)]
    assert 1000.0 == delays(limiter, "one", 40)[-1]


def test_the_default_for_items_has_no_bucket():
    limiter = default_item_based_rate_limiter()
    assert [0.001] * 200 == [limiter.when(number) for number in range(200)]
    assert 1000.0 == delays(limiter, 0, 40)[-1]


@pytest.mark.parametrize(
    "limiter",
    [ItemExponentialFailureRateLimiter(1.0, 9.0, max_items=2), ItemFastSlowRateLimiter(1.0, 9.0, 1, max_items=2)],
)
def test_a_bounded_limiter_forgets_what_has_not_failed_for_longest(limiter):
    """In client-go the counts grow until each is forgotten by name (W49)."""
    for item in ("a", "b", "a", "c"):
        limiter.when(item)
    assert [2, 0, 1] == [limiter.num_requeues(item) for item in "abc"]


def test_a_limiter_that_remembers_nothing_is_refused():
    with pytest.raises(ValueError, match="max_items must be at least 1"):
        ItemExponentialFailureRateLimiter(1.0, 9.0, max_items=0)


def test_failures_are_counted_exactly_by_many_threads(threads):
    limiter = ItemFastSlowRateLimiter(1.0, 2.0, 4000)
    begin = threading.Barrier(8)

    def fail():
        begin.wait()
        return [limiter.when("one") for _ in range(1000)]

    got = [delay for future in [threads.start(fail) for _ in range(8)] for delay in future.result()]
    assert [1.0] * 4000 + [2.0] * 4000 == sorted(got)
