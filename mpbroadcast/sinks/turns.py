"""Whose turn it is: queues per object, what waits to be tried again, and workers that sleep meanwhile.

Runs in: the loop's thread of a sink. Decides nothing about events; see `concurrent` for the rules.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable
    from random import Random

    from mpbroadcast.sinks.work import Item
    from mpbroadcast.sinks.write import Write

__all__ = ["WAITING", "Turns"]

WAITING: Final = 64
"""Objects whose try failed, beyond which no other one is tried until one of them succeeds: it would fail as well."""

_PROBE_EVERY: Final = 8  # tries of objects that wait, between two tries of new ones while some have had their tries
_WAKE_SECONDS: Final = 0.2  # after an outage, what waits is tried again within this time, not all at once


class Turns:
    """The items of one engine. Not thread-safe.

    Args:
        loop: has the timers.
        rng: spreads what is tried again.

    Attributes:
        pending: how many items are in here or under way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: Random) -> None:
        self._loop = loop
        self._rng = rng
        self.pending = 0
        self._queues: dict[Hashable, deque[Item] | None] = {}  # objects with an item under way, and what is behind it
        self._ready: deque[Item] = deque()
        self._again: deque[Item] = deque()
        self._waiting: dict[Item, asyncio.TimerHandle] = {}
        self._names: dict[Hashable, list[Item]] = {}
        self._sleepers: list[asyncio.Future[None]] = []
        self._hold_until = 0.0
        self._retried = 0

    def add(self, item: Item) -> None:
        """Put an item behind the others of its object."""
        self.pending += 1
        if item.key in self._queues:
            queue = self._queues[item.key]
            if queue is None:
                queue = self._queues[item.key] = deque()
            queue.append(item)
            return
        self._queues[item.key] = None
        self._ready.append(item)
        if self._sleepers:
            self.wake(1)

    def take(self) -> Item | None:
        """Give an item to be tried; None if there is none now."""
        if self._hold_until and self._loop.time() < self._hold_until:
            return None
        if self._ready and (len(self._waiting) + len(self._again) < WAITING or self._may_probe()):
            self._retried = 0
            return self._ready.popleft()
        if self._again:
            self._retried += 1
            return self._again.popleft()
        return None

    def _may_probe(self) -> bool:
        """Whether to try another object, though many wait: only another one can tell whether those are to blame."""
        return self._retried >= _PROBE_EVERY and any(
            item.write is not None and item.write.is_exhausted for item in (*self._waiting, *self._again)
        )

    async def sleep(self) -> None:
        """Wait until there may be something to take."""
        sleeper: asyncio.Future[None] = self._loop.create_future()
        self._sleepers.append(sleeper)
        await sleeper

    def wake(self, workers: int) -> None:
        """Have some of those that sleep look again."""
        while workers > 0 and self._sleepers:
            sleeper = self._sleepers.pop()
            if not sleeper.done():
                sleeper.set_result(None)
                workers -= 1

    def done(self, item: Item) -> None:
        """Let the next one go on: of its object, and of those that wait for the same stored event."""
        self.pending -= 1
        if item.name is not None:
            self._again.extend(self._names.pop(item.name))
        queue = self._queues[item.key]
        if queue:
            self._ready.append(queue.popleft())
            if self._sleepers:
                self.wake(1)
        else:
            del self._queues[item.key]

    # What failed

    def later(self, item: Item, seconds: float) -> None:
        """Have an item tried again after a time; its object waits, and nobody else."""
        self._waiting[item] = self._loop.call_later(seconds, self._try_again, item)

    def _try_again(self, item: Item) -> None:
        if self._waiting.pop(item, None) is not None:
            self._again.append(item)
            self.wake(1)

    def soon(self) -> None:
        """Have everything that waits tried again soon, each at another moment, and none before its time."""
        now = self._loop.time()
        for item, handle in self._waiting.items():
            at = max(now + self._rng.random() * _WAKE_SECONDS, item.not_before)
            if at < handle.when():
                handle.cancel()
                self._waiting[item] = self._loop.call_at(at, self._try_again, item)

    def hold(self, seconds: float, workers: int) -> None:
        """Give out nothing for a time, after which as many workers are woken."""
        self._hold_until = max(self._hold_until, self._loop.time() + seconds)
        self._loop.call_at(self._hold_until, self.wake, workers)

    def stop(self) -> None:
        """Let go of the timers."""
        for handle in self._waiting.values():
            handle.cancel()

    # Stored events that several objects share

    def has_name(self, item: Item, write: Write) -> bool:
        """Take the name of the stored event; False if another item has it: then this one is taken again after it."""
        name = (write.event.namespace, write.event.name)
        if item.name == name:
            return True
        others = self._names.get(name)
        if others is not None:
            others.append(item)
            return False
        if item.name is not None:  # it had to take another one
            self._again.extend(self._names.pop(item.name))
        item.name = name
        self._names[name] = []
        return True
