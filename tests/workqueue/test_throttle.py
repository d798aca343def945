"""Token buckets: the pure one with its debt (T1-T5), and the one that threads share and wait for."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.base.tokenbucket import TokenBucket
from mpbroadcast.workqueue import TokenBucketRateLimiter

pytestmark = pytest.mark.timeout(30)

SECOND = 1_000_000_000


@pytest.mark.client_go("THR-01")
def test_ten_threads_together_keep_the_rate(jumping_clock, threads):
    limiter = TokenBucketRateLimiter(100.0, 1, clock=jumping_clock)
    assert limiter.try_accept()
    start_ns = jumping_clock.now_ns()

    def take():
        for _ in range(10):
            limiter.accept()

    for taker in [threads.start(take) for _ in range(10)]:
        taker.result()
    assert 990_000_000 <= jumping_clock.now_ns() - start_ns <= 1_000_000_000


@pytest.mark.client_go("THR-02")
def test_a_burst_of_three_accepts_three(clock):
    limiter = TokenBucketRateLimiter(1.0, 3, clock=clock)
    assert [True, True, True, False] == [limiter.try_accept() for _ in range(4)]


@pytest.mark.client_go("THR-03")
def test_a_token_comes_back_in_time(clock):
    limiter = TokenBucketRateLimiter(1.0, 1, clock=clock)
    assert [True, False] == [limiter.try_accept() for _ in range(2)]
    clock.step(2 * SECOND)
    assert limiter.try_accept()


@pytest.mark.client_go("THR-04")
def test_more_than_the_burst_takes_its_time(jumping_clock):
    limiter = TokenBucketRateLimiter(10.0, 5, clock=jumping_clock)
    start_ns = jumping_clock.now_ns()
    for _ in range(16):
        limiter.accept()
    assert 1_100_000_000 == jumping_clock.now_ns() - start_ns


@pytest.mark.client_go("THR-07")
def test_a_wait_that_would_be_too_long_is_refused_at_once(clock):
    limiter = TokenBucketRateLimiter(0.0001, 1, clock=clock)
    assert limiter.wait(timeout=1.0)
    assert not limiter.wait(timeout=1.0)


@pytest.mark.client_go("THR-08")
def test_a_rate_that_is_no_exact_float_does_not_drift(clock):
    rate = struct.unpack("<f", struct.pack("<f", 1 / 1.031425))[0]
    limiter = TokenBucketRateLimiter(rate, 1, clock=clock)
    for _ in range(60):
        assert limiter.try_accept()
        clock.step(2 * SECOND)


def test_a_wait_is_over_when_the_token_is_there_and_not_before(clock, threads):
    """It waits on the given clock (in client-go it is real time: W50)."""
    limiter = TokenBucketRateLimiter(1.0, 1, clock=clock)
    limiter.accept()
    waiter = threads.start(limiter.wait, 1.0)
    clock.await_waiting(limiter._waiting)
    clock.step(SECOND - 1)
    clock.await_waiting(limiter._waiting)
    assert not waiter.done()
    clock.step(1)
    assert waiter.result() is True


def test_a_refused_wait_takes_no_token(clock):
    limiter = TokenBucketRateLimiter(1.0, 1, clock=clock)
    limiter.accept()
    for _ in range(5):
        assert not limiter.wait(timeout=0.5)
    clock.step(SECOND)
    assert limiter.wait(timeout=0.0)


def test_it_keeps_the_rate_in_real_time():
    limiter = TokenBucketRateLimiter(1000.0, 1)
    start = time.monotonic()
    for _ in range(51):
        limiter.accept()
    assert 0.049 <= time.monotonic() - start < 10
    assert 1000.0 == limiter.qps()


def test_a_reservation_goes_into_debt_which_the_rate_pays_back():
    """T4: always subtracts, and the delay is the debt by the rate."""
    bucket = TokenBucket(10.0, 2, 0)
    assert [0, 0, SECOND // 10, SECOND // 5] == [bucket.reserve(0) for _ in range(4)]
    assert -2.0 == bucket.tokens_at(0)
    assert not bucket.try_accept(SECOND // 5)
    assert bucket.try_accept(3 * SECOND // 10)


def test_a_refused_reservation_changes_nothing():
    bucket = TokenBucket(10.0, 1, 0)
    assert 0 == bucket.reserve(0)
    assert bucket.reserve(0, 99_999_999) is None
    assert 0.0 == bucket.tokens_at(0)
    assert 100_000_000 == bucket.reserve(0, 100_000_000)


@pytest.mark.parametrize("burst", [0, -1])
def test_without_a_burst_no_reservation_is_ever_good(burst):
    assert TokenBucket(10.0, burst, 0).reserve(10**18) is None


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_without_a_rate_only_the_burst_can_be_reserved(rate):
    bucket = TokenBucket(rate, 2, 0)
    assert [0, 0, None] == [bucket.reserve(at) for at in (0, 0, 10**18)]


@given(
    rate=st.floats(0.001, 1e6),
    burst=st.integers(0, 30),
    steps=st.lists(st.integers(-SECOND, 10 * SECOND), max_size=60),
)
def test_accepting_is_reserving_without_a_wait(rate, burst, steps):
    one, other = TokenBucket(rate, burst, 0), TokenBucket(rate, burst, 0)
    now_ns = 0
    for step in steps:
        now_ns += step
        assert one.try_accept(now_ns) == (other.reserve(now_ns, 0) == 0)
        assert one.tokens_at(now_ns) == other.tokens_at(now_ns)


@given(rate=st.floats(0.001, 1e6), burst=st.integers(1, 30), number=st.integers(1, 100))
def test_reservations_at_once_are_spaced_by_the_rate(rate, burst, number):
    bucket = TokenBucket(rate, burst, 0)
    waits = [bucket.reserve(0) for _ in range(number)]
    assert [int(max(index + 1 - burst, 0) / rate * 1e9) for index in range(number)] == waits
