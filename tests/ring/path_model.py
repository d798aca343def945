"""The whole shared-memory path in plain Python: lanes, the distributor's rounds and batches, watcher rings.

Time is a counter that ticks at each put, registration and stop, as all of them happen in one thread here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from tests.ring.model import OK, STOPPED, TOO_LARGE, ModelRing, Record

BATCH_RECORDS, BATCH_BYTES = 256, 256 << 10
REGISTERED, ACTIVE, STOPPING, CLOSED, ENDED = "registered", "active", "stopping", "closed", "ended"


@dataclass
class ModelSlot:
    ring: ModelRing
    waits: bool
    start: int
    state: str = REGISTERED
    stop: int = 0
    dropped: int = 0
    outside: int = 0
    decided: dict[int, int] = field(default_factory=dict)  # lane -> sequence of the last record this ring has decided
    at: int = 0
    active: bool = False
    stopping: bool = False


class ModelPath:
    def __init__(self, lanes: int, cap: int, lane_limit: int) -> None:
        self.clock = itertools.count(1)
        self.lanes = [ModelRing(cap, lane_limit) for _ in range(lanes)]
        self.slots: dict[int, ModelSlot] = {}
        self.draining = self.drained = self.impatient = self.sealed = False
        self.restart()

    def put(self, lane: int, payload: bytes) -> str:
        return STOPPED if self.draining else self.lanes[lane].put(payload, next(self.clock))

    def restart(self) -> None:
        """The distributor died: the next one reads on from the heads, and each ring skips what it has decided."""
        self.due: list[tuple[int, Record]] | None = None
        self.batch: list[tuple[int, Record]] = []
        for lane in self.lanes:
            lane.reopen()
        for slot in self.slots.values():
            slot.active = slot.state in (ACTIVE, STOPPING)

    def step(self) -> bool:
        """What ``run(0)`` does; True: drained."""
        if self.due is None:
            self._begin_round()
        if not self.batch:
            self._fill_batch()
        if self.batch:
            self._settle_batch()
            return False
        self._end_round()
        self.drained = self.sealed
        if self.drained:
            for slot in self.slots.values():
                if slot.state in (REGISTERED, ACTIVE, STOPPING):
                    slot.state = ENDED
        return self.drained

    def _begin_round(self) -> None:
        for slot in self.slots.values():
            if slot.state == REGISTERED:
                slot.state, slot.active = ACTIVE, True
                slot.decided = {i: lane.accepted - len(lane.waiting) for i, lane in enumerate(self.lanes)}
            slot.stopping = slot.state == STOPPING
            slot.active = slot.state in (ACTIVE, STOPPING)
        self.due = []
        for i, lane in enumerate(self.lanes):
            lane.sealed = self.sealed = self.draining
            while record := lane.take():
                self.due.append((i, record))
        self.due.sort(key=lambda pair: pair[1].ts)

    def _fill_batch(self) -> None:
        size = 0
        assert self.due is not None
        while self.due and len(self.batch) < BATCH_RECORDS and size < BATCH_BYTES:
            self.batch.append(self.due.pop(0))
            size += len(self.batch[-1][1].payload)
        for slot in self.slots.values():
            slot.at = 0

    def _settle_batch(self) -> None:
        active = [slot for slot in self.slots.values() if slot.active]
        for slot in active:
            self._decide(slot)
        done = min((slot.at for slot in active), default=len(self.batch))
        for lane, seq in {lane: record.seq for lane, record in self.batch[:done]}.items():
            self.lanes[lane].settle_through(seq, "forwarded")
        if done == len(self.batch):
            self.batch = []

    def _decide(self, slot: ModelSlot) -> None:
        for lane, record in self.batch[slot.at :]:
            if record.seq > slot.decided.get(lane, 0):
                if record.ts < slot.start or (slot.stopping and record.ts >= slot.stop):
                    slot.outside += 1
                elif (answer := slot.ring.put(record.payload)) != OK:
                    if answer != TOO_LARGE and slot.waits and slot.state == ACTIVE and not self.impatient:
                        return
                    slot.dropped += 1
                slot.decided[lane] = record.seq
            slot.at += 1

    def _end_round(self) -> None:
        for slot in self.slots.values():
            if slot.stopping and slot.active:
                slot.state, slot.active = CLOSED, False
        self.due = None
