"""The two faces of one stored event: core/v1 and events.k8s.io/v1 (spec 0.1). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.event.model import Event
from mpbroadcast.event.shapes import CORE_V1, EVENTS_V1

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CORE_EVENTS", "NEW_EVENTS", "EventResource"]


def _source(event: Event) -> str:
    return event.source.component or event.reporting_controller


def _labels(prefix: str, controller: str) -> dict[str, Callable[[Event], str]]:
    """Return the field labels that the real server knows for events, and what each of them reads."""
    return {
        "metadata.name": lambda event: event.name,
        "metadata.namespace": lambda event: event.namespace,
        f"{prefix}.kind": lambda event: event.involved_object.kind,
        f"{prefix}.namespace": lambda event: event.involved_object.namespace,
        f"{prefix}.name": lambda event: event.involved_object.name,
        f"{prefix}.uid": lambda event: event.involved_object.uid,
        f"{prefix}.apiVersion": lambda event: event.involved_object.api_version,
        f"{prefix}.resourceVersion": lambda event: event.involved_object.resource_version,
        f"{prefix}.fieldPath": lambda event: event.involved_object.field_path,
        "reason": lambda event: event.reason,
        "type": lambda event: event.type,
        controller: lambda event: event.reporting_controller,
    }


@dataclass(frozen=True, slots=True)
class EventResource:
    """``events`` in one API group.

    Attributes:
        group: "" for core.
        api_version: what stands in objects.
        write: a stored event to its JSON object.
        read: a JSON object to an event; ValueError for a wrong type.
        labels: what field selectors may name, and what each reads.
        involved: the prefix of field labels about the involved object.
        controller: the JSON name of the reporting controller.
        strict: whether the rules of events.k8s.io/v1 hold on top of the old ones (spec 0.3).
    """

    group: str
    api_version: str
    write: Callable[[Event], dict[str, Any]]
    read: Callable[[Mapping[str, Any]], Event]
    labels: Mapping[str, Callable[[Event], str]]
    involved: str
    controller: str
    strict: bool


CORE_EVENTS: Final = EventResource(
    group="",
    api_version=CORE_V1,
    write=Event.to_core_v1,
    read=Event.from_core_v1,
    labels=_labels("involvedObject", "reportingComponent") | {"source": _source},
    involved="involvedObject",
    controller="reportingComponent",
    strict=False,
)

NEW_EVENTS: Final = EventResource(
    group="events.k8s.io",
    api_version=EVENTS_V1,
    write=lambda event: event.to_events_v1(as_stored=True),
    read=Event.from_events_v1,
    labels=_labels("regarding", "reportingController"),
    involved="regarding",
    controller="reportingController",
    strict=True,
)
