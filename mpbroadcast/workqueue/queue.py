"""The work queue: first in, first out, each item at most once, and never with two workers at once (Q1-Q5).

Runs in: threads of one process. An item that is added while a worker has it comes back when that worker is done::

    add ──► dirty ──► waiting ──get──► in process ──done──► forgotten
                         ▲                  │ added meanwhile: dirty again
                         └──────────────────┘ on done

Invariant: what waits is dirty and not in process.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Hashable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

from mpbroadcast.workqueue.forking import renew_in_child
from mpbroadcast.workqueue.metrics import QueueMetrics, provider_in_use
from mpbroadcast.workqueue.waiting import MONOTONIC_CLOCK, to_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpbroadcast.workqueue.metrics import MetricsProvider
    from mpbroadcast.workqueue.waiting import WaitingClock

__all__ = ["FIFO", "Queue", "Storage"]

T = TypeVar("T", bound=Hashable)


class Storage(Protocol[T]):
    """Where waiting items are kept, and so in which order they come out.

    Every method is called with the queue's lock held, by any thread: it must not block. One that raises leaves the
    queue as it was, and the caller of `Queue` gets the exception.
    """

    def touch(self, item: T, /) -> None:
        """An item that waits already was added again; a priority might change."""
        ...  # pragma: no cover

    def push(self, item: T, /) -> None:
        """Keep an item that is not kept yet."""
        ...  # pragma: no cover

    def pop(self) -> T:
        """Hand out the next item and keep it no longer; only called when there is one."""
        ...  # pragma: no cover

    def __len__(self) -> int:
        """Return how many items are kept."""
        ...  # pragma: no cover


class FIFO(Generic[T]):
    """The default storage: first in, first out."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: deque[T] = deque()

    def touch(self, item: T, /) -> None:
        """Leave the item where it is."""

    def push(self, item: T, /) -> None:
        """Put an item behind the others."""
        self._items.append(item)

    def pop(self) -> T:
        """Hand out the oldest item."""
        return self._items.popleft()

    def __len__(self) -> int:
        return len(self._items)


