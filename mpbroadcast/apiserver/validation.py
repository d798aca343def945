"""Which events the API server refuses (spec 0.3), as recorded from v1.36.2. Pure.

There are two kinds of rules. The old ones hold in both API groups; they look at the namespace, and at what an event of
the new style (one with an ``eventTime``) must have. The ones of events.k8s.io/v1 come on top for requests to it. Fields
are named as the server's inner type names them (``message``, ``involvedObject``), whichever group was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from mpbroadcast.apiserver.names import (
    invalid_value,
    metadata_causes,
    qualified_name_errors,
    required,
    subdomain_errors,
)
from mpbroadcast.apiserver.status import Cause, invalid
from mpbroadcast.event.limits import FIELD_LIMIT, NOTE_LIMIT
from mpbroadcast.event.parts import EventType
from mpbroadcast.event.shapes import reference_to_json
from mpbroadcast.event.times import MICROSECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpbroadcast.apiserver.resource import EventResource
    from mpbroadcast.event.model import Event

__all__ = ["validate_create", "validate_update"]

_CLUSTER_NAMESPACES: Final = ("default", "kube-system")  # where new-style events about cluster-scoped objects may live


def validate_create(event: Event, resource: EventResource) -> None:
    """Refuse a new event that the real server would refuse.

    Raises:
        ApiError: 422 with every cause.
    """
    causes = list(metadata_causes(event.name, event.namespace, event.labels, event.annotations))
    causes += _old_rules(event, resource.controller)
    if resource.strict:
        causes += [invalid_value("metadata.name", event.name, error) for error in subdomain_errors(event.name)]
        causes += [*_series(event), *_unset_in_new_events(event)]
    _raise(event, causes)


def validate_update(event: Event, current: Event, resource: EventResource) -> None:
    """Refuse a change of a stored event that the real server would refuse.

    Raises:
        ApiError: 422 with every cause.
    """
    causes = list(metadata_causes(event.name, event.namespace, event.labels, event.annotations))
    if event.creation_timestamp not in {None, current.creation_timestamp}:
        causes.append(_immutable("metadata.creationTimestamp", event.to_core_v1()["metadata"]["creationTimestamp"]))
    causes += _old_rules(event, resource.controller)
    if resource.strict:
        causes += [*_unchanged(event, current, resource), *_series(event)]
    _raise(event, causes)


def _raise(event: Event, causes: list[Cause]) -> None:
    if causes:
        raise invalid("Event", event.name, list(dict.fromkeys(causes)))


def _old_rules(event: Event, controller: str) -> Iterator[Cause]:
    where, about = event.namespace, event.involved_object.namespace
    if event.event_time is None:
        allowed = {"", "default"} if not about else {about}
        if where not in allowed:
            yield invalid_value("involvedObject.namespace", about, "does not match event.namespace")
    else:
        if not about and where not in _CLUSTER_NAMESPACES:
            yield invalid_value("involvedObject.namespace", about, "does not match event.namespace")
        yield from _required_in_new_events(event, controller)
    for error in subdomain_errors(where):
        yield invalid_value("namespace", where, error)


def _required_in_new_events(event: Event, controller: str) -> Iterator[Cause]:
    if not event.reporting_controller:
        yield required(controller)
    for error in qualified_name_errors(event.reporting_controller):
        yield invalid_value(controller, event.reporting_controller, error)
    for field, text in (
        ("reportingInstance", event.reporting_instance),
        ("action", event.action),
        ("reason", event.reason),
    ):
        if not text:
            yield required(field)
        yield from _too_long(field, text, FIELD_LIMIT)
    yield from _too_long("message", event.message, NOTE_LIMIT)


def _too_long(field: str, text: str, limit: int) -> Iterator[Cause]:
    if len(text.encode()) > limit:  # bytes, whatever the sentence says
        yield invalid_value(field, "", f"can have at most {limit} characters")


def _series(event: Event) -> Iterator[Cause]:
    if event.series is not None:
        if event.series.count < 2:
            yield invalid_value("series.count", "", "should be at least 2")
        if event.series.last_observed_time is None:
            yield required("series.lastObservedTime")


def _unset_in_new_events(event: Event) -> Iterator[Cause]:
    if event.event_time is None:
        yield required("eventTime")
    if event.type not in set(EventType):
        yield invalid_value("type", "", f"has invalid value: {event.type[:256]}")
    for field, is_set in (
        ("firstTimestamp", event.first_timestamp is not None),
        ("lastTimestamp", event.last_timestamp is not None),
        ("count", event.count != 0),
        ("source", bool(event.source.component or event.source.host)),
    ):
        if is_set:
            yield invalid_value(field, "", "needs to be unset")


def _immutable(field: str, value: Any) -> Cause:
    shown = orjson.dumps(value).decode()
    return Cause("FieldValueInvalid", f"Invalid value: {shown[:512]}: field is immutable", field)


def _unchanged(event: Event, current: Event, resource: EventResource) -> Iterator[Cause]:
    """Everything but metadata and series stays as it was created."""
    body = event.to_core_v1()
    for field, new, old in (
        ("involvedObject", event.involved_object, current.involved_object),
        ("reason", event.reason, current.reason),
        ("message", event.message, current.message),
        ("source", event.source, current.source),
        ("firstTimestamp", event.first_timestamp, current.first_timestamp),
        ("lastTimestamp", event.last_timestamp, current.last_timestamp),
        ("count", event.count, current.count),
        ("type", event.type, current.type),
        ("eventTime", _micro(event.event_time), _micro(current.event_time)),
        ("action", event.action, current.action),
        ("related", event.related, current.related),
        ("reportingController", event.reporting_controller, current.reporting_controller),
        ("reportingInstance", event.reporting_instance, current.reporting_instance),
    ):
        if new != old:
            name = resource.controller if field == "reportingController" else field
            shown = reference_to_json(event.related) if field == "related" and event.related else body.get(field)
            yield _immutable(name, event.reporting_controller if field == "reportingController" else shown)


def _micro(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // MICROSECOND
