"""One event on its way into a sink: what to call next, and what a failure means (S3-S7). No input, no output.

Whoever does the calls, one after another or many at once, asks a `Write` what to call, calls it, and reports how it
went::

    write = Write(decision, policy, rng)
    create or patch as write.call says ──▶ stored: done
            ▲                          └─▶ error: write.failed(error)
            ├── Next.AT_ONCE ◀───────────────────┤   patch met nothing: create; name was taken: another one
            ├── Next.LATER, after write.pause ◀──┤   tried again
            └                    Next.SETTLED ◀──┘   write.outcome
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final

from mpbroadcast.correlator.decision import Create, Patch
from mpbroadcast.errors import NotFound, SinkRejected, SinkUnavailable
from mpbroadcast.event.names import event_name
from mpbroadcast.sinks.base import is_already_exists, is_namespace_terminating

if TYPE_CHECKING:
    from random import Random

    from mpbroadcast.event.model import Event
    from mpbroadcast.sinks.retry import RetryPolicy

__all__ = ["Call", "Next", "Outcome", "Verdict", "Write"]

_MOST_NAMES: Final = 5
"""How many names to try for one event. Each is one of a million; a sink that refuses five refuses all."""

_NAME_SPREAD_NS: Final = 1_000_000  # a new name says a time at most a millisecond later


class Call(StrEnum):
    """Which method of the sink to call."""

    CREATE = "create"
    PATCH = "patch"


class Next(Enum):
    """How to go on after a failure."""

    AT_ONCE = "at once"
    LATER = "later"
    SETTLED = "settled"


class Verdict(StrEnum):
    """What became of an event; every one is counted under one of these."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    GAVE_UP = "gave up"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event.

    Attributes:
        verdict: one word of it. ``STOPPED``: not written because the delivery was told to stop while it waited.
        why: more about it, one line: why it was skipped, the error of the sink.
        event: what the sink stored, where it told.
        call: what delivered it, if it was delivered now and by a call.
    """

    verdict: Verdict
    why: str = ""
    event: Event | None = None
    call: Call | None = None


class Write:
    """The state of one write. Not thread-safe.

    Args:
        decision: what the correlator said.
        policy: what to do about failures.
        rng: for pauses and for new names.
        repeated: whether this very event may have been written before, by a process that died: then a create that
            meets an event of its name has met itself.

    Attributes:
        call: what to call next.
        event: with which event.
        patch: with which patch, if it is a patch; never empty.
        failed_tries: how many tries failed.
        pause: seconds to wait before the next try.
        renamed_from: the event under its first name, after a name was taken; else None.
        outcome: what became of it, once it is settled.
        quiet: whether the last failure is an everyday one, not worth an error in the log (F5).
    """

    __slots__ = (
        "_maybe_written",
        "_names",
        "_patching",
        "_policy",
        "_rng",
        "call",
        "event",
        "failed_tries",
        "outcome",
        "patch",
        "pause",
        "quiet",
        "renamed_from",
    )

    def __init__(self, decision: Create | Patch, policy: RetryPolicy, rng: Random, *, repeated: bool = False) -> None:
        self._policy = policy
        self._rng = rng
        self._maybe_written = repeated
        self._names = 1
        self.event = decision.event
        self.patch = b"{}"
        self._patching = isinstance(decision, Patch)
        self.call = Call.CREATE
        if isinstance(decision, Patch):
            self.patch = decision.patch or self.patch
            self.call = Call.PATCH
        else:
            self._without_version()
        self.failed_tries = 0
        self.pause = 0.0
        self.renamed_from: Event | None = None
        self.outcome: Outcome | None = None
        self.quiet = False

    @property
    def is_exhausted(self) -> bool:
        """Whether it has had its tries and goes on only because nothing else could be written either."""
        return self._policy.is_exhausted(self.failed_tries)

    def failed(self, error: Exception) -> Next:
        """Say how to go on after the call raised an error."""
        self.quiet = False
        if isinstance(error, SinkRejected):
            return self._rejected(error)
        if isinstance(error, SinkUnavailable):
            if self._policy.client_go_table and error.code:
                return self._settle(Verdict.REJECTED, error)
            # Nobody knows whether a request without an answer was carried out.
            self._maybe_written = self._maybe_written or self.call is Call.CREATE
            return self._later(error, error.retry_after)
        # A sink of the user that lets its socket's errors through means the same by them.
        if self._policy.client_go_table or isinstance(error, (ConnectionError, TimeoutError)):
            return self._later(error)
        return self._settle(Verdict.REJECTED, error)

    def again(self) -> None:
        """Start over: the transaction that this was written in has been lost."""
        self.outcome = None
        self._begin_try()

    def give_up(self, why: str) -> Outcome:
        """End it: others succeed and this one never does."""
        self.outcome = Outcome(Verdict.GAVE_UP, why)
        return self.outcome

    def _rejected(self, error: SinkRejected) -> Next:
        if isinstance(error, NotFound) and self.call is Call.PATCH:
            self.call = Call.CREATE
            self._without_version()
            return Next.AT_ONCE
        if is_already_exists(error):
            return self._already_exists(error)
        self.quiet = is_namespace_terminating(error)
        return self._settle(Verdict.REJECTED, error)

    def _already_exists(self, error: SinkRejected) -> Next:
        # A series is there and yet it was not: somebody wrote its first event just now. The patch will find it.
        if self.event.series is not None:
            return self._later(error, outage=False)
        self.quiet = True
        if self._policy.client_go_table or self.call is Call.PATCH:
            return self._settle(Verdict.REJECTED, error)
        if self._patching:
            return self._later(error, outage=False)
        if self._maybe_written:
            self.outcome = Outcome(Verdict.DELIVERED, "it had been written by an earlier try")
            return Next.SETTLED
        if self._names >= _MOST_NAMES:
            self.quiet = False
            return self._settle(Verdict.REJECTED, error)
        self._rename()
        return Next.AT_ONCE

    def _rename(self) -> None:
        """Take another name: two processes recorded about one object in the same nanosecond (W23)."""
        self._names += 1
        if self.renamed_from is None:
            self.renamed_from = self.event
        t_ns = (self.event.first_timestamp or 0) + self._rng.randrange(1, _NAME_SPREAD_NS)
        self.event = self.event.replace(name=event_name(self.event.involved_object.name, t_ns))

    def _later(self, error: Exception, retry_after: float | None = None, *, outage: bool = True) -> Next:
        self.failed_tries += 1
        if self.is_exhausted and (self._policy.client_go_table or not outage):
            return self._settle(Verdict.GAVE_UP, error)
        self.pause = self._policy.pause(self.failed_tries, self._rng, retry_after)
        self._begin_try()
        return Next.LATER

    def _settle(self, verdict: Verdict, error: Exception) -> Next:
        text = str(error)
        # An error that is none of ours says little without its type.
        why = text if isinstance(error, (SinkRejected, SinkUnavailable)) and text else f"{type(error).__name__}: {text}"
        self.outcome = Outcome(verdict, why)
        return Next.SETTLED

    def _begin_try(self) -> None:
        self.call = Call.PATCH if self._patching else Call.CREATE

    def _without_version(self) -> None:
        """A create must not carry the version of an event that is gone (S4)."""
        if self.event.resource_version:
            self.event = self.event.replace(resource_version="")
