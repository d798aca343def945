"""A picture of a broadcaster as lines of styled text, for any width. Pure.

Columns that matter less are left out where there is no room. Colour only repeats what words say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

from mpbroadcast.cli.verdict import Severity, findings, number, seconds_text
from mpbroadcast.event.table import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpbroadcast.cli.sampling import Picture
    from mpbroadcast.cli.verdict import Finding
    from mpbroadcast.stats import HelperStats, LaneStats, WatcherStats

__all__ = ["Sizes", "render"]

_STYLES: Final = {Severity.FINE: "bold green", Severity.NOTE: "bold yellow", Severity.BAD: "bold red"}
_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BARS: Final = ".:-=+*#@"
_GAP: Final = 2  # blanks between columns
_NAME_WIDTH: Final = 24  # characters of a name at the most
_FINDINGS: Final = 6  # lines


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a broadcaster is made, and the room to show it.

    Attributes:
        lanes: how many there are.
        lane_bytes: of each.
        ring_bytes: of each watcher's ring.
        width: characters of a line.
        height: lines; 0 for as many as it takes.
        unicode: whether the terminal shows more than ASCII.
    """

    lanes: int
    lane_bytes: int
    ring_bytes: int
    width: int = 100
    height: int = 0
    unicode: bool = True


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: heading, alignment, how early it is left out (0: never), and its cells."""

    heading: str
    cells: Sequence[str]
    rank: int = 0
    left: bool = False

    @property
    def width(self) -> int:
        return max(len(self.heading), *(len(text) for text in self.cells)) if self.cells else len(self.heading)


def render(picture: Picture, sizes: Sizes, *, pid: int, title: str = "", footer: str = "") -> list[Text]:
    """Draw everything.

    Args:
        picture: what was seen.
        sizes: of the broadcaster and of the screen.
        pid: a process that has the broadcaster, where the owner is not known any more.
        title: shown at the right end of the first line.
        footer: a last line.
    """
    found = findings(picture, ring_bytes=sizes.ring_bytes)
    lines = [_heading(picture, pid, title, sizes), *_totals(picture, sizes), Text()]
    lines += [line for finding in found[:_FINDINGS] for line in _sentence(finding, sizes.width)]
    if len(found) > _FINDINGS:
        lines.append(Text(f" ... and {len(found) - _FINDINGS} more", style="dim"))
    lines += [Text(), *_watchers(picture, sizes, found), Text()]
    room = max(3, sizes.height - len(lines) - (2 if footer else 1)) if sizes.height else 1 << 30
    lines += _lanes(picture, sizes, found, room)
    if footer:
        lines.append(Text(footer, style="dim"))
    for line in lines:
        line.truncate(sizes.width, overflow="ellipsis" if sizes.unicode else "crop")
    return lines[: sizes.height] if sizes.height else lines


def _heading(picture: Picture, pid: int, title: str, sizes: Sizes) -> Text:
    stats = picture.stats
    owner = stats.owner_pid or pid
    age = seconds_text(picture.age_seconds)
    line = Text.assemble((visible(stats.name), "bold"), f"  process {owner}  {stats.state} for {age}")
    if title and len(line) + len(title) + 2 <= sizes.width:
        line.append(" " * (sizes.width - len(line) - len(title)) + title, style="dim")
    return line


def _sparkline(values: Sequence[float], width: int, bars: str) -> str:
    """Draw the newest values, at most ``width`` of them; the highest one is the full bar."""
    shown = list(values)[-width:]
    top = max(shown, default=0.0)
    if not top:
        return bars[0] * len(shown)
    last = len(bars) - 1
    return "".join(bars[0] if not value else bars[max(1, round(value / top * last))] for value in shown)


def _totals(picture: Picture, sizes: Sizes) -> list[Text]:
    stats, before = picture.stats, picture.before
    bars = _BARS if sizes.unicode else _ASCII_BARS
    width = max(0, min(60, sizes.width - 40))
    lost = picture.lost
    rows = [
        ("accepted", stats.accepted, picture.rate(stats.accepted, None if before is None else before.accepted), 0, ""),
        ("lost", lost, picture.rate(lost, picture.lost_before), 1, "bold red" if lost else ""),
    ]
    lines = []
    for name, total, rate, index, style in rows:
        line = Text.assemble(f"{name:<9}", (f"{number(total):>13}", style), f"  {_rate(rate):>10}  ")
        line.append(
            _sparkline([look[index] for look in picture.history], width, bars), style="red" if index else "cyan"
        )
        lines.append(line)
    rings = sum(watcher.backlog for watcher in stats.watchers if watcher.state != "ended")
    lines.append(
        Text(
            f"{'waiting':<9}{number(stats.backlog + rings):>13}"
            f"  {number(stats.backlog)} in lanes, {number(rings)} in rings"
        )
    )
    return lines


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{number(rate)}/s"


def _sentence(finding: Finding, width: int) -> list[Text]:
    """One finding, on two lines where one is too short."""
    head = Text.assemble(" ", (finding.word, _STYLES[finding.severity]), "  ")
    if finding.who:
        head.append(finding.who, style="bold")
        head.append(" " if finding.word in {"GONE", "ENDED", "DRAINING"} else ": ")
    first, _, rest = _broken(finding.text, width - len(head))
    head.append(first)
    return [head, Text("    " + rest)] if rest else [head]


def _broken(text: str, width: int) -> tuple[str, str, str]:
    """Break a text at the last blank before a width."""
    if len(text) <= width:
        return text, "", ""
    at = text.rfind(" ", 0, max(width, 1))
    return text[: max(at, 0)], " ", text[max(at, 0) :].strip()


def _name(text: str) -> str:
    clean = visible(text)
    return clean if len(clean) <= _NAME_WIDTH else clean[: _NAME_WIDTH - 1] + "~"


def _cpu(picture: Picture, pid: int) -> str:
    use = picture.uses.get(pid)
    return "" if use is None or use.cpu is None else f"{use.cpu:.0%}"


def _memory(picture: Picture, pid: int) -> str:
    """What a process has for itself; all of it where the kernel does not tell."""
    use = picture.uses.get(pid)
    return _bytes(use.own_bytes or use.rss_bytes) if use is not None and use.rss_bytes else ""


def _bytes(count: float) -> str:
    for unit in ("B", "K", "M", "G"):
        if count < 1024 or unit == "G":
            return f"{count:.1f}{unit}" if unit != "B" and count < 9.95 else f"{count:.0f}{unit}"
        count /= 1024
    raise AssertionError


def _marks(found: Sequence[Finding], chosen: Callable[[Finding], bool]) -> Finding | None:
    """The worst that is said about a row."""
    return next((finding for finding in found if chosen(finding)), None)


def _spare(picture: Picture, helper: HelperStats, *, managed: bool) -> str:
    if not managed or not helper.pid:
        return "-"
    if helper.pid == picture.stats.owner_pid:
        return "thread"
    return "yes" if helper.spare_pid else "none"


def _watchers(picture: Picture, sizes: Sizes, found: Sequence[Finding]) -> list[Text]:
    stats = picture.stats
    watchers = [watcher for watcher in stats.watchers if watcher.state != "ended" or stats.state == "drained"]
    rates: list[float | None] = []
    for watcher in watchers:
        before = picture.watcher_before(watcher)
        rates.append(picture.rate(watcher.settled, None if before is None else before.settled))
    forwarded = picture.rate(stats.forwarded, None if picture.before is None else picture.before.forwarded)

    def cells(show: Callable[[WatcherStats], str], distributor: str = "") -> list[str]:
        return [*(show(watcher) for watcher in watchers), distributor]

    def full(watcher: WatcherStats) -> str:
        return f"{watcher.backlog_bytes / sizes.ring_bytes:.0%}" if sizes.ring_bytes else ""

    dist = stats.distributor
    spare = "thread" if dist.pid == stats.owner_pid else "yes" if dist.spare_pid else "none"
    columns = [
        _Column("WATCHER", cells(lambda w: _name(w.name), "(distributor)"), left=True),
        _Column("STATE", cells(lambda w: w.state, stats.state), rank=6, left=True),
        _Column(
            "RATE/S",
            [*("" if rate is None else number(rate) for rate in rates), "" if forwarded is None else number(forwarded)],
        ),
        _Column("WAITING", cells(lambda w: number(w.backlog), number(stats.backlog))),
        _Column("RING", cells(full), rank=2),
        _Column("HANDLED", cells(lambda w: number(w.handled), number(stats.forwarded)), rank=3),
        _Column("DROPPED", cells(lambda w: number(w.dropped))),
        _Column("FAILED", cells(lambda w: number(w.failed)), rank=1),
        _Column("GIVEN UP", cells(lambda w: number(w.given_up)), rank=7),
        _Column("FILTERED", cells(lambda w: number(w.filtered)), rank=8),
        _Column("RESTARTS", cells(lambda w: number(w.helper.restarts), number(dist.restarts)), rank=5),
        _Column("SPARE", cells(lambda w: _spare(picture, w.helper, managed=w.managed), spare), rank=9, left=True),
        _Column("CPU", cells(lambda w: _cpu(picture, w.helper.pid), _cpu(picture, dist.pid)), rank=4),
        _Column("MEM", cells(lambda w: _memory(picture, w.helper.pid), _memory(picture, dist.pid)), rank=10),
    ]
    marks = [_marks(found, lambda finding, w=w: finding.watcher == w.index) for w in watchers]  # type: ignore[misc]
    marks.append(_marks(found, lambda finding: finding.who == "the distributor"))
    return _table(columns, marks, sizes.width)


def _lanes(picture: Picture, sizes: Sizes, found: Sequence[Finding], room: int) -> list[Text]:
    earlier = {} if picture.before is None else {lane.index: lane for lane in picture.before.lanes}
    rates: dict[int, float | None] = {}
    for lane in picture.stats.lanes:
        old = earlier.get(lane.index)
        rates[lane.index] = picture.rate(lane.accepted, None if old is None else old.accepted)

    def importance(lane: LaneStats) -> tuple[bool, bool, int, int]:
        marked = any(_is_about(finding, lane) for finding in found)
        # Rates by their magnitude, or rows would change places at each look.
        return marked, lane.alive, int(rates[lane.index] or 0).bit_length(), -lane.index

    lanes = sorted(picture.stats.lanes, key=importance, reverse=True)
    shown = lanes if len(lanes) < room else lanes[: max(1, room - 2)]
    columns = [
        _Column("PROCESS", [_name(lane.name or "process") for lane in shown], left=True),
        _Column("PID", [str(lane.pid) for lane in shown], rank=3),
        _Column("STATE", ["recording" if lane.alive else "gone" for lane in shown], rank=5, left=True),
        _Column("RATE/S", ["" if (rate := rates[lane.index]) is None else number(rate) for lane in shown]),
        _Column("WAITING", [number(lane.backlog) for lane in shown], rank=2),
        _Column("ACCEPTED", [number(lane.accepted) for lane in shown]),
        _Column("REFUSED", [_refused(lane) for lane in shown]),
        _Column("CPU", [_cpu(picture, lane.pid) if lane.alive else "" for lane in shown], rank=4),
        _Column("MEM", [_memory(picture, lane.pid) if lane.alive else "" for lane in shown], rank=6),
    ]
    marks = [_marks(found, lambda finding, lane=lane: _is_about(finding, lane)) for lane in shown]  # type: ignore[misc]
    lines = _table(columns, marks, sizes.width)
    if len(shown) < len(lanes):
        rest = lanes[len(shown) :]
        alive = sum(lane.alive for lane in rest)
        lines.append(Text(f" ... and {len(rest)} more, {alive} of them recording", style="dim"))
    if not lanes:
        lines = [Text("no process has recorded anything yet", style="dim")]
    return lines


def _is_about(finding: Finding, lane: LaneStats) -> bool:
    return finding.lane == lane.index or lane.index in finding.lanes


def _refused(lane: LaneStats) -> str:
    return ", ".join(f"{number(count)} {reason}" for reason, count in lane.refused.items() if count) or "0"


def _table(columns: Sequence[_Column], marks: Sequence[Finding | None], width: int) -> list[Text]:
    """Line up columns, leaving out the ones of the highest rank until the rest fits; a row's mark stands behind it."""
    mark_width = max((len(mark.word) + _GAP for mark in marks if mark is not None), default=0)
    kept = [column for column in columns if any(column.cells)]
    while sum(column.width + _GAP for column in kept) - _GAP + mark_width > width:
        least = max(kept, key=lambda column: column.rank)
        if not least.rank:
            break
        kept.remove(least)
    heading = Text(
        (" " * _GAP).join(_aligned(column, column.heading) for column in kept).rstrip(), style="bold reverse"
    )
    lines = [heading]
    for row, mark in enumerate(marks):
        line = Text((" " * _GAP).join(_aligned(column, column.cells[row]) for column in kept))
        if mark is not None:
            line.stylize(_STYLES[mark.severity].removeprefix("bold "))
            line.append(" " * _GAP)
            line.append(mark.word, style=_STYLES[mark.severity])
        else:
            line.rstrip()
        lines.append(line)
    return lines


def _aligned(column: _Column, text: str) -> str:
    return text.ljust(column.width) if column.left else text.rjust(column.width)
