"""client-go's ``util/workqueue`` for threads: the queue that a controller's workers take their items from.

===============  =====================================================================================
`queue`          `Queue`: each item once, never with two workers at once; `Storage`, its replaceable order
`delaying`       `DelayingQueue`: items that are added later
`ratelimit`      `RateLimitingQueue`: what failed is tried again later and later
`limiters`       how much later: the rate limiters
`throttle`       `TokenBucketRateLimiter`: a token bucket that threads can wait for
`parallelize`    `parallelize_until`: a number of pieces, a few threads
`metrics`        what is measured, and the protocol of who takes the numbers
`waiting`        the clock that blocked threads wait on
`forking`        new locks in a forked child
===============  =====================================================================================

Runs in: threads of any one process; nothing is shared between processes. Importing it starts nothing. The only
threads are one of a delaying queue, from its first delay on, and one of a queue whose metrics somebody takes.
"""

from __future__ import annotations

from mpbroadcast.workqueue.delaying import DelayingQueue
from mpbroadcast.workqueue.limiters import (
    BucketRateLimiter,
    ItemExponentialFailureRateLimiter,
    ItemFastSlowRateLimiter,
    MaxOfRateLimiter,
    RateLimiter,
    WithMaxWaitRateLimiter,
    default_controller_rate_limiter,
    default_item_based_rate_limiter,
)
from mpbroadcast.workqueue.metrics import MetricsProvider, NoMetricsProvider, set_provider
from mpbroadcast.workqueue.parallelize import parallelize_until
from mpbroadcast.workqueue.queue import FIFO, Queue, Storage
from mpbroadcast.workqueue.ratelimit import RateLimitingQueue
from mpbroadcast.workqueue.throttle import TokenBucketRateLimiter
from mpbroadcast.workqueue.waiting import MONOTONIC_CLOCK, MonotonicClock, WaitingClock

__all__ = [
    "FIFO",
    "MONOTONIC_CLOCK",
    "BucketRateLimiter",
    "DelayingQueue",
    "ItemExponentialFailureRateLimiter",
    "ItemFastSlowRateLimiter",
    "MaxOfRateLimiter",
    "MetricsProvider",
    "MonotonicClock",
    "NoMetricsProvider",
    "Queue",
    "RateLimiter",
    "RateLimitingQueue",
    "Storage",
    "TokenBucketRateLimiter",
    "WaitingClock",
    "WithMaxWaitRateLimiter",
    "default_controller_rate_limiter",
    "default_item_based_rate_limiter",
    "parallelize_until",
    "set_provider",
]
