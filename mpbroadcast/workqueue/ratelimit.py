"""The rate limiting queue: what failed is tried again later and later. Runs in: threads of one process."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, TypeVar

from mpbroadcast.workqueue.delaying import DelayingQueue
from mpbroadcast.workqueue.waiting import MONOTONIC_CLOCK

if TYPE_CHECKING:
    from mpbroadcast.workqueue.limiters import RateLimiter
    from mpbroadcast.workqueue.metrics import MetricsProvider
    from mpbroadcast.workqueue.queue import Storage
    from mpbroadcast.workqueue.waiting import WaitingClock

__all__ = ["RateLimitingQueue"]

T = TypeVar("T", bound=Hashable)


class RateLimitingQueue(DelayingQueue[T]):
    """client-go's ``workqueue.RateLimitingInterface``: a `DelayingQueue` that asks a limiter. Safe in any thread.

    A worker of a controller::

        queue = RateLimitingQueue(default_controller_rate_limiter())
        for key in queue:
            with queue.processing(key):
                try:
                    reconcile(key)
                except Exception:
                    queue.add_rate_limited(key)
                else:
                    queue.forget(key)

    Args:
        rate_limiter: how long an item waits.
        name, storage, clock, metrics_provider: as for `Queue`.
    """

    def __init__(
        self,
        rate_limiter: RateLimiter[T],
        *,
        name: str = "",
        storage: Storage[T] | None = None,
        clock: WaitingClock = MONOTONIC_CLOCK,
        metrics_provider: MetricsProvider | None = None,
    ) -> None:
        super().__init__(name=name, storage=storage, clock=clock, metrics_provider=metrics_provider)
        self._rate_limiter = rate_limiter

    def add_rate_limited(self, item: T) -> None:
        """Add an item when the limiter says so; counts as a failure of it. Waits for locks only."""
        self.add_after(item, self._rate_limiter.when(item))

    def forget(self, item: T) -> None:
        """Make the limiter forget an item's failures. It does not replace `done`."""
        self._rate_limiter.forget(item)

    def num_requeues(self, item: T) -> int:
        """Return how many failures of an item the limiter has counted since it was last forgotten."""
        return self._rate_limiter.num_requeues(item)
