"""What becomes of locks in a forked child: whoever has one registers here and gets to renew it.

Runs in: any process. A lock that another thread held at the fork stays locked in the child for ever, for that thread
is not there. So each object with a lock replaces it in the child, before any other code runs there.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_in_child"]


class _Renewable(Protocol):
    def _renew_after_fork(self) -> None: ...


_registered: weakref.WeakSet[_Renewable] = weakref.WeakSet()


def renew_in_child(thing: _Renewable) -> None:
    """Call ``thing._renew_after_fork()`` in every child forked from now on, for as long as the object lives."""
    _registered.add(thing)


def _renew_all() -> None:
    for thing in list(_registered):
        thing._renew_after_fork()  # noqa: SLF001 - a method between this package and its own classes


os.register_at_fork(after_in_child=_renew_all)