class Queue(Generic[T]):
    """client-go's ``workqueue.Interface`` for items of one hashable type. Safe in any thread.

    A worker::

        for item in queue:
            with queue.processing(item):
                reconcile(item)

    The same in client-go's words: ``item, shutdown = queue.get()``, and ``queue.done(item)`` at the end, always.

    Fork: a child gets a working, empty queue of its own (still shut down if it was). The items stay with the parent,
    whose workers process them; locks that were held at the fork are not inherited. It cannot be pickled.

    Signals: do not use it in a signal handler; the thread that was interrupted may be just about to wait.

    Args:
        name: for the metrics; a queue without a name has none.
        storage: where waiting items are kept, empty and used by no other queue; `FIFO` by default.
        clock: for metrics, delays and time-outs.
        metrics_provider: who makes the metrics; by default the one of `set_provider`.
    """

    def __init__(
        self,
        *,
        name: str = "",
        storage: Storage[T] | None = None,
        clock: WaitingClock = MONOTONIC_CLOCK,
        metrics_provider: MetricsProvider | None = None,
    ) -> None:
        self._clock = clock
        self._waiting: Storage[T] = FIFO() if storage is None else storage
        self._shutting_down = False
        self._releases = 0  # how often `shut_down` was called: each call ends the drains that wait then
        self._make_empty()
        provider = provider_in_use(metrics_provider) if name else None
        self._metrics: QueueMetrics[T] | None = None
        if provider is not None:
            self._metrics = QueueMetrics(name, provider, clock, self._lock)
            # The thread of the metrics knows nothing of the queue, so a queue that was dropped ends it.
            weakref.finalize(self, self._metrics.stop).atexit = False
        renew_in_child(self)

    def _make_empty(self) -> None:
        # Re-entrant, so that a storage may ask the queue's length and a finalizer that adds an item cannot hang.
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)  # something waits, or the queue shuts down
        self._idle = threading.Condition(self._lock)  # a drain may be over
        self._dirty: set[T] = set()
        self._processing: set[T] = set()
        self._put_back: set[T] = set()  # waiting again after `done`, in a queue that shuts down: a drain waits for it

    def _renew_after_fork(self) -> None:
        """Become an empty queue with new locks, in a forked child. The child has one thread, so nobody waits."""
        self._make_empty()
        while len(self._waiting):
            self._waiting.pop()
        if self._metrics is not None:
            self._metrics.renew(self._lock)

    def __len__(self) -> int:
        """Return how many items wait for a worker: neither those in process nor those delayed. Waits for the lock."""
        with self._lock:
            return len(self._waiting)

    def add(self, item: T) -> None:
        """Mark an item as to be processed (Q1). Never waits for anything but the queue's lock.

        Ignored once the queue shuts down. An item that waits already is not added again; one that is in process comes
        back, once, when its worker is done.
        """
        with self._lock:
            if self._shutting_down:
                return
            if item in self._dirty:
                if item not in self._processing:
                    self._waiting.touch(item)
                return
            if item not in self._processing:
                self._waiting.push(item)
                self._ready.notify()
            self._dirty.add(item)
            if self._metrics is not None:
                self._metrics.added(item)

    def get(self) -> tuple[T, Literal[False]] | tuple[None, Literal[True]]:
        """Take the next item for processing (Q2). Blocks until there is one or the queue is shut down.

        Returns:
            The item and False, and then `done` must be called with it; or None and True when the queue is shut down
            and nothing waits any more: the worker ends.
        """
        with self._lock:
            try:
                while not len(self._waiting):
                    if self._shutting_down:
                        return None, True
                    self._clock.wait_until(self._ready, None)
                item = self._waiting.pop()
            except BaseException:
                # Interrupted (Ctrl-C): this thread may have used up the only notification of an item.
                self._ready.notify()
                raise
            self._processing.add(item)
            self._dirty.discard(item)
            self._put_back.discard(item)
            if self._metrics is not None:
                self._metrics.taken(item)
            return item, False

    def done(self, item: T) -> None:
        """Say that an item's processing has ended, well or not (Q3). Never waits for anything but the queue's lock.

        If it was added meanwhile, it waits again from now on, also in a queue that shuts down. An item that is not in
        process is ignored (in client-go a waiting one is duplicated by that: W48).
        """
        with self._lock:
            if item not in self._processing:
                return
            if item in self._dirty:
                self._waiting.push(item)
                self._ready.notify()
                if self._shutting_down:
                    self._put_back.add(item)
            self._processing.discard(item)
            if self._metrics is not None:
                self._metrics.finished(item)
            if not self._processing:
                self._idle.notify_all()

    @contextmanager
    def processing(self, item: T) -> Iterator[T]:
        """Call `done` at the end of a ``with`` block, also when that raises; the exception goes on."""
        try:
            yield item
        finally:
            self.done(item)

    def __iter__(self) -> Iterator[T]:
        """Get items until the queue is shut down and empty; `done` is the caller's, best with `processing`."""
        while True:
            got = self.get()
            if got[1]:
                return
            yield got[0]
            del got  # while this thread waits for the next item, nothing here holds one that is done

    def shut_down(self) -> None:
        """Accept nothing more (Q4). Does not block; releases every blocked `get` and `shut_down_with_drain`.

        What waits is still handed out before the workers are told to end. May be called again.
        """
        with self._lock:
            self._releases += 1
            self._stop_accepting()

    def shut_down_with_drain(self, timeout: float | None = None, *, include_waiting: bool = False) -> bool:
        """Accept nothing more, and block until the workers are done with what they have (Q5).

        As in client-go it looks at what is *in process*: with items waiting but no worker at work it returns at once,
        unless ``include_waiting`` is set. An item that was added again while in process is waited for as well, so
        workers must go on until `get` tells them to end. Any number of threads may call it; all return (W48).

        Args:
            timeout: seconds after which it returns anyway; None to wait for ever.
            include_waiting: wait also until nothing waits any more.

        Returns:
            Whether everything is done; False after the time-out, or when `shut_down` ended the wait.
        """
        deadline_ns = None if timeout is None else self._clock.now_ns() + to_ns(timeout)
        with self._lock:
            self._stop_accepting()
            releases = self._releases
            while unfinished := self._is_unfinished(include_waiting):
                if releases != self._releases or (deadline_ns is not None and self._clock.now_ns() >= deadline_ns):
                    break
                self._clock.wait_until(self._idle, deadline_ns)
            return not unfinished

    def _is_unfinished(self, include_waiting: bool) -> bool:
        return bool(self._processing or self._put_back or (include_waiting and len(self._waiting)))

    def _stop_accepting(self) -> None:
        self._shutting_down = True
        if self._metrics is not None:
            self._metrics.stop()
        self._ready.notify_all()
        self._idle.notify_all()

    def shutting_down(self) -> bool:
        """Say whether the queue was told to shut down. Waits for the lock."""
        with self._lock:
            return self._shutting_down

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a work queue belongs to the threads of one process and cannot be pickled")
