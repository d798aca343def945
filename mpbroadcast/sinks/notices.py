"""`SinkNotices`: what a sink's process says about events that it could not write, or did not.

Runs in: the process of the sink. During an outage there are thousands of failed tries: each kind is one line a minute,
with the number since the last one. Whatever comes from outside is quoted, so that it cannot break a line or forge one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from mpbroadcast.base.goquote import go_quote
from mpbroadcast.base.notices import EVERY_SECONDS, Notices
from mpbroadcast.correlator.lru import LRU

if TYPE_CHECKING:
    from collections.abc import Hashable

    from mpbroadcast.correlator.options import CorrelatorOptions
    from mpbroadcast.event.model import Event

__all__ = ["SinkNotices"]

_OBJECTS: Final = 4096
"""How many objects are remembered as named: as many as the spam filter remembers budgets for, by default."""

_SPAM: Final = "spam"

_log: Final = logging.getLogger("mpbroadcast.sink")


class SinkNotices(Notices):
    """The log of one sink. One thread at a time.

    Args:
        all_of_them: says every failure, as client-go does.
    """

    def __init__(self, *, all_of_them: bool = False) -> None:
        super().__init__(_log, seconds=0.0 if all_of_them else EVERY_SECONDS)
        self._named: LRU[Hashable, bool] = LRU(_OBJECTS)

    def about(self, text: str, event: Event, error: Exception | None = None, *, level: int = logging.ERROR) -> None:
        """Say what happened to an event: one kind for each text and answer of the other side.

        Args:
            text: what happened.
            event: to which event.
            error: why.
            level: of the line.
        """
        name = go_quote(f"{event.namespace}/{event.name}")
        if error is None:
            self.say(text, text + ": event=%s", name, level=level)
        else:
            kind = (text, getattr(error, "code", 0) or type(error))
            why = go_quote(str(error) or type(error).__name__)
            self.say(kind, text + ": event=%s err=%s", name, why, level=level)

    def held_back(self, event: Event, options: CorrelatorOptions | None) -> None:
        """Say which object has used up its budget of writes, once; its further events are counted (kubernetes#97367).

        Args:
            event: that the spam filter refused, the first of its object or a later one.
            options: of the correlator, if it is known.
        """
        reference = event.involved_object
        args = (
            go_quote(f"{event.namespace}/{event.name}"),
            go_quote(f"{reference.kind} {reference.namespace}/{reference.name}"),
            go_quote(event.reason),
        )
        key = (reference.namespace, reference.kind, reference.name, reference.uid)
        first = self._named.find(key) is None
        if first:
            self._named.add(key, True)
        text = _limit(options) if first else "The spam filter holds back events"
        self.say(_SPAM, text + ": event=%s object=%s reason=%s", *args, level=logging.WARNING, at_once=first)


def _limit(options: CorrelatorOptions | None) -> str:
    text = "The spam filter holds back events of an object from now on"
    if options is None:
        return text + " (see CorrelatorOptions)"
    rate = f"one more every {1 / options.qps:.0f} s" if options.qps > 0 else "no more"
    return (
        f"{text}: it may have {options.burst_size} at once and {rate}"
        f" (CorrelatorOptions(burst_size=...) raises the limit, burst_size=None lifts it)"
    )
