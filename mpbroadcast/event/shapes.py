"""The two JSON shapes of an event, written and read.

Runs in: sinks, stores, servers. Writing follows Go's encoding key by key: its order, what it leaves out when empty,
what it always writes (spec 0.1, 0.2). The recorded answers of client-go and of the API server decide; so
``creationTimestamp`` is left out when there is none, as Kubernetes does since 1.34. Reading takes what is missing or
null as empty, ignores unknown keys, and refuses a wrong type with one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mpbroadcast.base.text import well_formed
from mpbroadcast.event.limits import fill_for_events_v1
from mpbroadcast.event.parts import EventSeries, EventSource, ObjectReference
from mpbroadcast.event.times import decode_time, encode_micro_time, encode_time

if TYPE_CHECKING:
    from mpbroadcast.event.model import Event

__all__ = [
    "CORE_V1",
    "EVENTS_V1",
    "core_v1",
    "events_v1",
    "events_v1_for_create",
    "fields_from_core_v1",
    "fields_from_events_v1",
    "reference_from_json",
    "reference_to_json",
    "source_from_json",
]

CORE_V1: Final = "v1"
"""The ``apiVersion`` of core events."""

EVENTS_V1: Final = "events.k8s.io/v1"
"""The ``apiVersion`` of the newer events."""

_REFERENCE_KEYS: Final = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_INT32_MAX: Final = 2**31 - 1  # Kubernetes' counts are 32 bits wide (spec 0.1)

_T = TypeVar("_T")


def reference_to_json(reference: ObjectReference) -> dict[str, str]:
    """Write a reference with its empty fields left out, in Go's order."""
    return {key: well_formed(value) for key, value in zip(_REFERENCE_KEYS, reference, strict=True) if value}


def _source_to_json(source: EventSource) -> dict[str, str]:
    return {key: well_formed(value) for key, value in zip(("component", "host"), source, strict=True) if value}


def _text_map(texts: Mapping[str, str]) -> dict[str, str]:
    """Go writes maps with sorted keys."""
    return {well_formed(key): well_formed(texts[key]) for key in sorted(texts)}


def _metadata(event: Event) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if event.name:
        metadata["name"] = well_formed(event.name)
    if event.namespace:
        metadata["namespace"] = well_formed(event.namespace)
    if event.uid:
        metadata["uid"] = well_formed(event.uid)
    if event.resource_version:
        metadata["resourceVersion"] = well_formed(event.resource_version)
    if event.creation_timestamp is not None:
        metadata["creationTimestamp"] = encode_time(event.creation_timestamp)
    if event.labels:
        metadata["labels"] = _text_map(event.labels)
    if event.annotations:
        metadata["annotations"] = _text_map(event.annotations)
    return metadata


def core_v1(event: Event) -> dict[str, Any]:
    """Write the core/v1 shape.

    Raises:
        ValueError: a time lies outside of the years 1 to 9999.
    """
    body: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": CORE_V1,
        "metadata": _metadata(event),
        "involvedObject": reference_to_json(event.involved_object),
    }
    if event.reason:
        body["reason"] = well_formed(event.reason)
    if event.message:
        body["message"] = well_formed(event.message)
    body["source"] = _source_to_json(event.source)
    body["firstTimestamp"] = encode_time(event.first_timestamp)
    body["lastTimestamp"] = encode_time(event.last_timestamp)
    if event.count:
        body["count"] = event.count
    if event.type:
        body["type"] = well_formed(event.type)
    body["eventTime"] = encode_micro_time(event.event_time)
    if event.series is not None:
        series: dict[str, Any] = {"count": event.series.count} if event.series.count else {}
        series["lastObservedTime"] = encode_micro_time(event.series.last_observed_time)
        body["series"] = series
    if event.action:
        body["action"] = well_formed(event.action)
    if event.related is not None:
        body["related"] = reference_to_json(event.related)
    body["reportingComponent"] = well_formed(event.reporting_controller)
    body["reportingInstance"] = well_formed(event.reporting_instance)
    return body


def events_v1(event: Event) -> dict[str, Any]:
    """Write the events.k8s.io/v1 shape as the API server shows a stored event: nothing filled, nothing cut.

    Raises:
        ValueError: a time lies outside of the years 1 to 9999.
    """
    body: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": EVENTS_V1,
        "metadata": _metadata(event),
        "eventTime": encode_micro_time(event.event_time),
    }
    if event.series is not None:
        body["series"] = {
            "count": event.series.count,
            "lastObservedTime": encode_micro_time(event.series.last_observed_time),
        }
    for key, value in (
        ("reportingController", event.reporting_controller),
        ("reportingInstance", event.reporting_instance),
        ("action", event.action),
        ("reason", event.reason),
    ):
        if value:
            body[key] = well_formed(value)
    body["regarding"] = reference_to_json(event.involved_object)
    if event.related is not None:
        body["related"] = reference_to_json(event.related)
    if event.message:
        body["note"] = well_formed(event.message)
    if event.type:
        body["type"] = well_formed(event.type)
    body["deprecatedSource"] = _source_to_json(event.source)
    body["deprecatedFirstTimestamp"] = encode_time(event.first_timestamp)
    body["deprecatedLastTimestamp"] = encode_time(event.last_timestamp)
    if event.count:
        body["deprecatedCount"] = event.count
    return body


