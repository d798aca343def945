"""Stage 2: counting repeats (C10-C13c). client-go calls it the event logger, though it writes no log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpbroadcast.correlator.keys import full_key
from mpbroadcast.correlator.lru import LRU
from mpbroadcast.correlator.patch import repeat_patch

if TYPE_CHECKING:
    from collections.abc import Hashable

    from mpbroadcast.event.model import Event

__all__ = ["Repeats"]

_MAX_COUNT = 2**31 - 1
"""``count`` is an int32 in the API; a server refuses more, and Go would wrap around to a negative count."""


class _Seen:
    """What is known of an event that was seen before."""

    __slots__ = ("count", "first_timestamp", "name", "resource_version")

    def __init__(self, event: Event) -> None:
        self.note(event)

    def note(self, event: Event) -> None:
        self.count = event.count
        self.first_timestamp = event.first_timestamp
        self.name = event.name
        self.resource_version = event.resource_version


class Repeats:
    """Remembers the events that were seen and turns a repeat into an update of the first one.

    There is no time limit: the count goes on for as long as the entry is in memory (C13a).

    Args:
        lru_cache_size: how many events to remember.
    """

    __slots__ = ("_seen",)

    def __init__(self, lru_cache_size: int) -> None:
        self._seen: LRU[Hashable, _Seen] = LRU(lru_cache_size)

    def observe(self, event: Event, key: Hashable) -> tuple[Event, bytes]:
        """Count an event under a key; done before anything is written, and not undone if writing fails (C13, S9).

        Returns:
            The event and the patch. At a first sight, or after a count of 0, the event as it is with an empty patch
            (C12); at a repeat a copy with the name, first time and resource version of the first and the new count,
            with the patch that brings the stored event there (C11).
        """
        seen = self._seen.find(key)
        if seen is None:
            self._seen.add(key, _Seen(event))
            return event, b""
        if not seen.count:
            seen.note(event)
            return event, b""
        if seen.count < _MAX_COUNT:
            seen.count += 1
        repeat = event.replace(
            name=seen.name,
            resource_version=seen.resource_version,
            first_timestamp=seen.first_timestamp,
            count=seen.count,
        )
        return repeat, repeat_patch(repeat)

    def remember(self, event: Event) -> None:
        """Note what the sink stored, under the event's full key, also for an aggregate (S5, C13c)."""
        key = full_key(event)
        seen = self._seen.find(key)
        if seen is None:
            self._seen.add(key, _Seen(event))
        else:
            seen.note(event)

    def rename(self, event: Event, name: str) -> None:
        """Give the entry of an event that was never written another name."""
        # A collision is so rare that walking through all is cheaper than a second index. The entry of the event
        # whose name it is, if it is ours, was written and has a resource version.
        for seen in self._seen.values():
            if seen.name == event.name and not seen.resource_version:
                seen.name = name
