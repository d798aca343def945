"""The name of a new event (R5, R9). Runs in: every process that makes events. Pure.

client-go names an event ``<object>.<hex nanoseconds>``. Two events about equally named objects in one nanosecond get
one name (W23), and Python's clock ties more often than Go's. So the extension stamps the events of a process with times
that are strictly increasing, with the index of the process's lane in their lowest bits (``ring/record.c``). What still
collides (a clock set back between two owners of one lane) is met by the sink with a new name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from uuid import uuid4

__all__ = ["NAME_LIMIT", "event_name", "is_dns_subdomain", "plain_name_fits", "random_name"]

NAME_LIMIT: Final = 253
"""Bytes of a Kubernetes object name."""

_LABEL: Final = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HEX_DIGITS: Final = 16  # of a time from 2006 to 2554; one fewer before


@lru_cache(maxsize=4096)
def is_dns_subdomain(name: str) -> bool:
    """Tell whether Kubernetes takes a text for the name of an event: a DNS-1123 subdomain of at most 253 bytes."""
    return len(name) <= NAME_LIMIT and _SUBDOMAIN.fullmatch(name) is not None


def plain_name_fits(ref_name: str) -> bool:
    """Tell whether events about an object can be called ``<object>.<hex nanoseconds>``; otherwise they need a UUID.

    For a recorder, once per object: where this is True, `codec.encode_record` needs no name; where it is False it takes
    a `random_name`. Kept for the 4096 objects asked for last; does not block; safe in any thread.

    Args:
        ref_name: the name of the object. Empty, with capitals, colons, or longer than 236 characters: False.
    """
    return len(ref_name) + 1 + _HEX_DIGITS <= NAME_LIMIT and is_dns_subdomain(ref_name)


def random_name() -> str:
    """Name an event by a random (version 4) UUID."""
    return str(uuid4())


def event_name(ref_name: str, t_ns: int) -> str:
    """Name an event (R5).

    Args:
        ref_name: the name of the object that it is about.
        t_ns: when it happened, in Unix nanoseconds.

    Returns:
        ``<ref_name>.<nanoseconds in hex>`` where that is a DNS-1123 subdomain of at most 253 bytes, else a random UUID.
    """
    name = f"{ref_name}.{t_ns:x}"
    return name if t_ns >= 0 and len(name) <= NAME_LIMIT and is_dns_subdomain(ref_name) else random_name()
