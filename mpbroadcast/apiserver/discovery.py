"""What this API has: the documents with which every Kubernetes client begins. Pure."""

from __future__ import annotations

import platform
from typing import Any, Final

__all__ = ["aggregated", "api_groups", "api_versions", "event_group", "resources", "root", "version"]

_EVENT_VERBS: Final = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_NAMESPACE_VERBS: Final = ["get", "list"]
_GROUP_VERSION: Final = {"groupVersion": "events.k8s.io/v1", "version": "v1"}


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


def _group() -> dict[str, Any]:
    return {"name": "events.k8s.io", "versions": [_GROUP_VERSION], "preferredVersion": _GROUP_VERSION}


def api_groups() -> dict[str, Any]:
    """Return ``/apis``."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group()]}


def event_group() -> dict[str, Any]:
    """Return ``/apis/events.k8s.io``."""
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group()


def _resource(name: str, singular: str, kind: str, short: str, verbs: list[str], *, namespaced: bool) -> dict[str, Any]:
    return {
        "name": name,
        "singularName": singular,
        "namespaced": namespaced,
        "kind": kind,
        "verbs": verbs,
        "shortNames": [short],
    }


def _resource_list(group: str) -> list[dict[str, Any]]:
    events = _resource("events", "event", "Event", "ev", _EVENT_VERBS, namespaced=True)
    if group:
        return [events]
    return [events, _resource("namespaces", "namespace", "Namespace", "ns", _NAMESPACE_VERBS, namespaced=False)]


def resources(group: str) -> dict[str, Any]:
    """Return ``/api/v1`` (group "") or ``/apis/events.k8s.io/v1``."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/v1" if group else "v1",
        "resources": _resource_list(group),
    }


def aggregated(group: str, api_version: str) -> dict[str, Any]:
    """Return the same in one document, which newer clients ask for at ``/api`` (group "") and ``/apis``.

    Args:
        group: whose resources.
        api_version: ``apidiscovery.k8s.io/v2`` or ``v2beta1``, which look alike.
    """
    found = [
        {
            "resource": resource["name"],
            "responseKind": {"group": group, "version": "v1", "kind": resource["kind"]},
            "scope": "Namespaced" if resource["namespaced"] else "Cluster",
            "singularResource": resource["singularName"],
            "verbs": resource["verbs"],
            "shortNames": resource["shortNames"],
        }
        for resource in _resource_list(group)
    ]
    versions = [{"version": "v1", "resources": found, "freshness": "Current"}]
    metadata = {"name": group} if group else {}
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": api_version,
        "metadata": {},
        "items": [{"metadata": metadata, "versions": versions}],
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
