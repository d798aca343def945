"""The spool at work: what goes to disk while the sink is away, and comes back. Runs in: the loop's thread of a sink.

Joins the `spool` (records) with a `journal` beside it (decisions under way about them), and says once what is wrong.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from mpbroadcast.base.goquote import go_quote
from mpbroadcast.base.text import counted
from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.sinks.journal import Journal
from mpbroadcast.sinks.spool import Spool, Spooled, SpoolFull

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpbroadcast.sinks.handler import Record

__all__ = ["Overflow"]

_SECOND: Final = 1_000_000_000

_log: Final = logging.getLogger("mpbroadcast.sink")


class Overflow:
    """The events of one sink that wait on disk. Not thread-safe; blocks as long as the disk takes.

    Args:
        path: of the spool's directory.
        max_bytes: of its records.
        max_seconds: after which a record is not worth delivering any more.
        origin: a number for the ring that its records come from.
        add: counts under ``spooled`` and ``spool_lost``.

    Attributes:
        is_full: whether the last attempt to put something there failed.

    Raises:
        SinkUnavailable: with one line: the directory cannot be used.
    """

    def __init__(
        self, path: str, *, max_bytes: int, max_seconds: float, origin: int, add: Callable[[str, int], None]
    ) -> None:
        self._spool = Spool(path, max_bytes=max_bytes)
        try:
            self._journal = Journal(self._spool.path / "journal")
        except OSError as error:
            self._spool.close()
            raise SinkUnavailable(f"spool {path}: {error.strerror or error}") from None
        self._max_ns = int(max_seconds * _SECOND)
        self._origin = origin
        self._add = add
        self._unflushed: list[int] = []
        self.is_full = False

    def __len__(self) -> int:
        """Give the number of records that are not done."""
        return len(self._spool)

    @property
    def unread(self) -> bool:
        """Whether `read` has more to give."""
        return self._spool.unread

    def notes(self) -> dict[int, bytes]:
        """What a process that died had decided, by the number of its record here."""
        notes = self._journal.notes()
        for number in [number for number in notes if number > self._spool.last_at_open]:
            self._journal.settle(number)  # it died before the record was here; another one will have that number
            del notes[number]
        return notes

    def note(self, number: int, payload: bytes) -> None:
        """Note a decision about a record."""
        self._journal.note(number, payload)

    def holds(self, sequence: int) -> bool:
        """Say whether a record of the ring is here, put by a process that died before it settled it."""
        return bool(self._spool.last_at_open) and self._spool.has(self._origin, sequence)

    def put(self, records: Sequence[Record], notes: Mapping[int, bytes], *, as_read: bool = False) -> list[int] | None:
        """Put records behind all others; None if they cannot be kept, which is said once.

        Args:
            records: as they are in the ring.
            notes: decisions about some of them, by sequence number.
            as_read: `read` need not give them; only while nothing is unread.

        Returns:
            Their numbers here.
        """
        # First the notes: a record without its note, left by a kill in between, would be decided about anew.
        noted = []
        for number, (sequence, _, _) in enumerate(records, self._spool.next_number):
            if sequence in notes:
                self._journal.note(number, notes[sequence])
                noted.append(number)
        try:
            numbers = self._spool.append(records, self._origin, as_read=as_read)
        except SinkUnavailable as error:
            for number in noted:
                self._journal.settle(number)
            self._say(error)
            return None
        self.is_full = False
        self._add("spooled", len(numbers))
        return numbers

    def read(self, most: int) -> list[tuple[Spooled, bool]]:
        """Give the next records, and whether a process that died may have had them; old ones are lost and counted."""
        try:
            records = self._spool.read(most)
        except SinkUnavailable as error:
            self._say(error)
            return []
        if self._spool.lost:
            lost = counted(self._spool.lost, "record was damaged and is", "records were damaged and are")
            _log.error("spool %s: %s lost", self._spool.path, lost)
            self._add("spool_lost", self._spool.lost)
            self._spool.lost = 0
        oldest = time.time_ns() - self._max_ns
        old = [record for record in records if record.t_ns < oldest]
        for record in old:
            self._spool.done(record.number)
        if old:
            lost = counted(
                len(old), "event was too old to be delivered and is", "events were too old to be delivered and are"
            )
            _log.error("spool %s: %s lost", self._spool.path, lost)
            self._add("spool_lost", len(old))
        last = self._spool.last_at_open
        return [(record, record.number <= last) for record in records if record.t_ns >= oldest]

    def done(self, number: int) -> None:
        """A record needs no more."""
        self._spool.done(number)
        self._unflushed.append(number)

    def flush(self) -> None:
        """Write down what is done. Until then it may come again, so its notes are kept until then."""
        if self._spool.flush():
            for number in self._unflushed:
                self._journal.settle(number)
            self._unflushed.clear()

    def close(self) -> None:
        """Write down what is done and let go of the directory."""
        self.flush()
        self._spool.close()
        self._journal.close()

    def _say(self, error: SinkUnavailable) -> None:
        if not self.is_full:
            what = "The spool is full" if isinstance(error, SpoolFull) else "The spool cannot be used"
            _log.error("%s; new events wait in the ring as long as it has room: err=%s", what, go_quote(str(error)))
        self.is_full = True
