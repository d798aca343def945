"""What is wrong with a broadcaster, in words. Pure: a picture comes in, findings come out.

A person who looks for five seconds reads these and nothing else, so there are few words and each says one thing:
``LOSING`` events are being lost now; ``STUCK`` nothing moves; ``DOWN`` nobody works; ``BEHIND`` it does not keep up;
``FAILING`` the handler raises or the sink refuses; ``RESTARTED``, ``GONE`` a process died lately; ``LOST`` earlier.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from mpbroadcast.event.table import human_duration, visible
from mpbroadcast.stats import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpbroadcast.cli.sampling import Picture
    from mpbroadcast.stats import HelperStats, LaneStats, WatcherStats

__all__ = ["Finding", "Severity", "amount", "findings", "number", "seconds_text"]

STUCK_SECONDS: Final = 3.0
BEHIND_SECONDS: Final = 2.0  # of work that waits in a ring
BEHIND_FULL: Final = 0.25  # of a ring
FULL: Final = 0.9  # of a ring: the distributor may be waiting for room
RECENT_SECONDS: Final = 15.0  # for how long a death is news

_SINGLY: Final = 2  # processes about which the same is said, beyond which they share one line

_WHY: Final = {
    "lane_full": "its lane is full: the distributor does not keep up",
    "too_large": "larger than half a lane",
    "stopped": "recorded after shutdown",
    "no_lane": "no free lane: max_processes is reached",
    "invalid": "invalid",
}


class Severity(IntEnum):
    """How much it matters."""

    FINE = 0
    NOTE = 1
    BAD = 2


class Finding(NamedTuple):
    """One thing that a person should know.

    Attributes:
        severity: how much it matters.
        word: what it is, in capitals.
        who: ``watcher store``, ``worker-3``...
        text: the rest of the sentence.
        watcher: index of the watcher it is about, or -1.
        lane: index of the lane it is about, or -1.
        lanes: of all of them, where it is about several.
        rate: events a second that are refused.
        why: and for which reason.
    """

    severity: Severity
    word: str
    who: str
    text: str
    watcher: int = -1
    lane: int = -1
    lanes: frozenset[int] = frozenset()
    rate: float = 0.0
    why: str = ""


def number(value: float) -> str:
    """Write a number for people: with separators; small rates with one digit behind the point."""
    return f"{value:,.1f}" if 0 < value < 9.95 and value != int(value) else f"{value:,.0f}"


def amount(value: float, one: str, many: str = "") -> str:
    """Write how many of something there are, or a rate, with `number`: ``1 event``, ``2,000 events``."""
    shown = number(value)
    return f"{shown} {one if shown == '1' else many or one + 's'}"


def _per_second(rate: float) -> str:
    return amount(rate, "event/s is", "events/s are")


def seconds_text(seconds: float) -> str:
    """Write a duration as kubectl writes ages."""
    return human_duration(int(seconds * 1e9))


def findings(picture: Picture, *, ring_bytes: int = 0) -> list[Finding]:
    """Say what is wrong, the worst first; a single ``ALL WELL`` when nothing is.

    Args:
        picture: of the broadcaster.
        ring_bytes: the size of a watcher's ring; 0 when it is not known.
    """
    found = [
        *_application(picture),
        *_distributor(picture),
        *(finding for watcher in picture.stats.watchers for finding in _watcher(picture, watcher, ring_bytes)),
        *(
            finding
            for lane in picture.stats.lanes
            for finding in _lane(picture, lane, _in_the_way(picture, ring_bytes))
        ),
        *_nowhere(picture),
    ]
    known = {(finding.watcher, finding.lane) for finding in found if finding.word in {"LOSING", "FAILING"}}
    found = _fewer(found)
    found.sort(key=lambda finding: -finding.severity)
    found += [earlier for earlier in _earlier(picture) if (earlier.watcher, earlier.lane) not in known]
    return found or [Finding(Severity.FINE, "ALL WELL", "", "nothing is lost, every watcher keeps up")]


def _fewer(found: list[Finding]) -> list[Finding]:
    """Put processes that ended, or lose for the same reason, into one line: a pool is no list of news."""
    gone = [finding for finding in found if finding.word == "GONE" and finding.lane >= 0]
    if len(gone) > _SINGLY:
        found = [finding for finding in found if finding not in gone]
        found.append(Finding(Severity.NOTE, "GONE", f"{len(gone)} processes", "ended lately, see below"))
    for why in dict.fromkeys(finding.why for finding in found if finding.why):
        alike = [finding for finding in found if finding.why == why]
        if len(alike) > _SINGLY:
            rate = sum(finding.rate for finding in alike)
            lanes = frozenset(finding.lane for finding in alike)
            text = f"{_per_second(rate)} refused: {why}"
            found = [finding for finding in found if finding not in alike]
            found.append(Finding(Severity.BAD, "LOSING", f"{len(alike)} processes", text, lanes=lanes))
    return found


def _application(picture: Picture) -> Iterator[Finding]:
    stats = picture.stats
    if stats.state == "drained":
        yield Finding(Severity.NOTE, "ENDED", "the broadcaster", "was shut down; these are its last numbers")
    elif not stats.owner_alive:
        yield Finding(
            Severity.NOTE, "GONE", "the application", "ended without shutdown(); its last events are being delivered"
        )
    elif stats.state == "draining":
        yield Finding(
            Severity.NOTE, "DRAINING", "the broadcaster", "is shutting down: what was recorded is being delivered"
        )


def _helper(picture: Picture, who: str, helper: HelperStats, index: int) -> Iterator[Finding]:
    """What is wrong with a helper's processes."""
    use = picture.uses.get(helper.pid)
    key = ("distributor restarted", 0) if index < 0 else ("watcher restarted", index)
    since = picture.events.get(key, RECENT_SECONDS)
    if helper.pid in picture.dead:
        yield Finding(Severity.BAD, "DOWN", who, f"process {helper.pid} is gone, and nobody has taken over", index)
    elif use is not None and use.state in "Tt":
        yield Finding(Severity.BAD, "STOPPED", who, f"process {helper.pid} is stopped (SIGSTOP or a debugger)", index)
    elif since < RECENT_SECONDS:
        times = amount(helper.restarts, "time")
        text = f"its process died {seconds_text(since)} ago, the spare took over ({times} so far)"
        yield Finding(Severity.NOTE, "RESTARTED", who, text, index)
    elif helper.pid and not helper.spare_pid and helper.pid != picture.stats.owner_pid:
        yield Finding(Severity.NOTE, "NO SPARE", who, f"nobody takes over when process {helper.pid} dies", index)


