"""Stop 1: the recorder. Runs in: every process that records. Reads: an object. Writes: its process's lane.

Never blocks on: anybody. ``event()`` takes no lock, waits for no process, raises nothing and logs nothing: what cannot
be recorded is counted with its reason and answered with False; the distributor's log says it, at a limited rate.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import reprlib
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from mpbroadcast.errors import InvalidEvent, NoReference
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.goformat import gofmt
from mpbroadcast.event.names import plain_name_fits, random_name
from mpbroadcast.event.parts import EventType, ObjectReference
from mpbroadcast.event.reference import get_reference
from mpbroadcast.event.scheme import DEFAULT_SCHEME
from mpbroadcast.event.wire import KIND_RECORD

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from mpbroadcast.event.parts import EventSource
    from mpbroadcast.event.scheme import Scheme
    from mpbroadcast.lane import Lane

__all__ = ["EventRecorder", "LaneRecorder"]

_TYPES: Final = frozenset(EventType)
_KEPT: Final = 4096  # constant parts kept per recorder, some 2 MiB; as many as client-go's correlator remembers keys


class EventRecorder(Protocol):
    """What a controller is given to record events with; `mpbroadcast.testing.FakeRecorder` is one too."""

    def event(
        self,
        obj: Any,
        type: str,  # noqa: A002 - the field's name in Kubernetes
        reason: str,
        message: object,
        *,
        annotations: Mapping[str, str] | None = None,
        related: Any = None,
        action: str | None = None,
    ) -> bool:
        """Record that something happened to an object.

        Args:
            obj: what it happened to: an ``ObjectReference``, a mapping with ``apiVersion``, ``kind`` and ``metadata``,
                a model of the official client, an object of kr8s, lightkube or ``kubernetes.dynamic``.
            type: ``Normal`` or ``Warning``, exactly.
            reason: why, one CamelCase word that programs switch on: ``FailedScheduling``.
            message: for people; anything ``str()`` takes.
            annotations: of the event.
            related: a second object.
            action: what was done about it, one CamelCase word.

        Returns:
            True when it was accepted; it then reaches every watcher whose ring has room. False when it was not
            recorded, which is counted with its reason.
        """
        ...  # pragma: no cover

    def eventf(
        self,
        obj: Any,
        type: str,  # noqa: A002
        reason: str,
        fmt: str,
        *args: object,
        annotations: Mapping[str, str] | None = None,
        related: Any = None,
        action: str | None = None,
    ) -> bool:
        """As `event`, with a message that is formatted: Python's ``%``, with Go's ``%v`` and ``%q`` understood.

        A wrong or missing argument shows in the message, as in Go (R13); nothing is raised.
        """
        ...  # pragma: no cover

    def annotated_eventf(
        self,
        obj: Any,
        annotations: Mapping[str, str] | None,
        type: str,  # noqa: A002
        reason: str,
        fmt: str,
        *args: object,
    ) -> bool:
        """As `eventf`, with annotations, in client-go's order of arguments."""
        ...  # pragma: no cover

    def with_logger(self, logger: Any) -> Self:
        """The same recorder, which also says to ``logger`` what it could not record."""
        ...  # pragma: no cover


