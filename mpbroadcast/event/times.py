"""RFC 3339 for Unix nanoseconds, as Kubernetes writes and reads it (spec 0.2).

A time is an ``int`` of Unix nanoseconds; ``None`` is Go's zero time and JSON's ``null``. Encoding is in UTC, with
``Z``, and cuts what the shape cannot hold; it never rounds.
"""

from __future__ import annotations

import re
import time
from datetime import date
from functools import lru_cache
from typing import Final

__all__ = ["MICROSECOND", "SECOND", "decode_time", "encode_micro_time", "encode_time"]

MICROSECOND: Final = 1_000
"""Nanoseconds in a microsecond."""

SECOND: Final = 1_000_000_000
"""Nanoseconds in a second."""

_FIRST_SECOND: Final = -62_135_596_800  # 0001-01-01T00:00:00Z, Go's zero time
_LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59Z: RFC 3339 has four digits for a year
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()

_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,64}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


# Most events of a busy process share their second with many others.
@lru_cache(maxsize=1024)
def _up_to_seconds(seconds: int) -> str:
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise ValueError(f"time out of range for RFC 3339: {seconds} s since 1970")
    t = time.gmtime(seconds)
    return f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


def encode_time(t_ns: int | None) -> str | None:
    """Write a time as Kubernetes' ``Time``: whole seconds, the rest cut off.

    Args:
        t_ns: Unix nanoseconds, or None.

    Returns:
        Such as ``2026-07-24T14:05:30Z``; None for None.

    Raises:
        ValueError: the year does not fit into four digits.
    """
    if t_ns is None:
        return None
    return _up_to_seconds(t_ns // SECOND) + "Z"


def encode_micro_time(t_ns: int | None) -> str | None:
    """Write a time as Kubernetes' ``MicroTime``: exactly six digits after the point, the rest cut off.

    Args:
        t_ns: Unix nanoseconds, or None.

    Returns:
        Such as ``2026-07-24T14:05:30.123456Z``; None for None.

    Raises:
        ValueError: the year does not fit into four digits.
    """
    if t_ns is None:
        return None
    seconds, rest = divmod(t_ns, SECOND)
    return f"{_up_to_seconds(seconds)}.{rest // MICROSECOND:06d}Z"


@lru_cache(maxsize=1024)
def _decode(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:64]!r}")
    year, month, day, hour, minute, second, fraction, sign, off_hour, off_minute = match.groups()
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59 or int(off_hour or 0) > 23 or int(off_minute or 0) > 59:
        raise ValueError(f"not an RFC 3339 time: {text!r}: hour, minute, second or offset out of range")
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise ValueError(f"not an RFC 3339 time: {text!r}: {error}") from None
    seconds = ((days * 24 + int(hour)) * 60 + int(minute)) * 60 + int(second)
    if sign is not None:
        offset = (int(off_hour) * 60 + int(off_minute)) * 60
        seconds += offset if sign == "-" else -offset
    t_ns = seconds * SECOND + int((fraction or "0")[:9].ljust(9, "0"))
    return None if t_ns == _FIRST_SECOND * SECOND else t_ns


def decode_time(text: str | None) -> int | None:
    """Read an RFC 3339 time with any offset and any number of digits after the point; below nanoseconds is cut.

    Args:
        text: the time, or None (JSON's ``null``).

    Returns:
        Unix nanoseconds; None for None and for Go's zero time, ``0001-01-01T00:00:00Z``.

    Raises:
        ValueError: with one line, when the text is no RFC 3339 time.
    """
    return None if text is None else _decode(text)
