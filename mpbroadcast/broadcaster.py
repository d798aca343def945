"""The broadcaster: makes the segment, starts the distributor and the watchers, shuts down in order.

Runs in: the application. This is the only place that joins the stops of the path. `Broadcaster` is apimachinery's
``watch.Broadcaster`` across processes; `event_broadcaster.EventBroadcaster` adds client-go's event machinery to it.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import sys
import time
import weakref
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Self

from mpbroadcast.base import identity
from mpbroadcast.base.text import counted
from mpbroadcast.distributor import Distributor
from mpbroadcast.errors import BroadcastError, BroadcasterStopped, HelperError, NoFreeSlot, SegmentError
from mpbroadcast.event.wire import WatchEvent, decode, encode
from mpbroadcast.helper import check_descriptors, reap_orphans, start_process, start_thread
from mpbroadcast.lane import Lane
from mpbroadcast.ring import _ring
from mpbroadcast.ring import directory as files
from mpbroadcast.ring.segment import Segment, find_segments
from mpbroadcast.ring.slot import Slot
from mpbroadcast.stats import ShutdownReport, Stats, read_report, read_stats
from mpbroadcast.watch import Watch
from mpbroadcast.watcher import Watcher

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from mpbroadcast.helper import Job
    from mpbroadcast.sinks.handling import BatchHandler

__all__ = ["Broadcaster", "FullChannelBehavior", "WatcherHandle", "attach_segment"]

GRACE_SECONDS: Final = 30.0  # how long living workers may go on recording after the application has died
STARTING_SECONDS: Final = 5.0  # a helper that has not announced itself by then is counted as gone
EXIT_SECONDS: Final = 0.25  # for helpers to leave by themselves once they were told to
DEFAULT_LANES: Final = 64
_LONG: Final = 1e9  # seconds; a deadline in nanoseconds has 64 bits
_POLL: Final = (0.0002, 0.005)  # seconds between two looks at shared memory while waiting: first, longest

_WATCHES: Final = itertools.count(1)  # each has a name of its own

_log = logging.getLogger("mpbroadcast")


class FullChannelBehavior(IntEnum):
    """What happens when a watcher's ring has no room for an event; apimachinery's names and numbers."""

    WAIT_IF_CHANNEL_FULL = _ring.POLICY_WAIT
    """The distributor waits; lanes fill up behind it, and recorders get False. Nobody who records waits."""
    DROP_IF_CHANNEL_FULL = _ring.POLICY_DROP
    """The event is dropped for that watcher alone, and counted."""


@dataclass(frozen=True, slots=True)
class _Options:
    """What every process that has the broadcaster needs to know of it."""

    queue_length: int | None
    behavior: FullChannelBehavior
    processes: bool
    context: str
    keep_fds: tuple[int, ...]


@dataclass(slots=True)
class _Started:
    job: Job
    context: str
    pid: int  # who started it
    at: float
    thread: threading.Thread | None = None


class WatcherHandle:
    """A running watcher, as ``start_event_watcher`` and its sisters return it.

    Attributes:
        name: of the watcher, as in ``stats()`` and ``ps``.
    """

    def __init__(self, slot: Slot, name: str) -> None:
        self._slot = slot
        self.name = name

    def stop(self) -> None:
        """Ends the watch: nothing recorded from now on is delivered; what is in its ring still is (L10).

        Idempotent, never blocks, from any process that has the handle.
        """
        self._slot.stop()

    @property
    def ended(self) -> bool:
        """Whether the watcher has handled everything and gone."""
        return self._slot.state == _ring.SLOT_FREE

    def __repr__(self) -> str:
        return f"<watcher {self.name}>"


class Broadcaster:
    """Distributes what any of many processes sends to every watcher: apimachinery's ``watch.Broadcaster``.

    Usable from every process that has it: forked children, and spawned ones to which it was pickled. Thread-safe. A
    context manager: leaving it shuts down.

    Args:
        name: for people: in ``ps``, in ``stats()``.
        queue_length: at most so many events in a lane, and in a watcher's ring; None: bytes alone bound them.
        lane_bytes: of each process's lane, a power of two; virtual, memory follows the backlog.
        watcher_bytes: of each watcher's ring, a power of two.
        max_processes: how many processes may record at the same time; None: 64, or four for each CPU if that is more.
        max_watchers: how many watchers may exist at the same time.
        full_channel_behavior: of watchers that do not say otherwise.
        processes: False: distributor and watchers are threads of this process, for tests and small programs.
        context: ``fork`` (any callable is a handler) or ``spawn`` (handlers are pickled).
        directory: keeps the segment in a file of this directory, which must exist: what was not delivered when all
            processes died at once (a container with its first process, say) is delivered by the next broadcaster of
            this name there, as soon as it starts watchers of the same names. The space is reserved on the disk. A
            clean end removes the file; a damaged one is set aside. None: in memory.
        keep_fds: listening sockets that forked helpers keep.

    Raises:
        ValueError: a size that makes no sense.
        SegmentError: no shared memory; or, with ``directory``, no room, or another living program uses the file.
        HelperError: the distributor could not be started.
    """

    def __init__(
        self,
        *,
        name: str = "mpbroadcast",
        queue_length: int | None = None,
        lane_bytes: int = 8 << 20,
        watcher_bytes: int = 16 << 20,
        max_processes: int | None = None,
        max_watchers: int = 16,
        full_channel_behavior: FullChannelBehavior = FullChannelBehavior.DROP_IF_CHANNEL_FULL,
        processes: bool = True,
        context: str = "fork",
        directory: str | os.PathLike[str] | None = None,
        keep_fds: Iterable[int] = (),
    ) -> None:
        if sys.platform != "linux":  # pragma: no cover
            raise BroadcastError("mpbroadcast needs Linux: its segment is a memfd with open-file-description locks")
        if context not in ("fork", "spawn"):
            raise ValueError(f"context must be 'fork' or 'spawn', not {context!r}")
        lanes = max(DEFAULT_LANES, 4 * (os.cpu_count() or 1)) if max_processes is None else max_processes
        sizes = files.Sizes(lanes, lane_bytes, max_watchers, watcher_bytes, queue_length)
        taken_over = False
        if directory is None:
            segment = Segment.create(name=name, **sizes._asdict())
        else:
            segment, taken_over = files.open_in(directory, name, sizes)
        behavior = FullChannelBehavior(full_channel_behavior)
        self._set_up(segment, _Options(queue_length, behavior, processes, context, tuple(keep_fds)))
        segment.ring.set("grace_ns", int(GRACE_SECONDS * 1e9))
        self._own()
        if taken_over:
            _say_left_over(segment)
        self._start(self._distributor(), "fork" if context == "fork" else "exec")

    def _set_up(self, segment: Segment, options: _Options) -> None:
        self._segment = segment
        self._ring = segment.ring
        self._options = options
        self._lane = Lane(segment)
        self._owner_pid = 0
        self._started: dict[int, _Started] = {}
        self._report: ShutdownReport | None = None
        self._ends_at_exit = False

    @classmethod
    def attached(cls, segment: Segment) -> Self:
        """A broadcaster over the segment of another process, with the defaults of this class; see `attach`."""
        behavior = FullChannelBehavior.DROP_IF_CHANNEL_FULL
        return cls._of(segment, _Options(None, behavior, True, "fork", ()))

    @classmethod
    def _of(cls, segment: Segment, options: _Options) -> Self:
        """A broadcaster over an existing segment, in a process that does not own it."""
        self = cls.__new__(cls)
        self._set_up(segment, options)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Segment and options; the new process records and watches, the owner shuts down."""
        return type(self)._of, (self._segment, self._options)  # noqa: SLF001 - our own class

    # ---- who owns it

    def _own(self) -> None:
        self._owner_pid = os.getpid()
        with contextlib.suppress(
            SegmentError
        ):  # without /proc or its descriptor: pid and start time still say who lives
            self._ring.lock(_ring.LOCK_OWNER)
        self._ring.set("owner_start", _ring.start_ticks(self._owner_pid))
        self._ring.set("owner_pid", self._owner_pid)
        # Nobody of this process can use the segment once its last user is collected; helpers then deliver and go.
        # Not at exit: that may be the exit of a program that goes on as a daemon, which has a moment left to adopt.
        weakref.finalize(self._segment, _let_go, self._ring, self._owner_pid).atexit = False

    def adopt(self) -> None:
        """Makes this process the application: after daemonizing, call it at once in the process that goes on.

        Until then the helpers take the process that created the broadcaster for it. When that has been gone for a
        second and nobody has adopted, they deliver what is there, and end.

        Raises:
            BroadcasterStopped: it comes too late, or after `shutdown`.
        """
        self._check_running()
        self._own()

    @property
    def _is_owner(self) -> bool:
        return os.getpid() == self._owner_pid

    # ---- helpers

    def _start(self, job: Job, context: str) -> None:
        started = _Started(job, context, os.getpid(), time.monotonic())
        if not self._options.processes or context == "thread":
            self._end_at_exit()
            started.thread = start_thread(job)
        else:
            start_process(job, context=context, keep_fds=self._options.keep_fds)
        self._started[job.lock] = started

    def _end_at_exit(self) -> None:
        """Threads die with the interpreter, so what they have not delivered by then is delivered at its exit."""
        if not self._ends_at_exit and self._is_owner:
            self._ends_at_exit = True
            _shut_down_at_exit(self)

    def _distributor(self) -> Distributor:
        return Distributor(self._segment, grace=GRACE_SECONDS)

    def _revive(self) -> None:
        """Starts a helper again whose worker and spare were both killed; the kernel lock fences the rest.

        Whoever started it does, for it has the handler: the application, or a process of its own, such as a worker.
        What a process has inherited by a fork is its parent's business, unless it has adopted the broadcaster.
        """
        reap_orphans()
        for started in list(self._started.values()):
            job = started.job
            if started.thread is not None or time.monotonic() - started.at < STARTING_SECONDS:
                continue
            if not self._is_owner and started.pid != os.getpid():
                continue
            if job.gone() and job.needed():
                job.count_gone()
                _log.warning("%s: worker and spare are both gone; started again", job.title)
                started.at = time.monotonic()
                try:
                    start_process(job, context=started.context, keep_fds=self._options.keep_fds)
                except HelperError as error:  # not the caller's business, who wants to flush, or numbers; tried again
                    _log.error("%s cannot be started again now: %s", job.title, error)

    def _start_watcher(
        self,
        make_handler: Callable[[Slot], BatchHandler],
        *,
        name: str,
        where: str = "process",
        context: str | None = None,
        full_channel_behavior: FullChannelBehavior | None = None,
        queue_length: int | None = None,
    ) -> WatcherHandle:
        if where not in ("process", "thread"):
            raise ValueError(f"where must be 'process' or 'thread', not {where!r}")
        self._check_running()
        thread = where == "thread" or not self._options.processes
        if not thread:
            check_descriptors(self._segment, f"watcher {name}")
        slot = self._claim(name, full_channel_behavior, queue_length, managed=True)
        partner = None if thread else self._distributor()
        try:
            handler = make_handler(slot)
        except BaseException:
            slot.discard()
            raise
        watcher = Watcher(slot, handler, name=name, own_process=not thread, partner=partner)
        # Registered by the caller, before the helper exists: from here on there is room for its events.
        if not slot.registered:
            self._register(slot)
        self._ring.unlock(_ring.LOCK_SLOT + slot.index)
        try:
            self._start(watcher, "thread" if thread else context or self._options.context)
        except BaseException:
            self._ring.slot_set(slot.index, "managed", 0)  # no consumer, no helper: the distributor frees the slot
            self._ring.slot_set(slot.index, "finished", 1)
            slot.stop()
            raise
        return WatcherHandle(slot, name)

    def _claim(
        self, name: str, behavior: FullChannelBehavior | None, queue_length: int | None, *, managed: bool
    ) -> Slot:
        self._check_running()
        self._revive()
        limit = self._options.queue_length if queue_length is None else queue_length
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise ValueError(f"queue_length must be None or at least 1, not {limit!r}")
        policy = self._options.behavior if behavior is None else FullChannelBehavior(behavior)
        if managed and (left := Slot.take_over(self._segment, name=name, policy=policy, limit=limit or 0)):
            return left
        slot: Slot | None = None

        def claimed() -> bool:
            nonlocal slot
            slot = Slot.claim(self._segment, name=name, policy=policy, managed=managed, limit=limit or 0)
            return slot is not None or not any(s["state"] == _ring.SLOT_FREE for s in self._ring.snapshot()["slots"])

        # A free slot that cannot be had: its last watcher's helper is on its way out, and still holds its lock.
        self._wait(claimed, time.monotonic() + EXIT_SECONDS)
        if slot is None:
            self._check_locks()
            _, _, slots, *_ = self._ring.sizes
            raise NoFreeSlot(f"all {slots} watcher slots are taken; max_watchers raises the limit")
        return slot

    def _check_locks(self) -> None:
        """Whether a slot could not be had because this process gets no lock at all.

        Raises:
            SegmentError: that is so; the line says why.
        """
        if self._ring.lock(_ring.LOCK_RESCUE):  # any lock would do; this one is free but for moments
            self._ring.unlock(_ring.LOCK_RESCUE)

    def _register(self, slot: Slot) -> None:
        if not slot.register():
            slot.discard()
            raise BroadcasterStopped

    def _check_running(self) -> None:
        if self._ring.get("state") != _ring.RUNNING:
            raise BroadcasterStopped

    # ---- watching

    def watch(
        self,
        *,
        filter: Callable[[WatchEvent], Any] | None = None,  # noqa: A002 - apimachinery's word
        queue_length: int | None = None,
        full_channel_behavior: FullChannelBehavior | None = None,
    ) -> Watch:
        """An iterator over everything sent from now on, in this process.

        Nothing sent before this call began is seen, and everything sent after it returned (B3). Never blocks.

        Args:
            filter: a predicate; what it refuses is counted as filtered.
            queue_length: at most so many unread events; None: as the broadcaster says.
            full_channel_behavior: when they are reached; None: as the broadcaster says.

        Raises:
            BroadcasterStopped: it was shut down.
            NoFreeSlot: ``max_watchers`` is reached.
        """
        return self.watch_with_prefix(
            (), filter=filter, queue_length=queue_length, full_channel_behavior=full_channel_behavior
        )

    def watch_with_prefix(
        self,
        events: Iterable[WatchEvent | tuple[str, Any]],
        *,
        filter: Callable[[WatchEvent], Any] | None = None,  # noqa: A002
        queue_length: int | None = None,
        full_channel_behavior: FullChannelBehavior | None = None,
    ) -> Watch:
        """As `watch`, with the given events first, for this watch alone (B4).

        Raises:
            BroadcastError: the prefix is larger than the ring, ``watcher_bytes``.
            TypeError: orjson cannot encode one of them.
        """
        records = [encode(type_, obj) for type_, obj in events]
        if filter is not None and not callable(filter):
            raise TypeError(f"filter must be a function of a watch event, not {filter!r}")
        limit = self._options.queue_length if queue_length is None else queue_length
        if limit is not None and limit >= 1:
            limit = max(limit, len(records) + 1)
        slot = self._claim(f"watch {next(_WATCHES)} of {os.getpid()}", full_channel_behavior, limit, managed=False)
        for kind, payload in records:
            if self._ring.prefix(slot.index, kind, payload) != _ring.OK:
                slot.discard()
                raise BroadcastError("the prefix is larger than the watch's ring; watcher_bytes raises the limit")
        self._register(slot)
        return Watch(slot, decode, filter)

    # ---- sending

    def action(self, type_: str, obj: Any, timeout: float | None = None) -> bool:
        """Sends an object, waiting for room in this process's lane (B6); other processes are not held up meanwhile.

        Args:
            type_: ``ADDED``, ``MODIFIED``, ``DELETED``, ``BOOKMARK``, ``ERROR``, or a word of your own.
            obj: anything orjson can encode, or an `Event`.
            timeout: seconds to wait for room; None: for ever. Signal handlers run meanwhile.

        Returns:
            False when the time is over.

        Raises:
            BroadcasterStopped: it was shut down (B16).
            TypeError: orjson cannot encode the object.
            BroadcastError: it is larger than half a lane, or no lane is free.
        """
        kind, payload = encode(type_, obj)
        return self._lane.wait_put(payload, kind, timeout)

    def action_or_drop(self, type_: str, obj: Any) -> bool:
        """Sends an object if there is room for it now; otherwise it is counted and the answer is False (B7).

        Raises:
            BroadcasterStopped: it was shut down (B16).
            TypeError: orjson cannot encode the object.
        """
        kind, payload = encode(type_, obj)
        if self._lane.put(payload, kind):
            return True
        self._check_running()
        return False

    # ---- waiting

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until everything accepted before this call is handled by every watcher that has a helper.

        Iterators from `watch` are not waited for: who reads them knows. From any process that has the broadcaster.

        Args:
            timeout: seconds; None: for ever. Signal handlers run meanwhile.

        Returns:
            False when the time is over, or when a watcher was given up before it had handled everything.
        """
        self._revive()
        before = time.monotonic_ns()
        deadline = None if timeout is None else time.monotonic() + timeout

        def distributed() -> bool:
            self._ring.wake()
            return self._ring.get("round_ts") > before or self._ring.get("state") == _ring.DRAINED

        if not self._wait(distributed, deadline):
            return False
        targets = {
            (slot["index"], slot["generation"]): slot["tail"]
            for slot in self._ring.snapshot()["slots"]
            if slot["managed"] == 1 and slot["state"] != _ring.SLOT_FREE
        }

        def behind() -> list[dict[str, Any]]:
            """The slots whose watcher has not come so far. One whose slot was used again meanwhile had ended."""
            slots = self._ring.snapshot()["slots"]
            return [slot for slot in slots if slot["head"] < targets.get((slot["index"], slot["generation"]), 0)]

        def settled() -> bool:
            ended = (_ring.SLOT_FREE, _ring.SLOT_ABANDONED)
            return all(slot["finished"] or slot["state"] in ended for slot in behind())

        return self._wait(settled, deadline) and not behind()

    def _wait(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Looks again and again, ever more seldom; the main thread's signal handlers run in between."""
        pause, longest = _POLL
        next_revival = time.monotonic() + 1.0
        while not done():
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            if now >= next_revival:
                self._revive()
                next_revival = now + 1.0
            time.sleep(pause if deadline is None else min(pause, deadline - now))
            pause = min(pause * 2, longest)
        return True

    def stats(self) -> Stats:
        """What was accepted, forwarded, handled and lost so far. Does not block; asks no process anything."""
        self._revive()
        return read_stats(self._ring)

    # ---- the end

    def shutdown(self, timeout: float | None = 10.0) -> ShutdownReport:
        """Stops taking events, delivers what was taken, ends every watcher that has a helper, and says how it went.

        Everything accepted is distributed and handled unless the time is over before; watchers that are still busy then
        are told to stop, and killed a quarter of a second later. Iterators keep what they have buffered.

        Idempotent and thread-safe; may be called from a signal handler, whatever the thread is busy with: of several at
        once the one whose time is over first ends the waiting of all. In a process that does not own the broadcaster,
        such as a forked child, it changes nothing and returns the present numbers.

        Args:
            timeout: seconds; None: as long as it takes.
        """
        if not self._is_owner:
            _log.debug("shutdown() in a process that does not own the broadcaster changes nothing")
            return read_report(self._ring)
        deadline = time.monotonic() + (_LONG if timeout is None else min(timeout, _LONG))
        if self._report is not None:
            return self._report
        self._ring.begin_drain(max(0, int(deadline * 1e9)))
        self._revive()
        self._wait(lambda: self._ring.get("state") == _ring.DRAINED, deadline)
        if not self._wait(self._watchers_ended, deadline):
            self._abandon()
        report = read_report(self._ring)
        self._wait(self._helpers_gone, time.monotonic() + EXIT_SECONDS)
        if self._report is None:  # else another thread, or a signal handler in the middle of this one, was faster
            self._report = report
            files.remove(self._segment)
            _let_go(self._ring, self._owner_pid)
        return self._report

    def _managed(self) -> list[dict[str, Any]]:
        """The slots that a helper still works on."""
        return [
            slot
            for slot in self._ring.snapshot()["slots"]
            if slot["managed"] == 1 and slot["state"] != _ring.SLOT_FREE and not slot["finished"]
        ]

    def _watchers_ended(self) -> bool:
        return self._report is not None or not self._managed()  # a report: another thread's time was over first

    def _abandon(self) -> None:
        """The time is over. Helpers look at their slot's state between two events; one that does not look is killed."""
        for slot in self._managed():
            self._ring.slot_state_change(slot["index"], slot["state"], _ring.SLOT_ABANDONED)
        if self._wait(self._watchers_ended, time.monotonic() + EXIT_SECONDS):
            return
        for slot in self._managed():
            _log.error("watcher %r did not end in time and is killed", slot["name"].decode("utf-8", "replace"))
            for who in ("spare", "consumer"):  # the spare first, or it would take over
                identity.kill_helper(identity.ProcessIdentity(slot[f"{who}_pid"], slot[f"{who}_start"]))

    def _helpers_gone(self) -> bool:
        if not self._options.processes:
            return all(not started.thread.is_alive() for started in self._started.values() if started.thread)
        pids = [(self._ring.get("dist_pid"), self._ring.get("dist_start"))]
        pids += [
            (slot["consumer_pid"], slot["consumer_start"])
            for slot in self._ring.snapshot()["slots"]
            if slot["managed"] and slot["consumer_pid"] != os.getpid()
        ]
        reap_orphans()
        return not any(pid and _ring.start_ticks(pid) == start for pid, start in pids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        state = {_ring.RUNNING: "running", _ring.DRAINING: "draining"}.get(self._ring.get("state"), "stopped")
        return f"<{type(self).__name__} {state}>"


def _say_left_over(segment: Segment) -> None:
    """What a program that died has left in the file, and what becomes of it."""
    shot, left = segment.ring.snapshot(), files.left_over(segment)
    lanes = sum(lane["accepted"] - lane["forwarded"] for lane in shot["lanes"])
    events = counted(lanes, "event waits", "events wait")
    waiting = ", ".join(f"{name} ({n})" for name, n in sorted(left.items())) or "none"
    _log.warning(
        "%s is taken over from a program that has died: %s in lanes, others for watchers that are to be"
        " started again under their names: %s", files.file_of(segment), events, waiting,
    )  # fmt: skip


def _let_go(ring: _ring.Segment, pid: int) -> None:
    """The owner is done with its segment; helpers that still run deliver what is there and end."""
    if os.getpid() == pid:
        with contextlib.suppress(SegmentError):
            if ring.get("owner_pid") == pid:  # else a daemon has adopted it, whose first process ends here
                ring.set("owner_pid", 0)
            ring.unlock(_ring.LOCK_OWNER)


def _shut_down_at_exit(broadcaster: Broadcaster) -> None:
    reference = weakref.ref(broadcaster)

    def at_exit() -> None:
        living = reference()
        if living is not None:
            living.shutdown()

    atexit.register(at_exit)
    weakref.finalize(broadcaster, atexit.unregister, at_exit)


def attach_segment(pid: int, name: str | None = None) -> Segment:
    """Opens the segment of a process of the same user.

    Args:
        pid: any process that has the broadcaster: the application, a worker, a helper.
        name: of the broadcaster, where the process has several.

    Raises:
        SegmentError: there is none, or several and no name says which.
    """
    found: dict[str, list[Segment]] = {}
    for fd in find_segments(pid):
        segment = Segment.open_of(pid, fd)
        found.setdefault(segment.ring.snapshot()["name"].decode("utf-8", "replace"), []).append(segment)
    every = [segment for several in found.values() for segment in several]
    chosen = every if name is None else found.get(name, [])
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(sorted(found)) or "none"
    raise SegmentError(f"process {pid} has not exactly one broadcaster of that name; it has: {names}")
