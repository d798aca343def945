"""Crash marks: how a consumer of a ring ended, as far as it could tell its successor. Runs in: its process.

The mark is a field of the slot. Signals and C's ``exit()`` leave theirs by themselves, see ``process.h``.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final, NoReturn

from mpbroadcast.ring import _ring

__all__ = ["EXITED", "IN_HAND", "NOT_OPENED", "UNCAUGHT", "cause_of", "mark_exits"]

UNCAUGHT: Final = 255
"""An exception that nobody caught."""

NOT_OPENED: Final = 254
"""It ended while its handler was being opened: no event is to blame."""

EXITED: Final = _ring.MARK_EXIT
"""By ``os._exit()`` or C's ``exit()``."""

IN_HAND: Final = 252
"""In the middle of the handler's call, with no other mark: SIGKILL, from wherever it came, or C's ``_exit()``."""

_WORDS: Final = {
    0: "",
    UNCAUGHT: "failed with an exception",
    NOT_OPENED: "ended in its setup",
    EXITED: "ended by an exit in its handler",
    IN_HAND: "was killed, or ended itself, while it handled an event",
}


def cause_of(mark: int) -> str:
    """How a process ended that left this mark, in words; empty where it left none."""
    return _WORDS.get(mark, f"crashed by signal {mark}")


def mark_exits(ring: _ring.Segment, slot: int) -> None:
    """From now on ``os._exit()`` leaves a mark when this process calls it; in its children it does not.

    Who ends in order keeps the function as it was before.
    """
    pid, leave = os.getpid(), os._exit

    def leave_marked(status: int) -> NoReturn:
        if os.getpid() == pid:
            with contextlib.suppress(Exception):
                ring.slot_set(slot, "crash_mark", EXITED)
        leave(status)

    os._exit = leave_marked
