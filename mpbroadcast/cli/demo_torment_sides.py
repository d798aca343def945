"""The two sides of ``mpbroadcast demo --torment``: a broadcaster, and a ``multiprocessing.Queue`` in the same place.

Runs in: the demo; each side has workers, a distributor and a watcher. The account of each side is kept by the workers
(a number before and after each call) and by the watcher, in shared memory that has nothing to do with either.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import queue
import signal
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

    from mpbroadcast.event.model import Event

__all__ = ["Account", "BroadcasterSide", "QueueSide", "Side", "Tally"]

WORKERS: Final = 3
LIVES: Final = 64  # workers of one side in all, one after another
_PAUSE: Final = 0.002  # seconds between two events of a worker
_LOOK: Final = 0.2  # seconds that the queue's processes wait for one another at a time


class Account(NamedTuple):
    """What a side's workers and its watcher say.

    Attributes:
        accepted: calls that returned with success.
        doubt: calls that a kill interrupted; whether such an event arrives is open.
        arrived: different events that the watcher got.
        repeated: events that it got once more.
        missing: accepted events that it did not get.
    """

    accepted: int
    doubt: int
    arrived: int
    repeated: int
    missing: int


class Tally:
    """Shared memory: for each worker's life how far it is, and how far the watcher is with it."""

    _CELLS: Final = 5
    _ATTEMPTED, _ACCEPTED, _NEXT, _GAPS, _REPEATED = range(_CELLS)

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * (LIVES * self._CELLS + 2))
        self._cells = memoryview(self._memory).cast("Q")
        self._end = LIVES * self._CELLS

    @property
    def finishing(self) -> bool:
        """Whether workers are to end."""
        return bool(self._cells[self._end])

    def finish(self) -> None:
        """Lets the workers end."""
        self._cells[self._end] = 1

    def send(self, life: int, call: Callable[[str], bool]) -> None:
        """Call with the next number of a life, written down before and after."""
        at, cells = life * self._CELLS, self._cells
        number = cells[at + self._ACCEPTED]
        cells[at + self._ATTEMPTED] = number + 1
        if call(f"{life}:{number}"):
            cells[at + self._ACCEPTED] = number + 1

    def receive(self, text: str) -> None:
        """The watcher got this. A life's numbers come in order, so the next one expected tells what is missing."""
        life, number = map(int, text.split(":"))
        at, cells = life * self._CELLS, self._cells
        expected = cells[at + self._NEXT]
        if number < expected:
            cells[at + self._REPEATED] += 1
        else:
            cells[at + self._GAPS] += number - expected
            cells[at + self._NEXT] = number + 1

    def account(self) -> Account:
        """How it stands now."""
        accepted = doubt = arrived = repeated = missing = 0
        for life in range(LIVES):
            attempted, sure, following, gaps, again = self._cells[life * self._CELLS :][: self._CELLS].tolist()
            accepted += sure
            doubt += attempted - sure
            arrived += following - gaps
            repeated += again
            missing += gaps + max(0, sure - following)
        return Account(accepted, doubt, arrived, repeated, missing)


class Side(Protocol):
    """One of the two."""

    name: str
    tally: Tally

    def start(self) -> None:
        """Start everything."""

    def keep(self) -> None:
        """Start anew what died, as far as that is the demo's business here."""

    def pid_of(self, who: str) -> int:
        """The process that is a ``worker``, the ``distributor`` or the ``watcher`` now; 0: there is none."""

    def end(self) -> None:
        """Let everything finish, for some seconds at the most."""


