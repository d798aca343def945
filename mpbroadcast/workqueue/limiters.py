"""Rate limiters: how long an item waits before its next try (Q12-Q15). Runs in: threads of one process.

===================================  ===========================================================
`ItemExponentialFailureRateLimiter`  the delay doubles with each failure of the item
`ItemFastSlowRateLimiter`            a short delay a few times, then a long one
`BucketRateLimiter`                  so many tries a second for all items together
`MaxOfRateLimiter`                   the longest delay of several
`WithMaxWaitRateLimiter`             another one's delay, but never longer than this
===================================  ===========================================================

Delays are in seconds. Every limiter is safe in any thread and never blocks; in a forked child it goes on with a copy
of the counts. One may serve several queues.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from mpbroadcast.workqueue.forking import renew_in_child
from mpbroadcast.workqueue.throttle import TokenBucketRateLimiter
from mpbroadcast.workqueue.waiting import MONOTONIC_CLOCK

if TYPE_CHECKING:
    from mpbroadcast.workqueue.waiting import WaitingClock

__all__ = [
    "BucketRateLimiter",
    "ItemExponentialFailureRateLimiter",
    "ItemFastSlowRateLimiter",
    "MaxOfRateLimiter",
    "RateLimiter",
    "WithMaxWaitRateLimiter",
    "default_controller_rate_limiter",
    "default_item_based_rate_limiter",
]

T_contra = TypeVar("T_contra", bound=Hashable, contravariant=True)


class RateLimiter(Protocol[T_contra]):
    """Decides how long an item waits. Called by any thread."""

    def when(self, item: T_contra, /) -> float:
        """Count one more failure of an item and return the seconds it waits before its next try."""
        ...  # pragma: no cover

    def forget(self, item: T_contra, /) -> None:
        """Forget an item's failures: it succeeded, or it was given up."""
        ...  # pragma: no cover

    def num_requeues(self, item: T_contra, /) -> int:
        """Return how many failures of an item were counted since it was last forgotten."""
        ...  # pragma: no cover


class _FailureCounts:
    """Failures of each item since it was last forgotten.

    Args:
        max_items: how many items to remember; beyond, the one that has not failed for longest is forgotten. None:
            each until it is forgotten by name, as in client-go, where a forgotten ``forget`` leaks (W49).
    """

    def __init__(self, max_items: int | None) -> None:
        if max_items is not None and max_items < 1:
            raise ValueError(f"max_items must be at least 1, or None for no limit, not {max_items}")
        self._max_items = max_items
        self._failures: dict[Hashable, int] = {}
        self._renew_after_fork()
        renew_in_child(self)

    def _renew_after_fork(self) -> None:
        self._lock = threading.RLock()

    def count(self, item: Hashable) -> int:
        """Count one more failure and return how many there were before."""
        with self._lock:
            before = self._failures.pop(item, 0)
            self._failures[item] = before + 1  # a dict keeps the order of insertion: the last one is the latest
            if self._max_items is not None and len(self._failures) > self._max_items:
                del self._failures[next(iter(self._failures))]
            return before

    def forget(self, item: Hashable, /) -> None:
        """Forget an item's failures."""
        with self._lock:
            self._failures.pop(item, None)

    def num_requeues(self, item: Hashable, /) -> int:
        """Return how many failures of an item were counted since it was last forgotten."""
        with self._lock:
            return self._failures.get(item, 0)


class ItemExponentialFailureRateLimiter(_FailureCounts):
    """``base_delay * 2 ** failures``, each item for itself, at most ``max_delay`` (Q12).

    Args:
        base_delay: seconds after the first failure.
        max_delay: the longest delay in seconds.
        max_items: how many items to remember at most; None for no limit.
    """

    def __init__(self, base_delay: float, max_delay: float, *, max_items: int | None = None) -> None:
        super().__init__(max_items)
        self._base_delay = base_delay
        self._max_delay = max_delay

    def when(self, item: Hashable, /) -> float:
        """Count one more failure of an item and return its delay."""
        try:
            return min(math.ldexp(self._base_delay, self.count(item)), self._max_delay)
        except OverflowError:
            return self._max_delay


