"""`Event`: one immutable value for both API shapes.

Runs in: every process. Its attributes carry core/v1's names; a sink chooses the shape. An event that came through a
ring is built from its bytes; what is constant from event to event was decoded once before (`codec`).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from mpbroadcast.event.codec import decode_fields, decode_parts, decode_time_of
from mpbroadcast.event.parts import EventSeries, EventSource, EventType, ObjectReference
from mpbroadcast.event.shapes import (
    core_v1,
    events_v1,
    events_v1_for_create,
    fields_from_core_v1,
    fields_from_events_v1,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Event", "EventSeries", "EventSource", "EventType", "ObjectReference"]

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_NO_REFERENCE: Final = ObjectReference()
_NO_SOURCE: Final = EventSource("")

_new = object.__new__


class _Fields:
    """The fields of an event while it is being built.

    An event is filled as this class and then turned into an `Event`, which has the same slots and lets nobody set
    them: 0.2 us, where ``object.__setattr__`` for each field takes 0.8 us, and `Event` is made twice for each
    repeated event that the correlator sees.
    """

    __slots__ = (
        "_payload",
        "action",
        "annotations",
        "count",
        "creation_timestamp",
        "event_time",
        "first_timestamp",
        "involved_object",
        "labels",
        "last_timestamp",
        "message",
        "name",
        "namespace",
        "reason",
        "related",
        "reporting_controller",
        "reporting_instance",
        "resource_version",
        "series",
        "source",
        "type",
        "uid",
    )

    name: str
    namespace: str
    annotations: Mapping[str, str]
    involved_object: ObjectReference
    related: ObjectReference | None
    type: str
    reason: str
    action: str
    message: str
    source: EventSource
    reporting_controller: str
    reporting_instance: str
    count: int
    first_timestamp: int | None
    last_timestamp: int | None
    event_time: int | None
    series: EventSeries | None
    resource_version: str
    uid: str
    labels: Mapping[str, str]
    creation_timestamp: int | None
    _payload: bytes


_FIELDS: Final = tuple(name for name in _Fields.__annotations__ if name != "_payload")
_ALWAYS: Final[Mapping[str, Any]] = {  # in every event of a recorder (R7)
    "annotations": _NOTHING,
    "labels": _NOTHING,
    "count": 1,
    "event_time": None,
    "series": None,
    "creation_timestamp": None,
    "resource_version": "",
    "uid": "",
}
_SETTERS: Final = {name: getattr(_Fields, name).__set__ for name in _FIELDS}


def _frozen(texts: Mapping[str, str] | None) -> Mapping[str, str]:
    """Copy: neither the caller nor another watcher may change an event (W43)."""
    return MappingProxyType(dict(texts)) if texts else _NOTHING


class Event(_Fields):
    """One event, immutable, comparable, picklable. Safe to share between threads.

    All times are Unix nanoseconds (``int``); None is Go's zero time. Annotations and labels are read-only mappings,
    empty where there are none. Nothing is validated here: what the API server would refuse can be built, as in Go.

    Attributes:
        name: the event's own name, unique in its namespace.
        namespace: where the event lives; see R6 for the choice.
        annotations: of the event.
        involved_object: what the event is about (``regarding`` in events.k8s.io/v1).
        related: a second object, or None.
        type: ``Normal`` or ``Warning``.
        reason: short, in CamelCase, for programs to switch on.
        action: what was done or failed.
        message: for people (``note`` in events.k8s.io/v1).
        source: who reports, old style.
        reporting_controller: who reports, new style (``reportingComponent`` in core/v1).
        reporting_instance: which copy of it.
        count: how often it happened, old style; 0 in new-style events.
        first_timestamp: when first, old style.
        last_timestamp: when last, old style.
        event_time: when first, new style.
        series: how often and when last, new style; None for a single event.
        resource_version: of the stored event.
        uid: of the stored event.
        labels: of the event.
        creation_timestamp: when the server created the event.
    """

    __slots__ = ()

    def __new__(  # noqa: PYI034 - nobody derives from an event
        cls,
        *,
        name: str = "",
        namespace: str = "",
        annotations: Mapping[str, str] | None = None,
        involved_object: ObjectReference = _NO_REFERENCE,
        related: ObjectReference | None = None,
        type: str = "",  # noqa: A002 - the field's name in Kubernetes
        reason: str = "",
        action: str = "",
        message: str = "",
        source: EventSource = _NO_SOURCE,
        reporting_controller: str = "",
        reporting_instance: str = "",
        count: int = 0,
        first_timestamp: int | None = None,
        last_timestamp: int | None = None,
        event_time: int | None = None,
        series: EventSeries | None = None,
        resource_version: str = "",
        uid: str = "",
        labels: Mapping[str, str] | None = None,
        creation_timestamp: int | None = None,
    ) -> Event:
        """Build an event from its fields; see the class for their meaning."""
        event = _new(_Fields)
        event.name = name
        event.namespace = namespace
        event.annotations = _frozen(annotations)
        event.involved_object = involved_object
        event.related = related
        event.type = type
        event.reason = reason
        event.action = action
        event.message = message
        event.source = source
        event.reporting_controller = reporting_controller
        event.reporting_instance = reporting_instance
        event.count = count
        event.first_timestamp = first_timestamp
        event.last_timestamp = last_timestamp
        event.event_time = event_time
        event.series = series
        event.resource_version = resource_version
        event.uid = uid
        event.labels = _frozen(labels)
        event.creation_timestamp = creation_timestamp
        return _seal(event)

    @classmethod
    def from_record(cls, payload: bytes) -> Event:
        """Build the event that a ring payload holds.

        It is an old-style event: count 1, first and last time alike, no ``event_time`` (R7). Its name is put together
        when it is first read. Does not block; safe in any thread.

        Raises:
            ValueError: with one line, when the bytes are no event record.
        """
        t_ns, static, message, name, annotations = decode_fields(payload)
        event = _new(_Fields)
        (
            event.involved_object,
            event.namespace,
            event.type,
            event.reason,
            event.action,
            event.source,
            event.reporting_controller,
            event.reporting_instance,
            event.related,
        ) = static
        if name:
            event.name = name
        event.message = message
        event.first_timestamp = event.last_timestamp = t_ns
        event.count = 1
        event.event_time = event.series = event.creation_timestamp = None
        event.resource_version = event.uid = ""
        event.annotations = MappingProxyType(annotations) if annotations else _NOTHING
        event.labels = _NOTHING
        event.__class__ = Event
        return event  # type: ignore[return-value]

    @classmethod
    def lazy_from_record(cls, payload: bytes) -> Event:
        """As `from_record`, for who will look at a few fields only: times, name and what is always alike come later.

        Raises:
            ValueError: with one line, when the bytes are no event record.
        """
        static, message, name, annotations = decode_parts(payload)
        event = _new(_Fields)
        (
            event.involved_object,
            event.namespace,
            event.type,
            event.reason,
            event.action,
            event.source,
            event.reporting_controller,
            event.reporting_instance,
            event.related,
        ) = static
        event.message = message
        event._payload = payload  # noqa: SLF001 - our own
        if name:
            event.name = name
        if annotations:
            event.annotations = MappingProxyType(annotations)
        event.__class__ = Event
        return event  # type: ignore[return-value]

    @classmethod
    def from_core_v1(cls, body: Mapping[str, Any]) -> Event:
        """Read a core/v1 event; what is missing or null is empty, unknown keys are ignored.

        Raises:
            ValueError: with one line, for a field of a wrong type.
        """
        return cls(**fields_from_core_v1(body))

    @classmethod
    def from_events_v1(cls, body: Mapping[str, Any]) -> Event:
        """Read an events.k8s.io/v1 event; what is missing or null is empty, unknown keys are ignored.

        Raises:
            ValueError: with one line, for a field of a wrong type.
        """
        return cls(**fields_from_events_v1(body))

    def to_core_v1(self) -> dict[str, Any]:
        """Write the core/v1 object, ready for a JSON encoder, key by key as Go writes it.

        Raises:
            ValueError: a time lies outside of the years 1 to 9999.
        """
        return core_v1(self)

    def to_events_v1(self, *, as_stored: bool = False) -> dict[str, Any]:
        """Write the events.k8s.io/v1 object, ready for a JSON encoder, key by key as Go writes it.

        Args:
            as_stored: write the event as the server shows a stored one, deprecated fields and all. Otherwise it is
                written as the server takes it on create: required fields filled, texts cut to the limits, deprecated
                fields unset (`limits.fill_for_events_v1`; `shapes.events_v1_for_create` also tells the cuts).

        Raises:
            ValueError: a time lies outside of the years 1 to 9999.
        """
        return events_v1(self) if as_stored else events_v1_for_create(self)[0]

    def replace(self, **changes: Any) -> Event:
        """Give a copy with some fields changed.

        Raises:
            TypeError: there is no such field.
        """
        event = _new(_Fields)
        event.name = self.name
        event.namespace = self.namespace
        event.annotations = self.annotations
        event.involved_object = self.involved_object
        event.related = self.related
        event.type = self.type
        event.reason = self.reason
        event.action = self.action
        event.message = self.message
        event.source = self.source
        event.reporting_controller = self.reporting_controller
        event.reporting_instance = self.reporting_instance
        event.count = self.count
        event.first_timestamp = self.first_timestamp
        event.last_timestamp = self.last_timestamp
        event.event_time = self.event_time
        event.series = self.series
        event.resource_version = self.resource_version
        event.uid = self.uid
        event.labels = self.labels
        event.creation_timestamp = self.creation_timestamp
        for name, value in changes.items():
            setter = _SETTERS.get(name)
            if setter is None:
                raise TypeError(f"an Event has no field {name!r}")
            setter(event, _frozen(value) if name in {"annotations", "labels"} else value)
        return _seal(event)

    def __getattr__(self, name: str) -> Any:
        """A field that is not there yet: the name of an event out of a ring, and what `lazy_from_record` left out."""
        if name == "name":
            value: Any = f"{self.involved_object.name}.{self.first_timestamp:x}"
        elif name in _ALWAYS:
            value = _ALWAYS[name]
        elif name in {"first_timestamp", "last_timestamp"}:
            value = decode_time_of(self._payload)
        else:
            raise AttributeError(f"'Event' object has no attribute {name!r}", name=name, obj=self)
        _SETTERS[name](self, value)
        return value

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an Event is immutable: {name} cannot be set; use replace()", name=name, obj=self)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an Event is immutable: {name} cannot be deleted", name=name, obj=self)

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in _FIELDS])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return self is other or self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.namespace, self.name, self.reason, self.message, self.count, self.last_timestamp))

    def __reduce__(self) -> tuple[Any, ...]:
        fields = dict(zip(_FIELDS, self._values(), strict=True))
        fields["annotations"] = dict(self.annotations)
        fields["labels"] = dict(self.labels)
        return _rebuild, (fields,)

    def __repr__(self) -> str:
        about = f"{self.involved_object.kind}/{self.involved_object.name}"
        message = self.message if len(self.message) <= 60 else self.message[:59] + "…"
        return f"<Event {self.namespace}/{self.name} {self.type} {self.reason} {about} x{self.count}: {message!r}>"


def _seal(event: _Fields) -> Event:
    event.__class__ = Event
    return event  # type: ignore[return-value]


def _rebuild(fields: dict[str, Any]) -> Event:
    return Event(**fields)
