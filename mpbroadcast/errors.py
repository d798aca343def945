"""Every exception of this package, by who must act.

::

    BroadcastError
    ├── BroadcasterStopped      record or watch after shutdown; nothing to repair
    ├── RingError               the shared memory part
    │   ├── RingCorrupt         bytes in a ring that no producer wrote
    │   ├── SegmentError        a segment that cannot be made, mapped, found or trusted
    │   └── NotTheConsumer      a ring is read by the process that registered for it, and by no other
    ├── NoFreeSlot              all watcher slots are taken; raise max_watchers
    ├── NoReference             no reference can be made to an object
    │   ├── NilObject           the object is None
    │   ├── NoSchemeError       the object carries no type and there is no scheme to look it up
    │   └── NotRegistered       the scheme does not know the object's type
    ├── InvalidEvent            an event type, reason or object that a strict recorder refuses
    ├── SinkError               a sink could not write an event
    │   ├── SinkRejected        the other side said no: final, never retried
    │   │   └── NotFound        a patch of an event that is gone: create it instead
    │   └── SinkUnavailable     the other side is away: retried
    ├── StoreError              an event store that cannot be opened, read or written
    ├── HelperError             a distributor or watcher process that cannot be started
    ├── ServeError              the API server of ``mpbroadcast serve`` that cannot be started
    └── MissingExtra            an optional dependency is not installed
"""

from __future__ import annotations

__all__ = [
    "BroadcastError",
    "BroadcasterStopped",
    "HelperError",
    "InvalidEvent",
    "MissingExtra",
    "NilObject",
    "NoFreeSlot",
    "NoReference",
    "NoSchemeError",
    "NotFound",
    "NotRegistered",
    "NotTheConsumer",
    "RingCorrupt",
    "RingError",
    "SegmentError",
    "ServeError",
    "SinkError",
    "SinkRejected",
    "SinkUnavailable",
    "StoreError",
]


class BroadcastError(Exception):
    """The root: every exception that this package raises on purpose."""


class BroadcasterStopped(BroadcastError):
    """The broadcaster takes nothing any more; the text is apimachinery's, letter by letter."""

    def __init__(self, message: str = "broadcaster already stopped") -> None:
        super().__init__(message)


class RingError(BroadcastError):
    """Something is wrong with the shared memory part."""


class RingCorrupt(RingError):
    """A ring holds bytes that no producer wrote; they were skipped and counted."""


class SegmentError(RingError):
    """A segment cannot be created, mapped, found, or trusted."""


class NotTheConsumer(RingError):
    """A ring is read by the process that registered for it, never by its forked children."""


class NoFreeSlot(BroadcastError):
    """Every watcher slot of the broadcaster is taken; ``max_watchers`` raises the limit."""


class NoReference(BroadcastError):
    """No ``ObjectReference`` can be made to the object."""


class NilObject(NoReference):
    """The object is ``None``; the text is client-go's ``ErrNilObject``."""

    def __init__(self, message: str = "can't reference a nil object") -> None:
        super().__init__(message)


class NoSchemeError(NoReference):
    """The object does not say its type and no scheme was given to look it up; client-go's text."""

    def __init__(self, message: str = "scheme is required to look up gvk") -> None:
        super().__init__(message)


class NotRegistered(NoReference):
    """The scheme does not know the type of the object."""


class InvalidEvent(BroadcastError):
    """An event that a strict recorder refuses: a bad type, or an object that cannot be referenced."""


class SinkError(BroadcastError):
    """A sink could not write an event."""


class SinkRejected(SinkError):
    """The other side said no. Final: the write is never retried.

    Attributes:
        code: the HTTP status code, or 0 where there is none.
        reason: the machine-readable reason of a Kubernetes Status (``AlreadyExists``, ``Forbidden``...), or "".
        cause: the cause type of a Kubernetes Status (such as ``NamespaceTerminating``), or "".
    """

    def __init__(self, message: str, *, code: int = 0, reason: str = "", cause: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.cause = cause


class NotFound(SinkRejected):
    """A patch met an event that is not there (any more): the delivery creates it instead."""

    def __init__(self, message: str, *, code: int = 404, reason: str = "NotFound", cause: str = "") -> None:
        super().__init__(message, code=code, reason=reason, cause=cause)


class SinkUnavailable(SinkError):
    """The other side cannot be reached or asks for patience. The write is retried.

    Attributes:
        code: the HTTP status code where there was an answer (429, 500, 503...), else 0.
        retry_after: seconds to wait as the other side asked, or None.
    """

    def __init__(self, message: str, *, code: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class StoreError(BroadcastError):
    """An event store cannot be opened, read or written."""


class HelperError(BroadcastError):
    """A distributor or watcher process cannot be started."""


class ServeError(BroadcastError):
    """The API server cannot be started: the port is taken, a file is not there, a token is missing."""


class MissingExtra(BroadcastError):
    """An optional dependency is not installed.

    Args:
        what: what needs it, as the user would say it ("the command line", "NATSSink").
        extra: the extra of this package that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'mpbroadcast[{extra}]'")
        self.extra = extra
