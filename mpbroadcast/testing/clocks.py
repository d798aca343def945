"""Clocks that tests move: one on command, one by itself."""

from __future__ import annotations

from typing import Final

__all__ = ["START_NS", "SelfAdvancingClock", "SteppingClock"]

START_NS: Final = 1_767_323_045_123_456_789
"""2026-01-02T03:04:05.123456789Z: an instant whose every digit shows, for a start."""


class SteppingClock:
    """Stands still until `step` is called; a clock wherever one with ``now_ns()`` is wanted.

    Args:
        start_ns: the first time it tells, in Unix nanoseconds.
    """

    def __init__(self, start_ns: int = START_NS) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the time it was set to, in Unix nanoseconds."""
        return self._now_ns

    def step(self, ns: int) -> None:
        """Move by a number of nanoseconds; a negative one sets it back, as an administrator might."""
        self._now_ns += ns

    def sleep(self, seconds: float) -> bool:
        """Stand in for a sleep: move by so many seconds and return at once; False, as nothing woke it."""
        self.step(round(seconds * 1_000_000_000))
        return False


class SelfAdvancingClock:
    """Moves by an interval before each reading, as the clock of client-go's correlator tests does.

    Args:
        start_ns: the time before the first reading, in Unix nanoseconds.
        interval_ns: how far each reading moves it.
    """

    def __init__(self, start_ns: int = START_NS, *, interval_ns: int) -> None:
        self._now_ns = start_ns
        self._interval_ns = interval_ns

    def now_ns(self) -> int:
        """Move by the interval and return the time."""
        self._now_ns += self._interval_ns
        return self._now_ns
