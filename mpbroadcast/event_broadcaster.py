"""`EventBroadcaster`: client-go's event machinery over the broadcaster: recorders, log and sink watchers.

Runs in: the application; handlers and sinks run in the processes of their watchers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.broadcaster import Broadcaster, FullChannelBehavior, WatcherHandle, attach_segment
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource
from mpbroadcast.event.wire import KIND_RECORD, decode
from mpbroadcast.helper import check_descriptors
from mpbroadcast.recorder import LaneRecorder
from mpbroadcast.ring import _ring
from mpbroadcast.sinks.handling import EachHandler
from mpbroadcast.sinks.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpbroadcast.correlator.options import CorrelatorOptions
    from mpbroadcast.event.scheme import Scheme
    from mpbroadcast.ring.slot import Slot
    from mpbroadcast.sinks.base import EventSink

__all__ = ["EventBroadcaster", "attach"]

_DEFAULT_RETRY: Final = RetryPolicy()
_SINK_METHODS: Final = ("create", "patch", "close")


class EventBroadcaster(Broadcaster):
    """Records events in any number of processes and hands each to every watcher: client-go's ``EventBroadcaster``.

    Takes the arguments of `Broadcaster`, which see. Each ``start_*`` method starts a watcher: a process of its own with
    a spare that takes over when it is killed. They raise ``BroadcasterStopped`` after shutdown, ``NoFreeSlot`` when
    ``max_watchers`` is reached, and ``HelperError`` when no process can be started.
    """

    def new_recorder(self, source: EventSource | str, *, scheme: Scheme | None = None) -> LaneRecorder:
        """A recorder for this process, its threads, and every process forked from it; picklable for spawned ones.

        Args:
            source: the reporting component, with its host if that matters.
            scheme: knows the kinds of objects that do not carry theirs; None: the kinds of the official client.
        """
        return LaneRecorder(self._lane, EventSource(source) if isinstance(source, str) else source, scheme=scheme)

    def start_event_watcher(
        self,
        handler: Callable[[Event], Any],
        *,
        name: str | None = None,
        filter: Callable[[Event], Any] | None = None,  # noqa: A002 - the word of the contract
        setup: Callable[[], Any] | None = None,
        where: str = "process",
        full_channel_behavior: FullChannelBehavior | None = None,
    ) -> WatcherHandle:
        """Calls a handler for each event, one after another, in a process of its own.

        A handler that raises is logged and counted as failed, and the next event follows. One that ends its process
        three times on the same event (a crash, an exit; ten times where nobody knows who killed it) loses that event,
        which is counted as given up and logged.

        Args:
            handler: a function or a coroutine function of one `Event`.
            name: of the watcher; by default the handler's.
            filter: a predicate on the event, run before the handler; what it refuses is counted as filtered.
            setup: runs once in the watcher's process before the first event: logging, clients, connections. One that
                fails is tried again, ever more seldom, while the events wait.
            where: ``process``, or ``thread`` of this process.
            full_channel_behavior: None: as the broadcaster says.
        """
        _check_callable(handler=handler, filter=filter or bool, setup=setup or bool)
        name = self._name_of(name, str(getattr(handler, "__name__", "watcher")).strip("<>"))
        each = EachHandler(handler, decode_event, name=name, keep=filter, setup=setup)
        return self._start_watcher(lambda _: each, name=name, where=where, full_channel_behavior=full_channel_behavior)

    def start_logging(self, logf: Callable[..., Any], *, name: str | None = None) -> WatcherHandle:
        """Logs each event through a formatting log function, in client-go's words (spec F2).

        Args:
            logf: such as ``klog.infof``; called as ``logf(format, *args)`` with Go's verbs in the format.
            name: of the watcher.
        """
        from mpbroadcast.sinks.loglines import log_handler  # noqa: PLC0415 - klog: 20 ms for those who log

        _check_callable(logf=logf)
        return self._start_log_watcher(log_handler(logf), self._name_of(name, "logging"))

    def start_structured_logging(self, verbosity: int = 0, *, name: str | None = None) -> WatcherHandle:
        """Logs each event as a structured klog line (spec F3), at a verbosity.

        Args:
            verbosity: the line is written when klog's verbosity is at least this.
            name: of the watcher.
        """
        from mpbroadcast.sinks.loglines import StructuredLine  # noqa: PLC0415

        return self._start_log_watcher(StructuredLine(verbosity), self._name_of(name, "structured-logging"))

    def _start_log_watcher(self, line: Callable[[Any], object], name: str) -> WatcherHandle:
        from mpbroadcast.sinks.loglines import decode_about  # noqa: PLC0415

        each = EachHandler(line, decode_about, name=name)
        return self._start_watcher(lambda _: each, name=name)

    def start_recording_to_sink(
        self,
        sink: EventSink,
        *,
        correlator: CorrelatorOptions | str | None = "sink",
        retry: RetryPolicy = _DEFAULT_RETRY,
        filter: Callable[[Event], Any] | None = None,  # noqa: A002
        name: str | None = None,
        full_channel_behavior: FullChannelBehavior | None = None,
    ) -> WatcherHandle:
        """Writes every event to a sink, in a process of its own, with a correlator of its own (L8).

        Args:
            sink: where to. The sinks of this package run in a fresh small process that is made from their
                configuration; any other sink, and any with a ``filter``, runs in a fork of this one.
            correlator: ``"sink"``: as that sink needs it; options; or None: every event is written.
            retry: what to do about failures.
            filter: a predicate on the event.
            name: of the watcher; by default the sink's.
            full_channel_behavior: None: as the broadcaster says.

        Raises:
            StoreError: the sink's file or directory cannot be used; it is tried here, before anything is started.
        """
        methods = {f"sink.{method}": getattr(sink, method, None) for method in _SINK_METHODS}
        _check_callable(filter=filter or bool, **methods)
        _check_name(name)
        if self._options.processes:
            check_descriptors(self._segment, "the watcher of a sink")  # before the sink finds out in words of its own
        # Not loaded by programs that only record or watch.
        from mpbroadcast.correlator.options import CorrelatorOptions  # noqa: PLC0415
        from mpbroadcast.sinks.handler import SinkHandler  # noqa: PLC0415

        check = getattr(sink, "check", None)
        if check is not None:
            check()
        if isinstance(correlator, str):
            if correlator != "sink":
                raise ValueError(f"correlator must be 'sink', CorrelatorOptions or None, not {correlator!r}")
            correlator = getattr(sink, "default_correlator", CorrelatorOptions())
        label = getattr(sink, "label", None) or type(sink).__name__.removesuffix("Sink").lower() or "sink"
        name = self._name_of(name, label)
        make = getattr(sink, "make_handler", SinkHandler)
        fresh = filter is None and type(sink).__module__.startswith("mpbroadcast.sinks.")
        fresh = fresh and not getattr(sink, "needs_fork", False) and _has_own_functions(correlator)
        return self._start_watcher(
            lambda slot: make(
                sink, correlator=correlator, retry=retry, keep=filter, name=name, source=self._source_of(slot)
            ),
            name=name,
            context="exec" if fresh and self._options.context == "fork" else None,
            full_channel_behavior=full_channel_behavior,
        )

    def _name_of(self, name: str | None, default: str) -> str:
        """The name that was asked for, or one that is free.

        Raises:
            TypeError: it is no string.
            ValueError: it has a NUL.
        """
        _check_name(name)
        return name or self._free_name(default.replace("\0", ""))

    def _free_name(self, wanted: str) -> str:
        """The name, or with a number behind it when a watcher of this broadcaster has it already."""
        # One that a program left in a file when it died is free for its successor.
        taken = {slot["name"] for slot in self._ring.snapshot()["slots"] if slot["managed"] != _ring.MANAGED_LEFT}
        candidates = (wanted if number == 1 else f"{wanted}-{number}" for number in range(1, len(taken) + 2))
        return next(name for name in candidates if name.encode("utf-8", "replace")[:63] not in taken)

    def _source_of(self, slot: Slot) -> str:
        """What a sink keeps its ring position under: this segment, this slot, and this use of the slot."""
        return f"{self._ring.token.hex()}/{slot.index}.{slot.generation}"


def _check_callable(**given: Any) -> None:
    for name, value in given.items():
        if not callable(value):
            raise TypeError(f"{name} must be callable, not {value!r}")


def _check_name(name: str | None) -> None:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"the name of a watcher is a string, not {name!r}")
    if name and "\0" in name:
        raise ValueError(f"the name of a watcher has no NUL, unlike {name!r}")


def _has_own_functions(options: CorrelatorOptions | None) -> bool:
    """Whether its functions can be found in a fresh interpreter. One of the main module, or a lambda, cannot."""
    if options is None:
        return True
    functions = (options.key_func, options.message_func, options.spam_key_func)
    return all(getattr(function, "__module__", "").startswith("mpbroadcast.") for function in functions)


def decode_event(kind: int, payload: bytes) -> Event | None:
    """The event of a record; None for an object of another sort, which event watchers skip (L2).

    Raises:
        ValueError: bytes that no producer of this library wrote.
    """
    if kind == KIND_RECORD:
        return Event.lazy_from_record(payload)
    obj = decode(kind, payload).object
    return obj if isinstance(obj, Event) else None


def attach(pid: int, name: str | None = None) -> EventBroadcaster:
    """Joins a running broadcaster of another process of the same user: to record, to watch, to read its numbers.

    Args:
        pid: any process that has it: the application, a worker, a helper.
        name: of the broadcaster, where that process has several.

    Raises:
        SegmentError: no such process, no permission, no broadcaster, or several and no name says which.
    """
    return EventBroadcaster.attached(attach_segment(pid, name))
