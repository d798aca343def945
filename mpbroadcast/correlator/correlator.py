"""The correlator of core/v1 events: aggregate, then count, then filter (spec 2.5).

Rules of this folder: no input, no output, no thread, no lock. The answer depends on the events so far and on the
clock, and on nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.correlator.aggregate import Aggregator
from mpbroadcast.correlator.decision import SPAM, Create, Decision, Patch, Skip
from mpbroadcast.correlator.keys import full_key
from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.correlator.repeats import Repeats
from mpbroadcast.correlator.spam import SpamFilter

if TYPE_CHECKING:
    from mpbroadcast.base.clock import Clock
    from mpbroadcast.event.model import Event

__all__ = ["EventCorrelator"]

_DEFAULTS = CorrelatorOptions()


class EventCorrelator:
    """Decides what becomes of each event, as client-go's ``EventCorrelator`` does. One for each sink (L8).

    Not thread-safe: it belongs to the one process and thread that feeds its sink. Nothing of it outlives them, so
    counts start again after a restart (W19).

    Args:
        options: numbers and functions; a stage whose limit is None does nothing.
        clock: read once by each of the stages 1 and 3 for each event (C18).
    """

    __slots__ = ("_aggregator", "_repeats", "_spam")

    def __init__(self, options: CorrelatorOptions = _DEFAULTS, clock: Clock = SYSTEM_CLOCK) -> None:
        self._repeats = Repeats(options.lru_cache_size)
        self._aggregator: Aggregator | None = None
        self._spam: SpamFilter | None = None
        # Go takes the limit as unsigned: a negative one is never reached. Off keeps no messages for that.
        if options.max_events is not None and options.max_events > 0:
            self._aggregator = Aggregator(
                lru_cache_size=options.lru_cache_size,
                max_events=options.max_events,
                max_interval_in_seconds=options.max_interval_in_seconds,
                key_func=options.key_func,
                message_func=options.message_func,
                keep_annotations=options.aggregates_keep_annotations,
                keep_reporting=options.aggregates_keep_reporting,
                clock=clock,
            )
        if options.burst_size is not None:
            self._spam = SpamFilter(
                lru_cache_size=options.lru_cache_size,
                burst=options.burst_size,
                rate=options.qps,
                key_func=options.spam_key_func,
                per_reason=options.spam_budget_per_reason,
                clock=clock,
            )

    def correlate(self, event: Event) -> Decision:
        """Take an event through the three stages.

        Args:
            event: as it was recorded. Its own count only matters at the first sight of it (C13b).

        Returns:
            `Patch` when the event's count is above 1 afterwards (S3), else `Create`; `Skip` when its budget is used
            up. Changes to what is remembered stay in any case (C16).
        """
        if self._aggregator is None:
            observed, patch = self._repeats.observe(event, full_key(event))
        else:
            similar, key, _ = self._aggregator.aggregate(event)
            observed, patch = self._repeats.observe(similar, key)
        if self._spam is not None and self._spam.refuses(observed):
            return Skip(observed, SPAM)
        if observed.count > 1:
            return Patch(observed, patch)
        return Create(observed)

    def update_state(self, event: Event) -> None:
        """Remember what the sink stored: its times, name and resource version hold from now on (S5).

        Args:
            event: what the sink returned for a write that succeeded.
        """
        self._repeats.remember(event)

    def renamed(self, event: Event, name: str) -> None:
        """Count repeats of an event under another name: that of the event was taken already (W23).

        Args:
            event: as `correlate` gave it, not written yet.
            name: the name that it is going to have.
        """
        self._repeats.rename(event, name)
