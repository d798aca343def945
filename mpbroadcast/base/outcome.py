"""What became of a record in a watcher ring: the words that handlers and rings share.

Runs in: every process. Handlers stand above the ring and must not import it; the numbers are the ring's own.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Settled"]


class Settled(IntEnum):
    """How a record was settled; each is counted under one of these, once.

    Attributes:
        HANDLED: the handler has done with it what it does.
        FAILED: the handler raised, the sink refused, or it could not be decoded.
        GIVEN_UP: it was tried until its tries were used up.
        FILTERED: it was not meant for this handler.
    """

    HANDLED = 1
    FAILED = 2
    GIVEN_UP = 3
    FILTERED = 4
