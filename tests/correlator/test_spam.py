"""The token bucket, to the nanosecond (T1-T5)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.correlator.spam import TokenBucket

SECOND = 1_000_000_000
QPS = struct.unpack("<f", struct.pack("<f", 1 / 300))[0]


@pytest.mark.client_go("DER-15")
def test_a_refusal_changes_nothing():
    bucket = TokenBucket(QPS, 25, 0)
    assert [True] * 25 + [False] == [bucket.try_accept(0) for _ in range(26)]
    for second in range(0, 299, 13):
        assert not bucket.try_accept(second * SECOND)
    assert bucket.try_accept(300 * SECOND)
    assert not bucket.try_accept(300 * SECOND)


@pytest.mark.client_go("THR-02")
def test_a_burst_of_three_accepts_three():
    bucket = TokenBucket(1.0, 3, 0)
    assert [True, True, True, False] == [bucket.try_accept(0) for _ in range(4)]


@pytest.mark.client_go("THR-03")
def test_a_token_comes_back_in_time():
    bucket = TokenBucket(1.0, 1, 0)
    assert [True, False, True] == [bucket.try_accept(at) for at in (0, 0, 2 * SECOND)]


@pytest.mark.client_go("THR-08")
def test_a_rate_that_is_no_exact_float_does_not_drift():
    rate = struct.unpack("<f", struct.pack("<f", 1 / 1.031425))[0]
    bucket = TokenBucket(rate, 1, 0)
    assert all(bucket.try_accept(step * 2 * SECOND) for step in range(60))


def test_a_token_is_there_when_less_than_a_nanosecond_is_missing():
    """The rate as a 32-bit float is a little high: a token comes back after 299.999992735 s, not after 300."""
    for after_ns, accepted in ((299_999_992_734, False), (299_999_992_735, True)):
        bucket = TokenBucket(QPS, 1, 0)
        assert bucket.try_accept(0)
        assert accepted == bucket.try_accept(after_ns), after_ns


def test_a_clock_that_goes_back_counts_as_standing():
    bucket = TokenBucket(1.0, 2, 100 * SECOND)
    assert [True, True, False] == [bucket.try_accept(at * SECOND) for at in (100, 50, 50)]
    # The token taken at 50 s moved the last use back with the clock (T3).
    assert bucket.try_accept(51 * SECOND)


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_without_a_rate_nothing_comes_back(rate):
    bucket = TokenBucket(rate, 2, 0)
    assert [True, True, False] == [bucket.try_accept(at) for at in (0, 10**18, 2 * 10**18)]


@pytest.mark.parametrize("burst", [0, -1])
def test_without_a_burst_nothing_is_accepted(burst):
    assert not TokenBucket(1.0, burst, 0).try_accept(10**18)


@given(
    rate=st.floats(min_value=1e-9, max_value=1e9),
    burst=st.integers(min_value=1, max_value=50),
    steps=st.lists(st.integers(min_value=-(10**12), max_value=10**15), max_size=60),
)
def test_the_tokens_never_exceed_the_burst(rate, burst, steps):
    now_ns, accepted = 0, 0
    bucket = TokenBucket(rate, burst, now_ns)
    for step in steps:
        now_ns += step
        assert bucket.tokens_at(now_ns) <= burst
        accepted += bucket.try_accept(now_ns)
        assert bucket.tokens_at(now_ns) <= burst
    earned = sum(max(step, 0) for step in steps) / 1e9 * rate
    assert accepted <= burst + earned * (1 + 1e-9) + len(steps) * max(rate / 1e9, 1e-9)
