"""The bytes of an event in a ring.

::

    offset  0   1                    20  21      27  28                     28+n  29+n
            [   1784901930123456789  ,      245  ,   {"involvedObject"...}  ,     "the message"  ]
                Unix nanoseconds,        n =         the static part              or: "the message",{extras}  ]
                19 wide                  6 wide

One JSON array, so that any tool can read it; at fixed offsets, so that this module need not. The *static part* is what
repeats from event to event of one object: it is encoded once by the recorder and, by its bytes, decoded once per
process by the watcher. ``extras`` is there only when needed: ``{"name": ..., "annotations": {...}}``.

Without ``extras.name`` the event is called ``<involvedObject.name>.<nanoseconds in hex>`` (R5).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from mpbroadcast.base.text import well_formed
from mpbroadcast.event.parts import EventSource, ObjectReference  # noqa: TC001 - fields of named tuples
from mpbroadcast.event.shapes import reference_from_json, reference_to_json, source_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_NAMESPACE",
    "STATIC_LIMIT",
    "Record",
    "Static",
    "decode_fields",
    "decode_parts",
    "decode_record",
    "decode_static",
    "decode_time_of",
    "encode_record",
    "encode_static",
]

DEFAULT_NAMESPACE: Final = "default"
"""Where events about objects without a namespace go (R6)."""

STATIC_LIMIT: Final = 999_999
"""Bytes of the static part: what six digits can say."""

_TIME_LIMIT: Final = 10**19  # 19 digits of nanoseconds reach to the year 2286
_STATIC_AT: Final = 28
_COMMA: Final = ord(",")
_QUOTE: Final = ord('"')
_BRACKET: Final = ord("]")
_STATIC_CACHE: Final = 4096  # entries: as many as client-go's correlator remembers (spec 0.3)
_STATIC_CACHEABLE: Final = 4096  # bytes: an entry larger than this is decoded each time, so that the cache stays small


class Static(NamedTuple):
    """The part of an event that does not change from one to the next, decoded."""

    involved_object: ObjectReference
    namespace: str
    type: str
    reason: str
    action: str
    source: EventSource
    reporting_controller: str
    reporting_instance: str
    related: ObjectReference | None


class Record(NamedTuple):
    """One ring payload, decoded. ``name`` is "" unless the payload names the event itself."""

    t_ns: int
    static: Static
    message: str
    name: str
    annotations: dict[str, str]


def encode_static(
    reference: ObjectReference,
    type: str,  # noqa: A002 - the field's name in Kubernetes
    reason: str,
    source: EventSource,
    action: str = "",
    related: ObjectReference | None = None,
) -> bytes:
    """Encode the part of an event that the recorder may keep and use again.

    As in client-go the reporting controller and instance are the source's component and host (R7). Empty fields are
    left out; lone surrogates become U+FFFD.

    Raises:
        ValueError: the result is larger than `STATIC_LIMIT`.
    """
    component, host = source
    static: dict[str, Any] = {
        "involvedObject": reference_to_json(reference),
        "type": well_formed(type),
        "reason": well_formed(reason),
        "source": {key: well_formed(text) for key, text in (("component", component), ("host", host)) if text},
        "reportingComponent": well_formed(component),
        "reportingInstance": well_formed(host),
        "action": well_formed(action),
    }
    encoded = orjson.dumps(
        {key: value for key, value in static.items() if value}
        | ({} if related is None else {"related": reference_to_json(related)})
    )
    if len(encoded) > STATIC_LIMIT:
        raise ValueError(f"the constant part of an event is {len(encoded)} bytes, at most {STATIC_LIMIT} are possible")
    return encoded


def _encode_text(text: Any) -> bytes:
    if not isinstance(text, str):
        text = str(text)
    try:
        return orjson.dumps(text)
    except TypeError:  # lone surrogates
        return orjson.dumps(well_formed(text))


def encode_record(
    t_ns: int,
    static: bytes,
    message: object,
    name: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Encode one event for the ring.

    Args:
        t_ns: Unix nanoseconds of the event.
        static: what `encode_static` gave.
        message: anything ``str()`` takes; what its ``__str__`` raises is raised here.
        name: the event's name, where it is not ``<object>.<hex nanoseconds>``.
        annotations: what is no string in it goes through ``str()``.

    Raises:
        ValueError: the time is negative or beyond the year 2286.
    """
    if not 0 <= t_ns < _TIME_LIMIT:
        raise ValueError(f"an event's time must be 0 to {_TIME_LIMIT - 1} Unix nanoseconds: {t_ns}")
    if name is None and not annotations:
        return b"[%19d,%6d,%b,%b]" % (t_ns, len(static), static, _encode_text(message))
    extras = _encode_extras(name, annotations or {})
    return b"[%19d,%6d,%b,%b,%b]" % (t_ns, len(static), static, _encode_text(message), extras)


