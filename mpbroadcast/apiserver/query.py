"""The query parameters of a request, as Kubernetes' ``ListOptions`` and their like. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpbroadcast.apiserver.status import Cause, bad_request, expired, invalid, version_too_large

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ListQuery", "flag", "list_query", "require_version"]

_FALSE: Final = {"false", "0"}
_NUMBER_LIMIT: Final = 1 << 62  # a store's versions stay below
_MATCHES: Final = {"", "Exact", "NotOlderThan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What a list or watch asks for.

    Attributes:
        fields: the field selector.
        labels: the label selector.
        limit: at most so many; 0 for all.
        continue_: of the page before.
        version: the resource version, None where none is given.
        match: ``Exact``, ``NotOlderThan`` or "".
        watch: whether it is a watch.
        seconds: after which a watch ends; None for the server's choice.
        bookmarks: whether a watch may send them.
        initial_events: whether a watch begins with what there is; None where it is not said.
    """

    fields: str = ""
    labels: str = ""
    limit: int = 0
    continue_: str = ""
    version: int | None = None
    match: str = ""
    watch: bool = False
    seconds: int | None = None
    bookmarks: bool = False
    initial_events: bool | None = None


def flag(parameters: Mapping[str, str], name: str) -> bool:
    """Read a boolean as the real server does: whatever is neither ``false`` nor ``0`` is true."""
    return name in parameters and parameters[name].lower() not in _FALSE


def _number(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) >= _NUMBER_LIMIT:
        raise bad_request(f"{name}: Invalid value: {text[:64]!r}: it is no number")
    return int(text)


def list_query(parameters: Mapping[str, str], *, watch: bool) -> ListQuery:
    """Read the parameters of a list or watch.

    Raises:
        ApiError: 400 for what is no number, 422 for what does not go together.
    """
    query = ListQuery(
        fields=parameters.get("fieldSelector", ""),
        labels=parameters.get("labelSelector", ""),
        limit=_number(parameters, "limit") or 0,
        continue_=parameters.get("continue", ""),
        version=_number(parameters, "resourceVersion"),
        match=parameters.get("resourceVersionMatch", ""),
        watch=watch,
        seconds=_number(parameters, "timeoutSeconds"),
        bookmarks=flag(parameters, "allowWatchBookmarks"),
        initial_events=flag(parameters, "sendInitialEvents") if parameters.get("sendInitialEvents") else None,
    )
    causes = _wrong_versions(query) if not watch else _wrong_watch(query)
    if causes:
        raise invalid("ListOptions.meta.k8s.io", "", causes)
    if query.continue_ and query.version:
        raise bad_request("specifying resource version is not allowed when using continue")
    return query


def _forbidden(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def _wrong_versions(query: ListQuery) -> list[Cause]:
    field = "resourceVersionMatch"
    causes = []
    if query.match:
        if query.version is None:
            causes.append(_forbidden(field, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if query.continue_:
            causes.append(_forbidden(field, "resourceVersionMatch is forbidden when continue is provided"))
        if query.match not in _MATCHES:
            message = f'Unsupported value: "{query.match[:64]}": supported values: "Exact", "NotOlderThan", ""'
            causes.append(Cause("FieldValueNotSupported", message, field))
        if query.match == "Exact" and query.version == 0:
            why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            causes.append(_forbidden(field, why))
    if query.initial_events is not None:
        causes.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _wrong_watch(query: ListQuery) -> list[Cause]:
    field = "resourceVersionMatch"
    if query.initial_events is None:
        if query.match:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            return [_forbidden(field, why)]
        return []
    if query.match != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        return [_forbidden(field, why)]
    if query.initial_events and not query.bookmarks:
        return [_forbidden("allowWatchBookmarks", "sendInitialEvents requires setting allowWatchBookmarks to true")]
    return []


def require_version(query: ListQuery, current: int) -> None:
    """Refuse a list of a state that is not the present one: a store keeps no other.

    Raises:
        ApiError: 410 for one that is over, 504 for one that has not come yet.
    """
    if not query.version:
        return
    if query.version > current:
        raise version_too_large(query.version, current)
    exact = query.match == "Exact" or (not query.match and query.limit > 0)
    if exact and query.version < current:
        raise expired(f"The resourceVersion for the provided list is too old: {query.version}, current: {current}")
