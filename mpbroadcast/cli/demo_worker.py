"""A worker of the demo's controller: takes tasks, reconciles, records events. Runs in: each forked worker process.

Inside it is a small client-go controller: a thread brings tasks into a rate limiting work queue, the main thread
reconciles; what fails is tried again later. The worker counts on its own what it recorded; the demo's accounting is
checked against that.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import queue
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.workqueue import ItemExponentialFailureRateLimiter, RateLimitingQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpbroadcast.cli.demo_tasks import Task
    from mpbroadcast.recorder import EventRecorder

__all__ = ["Tally", "work"]

_AT_ONCE: Final = 16  # tasks of one worker: enough to have some while others wait for their next try
_FIRST_DELAY: Final = 0.005  # seconds after the first failure, twice as long after each further one
_LONGEST_DELAY: Final = 1.0
_LOOK_SECONDS: Final = 1.0  # between two looks at whether the controller still lives
_DONE: Final = {"Pod": "running", "Deployment": "all replicas are available", "Backup": "3.2 GiB written"}
_NODES: Final = ("node-1", "node-2", "node-3")


class Tally:
    """What the workers count themselves, in shared memory of their own: nothing of it goes through the broadcaster.

    Each worker has four cells that it alone writes: calls begun, accepted, refused, and warnings accepted. One that is
    killed in the middle of a call leaves one call more than answers, at the most.

    Args:
        workers: how many.
    """

    _CELLS: Final = 4

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, 8 * self._CELLS * workers)  # shared with forked children, zero at the start
        self._cells = memoryview(self._memory).cast("Q")

    def count(self, worker: int, call: Callable[[], bool], *, warning: bool) -> None:
        """Make one call of a recorder and count it, before and after."""
        first, cells = worker * self._CELLS, self._cells
        cells[first] += 1
        if call():
            cells[first + 1] += 1
            if warning:
                cells[first + 3] += 1
        else:
            cells[first + 2] += 1

    def _sum(self, cell: int) -> int:
        return sum(self._cells[cell :: self._CELLS].tolist())

    @property
    def calls(self) -> int:
        """Calls that were begun."""
        return self._sum(0)

    @property
    def accepted(self) -> int:
        """Calls that were answered with True."""
        return self._sum(1)

    @property
    def refused(self) -> int:
        """Calls that were answered with False."""
        return self._sum(2)

    @property
    def warnings(self) -> int:
        """Accepted events of type Warning."""
        return self._sum(3)


class _Failed(Exception):
    """A task did not succeed; it is tried again."""


class _Worker:
    """The reconciler of one worker process."""

    def __init__(
        self, number: int, recorder: EventRecorder, objects: Mapping[str, Sequence[Any]], tally: Tally
    ) -> None:
        self._number = number
        self._recorder = recorder
        self._objects = objects
        self._tally = tally
        self._recorded: dict[Task, int] = {}
        self.queue: RateLimitingQueue[Task] = RateLimitingQueue(
            ItemExponentialFailureRateLimiter(_FIRST_DELAY, _LONGEST_DELAY)
        )

    def run(self, finished: Callable[[], None]) -> None:
        """Reconcile until the queue is shut down."""
        for task in self.queue:
            with self.queue.processing(task):
                try:
                    self._reconcile(task, self.queue.num_requeues(task))
                except _Failed:
                    self.queue.add_rate_limited(task)
                    continue
                self.queue.forget(task)
                self._recorded.pop(task, None)
            finished()

    def _reconcile(self, task: Task, attempt: int) -> None:
        obj = self._objects[task.kind][task.which]
        if attempt == 0:
            self._record(task, obj, "Normal", *_first(task, obj))
        if attempt < task.failures:
            self._record(task, obj, "Warning", *_failure(task, attempt))
            raise _Failed
        self._record(task, obj, "Normal", "TaskProcessed", f"Task {task.number}: {_DONE[task.kind]}")

    def _record(self, task: Task, obj: Any, type_: str, reason: str, message: str) -> None:
        recorded = self._recorded.get(task, 0)
        if recorded == task.events:
            return  # the total that was asked for is reached
        self._recorded[task] = recorded + 1
        self._tally.count(
            self._number, lambda: self._recorder.event(obj, type_, reason, message), warning=type_ == "Warning"
        )


def _first(task: Task, obj: Any) -> tuple[str, str]:
    if task.kind == "Pod":
        return "PodCreated", f"Assigned to {_NODES[task.which % len(_NODES)]}"
    if task.kind == "Deployment":
        replicas = obj.spec.replicas + task.number % 3
        return "ScalingReplicaSet", f"Scaled up to {replicas} replicas"
    return "BackupStarted", "Writing to the volume backups"


def _failure(task: Task, attempt: int) -> tuple[str, str]:
    if task.kind == "Pod":
        if attempt:
            return "BackOff", "Back-off restarting failed container app"
        return "PodFailed", f"Container app ended with exit code {(1, 137)[task.number % 2]}"
    if task.kind == "Deployment":
        return "FailedCreate", "Quota exceeded: limits.memory"
    return "BackOff", "The volume backups is busy"


def _next(tasks: Any) -> Task | None:
    """Wait for a task; None is the end, and so is the death of the controller."""
    controller = multiprocessing.parent_process()
    while controller is None or controller.is_alive():
        with contextlib.suppress(queue.Empty):
            task: Task | None = tasks.get(timeout=_LOOK_SECONDS)
            return task
    return None


def work(number: int, tasks: Any, recorder: EventRecorder, objects: Mapping[str, Sequence[Any]], tally: Tally) -> None:
    """Be a worker: work on tasks until a None comes out of the queue and all of one's own are done. Blocks.

    Args:
        number: of this worker, from 0.
        tasks: a multiprocessing queue of `Task`.
        recorder: the application's; it records from this process as it is.
        objects: by kind.
        tally: where to count.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's business, which ends this process
    worker = _Worker(number, recorder, objects, tally)
    room = threading.Semaphore(_AT_ONCE)

    def bring() -> None:
        while True:
            room.acquire()
            task = _next(tasks)
            if task is None:
                break
            worker.queue.add(task)
        for _ in range(_AT_ONCE - 1):  # the one that was taken for None is not coming back
            room.acquire()
        worker.queue.shut_down()

    bringer = threading.Thread(target=bring, name="tasks", daemon=True)
    bringer.start()
    worker.run(room.release)
    bringer.join()