class LaneRecorder:
    """The `EventRecorder` of a broadcaster; `EventBroadcaster.new_recorder` makes it.

    Thread-safe, usable in every forked child (which gets a lane of its own), and picklable for spawned ones.

    Args:
        lane: where events go.
        source: who reports.
        scheme: knows the kinds of objects that do not carry theirs; None: the kinds of the official client.
        logger: also told what could not be recorded; None: only counted, and said by the distributor.
    """

    __slots__ = ("__weakref__", "_kept", "_lane", "_logger", "_record", "_scheme", "_source")

    def __init__(
        self, lane: Lane, source: EventSource, *, scheme: Scheme | None = None, logger: logging.Logger | None = None
    ) -> None:
        self._lane = lane
        self._record = lane.record
        self._source = source
        self._scheme = DEFAULT_SCHEME if scheme is None else scheme
        self._logger = logger
        self._kept: dict[tuple[Any, ...], bytes] = {}
        _ALL.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Lane, source and scheme; a logger is not taken along."""
        scheme = None if self._scheme is DEFAULT_SCHEME else self._scheme
        return _restore, (self._lane, self._source, scheme)

    def event(
        self,
        obj: Any,
        type: str,  # noqa: A002
        reason: str,
        message: object,
        *,
        annotations: Mapping[str, str] | None = None,
        related: Any = None,
        action: str | None = None,
    ) -> bool:
        """See `EventRecorder.event`. Never waits, and never raises but for what is none of the event's doing.

        That is ``KeyboardInterrupt``, wherever it comes from, and what a signal handler written in Python raises during
        the call: ``sys.exit()`` on SIGTERM, or a time limit. Whatever else comes out of the object or the message,
        ``SystemExit`` too, makes the event an invalid one.
        """
        try:
            # The common case is one dict look-up and one call into C: what is constant was encoded before.
            if annotations is None and related is None and action is None:
                reference = obj if obj.__class__ is ObjectReference else get_reference(obj, self._scheme)
                static = self._kept.get((reference, type, reason))
                if static is not None:
                    return self._record(static, message)
                return self._first(reference, type, reason, message)
            return self._full(obj, type, reason, message, annotations, related, action)
        except BaseException as error:  # noqa: BLE001 - an event must never fail its caller's work
            _raise_the_callers(error)
            return self._refuse(error, obj, type, reason)

    def eventf(
        self,
        obj: Any,
        type: str,  # noqa: A002
        reason: str,
        fmt: str,
        *args: object,
        annotations: Mapping[str, str] | None = None,
        related: Any = None,
        action: str | None = None,
    ) -> bool:
        """See `EventRecorder.eventf`; of what it raises everything said of `event` holds."""
        try:
            message = gofmt(fmt, *args)
        except BaseException as error:  # noqa: BLE001 - no Exception comes out of it, but a SystemExit of an argument may
            _raise_the_callers(error)
            return self._refuse(error, obj, type, reason)
        return self.event(obj, type, reason, message, annotations=annotations, related=related, action=action)

    def annotated_eventf(
        self,
        obj: Any,
        annotations: Mapping[str, str] | None,
        type: str,  # noqa: A002
        reason: str,
        fmt: str,
        *args: object,
    ) -> bool:
        """See `EventRecorder.annotated_eventf`."""
        return self.eventf(obj, type, reason, fmt, *args, annotations=annotations)

    def with_logger(self, logger: logging.Logger) -> LaneRecorder:
        """See `EventRecorder.with_logger`."""
        return LaneRecorder(self._lane, self._source, scheme=self._scheme, logger=logger)

    def _static(
        self, reference: ObjectReference, type_: str, reason: str, action: str, related: ObjectReference | None
    ) -> bytes:
        """Check and encode what is constant, after R4."""
        if type_ not in _TYPES:
            raise InvalidEvent(f"the type of an event is Normal or Warning, not {type_!r}")
        for what, text in (("reason", reason), ("action", action)):
            if not isinstance(text, str):
                raise InvalidEvent(f"the {what} of an event is a string, not {text!r}")
        return encode_static(reference, str(type_), reason, self._source, action, related)

    def _first(self, reference: ObjectReference, type_: str, reason: str, message: object) -> bool:
        """The first event of its sort in this process."""
        if self._lane.index < 0:
            self._lane.claim()
        static = self._static(reference, type_, reason, "", None)
        if not plain_name_fits(reference.name):  # R5: such an event is named by a UUID of its own each time
            return self._put(static, message, random_name(), None)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[(reference, type_, reason)] = static
        return self._record(static, message)

    def _full(
        self,
        obj: Any,
        type_: str,
        reason: str,
        message: object,
        annotations: Mapping[str, str] | None,
        related: Any,
        action: str | None,
    ) -> bool:
        """An event with annotations, a related object or an action."""
        reference = get_reference(obj, self._scheme)
        other = None
        if related is not None:
            try:
                other = get_reference(related, self._scheme)
            except NoReference as error:  # R10: it goes without
                self._tell("debug", "the related object of an event cannot be referenced: %s", error)
        key = (reference, type_, reason, action, other)
        static = self._kept.get(key)
        if static is None:
            static = self._static(reference, type_, reason, "" if action is None else action, other)
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = static
        if annotations is None and plain_name_fits(reference.name):
            return self._record(static, message)
        name = None if plain_name_fits(reference.name) else random_name()
        return self._put(static, message, name, annotations)

    def _put(self, static: bytes, message: object, name: str | None, annotations: Mapping[str, str] | None) -> bool:
        payload = encode_record(self._lane.next_ns(), static, message, name, annotations)
        return self._lane.put(payload, KIND_RECORD)

    def _refuse(self, error: BaseException, obj: Any, type_: object, reason: object) -> bool:
        """Counts it. The text is for the distributor's log, which says one a minute: one a second is made at most."""
        global _said_at  # noqa: PLW0603 - of the process, as its lane is
        now = time.monotonic()
        if now - _said_at < 1.0 and self._logger is None:
            self._lane.refuse_invalid("")
            return False
        _said_at = now
        try:
            what = error if isinstance(error, Exception) else f"{type(error).__name__} was raised: {error}"
            text = f"{what} (type {type_!r:.50}, reason {reason!r:.100}, object {_short(obj)})".translate(_ONE_LINE)
        except BaseException as second:  # noqa: BLE001 - an object whose repr fails must not fail its caller
            _raise_the_callers(second)
            text = "an event whose fields cannot even be shown"
        self._lane.refuse_invalid(text)
        self._tell("error", "an event was not recorded: %s", text)
        return False

    def _tell(self, level: str, text: str, problem: object) -> None:
        """What the caller's logger raises must not fail the caller's work."""
        if self._logger is not None:
            with contextlib.suppress(Exception):
                getattr(self._logger, level)(text, problem)


