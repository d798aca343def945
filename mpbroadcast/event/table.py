"""kubectl's tables of events: which columns, what stands in them, how wide they are (spec F6, F7, F9).

Pure: events and the time come in, lines come out. Everything in an event was written by somebody else, so no control
character of it reaches the terminal: a message could otherwise move the cursor and rewrite what stands above.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mpbroadcast.event.model import Event

__all__ = [
    "EVENTS_COLUMNS",
    "GET_COLUMNS",
    "NAMESPACE",
    "WIDE_COLUMNS",
    "Column",
    "Table",
    "age",
    "age_with_count",
    "cell",
    "human_duration",
    "last_seen",
    "last_seen_order",
    "visible",
]

_SECOND: Final = 1_000_000_000  # nanoseconds

_PADDING: Final = 3  # blanks between columns (F6)
_MIN_WIDTH: Final = 6  # of a column, with its padding (F6)

# kubectl cuts a cell at the first of these on screen.
_BREAK: Final = re.compile(r"[\f\n\r]")

_UNKNOWN: Final = "<unknown>"


def _unsafe_characters() -> dict[int, str]:
    carets = {code: f"^{chr(code ^ 0x40)}" for code in (*range(0x20), 0x7F)}  # ESC becomes ^[, as in kubectl
    c1 = {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}  # 0x9b alone starts an escape sequence
    # Direction marks make a line read differently from what it says; the separators break a line in some terminals.
    marks = (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
    return carets | c1 | {code: f"\\u{code:04x}" for code in marks}


_UNSAFE: Final = _unsafe_characters()


def visible(text: str) -> str:
    r"""Return the text with every control character and direction mark written out (``^[``, ``\x9b``, ``\u202e``)."""
    return text if text.isprintable() else text.translate(_UNSAFE)


def cell(text: str) -> str:
    """Return what one cell shows of the text: up to its first line break, then ``...`` if one was there (F6)."""
    line_break = _BREAK.search(text)
    return visible(text) if line_break is None else visible(text[: line_break.start()]) + "..."


def human_duration(duration_ns: int) -> str:
    """Write a duration as kubectl writes ages (F9); everything below the shown unit is cut off.

    Args:
        duration_ns: nanoseconds. A little below zero is a clock that is a bit late and counts as ``0s``.

    Returns:
        Such as ``45s``, ``3m20s``, ``5h``, ``2d4h``; ``<invalid>`` for two seconds below zero and less.
    """
    if duration_ns < 0:
        return "<invalid>" if duration_ns <= -2 * _SECOND else "0s"
    seconds = duration_ns // _SECOND
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    years = days // 365  # kubectl's years have 365 days
    if years < 2:
        return f"{days}d"
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def age(time_ns: int | None, now_ns: int) -> str:
    """Return how long ago a time was (Unix nanoseconds), ``<unknown>`` for None."""
    return _UNKNOWN if time_ns is None else human_duration(now_ns - time_ns)


def _first_time(*times: int | None) -> int | None:
    return next((time for time in times if time is not None), None)


def last_seen(event: Event, now_ns: int) -> str:
    """LAST SEEN of ``kubectl get events`` (F6): an age without a count."""
    if event.series is not None:
        return age(event.series.last_observed_time, now_ns)
    return age(_first_time(event.last_timestamp, event.first_timestamp, event.event_time), now_ns)


def age_with_count(event: Event, now_ns: int) -> str:
    """LAST SEEN of ``kubectl events``, Age of ``kubectl describe`` (F7): ``12m (x3 over 20m)`` for a repeated event."""
    first = age(_first_time(event.event_time, event.first_timestamp), now_ns)
    if event.series is not None:
        return f"{age(event.series.last_observed_time, now_ns)} (x{event.series.count} over {first})"
    if event.count > 1:
        return f"{age(event.last_timestamp, now_ns)} (x{event.count} over {first})"
    return first


def last_seen_order(event: Event) -> int:
    """Return the sort key of ``kubectl events`` (F7), in Unix nanoseconds; events without a time come first."""
    observed = event.series.last_observed_time if event.series is not None else None
    return _first_time(observed, event.last_timestamp, event.event_time) or 0


def _first_seen(event: Event, now_ns: int) -> str:
    return age(_first_time(event.first_timestamp, event.event_time), now_ns)


def _object(event: Event, kind: str) -> str:
    return f"{kind}/{event.involved_object.name}" if event.involved_object.name else kind


def _source(event: Event) -> str:
    component = event.source.component or event.reporting_controller
    host = event.source.host or event.reporting_instance
    return f"{component}, {host}" if host else component


def _count(event: Event) -> str:
    return str(max(1, event.count if event.series is None else event.series.count))


class Column(NamedTuple):
    """One column: its heading, and what it shows of an event at a time (Unix nanoseconds)."""

    heading: str
    show: Callable[[Event, int], str]


NAMESPACE: Final = Column("NAMESPACE", lambda event, _: event.namespace)

_TYPE: Final = Column("TYPE", lambda event, _: event.type)
_REASON: Final = Column("REASON", lambda event, _: event.reason)
_MESSAGE: Final = Column("MESSAGE", lambda event, _: event.message.strip())
_LOWER_OBJECT: Final = Column("OBJECT", lambda event, _: _object(event, event.involved_object.kind.lower()))

GET_COLUMNS: Final = (Column("LAST SEEN", last_seen), _TYPE, _REASON, _LOWER_OBJECT, _MESSAGE)
"""``kubectl get events`` (F6)."""

WIDE_COLUMNS: Final = (
    *GET_COLUMNS[:4],
    Column("SUBOBJECT", lambda event, _: event.involved_object.field_path),
    Column("SOURCE", lambda event, _: _source(event)),
    _MESSAGE,
    Column("FIRST SEEN", _first_seen),
    Column("COUNT", lambda event, _: _count(event)),
    Column("NAME", lambda event, _: event.name),
)
"""``kubectl get events -o wide`` (F6)."""

EVENTS_COLUMNS: Final = (
    Column("LAST SEEN", age_with_count),
    _TYPE,
    _REASON,
    Column("OBJECT", lambda event, _: _object(event, event.involved_object.kind)),
    _MESSAGE,
)
"""``kubectl events`` (F7)."""


class Table:
    """Lines up columns as kubectl's tab writer does: three blanks between them, six characters at least.

    A table can be printed in parts, as ``-w`` does: the headings come once, with the first part, and a column never
    gets narrower again. Not safe to share between threads.

    Args:
        columns: from left to right.
        headings: whether the headings are printed.
    """

    __slots__ = ("_columns", "_headings_due", "_widths")

    def __init__(self, columns: Sequence[Column], *, headings: bool = True) -> None:
        self._columns = tuple(columns)
        self._headings_due = headings
        # The last column is never padded, so it has no width.
        self._widths = [_MIN_WIDTH] * (len(self._columns) - 1)

    def lines(self, events: Iterable[Event], now_ns: int) -> list[str]:
        """Return the lines for these events, without line ends; ages are measured to ``now_ns`` (Unix nanoseconds)."""
        rows = [[cell(column.show(event, now_ns)) for column in self._columns] for event in events]
        if self._headings_due:
            rows.insert(0, [column.heading for column in self._columns])
            self._headings_due = False
        for position, width in enumerate(self._widths):
            # Counted in characters, as the tab writer does, whatever room they take on the screen.
            widest = max((len(row[position]) for row in rows), default=0)
            self._widths[position] = max(width, widest + _PADDING)
        return [self._line(row) for row in rows]

    def _line(self, row: Sequence[str]) -> str:
        padded = [text.ljust(width) for text, width in zip(row, self._widths, strict=False)]
        return "".join((*padded, row[-1]))
