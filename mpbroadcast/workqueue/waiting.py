"""The clock that blocked threads wait on: it tells the time and it can wake them. Runs in: any process.

Nothing in this package sleeps or polls. Every blocking call ends up in `WaitingClock.wait_until`, so that a test that
brings its own clock decides when time passes, and can see who waits.
"""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol

from mpbroadcast.base.clock import Clock

__all__ = ["FOREVER_SECONDS", "MONOTONIC_CLOCK", "MonotonicClock", "WaitingClock", "to_ns"]

_SECOND: Final = 1_000_000_000

FOREVER_SECONDS: Final = (2**63 - 1) / _SECOND
"""Go's longest Duration, 292 years: what an infinite delay counts as."""


class WaitingClock(Clock, Protocol):
    """A clock that threads can wait on. Only differences of its times matter here, not where it began."""

    def wait_until(self, condition: threading.Condition, deadline_ns: int | None) -> None:
        """Wait on a condition whose lock the caller holds.

        Blocks until the condition is notified or this clock has reached the deadline. It may also return for no
        reason: the caller looks again at what it waits for, in a loop.

        Args:
            condition: as for `threading.Condition.wait`.
            deadline_ns: a time of this clock; None for no deadline.
        """
        ...  # pragma: no cover


class MonotonicClock:
    """The machine's clock that is never set: a delay is what it says, whatever happens to the wall time.

    Safe in any thread and any process; it has no state.
    """

    __slots__ = ()

    now_ns = staticmethod(time.monotonic_ns)

    def wait_until(self, condition: threading.Condition, deadline_ns: int | None) -> None:
        """Wait on a condition, up to a time of `time.monotonic_ns`."""
        if deadline_ns is None:
            condition.wait()
        elif (left_ns := deadline_ns - self.now_ns()) > 0:
            condition.wait(min(left_ns / _SECOND, threading.TIMEOUT_MAX))

    def __repr__(self) -> str:
        return "MONOTONIC_CLOCK"


MONOTONIC_CLOCK: Final[WaitingClock] = MonotonicClock()
"""The clock used wherever no other one is given."""


def to_ns(seconds: float) -> int:
    """Return a delay in whole nanoseconds, at most 292 years (Go's longest Duration) either way.

    Raises:
        ValueError: it is not a number.
    """
    if seconds != seconds:  # noqa: PLR0124 - the only number that differs from itself
        raise ValueError("a delay must be a number of seconds, not NaN")
    return round(max(-FOREVER_SECONDS, min(seconds, FOREVER_SECONDS)) * _SECOND)
