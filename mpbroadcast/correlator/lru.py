"""A bounded map that forgets what was used least recently: the memory of each stage (spec 2.5, LRU)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["LRU"]

K = TypeVar("K")
V = TypeVar("V")


class LRU(Generic[K, V]):
    """At most ``size`` entries; finding one and adding one both make it the most recent.

    Not thread-safe: a correlator belongs to one sink, and a sink to one thread.

    Args:
        size: how many entries to keep. Negative as in Go: an entry is gone as soon as it was added.
    """

    __slots__ = ("_entries", "_size")

    def __init__(self, size: int) -> None:
        # OrderedDict does all of this in C; cachetools.LRUCache has a Python frame for each item it gets or sets,
        # which costs more than all keys of an event together.
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._size = size

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: K) -> V | None:
        """Return the entry and make it the most recent one, or None when it is not there (any more)."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def add(self, key: K, value: V) -> V | None:
        """Store an entry as the most recent one, over an older one of this key.

        Returns:
            The entry that had to go to make room, or None.
        """
        entries = self._entries
        entries[key] = value
        entries.move_to_end(key)
        if len(entries) > self._size:
            return entries.popitem(last=False)[1]
        return None

    def peek(self, key: K) -> V | None:
        """Return the entry, or None, without making it more recent."""
        return self._entries.get(key)

    def discard(self, key: K) -> None:
        """Forget an entry, if it is there."""
        self._entries.pop(key, None)

    def items(self) -> list[tuple[K, V]]:
        """Return all entries, least recent first, as a list of its own."""
        return list(self._entries.items())

    def values(self) -> list[V]:
        """Return the values of all entries, least recent first, as a list of its own."""
        return list(self._entries.values())

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
