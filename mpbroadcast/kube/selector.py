"""Field selectors for the events about an object (spec 2.10). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mpbroadcast.event.parts import ObjectReference

__all__ = ["field_selector"]

_PREFIXES: Final = {
    "v1": "involvedObject",
    "events.k8s.io/v1": "regarding",
    "events.k8s.io/v1beta1": "regarding",
}


def field_selector(events_api: str, about: ObjectReference) -> str:
    """The selector that finds an object's events, as client-go's ``GetFieldSelector`` writes it.

    Args:
        events_api: which API is asked: ``v1``, ``events.k8s.io/v1`` or ``events.k8s.io/v1beta1``.
        about: the object; its name, kind, API version and uid are compared where they are not empty. Its namespace is
            not: the request is made in a namespace already.

    Returns:
        Terms in order of their keys, joined by commas; "" matches everything.

    Raises:
        ValueError: there is no such API for events.
    """
    prefix = _PREFIXES.get(events_api)
    if prefix is None:
        raise ValueError(f"events are in {' and '.join(_PREFIXES)}, not in {events_api!r}")
    fields = (("apiVersion", about.api_version), ("kind", about.kind), ("name", about.name), ("uid", about.uid))
    return ",".join(f"{prefix}.{key}={value}" for key, value in fields if value)
