"""Log lines of which there could be very many: one for each kind and minute.

Runs in: any process, one thread at a time.

Each line tells how many of its kind there were since the last one, so that nothing goes unsaid and no log is flooded.
`Notices` counts in its process; `Said` keeps count in memory that a process shares with its later forks, so that a
successor goes on counting where its predecessor was killed.
"""

from __future__ import annotations

import logging
import mmap
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["EVERY_SECONDS", "Notices", "Said"]

EVERY_SECONDS: Final = 60.0
"""Between two lines of one kind."""

_MOST_KINDS: Final = 256
"""How many kinds are told apart: status codes times sentences, and then some. Those beyond it count as one."""


@dataclass(slots=True)
class _Kind:
    at: float = float("-inf")
    unsaid: int = 0
    line: tuple[int, str, tuple[object, ...]] = (logging.ERROR, "", ())


class Notices:
    """Says the first of a kind at once, counts those that follow, and says after a minute how many there were.

    Never blocks, but for what the logger's handlers do. Its memory is bounded, whatever the kinds are.

    Args:
        logger: where to.
        seconds: between two lines of a kind; 0 says everything.
        clock: seconds that only grow.

    Attributes:
        unsaid: whether something was counted and not said; then `flush` is to be called now and then.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        seconds: float = EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._seconds = seconds
        self._clock = clock
        self._kinds: dict[Hashable, _Kind] = {}
        self.unsaid = False

    def say(
        self,
        kind: Hashable,
        text: str,
        *args: object,
        level: int = logging.ERROR,
        error: BaseException | None = None,
        at_once: bool = False,
    ) -> None:
        """Say one more of a kind, or count it.

        Args:
            kind: what is said once a minute.
            text: of the line, with ``%`` for ``args`` as in ``logging``; of those that are only counted, that of the
                last one is said later.
            args: for ``text``.
            level: of the line.
            error: whose traceback goes with the line, if it is said now.
            at_once: says it now in any case.
        """
        found = self._kinds.get(kind)
        if found is None:
            if len(self._kinds) >= _MOST_KINDS:
                kind = None
            found = self._kinds.setdefault(kind, _Kind())
        found.unsaid += 1
        found.line = (level, text, args)
        now = self._clock()
        if at_once or now - found.at >= self._seconds:
            self._emit(found, now, error, alone=at_once)
        else:
            self.unsaid = True

    def flush(self, *, final: bool = False) -> None:
        """Say what was counted and whose minute is over; ``final``: everything that was."""
        if not self.unsaid:
            return
        now = self._clock()
        self.unsaid = False
        for found in self._kinds.values():
            if not found.unsaid:
                continue
            if final or now - found.at >= self._seconds:
                self._emit(found, now)
            else:
                self.unsaid = True

    def _emit(self, found: _Kind, now: float, error: BaseException | None = None, *, alone: bool = False) -> None:
        level, text, args = found.line
        again = found.at > float("-inf") and self._seconds and not alone
        if found.unsaid > 1 or again:
            text, args = text + " (%d like this since the last line)", (*args, found.unsaid)
        found.at, found.unsaid = now, 0
        self._logger.log(level, text, *args, exc_info=error)


class Said:
    """How many of some kinds there were, how many of them were said, and when; in memory that later forks share.

    One process at a time says things; whoever follows it goes on. Never blocks. Pickled, it begins anew.

    Args:
        kinds: how many; they are numbers from 0.
    """

    _CELL: Final = struct.Struct("=Qqqd")  # generation, total, said, when
    _NEVER: Final = 0.0  # CLOCK_MONOTONIC: a boot ago

    def __init__(self, kinds: int) -> None:
        self._memory = mmap.mmap(-1, max(1, kinds) * self._CELL.size)
        self._kinds = kinds

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._kinds,)

    def add(self, kind: int, n: int = 1) -> None:
        """Count some more of a kind."""
        generation, total, said, at = self._read(kind)
        self._write(kind, generation, total + n, said, at)

    def set(self, kind: int, total: int, generation: int = 0) -> None:
        """Note how many of a kind there are in all; in another generation it begins anew."""
        before, _, said, at = self._read(kind)
        if before != generation:
            said, at = 0, self._NEVER
        self._write(kind, generation, total, said, at)

    def due(self, kind: int, *, final: bool = False) -> int:
        """Tell how many of a kind are to be said now, and take them as said.

        Args:
            kind: of what.
            final: also within the minute after the last time.
        """
        generation, total, said, at = self._read(kind)
        now = time.monotonic()
        if total <= said or not (final or at == self._NEVER or now - at >= EVERY_SECONDS):
            return 0
        self._write(kind, generation, total, total, now)
        return total - said

    def _read(self, kind: int) -> tuple[int, int, int, float]:
        generation, total, said, at = self._CELL.unpack_from(self._memory, kind * self._CELL.size)
        return generation, total, said, at

    def _write(self, kind: int, generation: int, total: int, said: int, at: float) -> None:
        self._CELL.pack_into(self._memory, kind * self._CELL.size, generation, total, said, at)
