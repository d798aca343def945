"""When the series of a `SeriesCorrelator` are written: refresh and finish rounds (E1, E10, E11). Starts no timer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpbroadcast.correlator.series import FINISH_SECONDS, REFRESH_SECONDS
from mpbroadcast.sinks.write import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpbroadcast.base.clock import Clock
    from mpbroadcast.correlator.decision import Patch
    from mpbroadcast.correlator.series import SeriesCorrelator
    from mpbroadcast.sinks.write import Outcome

__all__ = ["SeriesRounds"]

_SECOND: Final = 1_000_000_000


class SeriesRounds:
    """Runs the rounds that are due, when it is asked to. Both are due at once at the start, as in client-go (E1).

    Args:
        correlator: whose series.
        clock: what is due.
        refresh_seconds: from the end of one refresh round to the next.
        finish_seconds: from the end of one finish round to the next.
    """

    def __init__(
        self,
        correlator: SeriesCorrelator,
        clock: Clock,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
        finish_seconds: float = FINISH_SECONDS,
    ) -> None:
        self._correlator = correlator
        self._clock = clock
        self._refresh_ns = int(refresh_seconds * _SECOND)
        self._finish_ns = int(finish_seconds * _SECOND)
        self._refresh_at = self._finish_at = clock.now_ns()

    def run_due(self, write: Callable[[Patch], Outcome | None]) -> float:
        """Run what is due.

        Args:
            write: makes one try; None means that it is to be made again.

        Returns:
            Seconds until the next round is due.
        """
        now_ns = self._clock.now_ns()
        if now_ns >= self._refresh_at:
            self.refresh(write)
            self._refresh_at = self._clock.now_ns() + self._refresh_ns
        if now_ns >= self._finish_at:
            self.finish(write)
            self._finish_at = self._clock.now_ns() + self._finish_ns
        return max(0, min(self._refresh_at, self._finish_at) - self._clock.now_ns()) / _SECOND

    def refresh(self, write: Callable[[Patch], Outcome | None]) -> None:
        """Write every series as it is now; a failure changes nothing (E10)."""
        for patch in self._correlator.refresh():
            outcome = write(patch)
            if outcome is not None and outcome.event is not None:
                self._correlator.refreshed(patch, outcome.event)

    def finish(self, write: Callable[[Patch], Outcome | None]) -> None:
        """Write and forget the series that have ended; what is to be tried again stays for the next round (E11)."""
        for patch in self._correlator.finish():
            outcome = write(patch)
            if outcome is not None and outcome.verdict is not Verdict.GAVE_UP:
                self._correlator.finished(patch)