def events_v1_for_create(event: Event) -> tuple[dict[str, Any], int]:
    """Write the events.k8s.io/v1 shape as the API server takes it: filled, cut to its limits, deprecated fields unset.

    Returns:
        The object, and how many of its texts were cut.

    Raises:
        ValueError: a time lies outside of the years 1 to 9999.
    """
    filled, cuts = fill_for_events_v1(event)
    return events_v1(filled), cuts


def _get(body: Mapping[str, Any], key: str, kind: type[_T], what: str, default: _T) -> _T:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ValueError(f"not an event: {key} is {type(value).__name__}, not {what}")  # noqa: TRY004
    return value


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"not an event: {key} is {type(value).__name__}, not a string")  # noqa: TRY004
    return well_formed(value)


def _object(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return _get(body, key, Mapping, "an object", {})  # type: ignore[type-abstract]


def _texts(body: Mapping[str, Any], key: str) -> dict[str, str] | None:
    texts = _object(body, key)
    for name, value in texts.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValueError(f"not an event: {key} holds something else than strings")  # noqa: TRY004 - as all of them
    return {well_formed(name): well_formed(value) for name, value in texts.items()} or None


def _count(body: Mapping[str, Any], key: str) -> int:
    value = body.get(key)
    if value is None:
        return 0
    if type(value) is not int or not -_INT32_MAX - 1 <= value <= _INT32_MAX:
        raise ValueError(f"not an event: {key} is no 32-bit integer")
    return value


def _time(body: Mapping[str, Any], key: str) -> int | None:
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"not an event: {key} is {type(value).__name__}, not a time")  # noqa: TRY004
    try:
        return decode_time(value)
    except ValueError as error:
        raise ValueError(f"not an event: {key}: {error}") from None


_ONLY_TEXT: Final = {str}


def reference_from_json(body: Mapping[str, Any]) -> ObjectReference:
    """Read a reference.

    Raises:
        ValueError: with one line, for a field that is no string.
    """
    texts = [body.get(key, "") for key in _REFERENCE_KEYS]
    if set(map(type, texts)) != _ONLY_TEXT:  # null stands for "", and everything else is an error
        texts = [_text(body, key) for key in _REFERENCE_KEYS]
    return ObjectReference(*texts)


def source_from_json(body: Mapping[str, Any]) -> EventSource:
    """Read an event's source.

    Raises:
        ValueError: with one line, for a field that is no string.
    """
    return EventSource(_text(body, "component"), _text(body, "host"))


def _optional(body: Mapping[str, Any], key: str, read: Callable[[Mapping[str, Any]], _T]) -> _T | None:
    return None if body.get(key) is None else read(_object(body, key))


def _series(body: Mapping[str, Any]) -> EventSeries:
    return EventSeries(_count(body, "count"), _time(body, "lastObservedTime"))


def _common_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(body, Mapping):
        raise ValueError(f"not an event: a {type(body).__name__}, not an object")  # noqa: TRY004
    metadata = _object(body, "metadata")
    return {
        "name": _text(metadata, "name"),
        "namespace": _text(metadata, "namespace"),
        "uid": _text(metadata, "uid"),
        "resource_version": _text(metadata, "resourceVersion"),
        "creation_timestamp": _time(metadata, "creationTimestamp"),
        "labels": _texts(metadata, "labels"),
        "annotations": _texts(metadata, "annotations"),
        "related": _optional(body, "related", reference_from_json),
        "type": _text(body, "type"),
        "reason": _text(body, "reason"),
        "action": _text(body, "action"),
        "event_time": _time(body, "eventTime"),
        "series": _optional(body, "series", _series),
        "reporting_instance": _text(body, "reportingInstance"),
    }


def fields_from_core_v1(body: Mapping[str, Any]) -> dict[str, Any]:
    """Read a core/v1 event into `Event`'s constructor arguments.

    Raises:
        ValueError: with one line, for a wrong type.
    """
    return _common_fields(body) | {
        "involved_object": reference_from_json(_object(body, "involvedObject")),
        "message": _text(body, "message"),
        "source": source_from_json(_object(body, "source")),
        "reporting_controller": _text(body, "reportingComponent"),
        "count": _count(body, "count"),
        "first_timestamp": _time(body, "firstTimestamp"),
        "last_timestamp": _time(body, "lastTimestamp"),
    }


def fields_from_events_v1(body: Mapping[str, Any]) -> dict[str, Any]:
    """Read an events.k8s.io/v1 event into `Event`'s constructor arguments, as the API server converts it (spec 0.1).

    Raises:
        ValueError: with one line, for a wrong type.
    """
    return _common_fields(body) | {
        "involved_object": reference_from_json(_object(body, "regarding")),
        "message": _text(body, "note"),
        "source": source_from_json(_object(body, "deprecatedSource")),
        "reporting_controller": _text(body, "reportingController"),
        "count": _count(body, "deprecatedCount"),
        "first_timestamp": _time(body, "deprecatedFirstTimestamp"),
        "last_timestamp": _time(body, "deprecatedLastTimestamp"),
    }
