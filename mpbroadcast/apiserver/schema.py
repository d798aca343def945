"""The fields of an event in both groups: for kubectl's ``explain``, and to find fields that nobody knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CORE_EVENT", "DEFINITIONS", "NEW_EVENT", "Definition", "Field", "unknown_fields"]

CORE_EVENT: Final = "io.k8s.api.core.v1.Event"
NEW_EVENT: Final = "io.k8s.api.events.v1.Event"

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_REFERENCE: Final = "io.k8s.api.core.v1.ObjectReference"
_SOURCE: Final = "io.k8s.api.core.v1.EventSource"
_CORE_SERIES: Final = "io.k8s.api.core.v1.EventSeries"
_NEW_SERIES: Final = "io.k8s.api.events.v1.EventSeries"


class Field(NamedTuple):
    """One field of an object.

    Attributes:
        description: for people.
        type: a JSON type, or the name of a definition.
        format: of a string or number, such as ``date-time``, or "".
        texts: whether the object is a map of strings.
    """

    description: str
    type: str = "string"
    format: str = ""
    texts: bool = False


class Definition(NamedTuple):
    """One kind of object: what it is, its fields, which of them must be there, and group, version, kind if it has."""

    description: str
    fields: dict[str, Field]
    required: tuple[str, ...] = ()
    kind: tuple[str, str, str] | None = None


def _time(description: str) -> Field:
    return Field(description, format="date-time")


_TYPE_META: Final = {
    "apiVersion": Field("Group and version of this object's shape."),
    "kind": Field("The kind of this object."),
    "metadata": Field("Name, namespace and the like.", _META),
}
_COMMON: Final = {
    "action": Field("What was done, or failed to be done, with the object."),
    "eventTime": _time("When the event was first observed, to the microsecond; new-style events only."),
    "reason": Field("Why, in CamelCase and for programs to switch on."),
    "related": Field("A second object, which the action also concerns.", _REFERENCE),
    "reportingInstance": Field("Which copy of the controller reports the event, such as `kubelet-xyzf`."),
    "type": Field("Normal or Warning."),
}
_COUNT: Final = Field("How often the event happened.", "integer", "int32")

DEFINITIONS: Final[dict[str, Definition]] = {
    CORE_EVENT: Definition(
        "An Event tells what happened to an object. It is kept for a limited time only.",
        _TYPE_META
        | _COMMON
        | {
            "count": _COUNT,
            "firstTimestamp": _time("When the event was first observed, to the second."),
            "involvedObject": Field("The object that the event is about.", _REFERENCE),
            "lastTimestamp": _time("When the event was last observed, to the second."),
            "message": Field("What happened, for people."),
            "reportingComponent": Field("The controller that reports the event, such as `kubernetes.io/kubelet`."),
            "series": Field("How often and when last, for an event that is going on.", _CORE_SERIES),
            "source": Field("The component that reports the event.", _SOURCE),
        },
        ("metadata", "involvedObject"),
        ("", "v1", "Event"),
    ),
    NEW_EVENT: Definition(
        "An Event tells what happened to an object. It is kept for a limited time only.",
        _TYPE_META
        | _COMMON
        | {
            "deprecatedCount": _COUNT,
            "deprecatedFirstTimestamp": _time("firstTimestamp of the core/v1 event."),
            "deprecatedLastTimestamp": _time("lastTimestamp of the core/v1 event."),
            "deprecatedSource": Field("source of the core/v1 event.", _SOURCE),
            "note": Field("What happened, for people; at most 1024 bytes."),
            "regarding": Field("The object that the event is about.", _REFERENCE),
            "reportingController": Field("The controller that reports the event, such as `kubernetes.io/kubelet`."),
            "series": Field("How often and when last, for an event that is going on.", _NEW_SERIES),
        },
        ("eventTime",),
        ("events.k8s.io", "v1", "Event"),
    ),
    _CORE_SERIES: Definition(
        "How often and when last.", {"count": _COUNT, "lastObservedTime": _time("When the event was last observed.")}
    ),
    _NEW_SERIES: Definition(
        "How often and when last.",
        {"count": _COUNT, "lastObservedTime": _time("When the event was last observed.")},
        ("count", "lastObservedTime"),
    ),
    _SOURCE: Definition(
        "Who reports an event.",
        {"component": Field("The reporting component."), "host": Field("The node it runs on.")},
    ),
    _REFERENCE: Definition(
        "Which object is meant.",
        {
            "apiVersion": Field("API version of the object."),
            "fieldPath": Field("The part of the object that is meant, such as `spec.containers{app}`."),
            "kind": Field("Kind of the object."),
            "name": Field("Name of the object."),
            "namespace": Field("Namespace of the object."),
            "resourceVersion": Field("The version of the object that is meant."),
            "uid": Field("UID of the object."),
        },
    ),
    _META: Definition(
        "What every object has. This server keeps name, namespace, labels and annotations, and sets the rest.",
        {
            "annotations": Field("Any texts, not for selecting.", "object", texts=True),
            "creationTimestamp": _time("When the server created the object."),
            "deletionGracePeriodSeconds": Field("Not used for events.", "integer", "int64"),
            "deletionTimestamp": _time("Not used for events."),
            "finalizers": Field("Not kept.", "array"),
            "generateName": Field("The beginning of a name that the server completes, if there is no name."),
            "generation": Field("Not used for events.", "integer", "int64"),
            "labels": Field("Short texts for selecting.", "object", texts=True),
            "managedFields": Field("Not kept.", "array"),
            "name": Field("Unique among the events of a namespace."),
            "namespace": Field("Where the object lives."),
            "ownerReferences": Field("Not kept.", "array"),
            "resourceVersion": Field("The version of the last write."),
            "selfLink": Field("Not used any more."),
            "uid": Field("Unique for all time; set by the server."),
        },
    ),
}


def unknown_fields(body: Mapping[str, Any], definition: str, path: str = "") -> Iterator[str]:
    """Name the fields of an object that its definition does not know, as paths such as ``source.hots``."""
    fields = DEFINITIONS[definition].fields
    for key, value in body.items():
        field = fields.get(key)
        if field is None:
            yield f"{path}{key}"
        elif field.type in DEFINITIONS and isinstance(value, Mapping):
            yield from unknown_fields(value, field.type, f"{path}{key}.")
