"""A queue on disk between a ring and a sink that is away: in order, bounded, surviving everything but the disk.

Runs in: the process of the sink, one at a time (a lock on the directory says which).

::

    PATH/00000000000000000001.log   records 1..., append only, a few MiB; deleted when all of it is done
    PATH/00000000000000004711.log
    PATH/done                       u64 head (all below it are done), then u64 each: done ahead of the head
    PATH/journal                    decisions under way (`journal`)
    PATH/lock

    record:  u32 length | u32 crc | u64 number | i64 Unix ns | u64 source | u64 sequence | u16 kind | payload

What a crash leaves half written at the end of a file is cut off when it is opened. ``done`` may lag behind: then
records come again, and the sink recognises them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections import deque
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.errors import SinkUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mpbroadcast.base.clock import Clock

__all__ = ["Spool", "SpoolFull", "Spooled"]

SEGMENT_BYTES: Final = 4 << 20
"""A file is deleted as a whole: this much stays at the most when everything in it but its last record is done."""

_HEAD: Final = struct.Struct("<IIQqQQH")
_U64: Final = struct.Struct("<Q")
_LARGEST: Final = 64 << 20  # of a record; larger lengths are damage
_DONE_BYTES: Final = 1 << 20  # of the file of what is done, before it is written anew
_ORIGINS: Final = 16384  # of the last records: more than one process has in its hands


class SpoolFull(SinkUnavailable):
    """There is no room: the disk is full, or the bound of the spool is reached. Nothing of it was kept."""


class Spooled(NamedTuple):
    """A record out of the spool.

    Attributes:
        number: its number in the spool.
        t_ns: when it was put there.
        kind: of the ring's record.
        payload: of the ring's record.
    """

    number: int
    t_ns: int
    kind: int
    payload: bytes


class _Segment:
    __slots__ = ("bytes", "first", "path")

    def __init__(self, path: Path, first: int, size: int) -> None:
        self.path = path
        self.first = first
        self.bytes = size


class Spool:
    """A directory with records. Not thread-safe.

    Args:
        path: of the directory, made with mode 0700; its parent must exist.
        max_bytes: of all records together.
        fsync: whether a batch is on the disk itself, safe from a power cut, when `append` returns.
        clock: for the age of records.

    Attributes:
        lost: how many records could not be read, because their file was damaged.
        last_at_open: number of the last record that was there when it was opened: it and those before it may have been
            under way in a process that died.

    Raises:
        SinkUnavailable: with one line: another process has it, or it cannot be read or written.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int, fsync: bool = True, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._clock = clock
        self._segments: list[_Segment] = []
        self._head = 1  # all below are done
        self._done: set[int] = set()
        self._new_done: list[int] = []
        self._next = 1
        self._cursor: Iterator[Spooled] | None = None
        self._read_to = 0
        self._origins: deque[tuple[int, int]] = deque(maxlen=_ORIGINS)
        self.lost = 0
        self._lock = self._out = self._done_fd = -1
        try:
            self._open()
        except OSError as error:
            self.close()
            raise SinkUnavailable(f"spool {self.path}: {error.strerror or error}") from None
        self.last_at_open = self._next - 1

    def __len__(self) -> int:
        """Give the number of records that are not done."""
        return self._next - self._head - len(self._done)

    @property
    def next_number(self) -> int:
        """The number that the next record will have."""
        return self._next

    @property
    def unread(self) -> bool:
        """Whether there are records that `read` has not given yet."""
        return self._read_to < self._next - 1

    def has(self, source: int, sequence: int) -> bool:
        """Say whether this record of a ring was here when the spool was opened: its process died between two steps."""
        return (source, sequence) in self._origins_set

    @cached_property
    def _origins_set(self) -> frozenset[tuple[int, int]]:
        return frozenset(self._origins)

    def append(self, records: Iterable[tuple[int, int, bytes]], source: int, *, as_read: bool = False) -> list[int]:
        """Put records behind all others. Blocks as long as the disk takes.

        Args:
            records: sequence number in the ring, kind, payload.
            source: a number for the ring.
            as_read: whether the caller has them and `read` need not give them; only while nothing is unread.

        Returns:
            Their numbers.

        Raises:
            SpoolFull: there is no room; none of them is here.
            SinkUnavailable: the directory cannot be written.
        """
        t_ns = self._clock.now_ns()
        numbers: list[int] = []
        parts = []
        for sequence, kind, payload in records:
            number = self._next + len(numbers)
            rest = _HEAD.pack(len(payload), 0, number, t_ns, source, sequence, kind)[8:] + payload
            parts.append(_HEAD.pack(len(payload), zlib.crc32(rest), number, t_ns, source, sequence, kind) + payload)
            numbers.append(number)
        if not numbers:
            return []
        data = b"".join(parts)
        if sum(segment.bytes for segment in self._segments) + len(data) > self._max_bytes:
            raise SpoolFull(f"spool {self.path}: it has reached its bound of {self._max_bytes} bytes")
        self._write(data)
        self._next += len(numbers)
        if as_read:
            self._read_to = self._next - 1
            self._cursor = None
        return numbers

    def read(self, most: int) -> list[Spooled]:
        """Give the next records in order, each once in the life of this object.

        Raises:
            SinkUnavailable: the directory cannot be read.
        """
        found: list[Spooled] = []
        try:
            while len(found) < most and self.unread:
                fresh = self._cursor is None
                if self._cursor is None:
                    self._cursor = self._records_after(self._read_to)
                record = next(self._cursor, None)
                if record is None:
                    self._cursor = None
                    if not fresh:
                        continue  # files that were begun since it was made are unknown to it
                    if not found:
                        self._skip_to(self._next)
                    break
                self._skip_to(record.number)
                self._read_to = record.number
                if record.number not in self._done:
                    found.append(record)
        except OSError as error:
            self._cursor = None
            raise SinkUnavailable(f"spool {self.path}: {error.strerror or error}") from None
        return found

    def _skip_to(self, number: int) -> None:
        """Count what a damaged file no longer holds as lost; the numbers would be waited for otherwise."""
        for missing in range(self._read_to + 1, number):
            if missing >= self._head and missing not in self._done:
                self.lost += 1
                self.done(missing)
        self._read_to = max(self._read_to, number - 1)

    def done(self, number: int) -> None:
        """Note that a record needs no more; written down by `flush`."""
        if number < self._head or number in self._done:
            return
        self._done.add(number)
        self._new_done.append(number)
        while self._head in self._done:
            self._done.remove(self._head)
            self._head += 1

    def flush(self) -> bool:
        """Write down what is done, and delete files that are not needed any more; False if that failed this time."""
        if not self._new_done:
            return True
        try:
            if len(self) == 0 or os.fstat(self._done_fd).st_size > _DONE_BYTES:
                self._rewrite_done()
            else:
                os.write(self._done_fd, b"".join(map(_U64.pack, self._new_done)))
            self._new_done.clear()
            self._delete_segments()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Write down what is done and let go of the directory. May be called more than once."""
        if self._done_fd >= 0:
            self.flush()
        for name in ("_out", "_done_fd", "_lock"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)
        self._cursor = None

    # Files

    def _open(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(0o700)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SinkUnavailable(f"spool {self.path}: another process uses it; give each sink its own") from None
        self._read_done()
        for path in sorted(self.path.glob("[0-9]*.log")):
            self._check_segment(path)
        self._next = max(self._next, self._head)
        self._read_to = self._head - 1
        self._delete_segments()

    def _read_done(self) -> None:
        self._done_fd = os.open(self.path / "done", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        data = os.pread(self._done_fd, os.fstat(self._done_fd).st_size, 0)
        whole = len(data) // _U64.size * _U64.size
        if whole != len(data):
            os.ftruncate(self._done_fd, whole)
        numbers = [number for (number,) in _U64.iter_unpack(data[:whole])]
        if not numbers:
            os.write(self._done_fd, _U64.pack(self._head))
            return
        self._head = max(numbers[0], 1)
        for number in numbers[1:]:
            self.done(number)
        self._new_done.clear()

    def _rewrite_done(self) -> None:
        """Begin the file anew; another file takes its place, so that a crash leaves one or the other."""
        fresh = self.path / "done.new"
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"".join(map(_U64.pack, [self._head, *sorted(self._done)])))
            fresh.replace(self.path / "done")
        except OSError:
            os.close(fd)
            raise
        os.close(self._done_fd)
        self._done_fd = fd

    def _check_segment(self, path: Path) -> None:
        """Read through a file once; what a crash left at its end is cut off."""
        end, first = 0, 0
        with path.open("rb") as file:
            for end_of_record, record, origin in _records(file.fileno()):
                end = end_of_record
                first = first or record.number
                self._next = max(self._next, record.number + 1)
                self._origins.append(origin)
        if path.stat().st_size > end:
            os.truncate(path, end)
        if end == 0:
            path.unlink()
        else:
            self._segments.append(_Segment(path, first, end))

    def _write(self, data: bytes) -> None:
        if self._out < 0 or self._segments[-1].bytes >= SEGMENT_BYTES:
            self._begin_segment()
        segment = self._segments[-1]
        try:
            written = 0
            while written < len(data):
                written += os.write(self._out, memoryview(data)[written:])
            if self._fsync:
                os.fdatasync(self._out)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._out, segment.bytes)
            raise SpoolFull(f"spool {self.path}: {error.strerror or error}") from None
        segment.bytes += len(data)

    def _begin_segment(self) -> None:
        path = self.path / f"{self._next:020d}.log"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolFull(f"spool {self.path}: {error.strerror or error}") from None
        if self._out >= 0:
            os.close(self._out)
        self._out = fd
        self._segments.append(_Segment(path, self._next, 0))

    def _delete_segments(self) -> None:
        while self._segments:
            last = len(self._segments) == 1
            end = self._next if last else self._segments[1].first
            if end > self._head:
                return
            segment = self._segments.pop(0)
            if last and self._out >= 0:
                os.close(self._out)
                self._out = -1
            segment.path.unlink(missing_ok=True)
            self._cursor = None

    def _records_after(self, number: int) -> Iterator[Spooled]:
        for segment, following in pairwise([*self._segments, None]):
            assert segment is not None
            if following is not None and following.first <= number + 1:
                continue
            with contextlib.suppress(FileNotFoundError), segment.path.open("rb") as file:
                for _, record, _ in _records(file.fileno()):
                    if record.number > number:
                        yield record


def _records(fd: int) -> Iterator[tuple[int, Spooled, tuple[int, int]]]:
    """Read a file from its beginning: the end of each record, the record, and where it came from."""
    at = 0
    while len(head := os.pread(fd, _HEAD.size, at)) == _HEAD.size:
        length, crc, number, t_ns, source, sequence, kind = _HEAD.unpack(head)
        if length > _LARGEST:
            return
        payload = os.pread(fd, length, at + _HEAD.size)
        if len(payload) < length or zlib.crc32(head[8:] + payload) != crc:
            return
        at += _HEAD.size + length
        yield at, Spooled(number, t_ns, kind, payload), (source, sequence)