class ItemFastSlowRateLimiter(_FailureCounts):
    """``fast_delay`` for an item's first ``max_fast_attempts`` failures, then ``slow_delay`` (Q13).

    Args:
        fast_delay: seconds.
        slow_delay: seconds.
        max_fast_attempts: how many delays are fast.
        max_items: how many items to remember at most; None for no limit.
    """

    def __init__(
        self, fast_delay: float, slow_delay: float, max_fast_attempts: int, *, max_items: int | None = None
    ) -> None:
        super().__init__(max_items)
        self._fast_delay = fast_delay
        self._slow_delay = slow_delay
        self._max_fast_attempts = max_fast_attempts

    def when(self, item: Hashable, /) -> float:
        """Count one more failure of an item and return its delay."""
        return self._fast_delay if self.count(item) < self._max_fast_attempts else self._slow_delay


class BucketRateLimiter:
    """One token of a bucket for each try, whatever the item; tokens are taken in advance (Q14, T4).

    Args:
        limiter: the bucket; its clock must be the queue's.
    """

    def __init__(self, limiter: TokenBucketRateLimiter) -> None:
        self._limiter = limiter

    def when(self, _item: Hashable, /) -> float:
        """Take a token and return the seconds until it is there; infinity when it never is."""
        return self._limiter.reserve()

    def forget(self, _item: Hashable, /) -> None:
        """Nothing is remembered of an item."""

    def num_requeues(self, _item: Hashable, /) -> int:
        """Return 0: nothing is remembered of an item."""
        return 0


class MaxOfRateLimiter(Generic[T_contra]):
    """The longest delay of several limiters (Q15). All of them are asked each time, so all of them count.

    Args:
        limiters: any number; without one there is no delay.
    """

    def __init__(self, *limiters: RateLimiter[T_contra]) -> None:
        self._limiters = limiters

    def when(self, item: T_contra, /) -> float:
        """Ask every limiter and return the longest delay."""
        return max([limiter.when(item) for limiter in self._limiters], default=0.0)

    def forget(self, item: T_contra, /) -> None:
        """Make every limiter forget an item."""
        for limiter in self._limiters:
            limiter.forget(item)

    def num_requeues(self, item: T_contra, /) -> int:
        """Return the largest count of failures."""
        return max([limiter.num_requeues(item) for limiter in self._limiters], default=0)


class WithMaxWaitRateLimiter(Generic[T_contra]):
    """Another limiter's delay, but never longer than ``max_delay``.

    Args:
        limiter: the other one; it counts.
        max_delay: seconds.
    """

    def __init__(self, limiter: RateLimiter[T_contra], max_delay: float) -> None:
        self._limiter = limiter
        self._max_delay = max_delay

    def when(self, item: T_contra, /) -> float:
        """Ask the other limiter and cut its delay."""
        return min(self._limiter.when(item), self._max_delay)

    def forget(self, item: T_contra, /) -> None:
        """Make the other limiter forget an item."""
        self._limiter.forget(item)

    def num_requeues(self, item: T_contra, /) -> int:
        """Return the other limiter's count."""
        return self._limiter.num_requeues(item)


def default_controller_rate_limiter(*, clock: WaitingClock = MONOTONIC_CLOCK) -> MaxOfRateLimiter[Hashable]:
    """Return client-go's limiter for controllers (spec 0.3).

    Per item 5 ms doubling up to 1000 s, and 10 tries a second with a burst of 100 for all items together; the longer
    delay of both.

    Args:
        clock: the queue's, for the bucket.
    """
    return MaxOfRateLimiter(
        ItemExponentialFailureRateLimiter(0.005, 1000.0),
        BucketRateLimiter(TokenBucketRateLimiter(10.0, 100, clock=clock)),
    )


def default_item_based_rate_limiter() -> ItemExponentialFailureRateLimiter:
    """Return client-go's limiter without a bucket: per item 1 ms doubling up to 1000 s (spec 0.3)."""
    return ItemExponentialFailureRateLimiter(0.001, 1000.0)
