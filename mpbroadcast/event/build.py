"""A whole `Event` from what a recorder is given: the old shape (R7) and the new one (R11). Runs in: any process.

The recorder itself goes another way, by the bytes of `codec`, and comes to the same event; this one is for fakes, for
tools that make single events, and for tests that hold the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpbroadcast.base.text import well_formed
from mpbroadcast.event.codec import DEFAULT_NAMESPACE
from mpbroadcast.event.model import Event
from mpbroadcast.event.names import event_name
from mpbroadcast.event.parts import EventSource, EventType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpbroadcast.event.parts import ObjectReference

__all__ = ["is_event_type", "make_core_event", "make_new_event"]

_TYPES: Final = frozenset(EventType)


def is_event_type(type: object) -> bool:  # noqa: A002 - the field's name in Kubernetes
    """Tell whether this is ``Normal`` or ``Warning``, in exactly these letters (R4)."""
    return isinstance(type, str) and type in _TYPES


def make_core_event(
    reference: ObjectReference,
    type: str,  # noqa: A002 - the field's name in Kubernetes
    reason: str,
    message: str,
    t_ns: int,
    *,
    source: EventSource,
    annotations: Mapping[str, str] | None = None,
    related: ObjectReference | None = None,
    action: str = "",
) -> Event:
    """Make the event that client-go's ``tools/record`` makes (R5, R6, R7). Nothing is validated.

    Args:
        reference: what it is about.
        type: ``Normal`` or ``Warning``.
        reason: short, in CamelCase.
        message: for people; lone surrogates become U+FFFD.
        t_ns: the one instant of the name and both times, in Unix nanoseconds.
        source: who reports; also the reporting controller and instance.
        annotations: of the event.
        related: a second object; client-go's old recorder has none.
        action: what was done; client-go's old recorder has none.
    """
    return Event(
        name=event_name(reference.name, t_ns),
        namespace=reference.namespace or DEFAULT_NAMESPACE,
        annotations=annotations,
        involved_object=reference,
        related=related,
        type=str(type),
        reason=reason,
        action=action,
        message=well_formed(message),
        source=source,
        reporting_controller=source.component,
        reporting_instance=source.host,
        count=1,
        first_timestamp=t_ns,
        last_timestamp=t_ns,
    )


def make_new_event(
    reference: ObjectReference,
    type: str,  # noqa: A002 - the field's name in Kubernetes
    reason: str,
    message: str,
    t_ns: int,
    *,
    source: EventSource,
    action: str,
    annotations: Mapping[str, str] | None = None,
    related: ObjectReference | None = None,
) -> Event:
    """Make the event that client-go's ``tools/events`` makes (R5, R6, R11): no count, no source. Nothing is validated.

    Args:
        reference: what it is about.
        type: ``Normal`` or ``Warning``.
        reason: short, in CamelCase.
        message: the note; lone surrogates become U+FFFD.
        t_ns: the instant of the name and of ``eventTime``, in Unix nanoseconds.
        source: the reporting controller; the instance is ``<controller>-<host>``.
        action: what was done or failed.
        annotations: of the event.
        related: a second object.
    """
    return Event(
        name=event_name(reference.name, t_ns),
        namespace=reference.namespace or DEFAULT_NAMESPACE,
        annotations=annotations,
        involved_object=reference,
        related=related,
        type=str(type),
        reason=reason,
        action=action,
        message=well_formed(message),
        reporting_controller=source.component,
        reporting_instance=f"{source.component}-{source.host}",
        event_time=t_ns,
    )
