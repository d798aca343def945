"""The options of the core/v1 correlator: client-go's names and numbers, checked when they are made."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpbroadcast.correlator.keys import aggregate_by_reason, aggregate_message, spam_key

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mpbroadcast.event.model import Event

__all__ = ["CorrelatorOptions"]


def _check_number(name: str, value: object, *, off: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number{' or None' if off else ''}, not {value!r}")  # noqa: TRY004
    if value == 0:
        # client-go reads 0 as "the default", which nobody who writes 0 means.
        raise ValueError(f"{name} must not be 0{f'; None switches {off} off' if off else ''}")


def _to_float32(name: str, value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, not {value!r}")
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        raise ValueError(f"{name} is too large for a 32-bit float") from None
    if rounded == 0:
        raise ValueError(f"{name} must not be 0 (nor round to 0 as a 32-bit float): {value!r}")
    return rounded


@dataclass(frozen=True, kw_only=True)
class CorrelatorOptions:
    """How events are aggregated, counted and filtered. Immutable; picklable when its functions are.

    A sink process gets its options by pickling: give functions that are defined at the top of a module, no lambdas.
    Negative numbers mean what they mean in client-go: nothing is remembered, nothing is ever aggregated, every event
    starts a window, everything is spam, no token comes back.

    Attributes:
        lru_cache_size: entries in each of the three memories (aggregation, counting, spam).
        burst_size: writes of one budget at once; None switches the spam filter off.
        qps: writes per second that come back to a budget; kept as the 32-bit float that client-go uses, so the
            default is one write in 299.999993 seconds.
        key_func: from an event to the key of its group and its local key in there.
        message_func: from an event to the message of the aggregate that stands for it.
        max_events: distinct local keys of a group at which aggregation begins; None switches it off.
        max_interval_in_seconds: a group is forgotten when its last event is longer ago than this.
        spam_key_func: from an event to the key of its budget.
        aggregates_keep_annotations: aggregates have the annotations of the newest event, which client-go drops (W18).
        aggregates_keep_reporting: aggregates have reporting controller and instance, which client-go drops (W18).
        spam_budget_per_reason: each reason has a budget of its own, so that an event that repeats cannot use up the
            budget of a new one about the same object (kubernetes#67887).

    Raises:
        ValueError: an option makes no sense; with one line that names it.
    """

    lru_cache_size: int = 4096
    burst_size: int | None = 25
    qps: float = 1 / 300
    key_func: Callable[[Event], tuple[Hashable, str]] = aggregate_by_reason
    message_func: Callable[[Event], str] = aggregate_message
    max_events: int | None = 10
    max_interval_in_seconds: int = 600
    spam_key_func: Callable[[Event], Hashable] = spam_key
    aggregates_keep_annotations: bool = False
    aggregates_keep_reporting: bool = False
    spam_budget_per_reason: bool = False

    def __post_init__(self) -> None:
        _check_number("lru_cache_size", self.lru_cache_size)
        _check_number("max_interval_in_seconds", self.max_interval_in_seconds)
        if self.burst_size is not None:
            _check_number("burst_size", self.burst_size, off="the spam filter")
        if self.max_events is not None:
            _check_number("max_events", self.max_events, off="aggregation")
        for name in ("key_func", "message_func", "spam_key_func"):
            if not callable(getattr(self, name)):
                raise ValueError(f"{name} must be a function of an event, not {getattr(self, name)!r}")  # noqa: TRY004
        for name in ("aggregates_keep_annotations", "aggregates_keep_reporting", "spam_budget_per_reason"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, not {getattr(self, name)!r}")  # noqa: TRY004
        object.__setattr__(self, "qps", _to_float32("qps", self.qps))