class _Workers:
    """Worker processes; one that was killed is replaced by another with a number of its own."""

    def __init__(self, tally: Tally, call: Callable[[], tuple[Callable[[str], bool], Callable[[], None]]]) -> None:
        self._tally, self._call, self._lives = tally, call, 0
        self.processes: list[BaseProcess] = []

    def keep(self) -> None:
        self.processes = [process for process in self.processes if process.is_alive()]
        while len(self.processes) < WORKERS and self._lives < LIVES and not self._tally.finishing:
            process = multiprocessing.get_context("fork").Process(target=self._work, args=(self._lives,), daemon=True)
            process.start()
            self.processes.append(process)
            self._lives += 1

    def _work(self, life: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        send, close = self._call()
        while not self._tally.finishing:
            self._tally.send(life, send)
            time.sleep(_PAUSE)
        close()

    def end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


class BroadcasterSide:
    """Ours: helpers are replaced by their spares, without the demo's help."""

    name = "mpbroadcast"

    def __init__(self) -> None:
        self.tally = Tally()

    def start(self) -> None:
        """Start the broadcaster, its watcher, and the workers."""
        from mpbroadcast.broadcaster import FullChannelBehavior  # noqa: PLC0415 - only when it runs
        from mpbroadcast.event.parts import ObjectReference  # noqa: PLC0415
        from mpbroadcast.event_broadcaster import EventBroadcaster  # noqa: PLC0415

        tally = self.tally

        def watch(event: Event) -> None:
            tally.receive(event.message)

        wait = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
        self._broadcaster = EventBroadcaster(name="torment", full_channel_behavior=wait)
        self._broadcaster.start_event_watcher(watch, name="watcher")
        recorder, pod = self._broadcaster.new_recorder("torment"), ObjectReference("Pod", "default", "web-0")

        def send(text: str) -> bool:
            return recorder.event(pod, "Normal", "Counted", text)

        self._workers = _Workers(tally, lambda: (send, lambda: None))
        self._workers.keep()

    def keep(self) -> None:
        """Replace workers; the helpers look after themselves."""
        self._workers.keep()

    def pid_of(self, who: str) -> int:
        """See `Side.pid_of`."""
        if who == "worker":
            return self._workers.processes[0].pid or 0
        stats = self._broadcaster.stats()
        helper = stats.distributor if who == "distributor" else stats.watchers[0].helper
        return helper.pid if helper.spare_pid and helper.pid != os.getpid() else 0

    def end(self) -> None:
        """Shut down in order: what was accepted is delivered."""
        self.tally.finish()
        self._workers.end(5.0)
        self._broadcaster.shutdown(20.0)


class QueueSide:
    """The same out of two ``multiprocessing.Queue``; the demo starts anew at once what was killed."""

    name = "multiprocessing.Queue"

    def __init__(self) -> None:
        self.tally = Tally()

    def start(self) -> None:
        """Start distributor, watcher and workers."""
        context = multiprocessing.get_context("fork")
        self._inbox: Any = context.Queue(10_000)
        self._outbox: Any = context.Queue(10_000)
        self._helpers: dict[str, BaseProcess] = {}
        self._workers = _Workers(self.tally, lambda: (self._put, self._close))
        self.keep()

    def _put(self, text: str) -> bool:
        try:
            self._inbox.put(text, timeout=_LOOK)
        except queue.Full:
            return False
        return True

    def _close(self) -> None:
        self._inbox.close()
        self._inbox.join_thread()

    def _distribute(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            with contextlib.suppress(queue.Empty):
                self._outbox.put(self._inbox.get(timeout=_LOOK))

    def _watch(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            with contextlib.suppress(queue.Empty):
                self.tally.receive(self._outbox.get(timeout=_LOOK))

    def keep(self) -> None:
        """Replace whatever died."""
        self._workers.keep()
        for who, work in (("distributor", self._distribute), ("watcher", self._watch)):
            if who not in self._helpers or not self._helpers[who].is_alive():
                self._helpers[who] = multiprocessing.get_context("fork").Process(target=work, daemon=True)
                self._helpers[who].start()

    def pid_of(self, who: str) -> int:
        """See `Side.pid_of`."""
        process = self._workers.processes[0] if who == "worker" else self._helpers[who]
        return process.pid or 0

    def end(self) -> None:
        """Let the workers hand over what they have, and the rest arrive, as long as anything moves."""
        self.tally.finish()
        self._workers.end(3.0)
        before = -1
        while (arrived := self.tally.account().arrived) != before:
            before = arrived
            time.sleep(1.0)
        for process in self._helpers.values():
            process.kill()
            process.join()
        for one in (self._inbox, self._outbox):
            one.close()
            one.cancel_join_thread()
