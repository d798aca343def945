"""When a failed write is tried again, how long to wait, and when it is over: `RetryPolicy`. Pure.

Two tables. The default one retries what can come back: no connection, 429 and 5xx, for as long as it takes. The one
of client-go (spec 2.4) is there to be compared with: there every answer of the server is final, also "too many
requests", and an event is lost after 12 tries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from random import Random

__all__ = ["CLIENT_GO_TRIES", "RetryPolicy"]

CLIENT_GO_TRIES: Final = 12
"""Tries for one event in client-go (spec 0.3)."""

_CLIENT_GO_SLEEP: Final = 10.0  # seconds between two tries in client-go (spec 0.3)
_LARGEST_EXPONENT: Final = 63  # a float power of more than 1023 doublings would overflow after hours of failing


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How a delivery goes on after a failed try. Immutable and picklable.

    The pause after try *n* is ``base_seconds * factor ** (n - 1)``, at most ``cap_seconds``, and up to ``jitter`` of
    it longer, so that many clients do not come back at once; never shorter than the other side asked for.

    Attributes:
        base_seconds: the first pause.
        cap_seconds: the longest pause, before jitter.
        factor: how much longer each pause is than the one before.
        jitter: the largest random part on top of a pause, as a share of it.
        give_up_after: tries after which an event is given up *while others succeed*; None for never. As long as
            nothing can be written at all, nobody is given up.
        client_go_table: client-go's error table instead: answers with a status code are final, errors that are no
            sink error at all are retried, and every event is given up after ``give_up_after`` tries.
        first_pause_from_zero: the first pause is anything between 0 and ``base_seconds``, as in ``tools/record``.

    Raises:
        ValueError: a number is out of range.
    """

    base_seconds: float = 0.5
    cap_seconds: float = 30.0
    factor: float = 2.0
    jitter: float = 0.25
    give_up_after: int | None = CLIENT_GO_TRIES
    client_go_table: bool = False
    first_pause_from_zero: bool = False

    def __post_init__(self) -> None:
        for name, least in (("base_seconds", 0.0), ("cap_seconds", 0.0), ("factor", 1.0), ("jitter", 0.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
                raise ValueError(f"{name} must be a number of at least {least:g}, not {value!r}")
        tries: object = self.give_up_after
        if tries is not None and (isinstance(tries, bool) or not isinstance(tries, int) or tries < 1):
            raise ValueError(f"give_up_after must be a whole number of at least 1, or None, not {tries!r}")
        if self.client_go_table and tries is None:
            raise ValueError("give_up_after must be a number with client_go_table: client-go always gives up")

    @classmethod
    def client_go(cls, sleep_seconds: float = _CLIENT_GO_SLEEP) -> Self:
        """Return the table of ``tools/record``: 12 tries, the first pause below 10 seconds, the others 10 seconds.

        Args:
            sleep_seconds: the pause, as in ``WithSleepDuration``.
        """
        return cls(
            base_seconds=sleep_seconds,
            cap_seconds=sleep_seconds,
            factor=1.0,
            jitter=0.0,
            client_go_table=True,
            first_pause_from_zero=True,
        )

    @classmethod
    def client_go_events(cls, sleep_seconds: float = _CLIENT_GO_SLEEP) -> Self:
        """Return the table of ``tools/events``: 12 tries, each pause 10 to 12.5 seconds."""
        return cls(
            base_seconds=sleep_seconds,
            cap_seconds=sleep_seconds,
            factor=1.0,
            jitter=0.25,
            client_go_table=True,
        )

    def pause(self, failed_tries: int, rng: Random, retry_after: float | None = None) -> float:
        """Return the seconds to wait before the next try.

        Args:
            failed_tries: how many tries have failed, at least 1.
            rng: where chance comes from.
            retry_after: what the other side asked for; never waited shorter than that.
        """
        if self.first_pause_from_zero and failed_tries == 1:
            return rng.random() * self.base_seconds
        exponent = min(failed_tries - 1, _LARGEST_EXPONENT)
        pause = min(self.base_seconds * self.factor**exponent, self.cap_seconds)
        pause += pause * self.jitter * rng.random()
        return pause if retry_after is None else max(pause, retry_after)

    def is_exhausted(self, failed_tries: int) -> bool:
        """Say whether an event has had its tries; with client-go's table it is given up then."""
        return self.give_up_after is not None and failed_tries >= self.give_up_after
