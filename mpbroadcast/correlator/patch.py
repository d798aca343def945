r"""The patches that say what a repeat changed: exact bytes, as Go writes them (P1-P7).

client-go encodes the new and the old event and takes the strategic merge difference of both. Which keys can come out
of that is known beforehand, so the bytes are written directly: keys in alphabetical order, no blanks, and in strings
``<``, ``>``, ``&``, U+2028 and U+2029 as ``\uXXXX`` (Go's encoder is safe inside HTML).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from mpbroadcast.base.text import well_formed
from mpbroadcast.event.times import SECOND, encode_micro_time, encode_time

if TYPE_CHECKING:
    from mpbroadcast.event.model import Event

__all__ = ["go_json_string", "repeat_patch", "series_patch"]

_HTML = re.compile(rb"[<>&]|\xe2\x80[\xa8\xa9]")
_ESCAPES = {
    b"<": rb"\u003c",
    b">": rb"\u003e",
    b"&": rb"\u0026",
    "\u2028".encode(): rb"\u2028",
    "\u2029".encode(): rb"\u2029",
}


def _escape(match: re.Match[bytes]) -> bytes:
    return _ESCAPES[match[0]]


def go_json_string(text: str) -> bytes:
    """Write a string as Go's ``encoding/json`` does, quotes included; lone surrogates become U+FFFD."""
    try:
        encoded = orjson.dumps(text)
    except TypeError:
        encoded = orjson.dumps(well_formed(text))
    return _HTML.sub(_escape, encoded)


# Repeats come many to a second.
@lru_cache(maxsize=64)
def _time_json(seconds: int) -> bytes:
    return b'"%b"' % str(encode_time(seconds * SECOND)).encode() if seconds else b""


def repeat_patch(event: Event) -> bytes:
    """Return the patch of an event that was seen before: its count, last time and message (P1-P4).

    The difference is taken to the same event with count 0, the Unix epoch as its last time and no message: what is
    equal to that does not appear, and Go's zero time is ``null`` (P3).

    Args:
        event: the repeat, with the count it has now.

    Returns:
        Such as ``{"count":2,"lastTimestamp":"2026-07-24T14:05:30Z","message":"some text"}``.
    """
    last = event.last_timestamp
    last_json = b"null" if last is None else _time_json(last // SECOND)
    message = event.message
    if event.count and last_json and message:
        return b'{"count":%d,"lastTimestamp":%b,"message":%b}' % (event.count, last_json, go_json_string(message))
    parts = [b'"count":%d' % event.count] if event.count else []
    parts += [b'"lastTimestamp":' + last_json] if last_json else []
    parts += [b'"message":' + go_json_string(message)] if message else []
    return b"{" + b",".join(parts) + b"}"


def series_patch(event: Event) -> bytes:
    """Return the patch that writes the series of an event, and nothing else (P7).

    Returns:
        Such as ``{"series":{"count":2,"lastObservedTime":"2026-07-24T14:05:30.123456Z"}}``; ``{}`` without a series.
    """
    series = event.series
    if series is None:
        return b"{}"
    seen = encode_micro_time(series.last_observed_time)
    time_json = b"null" if seen is None else b'"%b"' % seen.encode()
    return b'{"series":{"count":%d,"lastObservedTime":%b}}' % (series.count, time_json)