def _distributor(picture: Picture) -> Iterator[Finding]:
    stats = picture.stats
    if stats.state == "drained":
        return
    yield from _helper(picture, "the distributor", stats.distributor, -1)
    if picture.waiting_since.get(-1, 0.0) >= STUCK_SECONDS:
        since = seconds_text(picture.waiting_since[-1])
        text = f"{amount(stats.backlog, 'event waits', 'events wait')} in lanes and none has moved for {since}"
        yield Finding(Severity.BAD, "STUCK", "the distributor", text)


def _watcher(picture: Picture, watcher: WatcherStats, ring_bytes: int) -> Iterator[Finding]:
    if watcher.state == "ended":
        return
    who, before, index = f"watcher {visible(watcher.name)}", picture.watcher_before(watcher), watcher.index
    trouble = list(_helper(picture, who, watcher.helper, index)) if watcher.managed else []
    yield from trouble
    rate = picture.rate(watcher.settled, None if before is None else before.settled)
    dropping = picture.rate(watcher.dropped, None if before is None else before.dropped)
    why = _tries(picture, watcher)
    if dropping:
        speed = "" if rate is None else f", it handles {number(rate)}/s"
        text = f"{_per_second(dropping)} dropped: its ring is full{speed}{why}"
        yield Finding(Severity.BAD, "LOSING", who, text, index)
    failing = picture.rate(
        watcher.failed + watcher.given_up, None if before is None else before.failed + before.given_up
    )
    if failing:
        yield Finding(
            Severity.BAD,
            "FAILING",
            who,
            f"{amount(failing, 'event/s fails', 'events/s fail')} in its handler or sink",
            index,
        )
    idle = picture.waiting_since.get(index, 0.0)
    if watcher.backlog and idle >= STUCK_SECONDS:
        text = f"{amount(watcher.backlog, 'event waits', 'events wait')} and none was handled for {seconds_text(idle)}"
        yield Finding(Severity.BAD, "STUCK", who, text if dropping else text + why, index)
    elif watcher.backlog and not trouble and not dropping:
        yield from _behind(picture, watcher, ring_bytes)


def _tries(picture: Picture, watcher: WatcherStats) -> str:
    """Say that a sink cannot write, which is why nothing moves."""
    before = picture.watcher_before(watcher)
    retries = watcher.counts.get("retries", 0)
    failing = picture.rate(retries, None if before is None else before.counts.get("retries", 0))
    if failing:
        return f"; its sink cannot write, {amount(failing, 'try/s fails', 'tries/s fail')} (the log says why)"
    if retries and not watcher.handled:
        return f"; its sink could not write yet, {amount(retries, 'try has', 'tries have')} failed (the log says why)"
    return ""


