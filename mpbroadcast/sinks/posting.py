"""What sinks that post batches share: events gather in a transaction, and go out in one request at its end.

Runs in: the process of the sink. Who cannot keep a position with the events says 0: then what a process that died had
in its hands comes again (`mpbroadcast.sinks.base.BatchingSink`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpbroadcast.errors import SinkRejected, SinkUnavailable

if TYPE_CHECKING:
    from mpbroadcast.event.model import Event

__all__ = ["PostingSink"]


class PostingSink:
    """`BatchingSink` for the other end of a request. A mix-in; one thread at a time.

    A batch that is refused is posted again one event at a time, so that one bad event takes no other with it.
    """

    _gathered: list[Any] | None = None  # None: no transaction is open
    _singly = 0  # events to be posted by themselves, after a batch with them was refused

    def encode(self, event: Event) -> Any:
        """Turn an event into what `post` takes.

        Raises:
            SinkRejected: that cannot be done.
        """
        raise NotImplementedError

    def post(self, items: list[Any]) -> None:
        """Post what was encoded. Blocks.

        Raises:
            SinkRejected: the other side does not take it.
            SinkUnavailable: not now.
        """
        raise NotImplementedError

    def create(self, event: Event) -> Event:
        """Post an event, at once or at the end of the open transaction."""
        item = self.encode(event)
        if self._gathered is None:
            self.post([item])
        elif self._singly:
            self._singly -= 1
            try:
                self.post([item])
            except SinkUnavailable:
                self._singly += 1  # it comes again
                raise
        else:
            self._gathered.append(item)
        return event

    def patch(self, event: Event, patch: bytes) -> Event:  # noqa: ARG002 - the event says all
        """Post the event as it is now."""
        return self.create(event)

    def begin(self) -> None:
        """Open a transaction; what was gathered in one before is forgotten."""
        self._gathered = []

    def commit(self) -> None:
        """Post what was gathered.

        Raises:
            SinkUnavailable: nothing of it was taken, or nobody knows; it is to be written again.
            SinkRejected: the only event of it was refused.
        """
        gathered, self._gathered = self._gathered or [], None
        if not gathered:
            return
        try:
            self.post(gathered)
        except SinkRejected as error:
            if len(gathered) == 1:
                raise
            self._singly = len(gathered)
            raise SinkUnavailable(f"{error}; its {len(gathered)} events are posted one by one") from error

    def position(self, source: str) -> int:  # noqa: ARG002
        """Say that nothing is known."""
        return 0

    def set_position(self, source: str, sequence: int) -> None:
        """Forget it."""
