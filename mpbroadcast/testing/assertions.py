"""`assert_events`: compare what was recorded with what should have been, and show the difference line by line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from mpbroadcast.base.text import counted
from mpbroadcast.event.model import Event

__all__ = ["HasEvents", "assert_events", "event_text"]

Expected = str | Mapping[str, Any] | Event


@runtime_checkable
class HasEvents(Protocol):
    """Anything with a list of events: `FakeRecorder`, `FakeSink`."""

    @property
    def events(self) -> Sequence[Event]:
        """The events, in order."""
        ...  # pragma: no cover


def event_text(event: Event) -> str:
    """Write an event as the fake recorders do: type, reason and message."""
    return f"{event.type} {event.reason} {event.message}"


def assert_events(
    actual: HasEvents | Iterable[Event], expected: Sequence[Expected], *, any_order: bool = False
) -> None:
    """Assert that these events were recorded, and no others.

    Args:
        actual: a fake recorder, a fake sink, or events.
        expected: for each event its text (``"Normal Started Pod started"``), or a mapping of the attributes that
            matter (``{"reason": "Started", "count": 2}``), or the whole event.
        any_order: whether the order does not matter.

    Raises:
        AssertionError: with a difference, one line for each event: ``-`` is missing, ``+`` was not expected.
    """
    events = list(actual.events if isinstance(actual, HasEvents) else actual)
    ordered = _in_the_order_of(expected, events) if any_order else events
    if len(ordered) == len(expected) and all(map(_matches, expected, ordered)):
        return
    wanted_lines = [_line(wanted, ordered) for wanted in expected]
    actual_lines = [_actual_line(event, expected) for event in ordered]
    difference = difflib.ndiff(wanted_lines, actual_lines)
    lines = [line.rstrip("\n") for line in difference if not line.startswith("?")]
    wanted, found = counted(len(expected), "event"), counted(len(events), "event")
    head = f"expected {wanted}, recorded {found} (- missing, + not expected):"
    raise AssertionError("\n".join([head, *lines]))


def _matches(wanted: Expected, event: Event) -> bool:
    if isinstance(wanted, str):
        return wanted == event_text(event)
    if isinstance(wanted, Event):
        return wanted == event
    return all(getattr(event, name) == value for name, value in wanted.items())


def _in_the_order_of(expected: Sequence[Expected], events: list[Event]) -> list[Event]:
    """Put each event where it was expected; what was not expected stays at the end."""
    rest, found = list(events), []
    for wanted in expected:
        match = next((event for event in rest if _matches(wanted, event)), None)
        if match is not None:
            found.append(match)
            rest.remove(match)
    return found + rest


def _line(wanted: Expected, events: list[Event]) -> str:
    """Write what was expected; a match is written as the event, so that both sides show the same line."""
    match = next((event for event in events if _matches(wanted, event)), None)
    if match is not None:
        return _printable(event_text(match))
    if isinstance(wanted, Event):
        return _full(wanted)
    return _printable(wanted) if isinstance(wanted, str) else _attributes(wanted)


def _actual_line(event: Event, expected: Sequence[Expected]) -> str:
    """Write an event; one that nobody expected with what the expectations look at."""
    if any(_matches(wanted, event) for wanted in expected):
        return _printable(event_text(event))
    if any(isinstance(wanted, Event) for wanted in expected):
        return _full(event)
    names = {name: None for wanted in expected if isinstance(wanted, Mapping) for name in wanted}
    looked_at = _attributes({name: getattr(event, name) for name in names}) if names else ""
    return f"{_printable(event_text(event))}  {looked_at}".rstrip()


def _attributes(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _full(event: Event) -> str:
    return f"{_printable(event_text(event))}  {event.to_core_v1()}"


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