_said_at = 0.0
_ONE_LINE: Final = dict.fromkeys((*range(32), 127, *range(128, 160), 8232, 8233), "?")


def _raise_the_callers(error: BaseException) -> None:
    """Raises what only came up during an event and is meant for its caller: Ctrl-C, or what a signal handler raised."""
    for found in (error, error.__cause__):  # a problem of the object's is the cause of another error
        if found is not None and _is_the_callers(found):
            raise found


def _is_the_callers(error: BaseException) -> bool:
    """A signal handler is known by its arguments: one is the frame it interrupted, which no other call is given."""
    if isinstance(error, KeyboardInterrupt):
        return True
    alone, caller, place = True, None, error.__traceback__
    while place is not None:
        frame = place.tb_frame
        if not frame.f_globals.get("__name__", "").startswith("mpbroadcast."):
            alone = False
            if any(value is caller for value in _arguments(frame)):
                return True
        caller, place = frame, place.tb_next
    return alone and not isinstance(error, Exception)  # nothing in here raises such: a handler written in C did


def _arguments(frame: FrameType) -> Iterator[object]:
    """The positional arguments of a call, as far as they still have their names."""
    code, values = frame.f_code, frame.f_locals
    yield from (values.get(name) for name in code.co_varnames[: code.co_argcount])
    if code.co_flags & inspect.CO_VARARGS:
        yield from values.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())


def _short(obj: object) -> str:
    text = f"{type(obj).__name__} {reprlib.repr(obj)}"  # whole, it could be of any size
    return text if len(text) <= 100 else text[:97] + "..."


def _restore(lane: Lane, source: EventSource, scheme: Scheme | None) -> LaneRecorder:
    return LaneRecorder(lane, source, scheme=scheme)


_ALL: Final[weakref.WeakSet[LaneRecorder]] = weakref.WeakSet()


def _forget_kept() -> None:
    """In a forked child the first event of each sort takes the long way once, which gives the child's lane its name."""
    for recorder in list(_ALL):
        recorder._kept = {}  # noqa: SLF001 - our own class


os.register_at_fork(after_in_child=_forget_kept)
