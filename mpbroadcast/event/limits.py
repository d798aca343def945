"""The API server's limits for events of the new shape, and how an event is made to meet them (spec 0.3).

Only events.k8s.io/v1 has limits (and core/v1 events that carry an ``eventTime``): a text beyond them would be refused
with 422 and the event lost (W44), so it is cut, visibly, and the cuts are counted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from mpbroadcast.base.text import well_formed
from mpbroadcast.event.parts import EventSource

if TYPE_CHECKING:
    from mpbroadcast.event.model import Event

__all__ = ["FIELD_LIMIT", "NOTE_LIMIT", "fill_for_events_v1", "shorten"]

NOTE_LIMIT: Final = 1024
"""Bytes of a note (or message)."""

FIELD_LIMIT: Final = 128
"""Bytes of an action, a reason, and a reporting instance."""

_ELLIPSIS: Final = "…"
_ELLIPSIS_BYTES: Final = len(_ELLIPSIS.encode())


def shorten(text: str, limit: int) -> str:
    """Cut a text to a number of UTF-8 bytes, between two characters, with an ellipsis where it was cut.

    Args:
        text: any string.
        limit: the most bytes of the result. Below 3 there is no room for the ellipsis, which is then left out.

    Returns:
        The same string object when it is short enough already.
    """
    if len(text) <= limit and (text.isascii() or len(well_formed(text).encode()) <= limit):
        return text
    mark, room = (_ELLIPSIS, limit - _ELLIPSIS_BYTES) if limit >= _ELLIPSIS_BYTES else ("", max(limit, 0))
    # A character takes at least one byte: no more than this many can be left, however long the text is.
    return well_formed(text[: room + 1]).encode()[:room].decode(errors="ignore") + mark


def fill_for_events_v1(event: Event) -> tuple[Event, int]:
    """Make the event one that the API server takes at events.k8s.io/v1.

    The server demands ``eventTime``, ``action``, ``reportingController`` and ``reportingInstance``, limits lengths, and
    refuses the deprecated fields. What is empty is taken from where an old-style event has it: the first time, the
    reason, the source's component, its host or else ``<component>-<host name>`` as client-go's new recorder writes it.
    An empty reason is left: there is nothing to take it from.

    Returns:
        The event to send, and how many of its texts were cut.
    """
    controller = event.reporting_controller or event.source.component
    wanted = (
        (event.message, NOTE_LIMIT),
        (event.reason, FIELD_LIMIT),
        (event.action or event.reason, FIELD_LIMIT),
        (event.reporting_instance or event.source.host or f"{controller}-{os.uname().nodename}", FIELD_LIMIT),
    )
    message, reason, action, instance = (shorten(text, limit) for text, limit in wanted)
    cuts = sum(short is not text for short, (text, _) in zip((message, reason, action, instance), wanted, strict=True))
    filled = event.replace(
        message=message,
        reason=reason,
        action=action,
        reporting_controller=controller,
        reporting_instance=instance,
        event_time=event.first_timestamp if event.event_time is None else event.event_time,
        source=EventSource(""),
        count=0,
        first_timestamp=None,
        last_timestamp=None,
    )
    return filled, cuts
