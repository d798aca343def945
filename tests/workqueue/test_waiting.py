"""The real clock that blocked threads wait on."""

from __future__ import annotations

import threading

import pytest

from mpbroadcast.workqueue import MONOTONIC_CLOCK
from mpbroadcast.workqueue.waiting import to_ns

pytestmark = pytest.mark.timeout(30)

MS = 1_000_000


def test_a_wait_ends_at_its_deadline():
    """One wait is enough: a caller that loops must not spin."""
    condition = threading.Condition()
    start_ns = MONOTONIC_CLOCK.now_ns()
    with condition:
        MONOTONIC_CLOCK.wait_until(condition, start_ns + 30 * MS)
    assert 29 * MS <= MONOTONIC_CLOCK.now_ns() - start_ns < 10_000 * MS


@pytest.mark.parametrize("after_ns", [0, -1])
def test_a_deadline_that_has_passed_is_not_waited_for(after_ns):
    condition = threading.Condition()
    with condition:
        MONOTONIC_CLOCK.wait_until(condition, MONOTONIC_CLOCK.now_ns() + after_ns)


@pytest.mark.parametrize("deadline_ns", [None, 2**63 - 1, 10**30])
def test_a_wait_ends_when_it_is_notified(threads, deadline_ns):
    """Also with a deadline beyond what the system can count."""
    condition, waiting = threading.Condition(), threading.Event()

    def wait():
        with condition:
            waiting.set()
            MONOTONIC_CLOCK.wait_until(condition, deadline_ns)

    waiter = threads.start(wait)
    assert waiting.wait(20)
    with condition:
        condition.notify_all()
    waiter.result(20)


@pytest.mark.parametrize(
    ("seconds", "ns"), [(0.05, 50_000_000), (-1, -1_000_000_000), (1e300, 2**63), (float("-inf"), -(2**63)), (0, 0)]
)
def test_a_delay_in_seconds_is_whole_nanoseconds_within_292_years(seconds, ns):
    assert ns == to_ns(seconds)
