"""The token bucket (T1-T5), pure: tokens that come back at a steady rate. Runs in: every process.

The arithmetic is that of Go's ``golang.org/x/time/rate`` to the last bit, because the instant at which a token is
there again can be seen from outside: a 64-bit float of tokens, elapsed time as whole seconds and a rest, and waiting
times cut to whole nanoseconds.
"""

from __future__ import annotations

__all__ = ["TokenBucket"]

_SECOND = 1_000_000_000


class TokenBucket:
    """Tokens that come back at a steady rate. Not thread-safe; it has no clock, each call is told the time.

    Args:
        rate: tokens per second; at or below 0 none ever come back.
        burst: how many tokens there are at the start, and at most (T1, T5). Below 1 nothing is ever accepted.
        now_ns: the time of the start, in nanoseconds of whatever clock the later calls use.
    """

    __slots__ = ("_burst", "_last_ns", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now_ns: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._last_ns = now_ns

    @property
    def rate(self) -> float:
        """Tokens per second, as given."""
        return self._rate

    def tokens_at(self, now_ns: int) -> float:
        """Return the tokens at a time, never more than the burst; a clock that went back counts as standing (T2)."""
        elapsed = now_ns - self._last_ns
        if elapsed <= 0 or self._rate <= 0:
            return self._tokens
        # Whole seconds and the rest apart, as Go's Duration.Seconds does: the sum is rounded once.
        seconds = elapsed // _SECOND + (elapsed % _SECOND) / 1e9
        return min(self._tokens + seconds * self._rate, float(self._burst))

    def try_accept(self, now_ns: int) -> bool:
        """Take one token if there is one (T3); a refusal changes nothing, not even the time of the last use."""
        tokens = self.tokens_at(now_ns) - 1.0
        # Go takes the token when waiting for the missing part of it would last under a nanosecond.
        if self._burst < 1 or (tokens < 0 and (self._rate <= 0 or -tokens / self._rate * 1e9 >= 1)):
            return False
        self._tokens = tokens
        self._last_ns = now_ns
        return True

    def reserve(self, now_ns: int, max_wait_ns: int | None = None) -> int | None:
        """Take one token now or in advance (T4): the bucket may go into debt, which the rate then pays back.

        Args:
            now_ns: the time.
            max_wait_ns: the longest wait the caller would accept; None for any. A longer one changes nothing.

        Returns:
            Nanoseconds until the token is there, 0 when it is there already. None when it never will be (a burst
            below 1, or a debt at a rate of 0) or when that would take longer than ``max_wait_ns``.
        """
        if self._burst < 1:
            return None
        tokens = self.tokens_at(now_ns) - 1.0
        wait_ns: int | None = 0
        if tokens < 0:
            wait_ns = int(-tokens / self._rate * 1e9) if self._rate > 0 else None
        if max_wait_ns is not None and (wait_ns is None or wait_ns > max_wait_ns):
            return None
        # As in Go, a token that never comes is owed all the same.
        self._tokens = tokens
        self._last_ns = now_ns
        return wait_ns
