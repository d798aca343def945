"""The delaying queue: items that are added later (Q6-Q11). Runs in: threads of one process, and one of its own.

The delayed items are in a heap. One daemon thread sleeps until the earliest is due, and adds it; it is woken when an
earlier one comes. It is started at the first delay and ends with the queue: at shutdown, or when nobody holds the
queue any more.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from mpbroadcast.workqueue.queue import Queue
from mpbroadcast.workqueue.waiting import MONOTONIC_CLOCK, to_ns

if TYPE_CHECKING:
    from mpbroadcast.workqueue.metrics import MetricsProvider
    from mpbroadcast.workqueue.queue import Storage
    from mpbroadcast.workqueue.waiting import WaitingClock

__all__ = ["DelayingQueue", "Schedule"]

T = TypeVar("T", bound=Hashable)

_SLACK: Final = 64  # replaced entries that are always tolerated before the heap is built anew


class _Entry(Generic[T]):
    """An item and when it is due; of two that are due at once the one that came first is first."""

    __slots__ = ("due_ns", "item", "number")

    def __init__(self, item: T, due_ns: int, number: int) -> None:
        self.item: T | None = item
        self.due_ns = due_ns
        self.number = number

    def __lt__(self, other: _Entry[T]) -> bool:
        return (self.due_ns, self.number) < (other.due_ns, other.number)


class Schedule(Generic[T]):
    """Which item is due when, each item once, at the earlier of its times (Q10). Pure; not thread-safe."""

    __slots__ = ("_current", "_heap", "_numbers")

    def __init__(self) -> None:
        self._heap: list[_Entry[T]] = []
        self._current: dict[T, _Entry[T]] = {}  # an entry of the heap that is not here was replaced
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """Return how many items are delayed."""
        return len(self._current)

    def insert(self, item: T, due_ns: int) -> bool:
        """Delay an item, unless it is due no later than that already.

        Returns:
            Whether it is now the first of all to be due.
        """
        known = self._current.get(item)
        if known is not None:
            if known.due_ns <= due_ns:
                return False
            known.item = None
        entry = _Entry(item, due_ns, next(self._numbers))
        self._current[item] = entry
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._current) + _SLACK:
            self._heap = sorted(self._current.values())
        return self._heap[0] is entry

    def next_due_ns(self) -> int | None:
        """Return when the first item is due; None when there is none."""
        while self._heap and self._current.get(self._heap[0].item) is not self._heap[0]:  # type: ignore[arg-type]
            heapq.heappop(self._heap)
        return self._heap[0].due_ns if self._heap else None

    def pop_due(self, now_ns: int) -> list[T]:
        """Remove and return every item that is due, the earliest first."""
        items: list[T] = []
        while (due_ns := self.next_due_ns()) is not None and due_ns <= now_ns:
            entry = heapq.heappop(self._heap)
            item: T = entry.item  # type: ignore[assignment]  # only replaced entries have lost theirs
            del self._current[item]
            items.append(item)
        return items


class _Alarm(Generic[T]):
    """A schedule with its lock and thread. It holds the queue only weakly: a queue that was dropped ends the thread."""

    def __init__(self, queue: Queue[T], clock: WaitingClock) -> None:
        self._queue = weakref.ref(queue)
        self._clock = clock
        self._stopped = False
        self.renew()

    def renew(self) -> None:
        """Begin with nothing delayed, a new lock and no thread, in a forked child."""
        self._changed = threading.Condition()
        self._schedule: Schedule[T] = Schedule()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        with self._changed:
            return len(self._schedule)

    def set(self, item: T, due_ns: int) -> None:
        """Delay an item; ignored once stopped."""
        with self._changed:
            if self._stopped:
                return
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="workqueue delay", daemon=True)
                thread.start()
                self._thread = thread
            if self._schedule.insert(item, due_ns):
                self._changed.notify_all()

    def stop(self) -> None:
        """Forget every delayed item and end the thread. Does not wait for it."""
        with self._changed:
            self._stopped = True
            self._schedule = Schedule()
            self._changed.notify_all()

    def _serve(self) -> None:
        while self._add_due(self._wait_for_due()):
            pass

    def _wait_for_due(self) -> list[T]:
        """Block until something is due and return it; nothing when stopped."""
        with self._changed:
            while not self._stopped:
                items = self._schedule.pop_due(self._clock.now_ns())
                if items:
                    return items
                self._clock.wait_until(self._changed, self._schedule.next_due_ns())
        return []

    def _add_due(self, items: list[T]) -> bool:
        """Add items to the queue, without the alarm's lock; False when the thread is to end.

        Apart from the waiting, so that no item and no queue stays in a variable of a thread that sleeps.
        """
        queue = self._queue()
        if queue is None:
            return False
        for item in items:
            queue.add(item)
        return bool(items)


class DelayingQueue(Queue[T]):
    """client-go's ``workqueue.DelayingInterface``: a `Queue` with `add_after`. Safe in any thread.

    Delayed items count neither for ``len()`` nor for a drain, and are forgotten at shutdown (Q6); `num_delayed` says
    how many there are. A forked child has none, and a thread of its own once it delays something.

    Args:
        name, storage, clock, metrics_provider: as for `Queue`.
    """

    def __init__(
        self,
        *,
        name: str = "",
        storage: Storage[T] | None = None,
        clock: WaitingClock = MONOTONIC_CLOCK,
        metrics_provider: MetricsProvider | None = None,
    ) -> None:
        super().__init__(name=name, storage=storage, clock=clock, metrics_provider=metrics_provider)
        self._alarm: _Alarm[T] = _Alarm(self, clock)
        weakref.finalize(self, self._alarm.stop).atexit = False

    def add_after(self, item: T, delay: float) -> None:
        """Add an item after a delay (Q7). Waits for locks only: there is no limit of delayed items to wait for.

        Ignored once the queue shuts down. An item that is delayed already is added at the earlier of both times, once
        (Q10). An `add` meanwhile is independent of that: the item then comes twice (Q11).

        Args:
            item: the item.
            delay: seconds; at or below 0 it is added at once. Infinity counts as 292 years.

        Raises:
            ValueError: the delay is not a number.
        """
        delay_ns = to_ns(delay)
        with self._lock:
            if self._shutting_down:
                return
            if self._metrics is not None:
                self._metrics.retried()
        if delay_ns <= 0:
            self.add(item)
        else:
            self._alarm.set(item, self._clock.now_ns() + delay_ns)

    def num_delayed(self) -> int:
        """Return how many items are delayed at present. Waits for the lock."""
        return len(self._alarm)

    def _stop_accepting(self) -> None:
        super()._stop_accepting()
        self._alarm.stop()

    def _renew_after_fork(self) -> None:
        super()._renew_after_fork()
        self._alarm.renew()
