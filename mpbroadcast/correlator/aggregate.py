"""Stage 1: many similar events become one (C1-C9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mpbroadcast.correlator.keys import full_key
from mpbroadcast.correlator.lru import LRU
from mpbroadcast.event.model import Event
from mpbroadcast.event.names import event_name

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mpbroadcast.base.clock import Clock

__all__ = ["Aggregated", "Aggregator"]

_SECOND = 1_000_000_000


class Aggregated(NamedTuple):
    """What stage 1 makes of an event.

    Attributes:
        event: the event itself, or the aggregate in its place.
        key: under which stage 2 counts it.
        removed: the local key that left the group when an aggregate was made, else None.
    """

    event: Event
    key: Hashable
    removed: str | None = None


class _Group:
    """Similar events: their distinct local keys, and when the last of them came (Unix nanoseconds)."""

    __slots__ = ("last_ns", "local_keys")

    def __init__(self, last_ns: int) -> None:
        self.local_keys: set[str] = set()
        self.last_ns = last_ns


class Aggregator:
    """Counts the distinct messages of similar events and, from the limit on, puts an aggregate in their place.

    The window slides: every similar event renews it (C4).

    Args:
        lru_cache_size: how many groups to remember.
        max_events: the number of distinct local keys at which aggregates begin (C6).
        max_interval_in_seconds: a group whose last event is longer ago than this starts anew (C4).
        key_func: gives the key of the group and the local key of an event.
        message_func: gives the message of the aggregate.
        keep_annotations: whether an aggregate has the annotations of the event it stands for (W18).
        keep_reporting: whether it has its reporting controller and instance (W18).
        clock: read once for each event (C1).
    """

    __slots__ = (
        "_clock",
        "_groups",
        "_interval_ns",
        "_keep_annotations",
        "_keep_reporting",
        "_key_func",
        "_max_events",
        "_message_func",
    )

    def __init__(
        self,
        *,
        lru_cache_size: int,
        max_events: int,
        max_interval_in_seconds: int,
        key_func: Callable[[Event], tuple[Hashable, str]],
        message_func: Callable[[Event], str],
        keep_annotations: bool,
        keep_reporting: bool,
        clock: Clock,
    ) -> None:
        self._groups: LRU[Hashable, _Group] = LRU(lru_cache_size)
        self._max_events = max_events
        self._interval_ns = max_interval_in_seconds * _SECOND
        self._key_func = key_func
        self._message_func = message_func
        self._keep_annotations = keep_annotations
        self._keep_reporting = keep_reporting
        self._clock = clock

    def aggregate(self, event: Event) -> Aggregated:
        """Note an event in its group and return it, or the aggregate that stands for it."""
        now_ns = self._clock.now_ns()
        group_key, local_key = self._key_func(event)
        group = self._groups.find(group_key)
        if group is None or now_ns - group.last_ns > self._interval_ns:
            group = _Group(now_ns)
            self._groups.add(group_key, group)
        local_keys = group.local_keys
        local_keys.add(local_key)
        group.last_ns = now_ns
        if len(local_keys) < self._max_events:
            return Aggregated(event, full_key(event))
        # client-go removes any key (W15). The smallest (code points sort as UTF-8 bytes do) makes replays agree.
        removed = min(local_keys)
        local_keys.remove(removed)
        # In a tuple of its own, so that no full key equals it: stage 2 keeps both kinds in one memory (W14).
        return Aggregated(self._aggregate_of(event, now_ns), (group_key,), removed)

    def _aggregate_of(self, event: Event, now_ns: int) -> Event:
        """Build the aggregate: what similar events have in common, and nothing else unless asked for (C7)."""
        reference = event.involved_object
        return Event(
            # client-go does not check this name, and loses the aggregates of such objects to a refusal (W17).
            name=event_name(reference.name, now_ns),
            namespace=event.namespace,
            annotations=event.annotations if self._keep_annotations else None,
            involved_object=reference,
            type=event.type,
            reason=event.reason,
            message=self._message_func(event),
            source=event.source,
            reporting_controller=event.reporting_controller if self._keep_reporting else "",
            reporting_instance=event.reporting_instance if self._keep_reporting else "",
            count=1,
            first_timestamp=now_ns,
            last_timestamp=now_ns,
        )