def _encode_extras(name: str | None, annotations: Mapping[str, str]) -> bytes:
    extras = [] if name is None else [b'"name":' + _encode_text(name)]
    if annotations:
        pairs = [_encode_text(key) + b":" + _encode_text(value) for key, value in annotations.items()]
        extras.append(b'"annotations":{' + b",".join(pairs) + b"}")
    return b"{" + b",".join(extras) + b"}"


def _text(value: Any, key: str) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise ValueError(f"{key} is no string")
    return value


def _object(body: dict[str, Any], key: str) -> dict[str, Any]:
    value = body.get(key, {})
    if type(value) is not dict:
        raise ValueError(f"{key} is no object")
    return value


def decode_static(encoded: bytes) -> Static:
    """Decode a static part, through a bounded cache of this process. Safe in any thread.

    Raises:
        ValueError: with one line, when the bytes are no static part.
    """
    return _cached_static(encoded) if len(encoded) <= _STATIC_CACHEABLE else _decode_static(encoded)


def _decode_static(encoded: bytes) -> Static:
    body = orjson.loads(encoded)
    if type(body) is not dict:
        raise ValueError("the static part is no object")
    reference = reference_from_json(_object(body, "involvedObject"))
    return Static(  # by position: by name takes half as long again
        reference,
        reference.namespace or DEFAULT_NAMESPACE,
        _text(body.get("type"), "type"),
        _text(body.get("reason"), "reason"),
        _text(body.get("action"), "action"),
        source_from_json(_object(body, "source")),
        _text(body.get("reportingComponent"), "reportingComponent"),
        _text(body.get("reportingInstance"), "reportingInstance"),
        reference_from_json(_object(body, "related")) if "related" in body else None,
    )


_cached_static = lru_cache(maxsize=_STATIC_CACHE)(_decode_static)


def _decode_extras(extras: Any) -> tuple[str, dict[str, str]]:
    if type(extras) is not dict:
        raise ValueError("the extras are no object")
    annotations = _object(extras, "annotations")
    for value in annotations.values():
        _text(value, "annotation")
    return _text(extras.get("name"), "name"), annotations


_NO_ANNOTATIONS: Final[dict[str, str]] = {}
_LENGTHS: Final[dict[bytes, int]] = {}  # lengths of static parts by their six bytes: half of what int() costs


def _length(digits: bytes) -> int:
    if len(_LENGTHS) >= 4096:
        _LENGTHS.clear()
    length = _LENGTHS[digits] = int(digits)
    return length


def decode_parts(payload: bytes) -> tuple[Static, str, str, dict[str, str]]:
    """Decode all of a payload but its time, which `decode_time_of` reads: static part, message, name, annotations.

    Raises:
        ValueError: as `decode_record`.
    """
    try:
        digits = payload[21:27]
        end = _STATIC_AT + (_LENGTHS.get(digits) or _length(digits))
        if end <= _STATIC_AT or payload[end] != _COMMA or payload[-1] != _BRACKET:
            raise ValueError("its parts are not where they should be")  # noqa: TRY301 - one handler adds what it is about
        encoded = payload[_STATIC_AT:end]
        static = _cached_static(encoded) if end <= _STATIC_CACHEABLE else _decode_static(encoded)
        if payload[-2] != _QUOTE:
            return static, *_decode_tail(payload[end + 1 :])
        message = orjson.loads(payload[end + 1 : -1])
    except (ValueError, IndexError) as error:
        raise ValueError(f"not an event record: {error}") from None
    if type(message) is not str:
        raise ValueError("not an event record: the message is no string")
    return static, message, "", _NO_ANNOTATIONS


def decode_time_of(payload: bytes) -> int:
    """The Unix nanoseconds of a payload.

    Raises:
        ValueError: as `decode_record`.
    """
    try:
        t_ns = int(payload[1:20])
    except ValueError as error:
        raise ValueError(f"not an event record: {error}") from None
    if t_ns < 0:
        raise ValueError("not an event record: its time is negative")
    return t_ns


def decode_fields(payload: bytes) -> tuple[int, Static, str, str, dict[str, str]]:
    """Do what `decode_record` does, into a plain tuple: a named one costs a seventh of the whole decoding."""
    parts = decode_parts(payload)
    return decode_time_of(payload), *parts


def _decode_tail(tail: bytes) -> tuple[str, str, dict[str, str]]:
    rest = orjson.loads(b"[" + tail)
    if len(rest) != 2 or type(rest[0]) is not str:
        raise ValueError("something else than a message and its extras")
    name, annotations = _decode_extras(rest[1])
    return rest[0], name, annotations


def decode_record(payload: bytes) -> Record:
    """Decode a ring payload. Nothing in it is trusted.

    Raises:
        ValueError: with one line, when the bytes are no event record; never anything else.
    """
    return Record(*decode_fields(payload))
