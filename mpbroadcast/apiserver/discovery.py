"""What this API has: the documents with which every Kubernetes client begins. Pure."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.apiserver.known import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "GROUP_VERSIONS",
    "aggregated",
    "api_group",
    "api_groups",
    "api_versions",
    "resources",
    "root",
    "version",
]

_EVENT_VERBS: Final = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_NAMESPACE_VERBS: Final = ["get", "list"]
_EVENTS: Final = "events.k8s.io/v1"

GROUP_VERSIONS: Final = (_EVENTS, *(group_version for group_version in KNOWN if "/" in group_version))
"""What is under ``/apis``."""


def version() -> dict[str, str]:
    """Return ``/version``: that of the Kubernetes whose answers this server gives."""
    return {
        "major": "1",
        "minor": "36",
        "gitVersion": "v1.36.2+mpbroadcast",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-07-24T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def api_versions(address: str) -> dict[str, Any]:
    """Return ``/api``."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def _group(group_version: str) -> dict[str, Any]:
    group, _, version_ = group_version.rpartition("/")
    version_of = {"groupVersion": group_version, "version": version_}
    return {"name": group, "versions": [version_of], "preferredVersion": version_of}


def api_groups() -> dict[str, Any]:
    """Return ``/apis``."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version_) for version_ in GROUP_VERSIONS]}


def api_group(group_version: str) -> dict[str, Any]:
    """Return ``/apis/<group>``."""
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(group_version)


def _resource(name: str, singular: str, kind: str, short: str, verbs: list[str], *, namespaced: bool) -> dict[str, Any]:
    return {
        "name": name,
        "singularName": singular,
        "namespaced": namespaced,
        "kind": kind,
        "verbs": verbs,
    } | ({"shortNames": [short]} if short else {})


def _resource_list(group_version: str) -> list[dict[str, Any]]:
    found = []
    if group_version in {"v1", _EVENTS}:
        found.append(_resource("events", "event", "Event", "ev", _EVENT_VERBS, namespaced=True))
    if group_version == "v1":
        found.append(_resource("namespaces", "namespace", "Namespace", "ns", _NAMESPACE_VERBS, namespaced=False))
    return found + [
        _resource(known.plural, known.kind.lower(), known.kind, known.short, [], namespaced=known.namespaced)
        for known in KNOWN.get(group_version, ())
    ]


def resources(group_version: str) -> dict[str, Any]:
    """Return ``/api/v1`` or ``/apis/<group>/<version>``."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": _resource_list(group_version),
    }


def _aggregated(group_version: str) -> dict[str, Any]:
    group, _, version_ = group_version.rpartition("/")
    found = [
        {
            "resource": resource["name"],
            "responseKind": {"group": group, "version": version_, "kind": resource["kind"]},
            "scope": "Namespaced" if resource["namespaced"] else "Cluster",
            "singularResource": resource["singularName"],
            "verbs": resource["verbs"],
            "shortNames": resource.get("shortNames", []),
        }
        for resource in _resource_list(group_version)
    ]
    versions = [{"version": version_, "resources": found, "freshness": "Current"}]
    return {"metadata": {"name": group} if group else {}, "versions": versions}


def aggregated(group_versions: Iterable[str], api_version: str) -> dict[str, Any]:
    """Return the same in one document, which newer clients ask for at ``/api`` and ``/apis``.

    Args:
        group_versions: whose resources.
        api_version: ``apidiscovery.k8s.io/v2`` or ``v2beta1``, which look alike.
    """
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": api_version,
        "metadata": {},
        "items": [_aggregated(group_version) for group_version in group_versions],
    }


def root() -> dict[str, Any]:
    """Return ``/``: which paths there are."""
    return {
        "paths": [
            "/api",
            "/api/v1",
            "/apis",
            "/apis/events.k8s.io",
            "/apis/events.k8s.io/v1",
            "/healthz",
            "/livez",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        ]
    }
