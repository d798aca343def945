"""The namespaces of a store: the ones that events live in, and ``default``. Pure.

Nobody creates or deletes them. Unless the server was given a list, a namespace is there as soon as an event is in it.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.apiserver.negotiation import Form
from mpbroadcast.apiserver.output import column_definitions, table
from mpbroadcast.event.table import age
from mpbroadcast.event.times import encode_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpbroadcast.apiserver.negotiation import Negotiated

__all__ = ["ALWAYS", "namespace_body", "namespace_list"]

ALWAYS: Final = ("default", "kube-system")
"""Namespaces that every cluster has, with or without events."""

_COLUMNS: Final = column_definitions(
    (
        ("NAME", "The name of the namespace.", 0),
        ("STATUS", "Active.", 0),
        ("AGE", "How long this server has been running.", 0),
    )
)
_UIDS: Final = uuid.UUID("5a0f0c3e-6d70-4c5b-9a57-6d7062726f61")


def _object(name: str, since_ns: int) -> dict[str, Any]:
    return {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "uid": str(uuid.uuid5(_UIDS, name)),
            "resourceVersion": "1",
            "creationTimestamp": encode_time(since_ns),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _shown(name: str, since_ns: int, negotiated: Negotiated) -> dict[str, Any]:
    body = _object(name, since_ns)
    if negotiated.form is Form.OBJECT:
        return body
    partial = {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{negotiated.version}"}
    return partial | {"metadata": body["metadata"]}


def _table(names: Sequence[str], since_ns: int, now_ns: int, negotiated: Negotiated) -> dict[str, Any]:
    rows = [
        {"cells": [name, "Active", age(since_ns, now_ns)], "object": _shown(name, since_ns, negotiated)}
        for name in names
    ]
    return table(negotiated.version, {"resourceVersion": "1"}, _COLUMNS, rows)


def namespace_body(name: str, since_ns: int, now_ns: int, negotiated: Negotiated) -> dict[str, Any]:
    """Return one namespace as the client asked for it.

    Args:
        name: of the namespace.
        since_ns: since when it is there, Unix nanoseconds.
        now_ns: the time, Unix nanoseconds.
        negotiated: the form.
    """
    if negotiated.form is Form.TABLE:
        return _table([name], since_ns, now_ns, negotiated)
    return _shown(name, since_ns, negotiated)


def namespace_list(names: Sequence[str], since_ns: int, now_ns: int, negotiated: Negotiated) -> dict[str, Any]:
    """Return several namespaces as the client asked for them; see `namespace_body`."""
    if negotiated.form is Form.TABLE:
        return _table(names, since_ns, now_ns, negotiated)
    items = [_shown(name, since_ns, negotiated) for name in names]
    if negotiated.form is Form.OBJECT:
        kind, api_version = "NamespaceList", "v1"
    else:
        kind, api_version = "PartialObjectMetadataList", f"meta.k8s.io/{negotiated.version}"
    return {"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": "1"}, "items": items}
