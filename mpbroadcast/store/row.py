"""Events to rows and back: what stands in the columns, and what an event is after it was stored.

Pure, but for the random numbers in uids.
"""

from __future__ import annotations

import uuid
from typing import Any, Final, NamedTuple

import orjson

from mpbroadcast.event.codec import DEFAULT_NAMESPACE
from mpbroadcast.event.model import Event
from mpbroadcast.event.times import MICROSECOND, SECOND

__all__ = ["Row", "as_stored", "decode", "decode_body", "encode", "last_seen", "uid_prefix"]

_INT32: Final = 1 << 31


class Row(NamedTuple):
    """The columns of a row in the order of ``schema.sql``, without the id."""

    resource_version: int
    written: int
    namespace: str
    name: str
    uid: str
    object_kind: str
    object_namespace: str
    object_name: str
    object_uid: str
    type: str
    reason: str
    last_seen: int
    object: bytes


def uid_prefix() -> str:
    """Return the random part of the uids (UUID version 4) of one opened store; twelve hex digits are missing behind it.

    An event's uid ends in the version it was created with: unique, and six times as fast as `uuid.uuid4`.
    """
    return str(uuid.uuid4())[:24]


def _cut(time_ns: int | None, unit: int) -> int | None:
    return None if time_ns is None else time_ns - time_ns % unit


def as_stored(event: Event, *, resource_version: int, uid: str, created: int | None) -> Event:
    """Return the event as a reader will see it: with the store's metadata, and times cut to what JSON holds (0.2)."""
    first, last = event.first_timestamp, event.last_timestamp
    stored = event.replace(
        namespace=event.namespace or DEFAULT_NAMESPACE,
        resource_version=str(resource_version),
        uid=uid,
        creation_timestamp=_cut(created, SECOND),
        first_timestamp=_cut(first, SECOND),
        last_timestamp=_cut(last, SECOND),
    )
    if event.event_time is None and event.series is None:
        return stored  # an old-style event
    series = event.series
    if series is not None:
        series = series._replace(last_observed_time=_cut(series.last_observed_time, MICROSECOND))
    return stored.replace(event_time=_cut(event.event_time, MICROSECOND), series=series)


def last_seen(event: Event, written: int) -> int:
    """Return when the event happened last, no later than it was written: a wrong date must not make it immortal."""
    seen = event.last_timestamp if event.series is None else event.series.last_observed_time
    if seen is None:
        seen = event.first_timestamp if event.event_time is None else event.event_time
    return written if seen is None else min(max(seen, 0), written)


def encode(stored: Event, *, resource_version: int, written: int, precise: Event) -> Row:
    """Return the row of an event.

    Args:
        stored: what `as_stored` gave.
        resource_version: of this write.
        written: now, Unix nanoseconds.
        precise: the event whose times are not cut yet.

    Raises:
        ValueError: it cannot be written as JSON that can be read again: a time or a count is out of range.
        TypeError: something in it is no JSON.
    """
    if not -_INT32 <= stored.count < _INT32 or not (stored.series is None or -_INT32 <= stored.series.count < _INT32):
        raise ValueError("a count is no 32-bit integer")
    involved = stored.involved_object
    return Row(
        resource_version,
        written,
        stored.namespace,
        stored.name,
        stored.uid,
        involved.kind,
        involved.namespace,
        involved.name,
        involved.uid,
        stored.type,
        stored.reason,
        last_seen(precise, written),
        orjson.dumps(stored.to_core_v1()),
    )


def decode(resource_version: object, stored: object) -> Event:
    """Read an event out of a row, whatever stands there.

    Raises:
        ValueError: the row holds no event.
    """
    return Event.from_core_v1(decode_body(resource_version, stored))


def decode_body(resource_version: object, stored: object) -> dict[str, Any]:
    """Read the JSON object of a row; of its fields only ``metadata`` is looked at.

    Raises:
        ValueError: the row holds no object.
    """
    if not isinstance(resource_version, int) or not isinstance(stored, bytes):
        raise ValueError("a column of the row has a wrong type")  # noqa: TRY004 - one error for all that is no event
    body: Any = orjson.loads(stored)
    metadata = body.get("metadata") if isinstance(body, dict) else None
    if not (isinstance(body, dict) and isinstance(metadata, dict)):
        raise ValueError("the row holds no object")  # noqa: TRY004
    metadata["resourceVersion"] = str(resource_version)  # the column is right, whatever the JSON says
    return body
