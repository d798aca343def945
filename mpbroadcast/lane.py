"""Stop 2: the lane. Runs in: every process that records. Reads: nothing. Writes: this process's lane in shared memory.

Never blocks on: anybody. A lane is a ring that one process fills and the distributor empties. It is claimed at a
process's first put; a forked child claims one of its own; a dead owner's lane is taken over by the next claimer, which
writes behind what the dead one published, so nobody has to drain first. All of that happens inside the one C call of a
put.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Final

from mpbroadcast.errors import BroadcastError, BroadcasterStopped
from mpbroadcast.event.wire import KIND_RECORD
from mpbroadcast.ring import _ring

if TYPE_CHECKING:
    from mpbroadcast.ring.segment import Segment

__all__ = ["REASONS", "Lane"]

REASONS: Final = ("", "lane_full", "too_large", "stopped", "no_lane", "invalid")
"""Why a put was refused, in words; the index is the extension's number for it."""


class Lane:
    """The producing end of a segment, for whichever process uses it.

    Thread-safe: a put is one C call under the GIL. Safe to use in forked children, and picklable with its segment.

    Args:
        segment: the segment to record into.
    """

    __slots__ = ("_ring", "_segment", "put")

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._ring = segment.ring
        self.put = segment.ring.put
        """``put(payload, kind=0) -> bool``: one C call, never waits. False: refused, and counted with its reason."""

    def record(self, static: bytes, message: object) -> bool:
        """Puts an event of a recorder: what is constant in it, encoded, and its message. One C call, never waits.

        Raises:
            Exception: what ``str(message)`` raises.
        """
        return self._ring.record(static, message, KIND_RECORD)

    def next_ns(self) -> int:
        """Unix nanoseconds for an event's name and times, used by no other event of any process of the broadcaster."""
        return self._ring.event_time() or time.time_ns()

    def __reduce__(self) -> tuple[type[Lane], tuple[Segment]]:
        """A lane is its segment; the new process claims one of its own."""
        return Lane, (self._segment,)

    @property
    def stopped(self) -> bool:
        """Whether the broadcaster takes nothing any more."""
        return self._ring.get("state") != _ring.RUNNING

    @property
    def index(self) -> int:
        """The lane that this process owns, or -1 before its first put."""
        return self._ring.lane_index()

    def claim(self) -> int:
        """Claims a lane now instead of at the first put, and writes this process's name beside it; -1: none is free."""
        index = self._ring.claim_lane()
        with contextlib.suppress(Exception):  # a name is for people; no failure of it may reach a recorder
            # A process that multiprocessing made has it loaded; any other one saves its 9 ms.
            multiprocessing = sys.modules.get("multiprocessing.process")
            name = multiprocessing.current_process().name if multiprocessing else "MainProcess"
            if name != "MainProcess":
                self._ring.set_lane_name(name.encode("utf-8", "replace")[:27].replace(b"\0", b"?"))
        return index

    def wait_put(self, payload: bytes, kind: int, timeout: float | None) -> bool:
        """Puts, waiting for room: apimachinery's ``Action``.

        Args:
            payload: the bytes of the record.
            kind: its kind, see ``event/wire.py``.
            timeout: seconds to wait for room at the most; None waits for ever. Signals are handled meanwhile.

        Returns:
            False when the time is over; that is counted as a full lane.

        Raises:
            BroadcasterStopped: the broadcaster takes nothing any more.
            BroadcastError: the record is larger than half a lane, or every lane has a living owner.
        """
        answer = self._ring.offer(payload, kind, timeout)
        if answer == _ring.STOPPED:
            raise BroadcasterStopped
        if answer == _ring.TOO_LARGE:
            raise BroadcastError(
                f"a record of {len(payload)} bytes is larger than half a lane; lane_bytes raises the limit"
            )
        if answer == _ring.NO_LANE:
            raise BroadcastError("every lane has a living owner; max_processes raises the limit")
        return bool(answer == _ring.OK)

    def refuse_invalid(self, text: str) -> None:
        """Counts an event that could not even be built.

        Args:
            text: why, for the distributor's log; empty: only count.
        """
        if not text:
            self._ring.refuse(_ring.INVALID)
            return
        clean = "".join(c if c.isprintable() else "?" for c in text[:250])
        self._ring.refuse(_ring.INVALID, clean.encode("utf-8", "replace")[:250])
