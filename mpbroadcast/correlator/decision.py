"""What a correlator answers: one of three values, never flags that can disagree.

They are named tuples, as one is made for every event. Tell them apart by their class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from mpbroadcast.event.model import Event

__all__ = ["IN_SERIES", "SPAM", "Correlator", "Create", "Decision", "Patch", "Skip"]

SPAM = "spam"
"""Why an event is skipped: the budget of its source and object is used up."""

IN_SERIES = "in series"
"""Why an event is skipped: it is counted in a series, which is written later."""


class Create(NamedTuple):
    """The event is new: write it."""

    event: Event


class Patch(NamedTuple):
    """The event is stored already, as far as is known: change it.

    Attributes:
        event: the whole event as it is now; its name and namespace say what to patch.
        patch: a strategic merge patch, JSON. Empty when an event came in with a count above 1 of its own (S3).
    """

    event: Event
    patch: bytes


class Skip(NamedTuple):
    """The event is not written now.

    Attributes:
        event: the event with its count, which went up all the same (C16).
        why: `SPAM` or `IN_SERIES`.
    """

    event: Event
    why: str


Decision = Create | Patch | Skip
"""What becomes of an event."""


class Correlator(Protocol):
    """What a delivery needs of a correlator."""

    def correlate(self, event: Event) -> Decision:
        """Say what to write for an event. No input or output, never blocks."""
        ...  # pragma: no cover

    def update_state(self, event: Event) -> None:
        """Take in what the sink returned for the last write."""
        ...  # pragma: no cover

    def renamed(self, event: Event, name: str) -> None:
        """Go on under another name for an event whose name was taken already, before it was written."""
        ...  # pragma: no cover
