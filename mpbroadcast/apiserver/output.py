"""Events as a client asked for them: JSON objects, rows of a Table, metadata only; one, a list, or a watch. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from mpbroadcast.apiserver.negotiation import Form
from mpbroadcast.event.model import Event
from mpbroadcast.event.table import WIDE_COLUMNS, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpbroadcast.apiserver.negotiation import Negotiated
    from mpbroadcast.apiserver.resource import EventResource

__all__ = ["EventWriter", "column_definitions", "encode", "table"]

_HIDDEN: Final = {"SUBOBJECT", "SOURCE", "FIRST SEEN", "COUNT", "NAME"}  # shown with -o wide (spec F6)
_DESCRIPTIONS: Final = {
    "LAST SEEN": "When this happened last.",
    "TYPE": "Normal or Warning.",
    "REASON": "Why, in one word.",
    "OBJECT": "The object that the event is about.",
    "SUBOBJECT": "The part of the object that is meant.",
    "SOURCE": "The component that reports the event.",
    "MESSAGE": "What happened, for people.",
    "FIRST SEEN": "When this happened first.",
    "COUNT": "How often this happened.",
    "NAME": "The name of the event.",
}


def encode(value: Any, *, pretty: bool = False) -> bytes:
    """Return the JSON of a value, with a line feed at the end as the real server writes it."""
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if pretty else 0)
    return orjson.dumps(value, option=option)


def column_definitions(columns: Iterable[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """Return a Table's column definitions from headings, descriptions and priorities (1: only with -o wide)."""
    return [
        {
            "name": heading.title(),
            "type": "string",
            "format": "name" if heading == "NAME" else "",
            "description": description,
            "priority": priority,
        }
        for heading, description, priority in columns
    ]


def table(
    version: str, metadata: dict[str, Any], columns: list[dict[str, Any]] | None, rows: list[Any]
) -> dict[str, Any]:
    """Return a Table; without columns it goes on where the one before left off."""
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }


_COLUMNS: Final = column_definitions(
    (column.heading, _DESCRIPTIONS[column.heading], int(column.heading in _HIDDEN)) for column in WIDE_COLUMNS
)


def _cell(text: str) -> str:
    """Keep line breaks, at which kubectl cuts; write out other controls, which older ones send to the screen."""
    return text if text.isprintable() else "\n".join(visible(line) for line in text.split("\n"))


def _list_metadata(resource_version: int, continue_: str) -> dict[str, Any]:
    return {"resourceVersion": str(resource_version)} | ({"continue": continue_} if continue_ else {})


class EventWriter:
    """Writes events in the form that one request asked for. Not for several threads.

    Args:
        resource: in which group's words.
        negotiated: the form.
        include: what stands beside the cells of a Table's row: ``Metadata``, ``Object`` or ``None``.
        now_ns: gives the time that ages are measured to, in Unix nanoseconds.
        pretty: whether the JSON is for people.
    """

    def __init__(
        self,
        resource: EventResource,
        negotiated: Negotiated,
        *,
        include: str = "Metadata",
        now_ns: Callable[[], int],
        pretty: bool = False,
    ) -> None:
        self._resource = resource
        self._form, self._version = negotiated
        self._include = include
        self._now_ns = now_ns
        self._pretty = pretty
        self._columns_due = True

    def one(self, event: Event) -> bytes:
        """Return the body that shows one event."""
        return encode(self._one(event), pretty=self._pretty)

    def _one(self, event: Event) -> dict[str, Any]:
        match self._form:
            case Form.TABLE:
                return self._table({"resourceVersion": event.resource_version}, [event])
            case Form.METADATA:
                return self._metadata(event)
            case _:
                return self._resource.write(event)

    def page(self, events: Iterable[Event], resource_version: int, continue_: str = "") -> bytes:
        """Return the body that shows a page."""
        head, key = self._list_head()
        metadata = _list_metadata(resource_version, continue_)
        return encode(head | {"metadata": metadata, key: self._items(events)}, pretty=self._pretty)

    def first_part(self, events: Iterable[Event]) -> bytes:
        """Return the beginning of a list that is written in parts, with its first events."""
        head, key = self._list_head()
        return orjson.dumps(head | {key: self._items(events)})[:-2]

    def next_part(self, events: Iterable[Event]) -> bytes:
        """Return more events of that list."""
        items = orjson.dumps(self._items(events))[1:-1]
        return b"," + items if items else b""

    def last_part(self, resource_version: int, continue_: str) -> bytes:
        """Return the end of that list. In JSON it does not matter that the metadata comes last."""
        return b'],"metadata":' + orjson.dumps(_list_metadata(resource_version, continue_)) + b"}\n"

    def _list_head(self) -> tuple[dict[str, Any], str]:
        """Return a list without items and metadata, and what its items are called."""
        meta = f"meta.k8s.io/{self._version}"
        match self._form:
            case Form.TABLE:
                return {"kind": "Table", "apiVersion": meta, "columnDefinitions": _COLUMNS}, "rows"
            case Form.METADATA:
                return {"kind": "PartialObjectMetadataList", "apiVersion": meta}, "items"
            case _:
                return {"kind": "EventList", "apiVersion": self._resource.api_version}, "items"

    def _items(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        match self._form:
            case Form.TABLE:
                return self._rows(events)
            case Form.METADATA:
                return [self._metadata(event) for event in events]
            case _:
                return [self._item(event) for event in events]

    def change(self, type_: str, event: Event) -> bytes:
        """Return one line of a watch."""
        return encode({"type": type_, "object": self._one(event)})

    def bookmark(self, resource_version: int, *, initial_end: bool = False) -> bytes:
        """Return the line of a watch that only says how far it has come."""
        annotations = {"k8s.io/initial-events-end": "true"} if initial_end else None
        empty = Event(resource_version=str(resource_version), annotations=annotations)
        if self._form is Form.TABLE:
            metadata = _list_metadata(resource_version, "") | ({"annotations": annotations} if annotations else {})
            return encode({"type": "BOOKMARK", "object": table(self._version, metadata, None, [])})
        return encode({"type": "BOOKMARK", "object": self._one(empty)})

    def _item(self, event: Event) -> dict[str, Any]:
        body = self._resource.write(event)
        # In a list the kind stands once, above.
        del body["kind"], body["apiVersion"]
        return body

    def _metadata(self, event: Event) -> dict[str, Any]:
        metadata = self._resource.write(event)["metadata"]
        return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{self._version}", "metadata": metadata}

    def _table(self, metadata: dict[str, Any], events: Iterable[Event]) -> dict[str, Any]:
        columns = _COLUMNS if self._columns_due else None
        self._columns_due = False
        return table(self._version, metadata, columns, self._rows(events))

    def _rows(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        now = self._now_ns()
        rows = []
        for event in events:
            row: dict[str, Any] = {"cells": [_cell(column.show(event, now)) for column in WIDE_COLUMNS]}
            if self._include == "Object":
                row["object"] = self._resource.write(event)
            elif self._include == "Metadata":
                row["object"] = self._metadata(event)
            rows.append(row)
        return rows