def _behind(picture: Picture, watcher: WatcherStats, ring_bytes: int) -> Iterator[Finding]:
    before = picture.watcher_before(watcher)
    rate = picture.rate(watcher.settled, None if before is None else before.settled)
    still = before is not None and not rate and before.backlog  # no handler takes so long for every event
    full = watcher.backlog_bytes / ring_bytes if ring_bytes else 0.0
    left = watcher.backlog / rate if rate else 0.0
    if full < BEHIND_FULL and left < BEHIND_SECONDS and not still:
        return
    speed = f", {seconds_text(left)} of work at {number(rate)}/s" if rate else ""
    if still:
        speed = f", none was handled for {picture.seconds:.1f}s"
    room = f"; its ring is {full:.0%} full" if ring_bytes else ""
    text = f"{amount(watcher.backlog, 'event waits', 'events wait')}{speed}{room}{_tries(picture, watcher)}"
    who = f"watcher {visible(watcher.name)}"
    yield Finding(Severity.NOTE if full < 0.75 else Severity.BAD, "BEHIND", who, text, watcher.index)


def _in_the_way(picture: Picture, ring_bytes: int) -> str:
    """Say for which watcher the distributor waits, where the policy is to wait: then nothing is dropped at its ring."""
    for watcher in picture.stats.watchers:
        if watcher.state != "ended" and ring_bytes and watcher.backlog_bytes >= FULL * ring_bytes:
            before = picture.watcher_before(watcher)
            if before is not None and before.dropped == watcher.dropped:
                return f"its lane is full, as the distributor waits for watcher {visible(watcher.name)}"
    return ""


def _lane(picture: Picture, lane: LaneStats, waits: str) -> Iterator[Finding]:
    who = f"process {visible(lane.name) or lane.pid}"
    earlier = next((old for old in (picture.before.lanes if picture.before else ()) if old.index == lane.index), None)
    for reason, count in lane.refused.items():
        rate = picture.rate(count, None if earlier is None else earlier.refused[reason])
        if rate:
            why = waits if waits and reason == "lane_full" else _WHY.get(reason, reason)
            text = f"{_per_second(rate)} refused: {why}"
            yield Finding(Severity.BAD, "LOSING", who, text, lane=lane.index, rate=rate, why=why)
    since = picture.events.get(("process gone", lane.index), RECENT_SECONDS)
    if not lane.alive and (since < RECENT_SECONDS or lane.backlog) and picture.stats.state != "drained":
        when = f" {seconds_text(since)} ago" if since < RECENT_SECONDS else ""
        rest = (
            f"{number(lane.backlog)} of its events still wait"
            if lane.backlog
            else "everything it recorded was forwarded"
        )
        yield Finding(Severity.NOTE, "GONE", f"{who} ({lane.pid})", f"ended{when}; {rest}", lane=lane.index)


def _nowhere(picture: Picture) -> Iterator[Finding]:
    before = None if picture.before is None else picture.before.refused_without_lane
    for reason, count in picture.stats.refused_without_lane.items():
        rate = picture.rate(count, None if before is None else before.get(reason, 0))
        if rate:
            yield Finding(
                Severity.BAD,
                "LOSING",
                "processes without a lane",
                f"{_per_second(rate)} refused: {_WHY.get(reason, reason)}",
            )


def _earlier(picture: Picture) -> Iterator[Finding]:
    """What was lost at any time, one line for each who."""
    stats = picture.stats
    for watcher in stats.watchers:
        parts = [
            f"{number(count)} {what}"
            for what, count in (
                ("dropped (ring full)", watcher.dropped),
                ("failed", watcher.failed),
                ("given up", watcher.given_up),
                ("corrupt", watcher.lost),
                ("lost on disk", watcher.counts.get("spool_lost", 0)),
            )
            if count
        ]
        if parts:
            yield Finding(
                Severity.NOTE, "LOST", f"watcher {visible(watcher.name)}", "so far: " + ", ".join(parts), watcher.index
            )
    for lane in stats.lanes:
        parts = [
            f"{number(count)} {reason}" for reason, count in (*lane.refused.items(), ("corrupt", lane.lost)) if count
        ]
        if parts:
            who = f"process {visible(lane.name) or lane.pid}"
            yield Finding(Severity.NOTE, "LOST", who, "so far: " + ", ".join(parts), lane=lane.index)
    parts = [f"{number(count)} {reason}" for reason, count in stats.refused_without_lane.items() if count]
    if parts:
        yield Finding(Severity.NOTE, "LOST", "processes without a lane", "so far: " + ", ".join(parts))
    ended = sum(events for _, owner, events in stats.losses() if owner == ENDED)
    if ended:
        yield Finding(Severity.NOTE, "LOST", ENDED, f"so far: {amount(ended, 'event')}")
