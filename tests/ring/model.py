"""A ring in plain Python: what the C ring must do, without memory, atomics or processes.

Positions count bytes as the C ring's do, because a record must be contiguous: where it does not fit before the end of
the data, a pad takes the rest. That is the whole difference to a list of payloads.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

HEADER = 24
REWIND_STEP = 64 << 10
OK, FULL, TOO_LARGE, STOPPED = "ok", "full", "too_large", "stopped"


@dataclass
class Record:
    seq: int
    ts: int
    payload: bytes
    end: int
    outcome: str | None = None


@dataclass
class ModelRing:
    """A bounded ring of one producer and one consumer.

    ``waiting`` holds what head has not passed: first what was taken (in flight), then what was not.
    """

    cap: int = 64 << 10
    limit: int = 0
    head: int = 0
    tail: int = 0
    base: int = 0
    seen_head: int = 0  # as the producer knew it last; it looks again only when it must
    seen_taken: int = 0  # how many records the consumer had let go of then
    sealed: bool = False
    accepted: int = 0
    in_flight: int = 0
    waiting: deque[Record] = field(default_factory=deque)
    counts: dict[str, int] = field(default_factory=dict)

    def _end(self, size: int) -> int:
        offset = (self.tail - self.base) % self.cap
        return self.tail + (self.cap - offset if offset + size > self.cap else 0) + size

    def reserve(self, length: int) -> str:
        if length > self.cap // 2 - 32 - HEADER:
            return TOO_LARGE
        size = HEADER + (length + 7) // 8 * 8
        offset, end = (self.tail - self.base) % self.cap, self._end(size)
        crowded = self.limit and self.accepted - self.seen_taken >= self.limit
        if (
            end - self.tail > size
            or end - self.seen_head > self.cap
            or crowded
            or (offset ^ (offset + size)) >= REWIND_STEP
        ):
            self.look()
            if self.limit and len(self.waiting) >= self.limit:
                return FULL
            if self.head == self.tail:
                self.base = self.tail
            if self._end(size) - self.head > self.cap:
                return FULL
        return OK

    def look(self) -> None:
        self.seen_head, self.seen_taken = self.head, self.accepted - len(self.waiting)

    def put(self, payload: bytes, ts: int = 0) -> str:
        answer = STOPPED if self.sealed else self.reserve(len(payload))
        if answer == OK:
            self.tail = self._end(HEADER + (len(payload) + 7) // 8 * 8)
            self.accepted += 1
            self.waiting.append(Record(self.accepted, ts, payload, self.tail))
        return answer

    def take(self) -> Record | None:
        while self.in_flight < len(self.waiting):
            record = self.waiting[self.in_flight]
            self.in_flight += 1
            if record.outcome is None:
                return record
            self._move_head()  # a predecessor settled it out of order
        return None

    def settle(self, seq: int, outcome: str) -> bool:
        found = [one for one in islice(self.waiting, self.in_flight) if one.seq == seq and one.outcome is None]
        for record in found:
            record.outcome = outcome
        self._move_head()
        return bool(found)

    def settle_through(self, seq: int, outcome: str) -> None:
        for record in islice(self.waiting, self.in_flight):
            if record.seq > seq:
                break
            record.outcome = record.outcome or outcome
        self._move_head()

    def _move_head(self) -> None:
        while self.in_flight and (outcome := self.waiting[0].outcome) is not None:
            self.counts[outcome] = self.counts.get(outcome, 0) + 1
            self.head = self.waiting.popleft().end
            self.in_flight -= 1

    def reopen(self) -> None:
        """The consumer died: what it had taken and not settled comes again."""
        self.in_flight = 0
