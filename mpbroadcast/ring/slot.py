"""A watcher's place in the segment. Runs in: any process of the broadcaster."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from mpbroadcast.errors import SegmentError
from mpbroadcast.ring import _ring

if TYPE_CHECKING:
    from mpbroadcast.ring.segment import Segment

__all__ = ["Slot"]

CLOSING_SECONDS: Final = 5.0  # for a distributor that has only just started


class Slot:
    """A watcher's place in the segment, from registration to the end. Any process may hold it and stop it."""

    def __init__(self, segment: Segment, index: int) -> None:
        self.segment = segment
        self.index = index
        self.generation = segment.ring.slot_get(index, "generation")

    @classmethod
    def claim(cls, segment: Segment, *, name: str, policy: int, managed: bool, limit: int) -> Slot | None:
        """A free slot, or None. Managed: it has a helper, which shutdown waits for."""
        index = segment.ring.claim_slot(name.encode("utf-8", "replace")[:63], policy, managed, limit)
        return None if index < 0 else cls(segment, index)

    @classmethod
    def take_over(cls, segment: Segment, *, name: str, policy: int, limit: int) -> Slot | None:
        """The slot that a watcher of that name left in a file when its program died; it goes on where that one was.

        A watcher that had been stopped is watched again from now on, behind what it had not handled. Waits some
        milliseconds at the most, for the distributor to close such a slot.
        """
        ring, wanted = segment.ring, name.encode("utf-8", "replace")[:63]
        for left in ring.snapshot()["slots"]:
            index = left["index"]
            if left["managed"] != _ring.MANAGED_LEFT or left["name"] != wanted or left["state"] == _ring.SLOT_FREE:
                continue
            ring.slot_set(index, "managed", 1)
            ring.slot_set(index, "policy", policy)
            ring.slot_set(index, "limit", limit)
            deadline = time.monotonic() + CLOSING_SECONDS
            while ring.slot_get(index, "state") == _ring.SLOT_STOPPING and time.monotonic() < deadline:
                time.sleep(0.001)
            slot = cls(segment, index)
            if ring.slot_get(index, "state") in (_ring.SLOT_REGISTERED, _ring.SLOT_ACTIVE):
                return slot
            ring.slot_set(index, "registered_at", time.time_ns())
            ring.slot_set(index, "start_ts", time.monotonic_ns())
            if ring.slot_state_change(index, _ring.SLOT_CLOSED, _ring.SLOT_REGISTERED):
                return slot
            ring.slot_set(index, "managed", _ring.MANAGED_LEFT)
        return None

    @property
    def registered(self) -> bool:
        """Whether events are delivered to it."""
        return self.state in (_ring.SLOT_REGISTERED, _ring.SLOT_ACTIVE)

    def register(self) -> bool:
        """From now on events are delivered; False when the broadcaster has stopped meanwhile. Never blocks."""
        ring = self.segment.ring
        ring.slot_set(self.index, "registered_at", time.time_ns())
        ring.slot_set(self.index, "start_ts", time.monotonic_ns())
        ring.slot_state_change(self.index, _ring.SLOT_CLAIMED, _ring.SLOT_REGISTERED)
        return ring.get("state") == _ring.RUNNING

    @property
    def state(self) -> int:
        """The slot's state, or FREE when it has been given to somebody else."""
        ring = self.segment.ring
        same = ring.slot_get(self.index, "generation") == self.generation
        return ring.slot_get(self.index, "state") if same else _ring.SLOT_FREE

    def stop(self) -> None:
        """Nothing stamped from now on is delivered; what is in the ring stays. Idempotent, never blocks.

        A slot that has been given to somebody else meanwhile is left alone, whenever that happens.
        """
        self.segment.ring.slot_stop(self.index, self.generation)

    def discard(self) -> None:
        """Gives back a slot that was claimed and will not be used, whatever became of it meanwhile."""
        ring = self.segment.ring
        self.stop()
        for state in (_ring.SLOT_CLAIMED, _ring.SLOT_REGISTERED, _ring.SLOT_CLOSED, _ring.SLOT_ENDED):
            if self.state == state and ring.slot_state_change(self.index, state, _ring.SLOT_FREE):
                break
        if self.state != _ring.SLOT_FREE:  # STOPPING: the distributor closes it, and frees what has no consumer
            ring.slot_set(self.index, "managed", 0)
            ring.slot_set(self.index, "finished", 1)
        with contextlib.suppress(SegmentError):
            ring.unlock(_ring.LOCK_SLOT + self.index)

    def release(self) -> None:
        """The consumer has read everything: the slot may be used again."""
        for state in (_ring.SLOT_CLOSED, _ring.SLOT_ENDED):
            if self.state == state:
                self.segment.ring.slot_state_change(self.index, state, _ring.SLOT_FREE)
        with contextlib.suppress(SegmentError):
            self.segment.ring.unlock(_ring.LOCK_SLOT + self.index)
