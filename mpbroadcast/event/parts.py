"""The small values inside an event.

They are named tuples: a reference is made, hashed and compared for every recorded event, and a tuple does each of
these in C, three to five times faster than a frozen dataclass. Use ``value._replace(...)`` for a changed copy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["EventSeries", "EventSource", "EventType", "ObjectReference"]


class EventType(StrEnum):
    """The two types that client-go accepts (spec 0.3); exactly these letters."""

    NORMAL = "Normal"
    WARNING = "Warning"

    # Enum hashes a member by its name through a Python call; as a string it is found in any dict of strings, in 20 ns.
    __hash__ = str.__hash__


class ObjectReference(NamedTuple):
    """Which object an event is about: Kubernetes' ``ObjectReference``, fields in its order (spec 0.1).

    It is itself an object that events can be recorded about, taken as it is and not validated (R2).

    Attributes:
        kind: such as ``Pod``.
        namespace: empty for what belongs to no namespace.
        name: the object's name.
        uid: the object's unique id.
        api_version: ``group/version``, or just the version for the core group.
        resource_version: the version of the object when the event happened.
        field_path: the part of the object, such as ``spec.containers{app}``.
    """

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class EventSource(NamedTuple):
    """Who reports: a component and, optionally, the host it runs on."""

    component: str
    host: str = ""


class EventSeries(NamedTuple):
    """How often an event was repeated, and when last (Unix nanoseconds, None for Go's zero time)."""

    count: int  # type: ignore[assignment]  # the field's name in Kubernetes; a tuple's own count() is of no use here
    last_observed_time: int | None = None
