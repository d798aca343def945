"""The shared pages: orders to the stop points, and one page for each worker's life."""

from __future__ import annotations

import mmap
import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LIVES", "Control", "Life", "lives_file"]

LIVES = 40_000  # worker processes in one run at the most; their pages are a sparse file
_POINTS, _NAME = 64, 32
_ARMED, _SKIP, _IMMUNE, _FINISH, _KILLS = 0, 1, 2, 3, 4
_STOPS = _KILLS + _POINTS
_STOPPED = _STOPS + _POINTS
_NAMES_AT = 8 * (_STOPPED + 16)
_BYTES = _NAMES_AT + _POINTS * _NAME


class Control:
    """Orders of the tormentor; see ``stop_point.c``."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)
        self.cells = memoryview(self._map)[:_NAMES_AT].cast("Q")

    def name_points(self, sources: Path) -> list[str]:
        """Reads the names of the stop points out of the C, and writes them where the C looks them up."""
        found = {
            name
            for source in sorted(sources.glob("*.c"))
            for name in re.findall(r'STOP_POINT\("([^"]+)"\)', source.read_text())
        }
        names = sorted(found)
        for number, name in enumerate(names):
            struct.pack_into(f"{_NAME}s", self._map, _NAMES_AT + number * _NAME, name.encode())
        return names

    def arm(self, point: int, skip: int, *, kill: bool) -> None:
        self.cells[_SKIP] = skip
        self.cells[_ARMED] = 1 + point + (0 if kill else 256)

    def disarm(self) -> None:
        self.cells[_ARMED] = 0

    @property
    def armed(self) -> bool:
        return bool(self.cells[_ARMED])

    def make_immune(self, pid: int) -> None:
        self.cells[_IMMUNE] = pid

    @property
    def finishing(self) -> bool:
        return bool(self.cells[_FINISH])

    def finish(self) -> None:
        self.cells[_FINISH] = 1

    def counts(self, names: list[str]) -> dict[str, tuple[int, int]]:
        """Kills and stops at each point."""
        return {name: (self.cells[_KILLS + n], self.cells[_STOPS + n]) for n, name in enumerate(names)}

    def stopped(self) -> list[int]:
        """Takes the list of processes that stopped themselves at a point."""
        found = []
        for cell in range(_STOPPED, _STOPPED + 16):
            if pid := self.cells[cell]:
                self.cells[cell] = 0
                found.append(pid)
        return found


class Life:
    """The page of one worker process, written by it before and after each call; ``stops`` by the tormentor.

    Numbers start at 0: all below ``accepted`` were answered with True, ``attempted`` minus one is the one in doubt.
    """

    BYTES = 8192
    PID, ATTEMPTED, ACCEPTED, REFUSED, STOPS, BEAT, DONE = range(7)
    LONGEST, LONGEST_ON_CPU, GAVE_UP_CPU, LOST_CPU, OWN_STOPS, IDLE_LONGEST, START, FIRST = range(7, 15)
    CALLS_AT, ON_CPU_AT, IDLE_AT, BUCKETS = 64, 320, 576, 256

    def __init__(self, cells: memoryview, number: int) -> None:
        size = self.BYTES // 8
        self.number = number
        self.cells = cells[number * size : (number + 1) * size]

    @staticmethod
    def bucket(ns: int) -> int:
        """Logarithmic, eight to an octave, from 32 ns to a minute."""
        bits = max(6, ns.bit_length())
        return min(Life.BUCKETS - 1, (bits - 6) * 8 + (ns >> (bits - 4) & 7))

    @staticmethod
    def upper(bucket: int) -> float:
        """The largest duration of a bucket in nanoseconds."""
        octave, part = divmod(bucket, 8)
        return float((9 + part) << octave + 2)


def lives_file(path: Path) -> memoryview:
    """Maps all pages; makes the file when it is not there."""
    size = LIVES * Life.BYTES
    with path.open("a+b") as file:
        file.truncate(size)
        return memoryview(mmap.mmap(file.fileno(), size)).cast("Q")
