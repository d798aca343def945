"""The account: what was accepted according to the workers' pages, against what stands in a watcher's file."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from bench.chaos.control import Life
from bench.chaos.worker import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Latency", "Seen", "accepted", "check", "lines_of_handler", "lines_of_json", "rows_of_store", "timing"]


@dataclass
class Seen:
    """What one watcher got."""

    arrived: int = 0
    lost: int = 0
    repeated: int = 0
    garbage: int = 0
    disorder: int = 0
    doubtful: int = 0  # of those in doubt at a killed worker, the ones that did arrive
    examples: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if len(self.examples) < 5:
            self.examples.append(text)


def check(lives: list[Life], messages: Iterable[str]) -> Seen:
    """Counts every number of every life at one watcher."""
    seen, counts = Seen(), {life.number: bytearray(life.cells[Life.ATTEMPTED] + 1) for life in lives}
    highest = dict.fromkeys(counts, -1)
    for text in messages:
        found = parse(text)
        if found is None or found[0] not in counts or found[1] >= len(counts[found[0]]) - 1:
            seen.garbage += 1
            seen.note(f"garbage: {text[:80]!r}")
            continue
        life, number = found
        counts[life][number] = min(255, counts[life][number] + 1)
        if counts[life][number] == 1:
            seen.arrived += 1
            if number < highest[life]:
                seen.disorder += 1
                seen.note(f"order: {life}:{number} after {highest[life]}")
            highest[life] = max(highest[life], number)
    for life in lives:
        sure = life.cells[Life.ACCEPTED]
        lost = [number for number in range(sure) if not counts[life.number][number]]
        seen.lost += len(lost)
        for number in lost[:2]:
            seen.note(f"lost: {life.number}:{number} of {sure}")
        seen.repeated += sum(count - 1 for count in counts[life.number] if count > 1)
        seen.doubtful += sum(1 for count in counts[life.number][sure:] if count)
    return seen


def accepted(lives: list[Life]) -> int:
    return sum(life.cells[Life.ACCEPTED] for life in lives)


def lines_of_handler(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            yield line.rstrip("\n")


def lines_of_json(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for line in file:
            try:
                yield orjson.loads(line)["message"]
            except (ValueError, KeyError):
                yield "not JSON"


def rows_of_store(path: Path) -> Iterator[str]:
    """By plain SQL; a row that counts its event several times is handed out as often."""
    with sqlite3.connect(path) as connection:
        for (raw,) in connection.execute("SELECT object FROM event ORDER BY id"):
            event: dict[str, Any] = orjson.loads(raw)
            for _ in range(event.get("count") or 1):
                yield event["message"]


@dataclass
class Latency:
    """Durations in microseconds."""

    calls: int
    p50: float
    p99: float
    p999: float
    longest: float


def latency(lives: list[Life], at: int, longest: int) -> Latency:
    buckets = [0] * Life.BUCKETS
    for life in lives:
        for bucket, count in enumerate(life.cells[at : at + Life.BUCKETS].tolist()):
            buckets[bucket] += count
    total = sum(buckets)

    def quantile(share: float) -> float:
        wanted, running = share * total, 0
        for bucket, count in enumerate(buckets):
            running += count
            if running >= wanted and count:
                return Life.upper(bucket) / 1000
        return 0.0

    most = max((life.cells[longest] for life in lives), default=0)
    return Latency(total, quantile(0.5), quantile(0.99), quantile(0.999), most / 1000)


def timing(lives: list[Life]) -> dict[str, Any]:
    """How long calls took: all, those that kept their core, and the same measurement around nothing."""
    return {
        "calls": vars(latency(lives, Life.CALLS_AT, Life.LONGEST)),
        "on_cpu": vars(latency(lives, Life.ON_CPU_AT, Life.LONGEST_ON_CPU)),
        "idle": vars(latency(lives, Life.IDLE_AT, Life.IDLE_LONGEST)),
        "first_us": sorted(life.cells[Life.FIRST] / 1000 for life in lives if life.cells[Life.FIRST]),
        "gave_up_cpu": sum(life.cells[Life.GAVE_UP_CPU] for life in lives),
        "lost_cpu": sum(life.cells[Life.LOST_CPU] for life in lives),
        "stopped_in_call": sum(life.cells[Life.OWN_STOPS] for life in lives),
    }
