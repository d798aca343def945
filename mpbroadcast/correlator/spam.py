"""Stage 3: a budget of writes for each source and object (C14-C19), kept in token buckets (T1-T5).

The rate is a 32-bit float widened to 64 bits, as in client-go: the instant at which a budget has a token again can be
seen from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpbroadcast.base.tokenbucket import TokenBucket
from mpbroadcast.correlator.lru import LRU

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mpbroadcast.base.clock import Clock
    from mpbroadcast.event.model import Event

__all__ = ["SpamFilter", "TokenBucket"]


class SpamFilter:
    """Refuses events whose budget is used up; an object that was evicted from memory has a full one (C14, W22).

    Args:
        lru_cache_size: how many budgets to remember.
        burst: writes at once.
        rate: writes per second that come back.
        key_func: which events share a budget.
        per_reason: whether each reason has a budget of its own besides (kubernetes#67887).
        clock: read once for each event.
    """

    __slots__ = ("_buckets", "_burst", "_clock", "_key_func", "_per_reason", "_rate")

    def __init__(
        self,
        *,
        lru_cache_size: int,
        burst: int,
        rate: float,
        key_func: Callable[[Event], Hashable],
        per_reason: bool,
        clock: Clock,
    ) -> None:
        self._buckets: LRU[Hashable, TokenBucket] = LRU(lru_cache_size)
        self._burst = burst
        self._rate = rate
        self._key_func = key_func
        self._per_reason = per_reason
        self._clock = clock

    def refuses(self, event: Event) -> bool:
        """Take a token for an event as the stages before made it (C15); True when there is none."""
        key = self._key_func(event)
        if self._per_reason:
            key = (key, event.reason)
        now_ns = self._clock.now_ns()
        bucket = self._buckets.find(key)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, now_ns)
            self._buckets.add(key, bucket)
        return not bucket.try_accept(now_ns)
