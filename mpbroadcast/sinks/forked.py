"""What a forked child does with the open files of a sink: it lets go of them at once. Runs in: every such child.

The spare of a sink's process is a fork of it, and takes its place when it dies. A lock on a log that the spare had
inherited would keep it from opening the log; and an SQLite connection that was carried across a fork makes SQLite
believe in locks that the child does not hold.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

__all__ = ["HoldsFiles", "let_go_in_children"]


class HoldsFiles(Protocol):
    """A sink with open files."""

    def let_go(self) -> None:
        """Close what was inherited across a fork, in the child, without touching what it means to the parent."""
        ...  # pragma: no cover


_holders: Final[weakref.WeakSet[HoldsFiles]] = weakref.WeakSet()


def let_go_in_children(sink: HoldsFiles) -> None:
    """From now on have each forked child call ``sink.let_go()`` before anything else. May be called more than once."""
    _holders.add(sink)


def _after_fork() -> None:
    for sink in list(_holders):
        sink.let_go()


os.register_at_fork(after_in_child=_after_fork)
