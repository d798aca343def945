"""What makes events the same, similar, or of one budget: the keys of spec 2.5.

Every key is a tuple of its fields. client-go joins them with nothing in between and so mistakes ``("ab", "c")`` for
``("a", "bc")`` (W14); here two keys are equal exactly when all their fields are.

Never part of a key: name and namespace of the event, annotations, the object's resource version, times, count, action
and related object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from mpbroadcast.event.model import Event

__all__ = ["AGGREGATE_PREFIX", "aggregate_by_reason", "aggregate_message", "full_key", "spam_key"]

AGGREGATE_PREFIX = "(combined from similar events): "
"""client-go's words before the message of an aggregate (spec 0.3), with the blank at the end."""


def full_key(event: Event) -> tuple[str, ...]:
    """Return the key under which equal events are counted: all that a reader sees, the message included."""
    component, host = event.source
    kind, namespace, name, uid, api_version, _, field_path = event.involved_object
    # fmt: off
    return (component, host, kind, namespace, name, field_path, uid, api_version,
            event.type, event.reason, event.message)
    # fmt: on


def aggregate_by_reason(event: Event) -> tuple[Hashable, str]:
    """Return client-go's default grouping of similar events (C2).

    Returns:
        The key of the group (source, object without its field path, type, reason, who reports), and the local key
        that tells members of the group apart: the message.
    """
    component, host = event.source
    kind, namespace, name, uid, api_version, _, _ = event.involved_object
    # fmt: off
    return (component, host, kind, namespace, name, uid, api_version,
            event.type, event.reason, event.reporting_controller, event.reporting_instance), event.message
    # fmt: on


def aggregate_message(event: Event) -> str:
    """Return client-go's default message of an aggregate: the newest message behind a fixed prefix (C7)."""
    return AGGREGATE_PREFIX + event.message


def spam_key(event: Event) -> Hashable:
    """Return client-go's default budget: one for each source, object and type (C14)."""
    kind, namespace, name, uid, api_version, _, _ = event.involved_object
    return (*event.source, kind, namespace, name, uid, api_version, event.type)
