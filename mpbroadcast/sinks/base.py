"""What a sink is: three methods and three ways to fail.

Runs in: the process that writes to the sink. A sink does no retrying, counting or filtering: `sinks.delivery` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpbroadcast.errors import SinkError
    from mpbroadcast.event.model import Event

__all__ = [
    "NAMESPACE_TERMINATING",
    "BatchingSink",
    "EventSink",
    "RecordSink",
    "is_already_exists",
    "is_namespace_terminating",
]

NAMESPACE_TERMINATING: Final = "NamespaceTerminating"
"""The cause in a Status when a namespace is being deleted and takes nothing new (spec 0.3)."""

_CONFLICT: Final = 409


class EventSink(Protocol):
    """Where events are stored. Called by one thread at a time; may block as long as a write takes.

    Every write raises one of three errors, or a subclass, when it fails: `SinkRejected` (final), `NotFound` (only the
    patched event is gone), `SinkUnavailable` (to be tried again, not before its ``retry_after``). Every sink can be
    checked against these rules with `mpbroadcast.testing.check_sink`.

    A sink is made in the application, handed to its own process by fork or pickling, and used there only. What is not
    to happen in the application belongs into ``open``. These are looked for and need not be there:

    ``check()``
        called in the application before anything is started; raises a `BroadcastError` that says in one line why this
        sink cannot work.
    ``open()``
        called in the sink's process before the first write; may raise `SinkUnavailable` and is then not called again:
        a write that finds the sink not open opens it, or raises the same.
    ``flush()``
        called after the writes of a batch, before they are counted as handled; raises `SinkUnavailable`.
    ``idle()``
        called when there is nothing to write, and now and then else: upkeep. Returns the seconds until it wants to be
        called again, or None. Must not raise.
    ``default_correlator``
        `CorrelatorOptions`, or None for "every event": used where the user gives none.
    ``batch``
        how many events it likes to have at once.
    """

    def create(self, event: Event) -> Event:
        """Store a new event under its namespace and name.

        Returns:
            What was stored, with its resource version.

        Raises:
            SinkRejected: refused; with code 409 and reason ``AlreadyExists`` when there is an event of that name.
            SinkUnavailable: not stored, or not known whether it was.
        """
        ...  # pragma: no cover

    def patch(self, event: Event, patch: bytes) -> Event:
        """Change a stored event.

        Args:
            event: the event as it is to be; its namespace and name say which one to change.
            patch: a strategic merge patch as JSON; it may be ``{}``.

        Returns:
            What is stored now, with its resource version.

        Raises:
            NotFound: there is no such event.
            SinkRejected: refused.
            SinkUnavailable: not changed, or not known whether it was.
        """
        ...  # pragma: no cover

    def close(self) -> None:
        """Write what is still held back and let go of everything. May be called more than once."""
        ...  # pragma: no cover


@runtime_checkable
class BatchingSink(EventSink, Protocol):
    """A sink that stores many writes in one transaction, together with how far its source has been read.

    After a crash exactly what the position says is stored, so nothing is stored twice and nothing is missing.
    """

    def begin(self) -> None:
        """Open a transaction.

        Raises:
            SinkUnavailable: not now; no transaction is open.
        """
        ...  # pragma: no cover

    def commit(self) -> None:
        """Make the writes and positions since `begin` durable, all of them or none.

        A write that failed in between is not part of it and does not hinder it.

        Raises:
            SinkUnavailable: nothing of the transaction was kept, or it is not known; no transaction is open.
        """
        ...  # pragma: no cover

    def position(self, source: str) -> int:
        """Return the sequence number up to which a source is stored; 0 if nothing is: the first number is 1.

        Raises:
            SinkUnavailable: it cannot be read now.
        """
        ...  # pragma: no cover

    def set_position(self, source: str, sequence: int) -> None:
        """Note, in the open transaction, that a source is stored up to a sequence number.

        Raises:
            SinkUnavailable: it cannot be written now.
        """
        ...  # pragma: no cover


@runtime_checkable
class RecordSink(BatchingSink, Protocol):
    """A sink that stores many new events at once, straight from the bytes of the ring."""

    def create_records(self, items: Sequence[bytes | Event]) -> int:
        """Store new events, ring payloads or `Event` values, in the open transaction.

        Returns:
            The resource version of the first; those of the others follow without a gap.

        Raises:
            SinkRejected: one of them cannot be stored, or is there already; the transaction is to be given up.
            SinkUnavailable: not now; the transaction is to be given up.
        """
        ...  # pragma: no cover

    def rollback(self) -> None:
        """Give up the open transaction, if there is one. Never raises."""
        ...  # pragma: no cover


def is_already_exists(error: SinkError) -> bool:
    """Say whether a create was refused because there is an event of that name; a bare 409 says the same."""
    return getattr(error, "code", 0) == _CONFLICT and getattr(error, "reason", "") in {"AlreadyExists", ""}


def is_namespace_terminating(error: SinkError) -> bool:
    """Say whether a write was refused because its namespace is being deleted."""
    return getattr(error, "cause", "") == NAMESPACE_TERMINATING
