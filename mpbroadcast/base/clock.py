"""Where the time comes from: a one-method protocol, so that tests and replays can bring their own clock."""

from __future__ import annotations

import time
from typing import Final, Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """Anything that tells the wall time."""

    def now_ns(self) -> int:
        """Return the current time in Unix nanoseconds. Never blocks."""
        ...  # pragma: no cover


class SystemClock:
    """The wall clock of the machine. Safe in any thread and any process; it has no state to share."""

    __slots__ = ()

    # A static builtin is called without a Python frame: 40 ns less per event.
    now_ns = staticmethod(time.time_ns)

    def __repr__(self) -> str:
        return "SYSTEM_CLOCK"


SYSTEM_CLOCK: Final[Clock] = SystemClock()
"""The clock used wherever no other one is given."""
