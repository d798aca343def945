"""The name of a new event (R5, R9), and the times that make names unique. Runs in: every process that makes events.

client-go names an event ``<object>.<hex nanoseconds>``. Two events about equally named objects in one nanosecond get
one name (W23), and Python's clock ties more often than Go's. So the times a process stamps its events with are strictly
increasing, and their lowest bits are the index of the process's lane: no two processes that have lanes at the same time
can stamp the same one. What still collides (a clock set back between two owners of one lane) is met by the sink with a
new name.
"""

from __future__ import annotations

import os
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from mpbroadcast.base.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Generator

    from mpbroadcast.base.clock import Clock

__all__ = ["NAME_LIMIT", "UniqueTimes", "event_name", "is_dns_subdomain", "plain_name_fits", "random_name"]

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


class UniqueTimes:
    """Stamps events with times that no other event of this process has, and none of another lane.

    The times are the clock's, but for the lowest bits, which hold the lane's index: with the default of 256 lanes they
    are right to 256 ns. Where the clock stands still or goes back they go on from the last one, 256 ns at a time.

    Safe in any thread: the work is done inside of a generator, which the interpreter lets one thread into. There is no
    lock that a fork could leave taken: a child that finds a thread of its parent in there starts a new generator.

    Args:
        clock: where the time comes from.
        lanes: how many lanes there can be; the lowest bits have room for that many.

    Attributes:
        send: what `next` calls, 30 ns faster; it raises ValueError where `next` tries again. Never keep it: a forked
            child may get another one.
    """

    __slots__ = ("_clock", "_lanes", "_pid", "send")

    def __init__(self, clock: Clock = SYSTEM_CLOCK, lanes: int = 256) -> None:
        if lanes < 1:
            raise ValueError(f"there is at least one lane, not {lanes}")
        self._clock = clock
        self._lanes = lanes
        self._start(0)

    def _start(self, last: int) -> None:
        stamps = self._stamps(last)
        next(stamps)
        self._pid = os.getpid()
        self.send = stamps.send

    def _stamps(self, last: int) -> Generator[int, int, None]:
        now_ns = self._clock.now_ns
        low_bits = (1 << (self._lanes - 1).bit_length()) - 1
        lane = yield 0
        while True:
            # Set the low bits, then take off what is too much: a third faster than to clear them.
            t_ns = now_ns() | low_bits
            if t_ns <= last:
                t_ns = last + low_bits + 1
            last = t_ns
            lane = yield t_ns - (low_bits - lane)

    def next(self, lane: int) -> int:
        """Give the next time, in Unix nanoseconds.

        Never blocks, but for a moment when another thread of this process is in here.

        Args:
            lane: the index of the lane that the event goes to: at least 0, below ``lanes``.
        """
        while True:
            try:
                return self.send(lane)
            except ValueError:
                # "generator already executing": by another thread, or by one that was not forked along.
                if os.getpid() != self._pid:
                    self._start(0)
                else:
                    time.sleep(0)
