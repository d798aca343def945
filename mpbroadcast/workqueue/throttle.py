"""A token bucket that threads share and can wait for: client-go's ``flowcontrol.RateLimiter``.

Runs in: threads of one process.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from mpbroadcast.base.tokenbucket import TokenBucket
from mpbroadcast.workqueue.forking import renew_in_child
from mpbroadcast.workqueue.waiting import MONOTONIC_CLOCK, to_ns

if TYPE_CHECKING:
    from mpbroadcast.workqueue.waiting import WaitingClock

__all__ = ["TokenBucketRateLimiter"]

_SECOND: Final = 1_000_000_000


class TokenBucketRateLimiter:
    """So many a second, and so many at once (T1-T5). Safe in any thread.

    Every time is the given clock's, also while waiting (in client-go that is real time whatever the clock: W50). A
    forked child goes on with a copy, as full as the original was at the fork.

    Args:
        qps: tokens that come back each second; at or below 0 none do.
        burst: tokens at the start, and at most. Below 1 nothing is ever accepted.
        clock: the time.
    """

    def __init__(self, qps: float, burst: int, *, clock: WaitingClock = MONOTONIC_CLOCK) -> None:
        self._clock = clock
        self._bucket = TokenBucket(qps, burst, clock.now_ns())
        self._renew_after_fork()
        renew_in_child(self)

    def _renew_after_fork(self) -> None:
        self._waiting = threading.Condition()

    def qps(self) -> float:
        """Return the tokens that come back each second."""
        return self._bucket.rate

    def try_accept(self) -> bool:
        """Take a token if there is one (T3). Does not wait for one."""
        with self._waiting:
            return self._bucket.try_accept(self._clock.now_ns())

    def reserve(self) -> float:
        """Take a token, in advance if there is none (T4). Does not wait for it.

        Returns:
            Seconds until the token may be used; infinity when it never may.
        """
        with self._waiting:
            wait_ns = self._bucket.reserve(self._clock.now_ns())
        return float("inf") if wait_ns is None else wait_ns / _SECOND

    def accept(self) -> None:
        """Take a token; blocks until it may be used, for ever if it never may."""
        self.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Take a token and block until it may be used.

        Args:
            timeout: the longest wait in seconds; None for any.

        Returns:
            False, at once and with nothing taken, when the wait would be longer than the time-out.
        """
        with self._waiting:
            start_ns = self._clock.now_ns()
            wait_ns = self._bucket.reserve(start_ns, None if timeout is None else max(to_ns(timeout), 0))
            if wait_ns is None and timeout is not None:
                return False
            due_ns = None if wait_ns is None else start_ns + wait_ns
            while due_ns is None or self._clock.now_ns() < due_ns:
                self._clock.wait_until(self._waiting, due_ns)
        return True
