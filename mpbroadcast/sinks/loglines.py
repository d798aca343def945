"""The handlers of ``start_logging`` and ``start_structured_logging``: a line for each event (spec F2, F3).

Runs in: the watcher's process. All of a line but the message repeats from event to event of one object; with klog's
own functions that start is put together and made harmless once, and each event costs its message and the write.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.base import klog
from mpbroadcast.base.goquote import go_quote
from mpbroadcast.event.codec import decode_parts
from mpbroadcast.event.model import Event
from mpbroadcast.event.wire import KIND_RECORD, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpbroadcast.event.parts import ObjectReference

__all__ = ["KlogLine", "LogLine", "StructuredLine", "decode_about", "log_handler"]

# Only %s, so that a log function with Python's own formatting will do; Go's %#v is written by _go_reference.
_FORMAT: Final = "Event(%s): type: '%s' reason: '%s' %s"
_LEVELS: Final[dict[Any, int]] = {klog.infof: logging.INFO, klog.warningf: logging.WARNING, klog.errorf: logging.ERROR}

About = tuple["ObjectReference", str, str, str]
"""What a line says of an event: involved object, type, reason, message."""


def decode_about(kind: int, payload: bytes) -> About | None:
    """What a line needs of a record, a third of the cost of an `Event`; None for an object of another sort.

    Raises:
        ValueError: bytes that no producer of this library wrote.
    """
    if kind == KIND_RECORD:
        static, message, _, _ = decode_parts(payload)
        return static.involved_object, static.type, static.reason, message
    obj = decode(kind, payload).object
    return (obj.involved_object, obj.type, obj.reason, obj.message) if isinstance(obj, Event) else None


def log_handler(logf: Callable[..., Any]) -> LogLine | KlogLine:
    """The handler for a log function of ``start_logging``. It takes what `decode_about` gives."""
    try:
        level = _LEVELS.get(logf)
    except TypeError:  # a callable that cannot be hashed
        level = None
    return LogLine(logf) if level is None else KlogLine(level)


class LogLine:
    """Logs through a function of the caller's; a class, so that it can be pickled when the function can."""

    def __init__(self, logf: Callable[..., Any]) -> None:
        self._logf = logf
        self.flush = _flush_of_klog()

    def __call__(self, about: About) -> None:
        """One call of the function; what it raises fails the event."""
        ref, type_, reason, message = about
        self._logf(_FORMAT, _go_reference(ref), type_, reason, message)


class KlogLine:
    """Logs through ``klog.infof``, ``warningf`` or ``errorf``, the same line in half the time."""

    def __init__(self, level: int) -> None:
        self._level = level
        self.flush = _flush_of_klog()

    def __call__(self, about: About) -> None:
        """One line."""
        ref, type_, reason, message = about
        klog.begun_line(self._level, _line_start(ref, type_, reason), message, _HERE)


class StructuredLine:
    """Logs a structured line where klog's verbosity is at least this one's."""

    def __init__(self, verbosity: int) -> None:
        self._verbosity = verbosity
        self.flush = _flush_of_klog()

    def __call__(self, about: About) -> None:
        """One line, or none."""
        if klog.V(self._verbosity):
            ref, type_, reason, message = about
            klog.begun_line(logging.INFO, _structured_start(ref, type_, reason), klog.pair("message", message), _HERE)


_HERE: Final = ("loglines.py", KlogLine.__call__.__code__.co_firstlineno)


@lru_cache(maxsize=4096)
def _go_reference(ref: ObjectReference) -> str:
    return (
        f"v1.ObjectReference{{Kind:{go_quote(ref.kind)}, Namespace:{go_quote(ref.namespace)},"
        f" Name:{go_quote(ref.name)},"
        f" UID:{go_quote(ref.uid)}, APIVersion:{go_quote(ref.api_version)},"
        f" ResourceVersion:{go_quote(ref.resource_version)}, FieldPath:{go_quote(ref.field_path)}}}"
    )


@lru_cache(maxsize=4096)
def _line_start(ref: ObjectReference, type_: str, reason: str) -> str:
    return klog.harmless(_FORMAT % (_go_reference(ref), type_, reason, ""))


@lru_cache(maxsize=4096)
def _structured_start(ref: ObjectReference, type_: str, reason: str) -> str:
    pairs = {
        "object": f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name,
        "fieldPath": ref.field_path,
        "kind": ref.kind,
        "apiVersion": ref.api_version,
        "type": type_,
        "reason": reason,
    }
    return klog.structured("Event occurred", pairs.items())


def _flush_of_klog() -> Callable[[], None] | None:
    """What a log watcher calls before it counts lines as handled; None where every line is written at once."""
    return klog.flush if klog.has_output() else None
