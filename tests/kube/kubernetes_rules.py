"""What a real kube-apiserver says about an event, as far as it was recorded (spec 0.3): the first problem, or None."""

from __future__ import annotations

import re

_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def _qualified(name):
    prefix, slash, part = name.rpartition("/")
    return bool(_PART.fullmatch(part)) and (not slash or bool(_SUBDOMAIN.fullmatch(prefix)))


def _size(text):
    return len((text or "").encode())


def invalid(api, namespace, body, old):  # noqa: C901 - one rule after another
    """Say what is wrong with a create (no old one) or an update."""
    about = body.get("regarding" if api == "events" else "involvedObject") or {}
    text = body.get("note" if api == "events" else "message")
    controller = body.get("reportingController" if api == "events" else "reportingComponent") or ""
    name = body.get("metadata", {}).get("name", "")
    if not name or len(name) > 253:
        return "metadata.name: Invalid value"
    if body.get("metadata", {}).get("namespace", namespace) != namespace:
        return "metadata.namespace: does not match the request"
    new_style = body.get("eventTime") is not None
    where = about.get("namespace", "")
    if not where:
        allowed = {"default", "kube-system"} if new_style else {"", "default"}
        if namespace not in allowed:
            return f"involvedObject.namespace: Invalid value: {where!r}: does not match event.namespace"
    elif where != namespace:
        return f"involvedObject.namespace: Invalid value: {where!r}: does not match event.namespace"
    if api == "events":
        problem = _strict(body, name, old)
        if problem:
            return problem
    if not new_style or old is not None:
        return None
    if not controller or not _qualified(controller):
        return "reportingController: Invalid value"
    for key in ("reportingInstance", "action", "reason"):
        if not body.get(key):
            return f"{key}: Required value"
        if _size(body.get(key)) > 128:
            return f"{key}: can have at most 128 bytes"
    return "message: can have at most 1024 bytes" if _size(text) > 1024 else None


def _strict(body, name, old):
    """What only events.k8s.io/v1 asks for."""
    if old is not None:
        same = {key: value for key, value in body.items() if key not in {"series", "metadata"}}
        return (
            None if same == {key: value for key, value in old.items() if key in same} else "only the series may change"
        )
    if body.get("eventTime") is None:
        return "eventTime: Required value"
    if not _SUBDOMAIN.fullmatch(name):
        return "metadata.name: Invalid value"
    if body.get("type") not in {"Normal", "Warning"}:
        return "type: Invalid value"
    series = body.get("series")
    if series is not None and (series.get("count", 0) < 2 or not series.get("lastObservedTime")):
        return "series: Invalid value"
    deprecated = ("deprecatedFirstTimestamp", "deprecatedLastTimestamp", "deprecatedCount")
    if any(body.get(key) for key in deprecated) or (body.get("deprecatedSource") or {}):
        return "deprecated fields: needs to be unset"
    return None
