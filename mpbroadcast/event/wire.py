"""What travels through the ring: one watch event as a kind and bytes.

A broadcaster carries any object that orjson encodes, with one of apimachinery's types or the caller's own. An event
from a recorder travels in the shape of ``codec.py`` and comes out as an ``Event``.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from mpbroadcast.event.model import Event

__all__ = ["ADDED", "BOOKMARK", "DELETED", "ERROR", "KIND_RECORD", "MODIFIED", "WatchEvent", "decode", "encode"]

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
BOOKMARK: Final = "BOOKMARK"
ERROR: Final = "ERROR"

_TYPES: Final = ("", ADDED, MODIFIED, DELETED, BOOKMARK, ERROR)
_KINDS: Final = {name: number for number, name in enumerate(_TYPES) if name}
_KIND_OWN_TYPE: Final = 15  # the type stands before the object: one byte with its length, then its UTF-8
_EVENT_BIT: Final = 16  # the object is an Event in its core/v1 shape
KIND_RECORD: Final = 32  # an event as a recorder wrote it, always ADDED


class WatchEvent(NamedTuple):
    """One notification.

    Attributes:
        type: ``ADDED``, ``MODIFIED``, ``DELETED``, ``BOOKMARK``, ``ERROR``, or the caller's own word.
        object: what was broadcast, decoded anew for each watcher: nobody shares it with anybody.
    """

    type: str
    object: Any


def encode(type_: str, obj: Any) -> tuple[int, bytes]:
    """The kind and bytes of a watch event.

    Raises:
        TypeError: orjson cannot encode the object, or the type is no string of 1 to 255 bytes.
    """
    event_bit = _EVENT_BIT if isinstance(obj, Event) else 0
    try:
        body = orjson.dumps(obj.to_core_v1() if event_bit else obj)
    except orjson.JSONEncodeError as error:
        raise TypeError(f"orjson cannot encode this {type(obj).__name__}: {error}") from error
    kind = _KINDS.get(type_)
    if kind is not None:
        return kind | event_bit, body
    name = type_.encode("utf-8", "replace") if isinstance(type_, str) else b""
    if not 1 <= len(name) <= 255:
        raise TypeError(f"the type of a watch event is a string of 1 to 255 bytes, not {type_!r}")
    return _KIND_OWN_TYPE | event_bit, bytes((len(name),)) + name + body


def decode(kind: int, payload: bytes) -> WatchEvent:
    """The watch event of a record.

    Raises:
        ValueError: bytes that no producer of this library wrote; one clear line.
    """
    if kind == KIND_RECORD:
        return WatchEvent(ADDED, Event.from_record(payload))
    word = kind & ~_EVENT_BIT
    if word == _KIND_OWN_TYPE and payload:
        type_ = payload[1 : 1 + payload[0]].decode("utf-8", "replace")
        payload = payload[1 + payload[0] :]
    elif 0 < word < len(_TYPES):
        type_ = _TYPES[word]
    else:
        raise ValueError(f"a record of unknown kind {kind}")
    try:
        obj = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"a record that is no JSON: {error}") from error
    return WatchEvent(type_, Event.from_core_v1(obj) if kind & _EVENT_BIT else obj)
