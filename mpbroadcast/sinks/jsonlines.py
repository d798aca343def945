"""`JSONLinesSink`: a log file with one event in each line. Runs in: the process of the sink.

A line is a core/v1 object as JSON, followed by a line break; it is appended in one piece. A process that is killed in
the middle of that, or a disk that is full, leaves a torn last line: it is cut off again, at once or when the file is
opened next. So every line of the file is one whole event, whatever dies. (A last line that is whole but for its line
break gets one; one that no sink of this kind has begun is left as it is, and only ended.)

A log does not change what it has written: a patch writes the whole event again, and of several lines with one namespace
and name the last one holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import orjson

from mpbroadcast.errors import SinkRejected, SinkUnavailable, StoreError
from mpbroadcast.sinks.forked import let_go_in_children

if TYPE_CHECKING:
    from mpbroadcast.event.model import Event

__all__ = ["JSONLinesSink"]

Fsync = Literal["never", "batch", "always"]

_MODE: Final = 0o600  # events name what runs on a machine and what fails there
_MAX_BYTES: Final = 64 << 20
_BATCH: Final = 512  # events
_RECENT: Final = 2 * _BATCH  # lines that a process that died may have written without being able to say so
_TAIL_BYTES: Final = 8 << 20  # how much is read of a file to find those
_BEGINNING: Final = b'{"kind":"Event","apiVersion":"v1"'  # of every line


class JSONLinesSink:
    """Appends events to a file, one JSON object a line, and rotates it by size.

    Making one touches no file. Picklable; only its options are kept. One thread at a time may use it. The file has mode
    0600, and a lock, so that two sinks cannot write one file. When it is moved away (by logrotate, say), the next batch
    begins a new one. As long as it cannot be written (disk full), every write raises `SinkUnavailable` and is tried
    again.

    After ``kill -9`` nothing that was counted as handled is missing. Power loss may take what was not synced.

    Args:
        path: of the file; its directory must exist.
        max_bytes: the size at which a new file is begun; None for never. A single event that is larger gets a file
            of its own.
        keep: how many full files to keep, as ``path.1`` (the newest), ``path.2``...
        fsync: when to wait for the disk: ``never`` (the kernel writes within half a minute), ``batch`` (before events
            are counted as handled), ``always`` (for each event, which makes it a hundred times as slow).

    Raises:
        ValueError: an option makes no sense; with one line that names it.
    """

    batch = _BATCH
    default_correlator = None
    """Every event is written, repeats too."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = _MAX_BYTES,
        keep: int = 5,
        fsync: Fsync = "never",
    ) -> None:
        for name, value, least in (("max_bytes", max_bytes, 1), ("keep", keep, 0)):
            if name == "max_bytes" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if fsync not in get_args(Fsync):
            raise ValueError(f"fsync must be one of {', '.join(get_args(Fsync))}, not {fsync!r}")
        self.path = os.path.abspath(os.fspath(path))  # noqa: PTH100 - resolve() would follow links
        self.max_bytes = max_bytes
        self.keep = keep
        self.fsync = fsync
        self._file: _File | None = None
        self._recent: set[tuple[str, str]] = set()
        self._recent_left = 0  # creates for which it is still looked at

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_recent": set()}

    def __repr__(self) -> str:
        return f"JSONLinesSink({self.path!r})"

    def check(self) -> None:
        """Open the file for a moment, creating it, to see whether it can be written.

        Raises:
            StoreError: with one line, when it cannot.
        """
        try:
            _File(self.path).close()
        except OSError as error:
            raise StoreError(self._plain(error)) from error
        directory = os.path.dirname(self.path)  # noqa: PTH120 - a str is what is wanted
        if self.max_bytes is not None and not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise StoreError(f"event log {self.path}: permission denied to rotate it in {directory}")

    def open(self) -> None:
        """Open the file, creating it if it is not there, and repair its last line.

        Raises:
            SinkUnavailable: it cannot be opened now, or another process writes it.
        """
        self.close()
        try:
            self._file = _File(self.path)
            self._recent = self._file.recent_names() or _recent_names(f"{self.path}.1")
            self._recent_left = _RECENT
        except OSError as error:
            self.close()
            raise SinkUnavailable(self._plain(error)) from error
        let_go_in_children(self)

    def let_go(self) -> None:
        """Close the file that a forked child has inherited, and with it its lock (`mpbroadcast.sinks.forked`)."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close the file, synced unless ``fsync`` is ``never``. May be called more than once."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                if self.fsync != "never":
                    file.sync()
            file.close()

    def create(self, event: Event) -> Event:
        """Append an event.

        Raises:
            SinkRejected: 409: it is among the last that the file had when it was opened; 422: it is no JSON.
            SinkUnavailable: the file cannot be written.
        """
        if self._file is None:
            self.open()
        if self._recent:
            self._refuse_recent(event)
        return self._append(event)

    def _refuse_recent(self, event: Event) -> None:
        """Refuse what a process before this one has written, but could not say so any more."""
        who = (event.namespace, event.name)
        if who in self._recent:
            self._recent.discard(who)
            raise SinkRejected(f'events "{event.name}" already exists', code=409, reason="AlreadyExists")
        self._recent_left -= 1
        if not self._recent_left:
            self._recent.clear()

    def patch(self, event: Event, patch: bytes) -> Event:  # noqa: ARG002 - the event says all
        """Append the event as it is now.

        Raises:
            SinkRejected: it cannot be written as JSON.
            SinkUnavailable: the file cannot be written.
        """
        return self._append(event)

    def flush(self) -> None:
        """Wait for the disk, if ``fsync`` says so; let go of a file that was moved away.

        Raises:
            SinkUnavailable: the disk reports an error.
        """
        if self._file is None:
            return
        try:
            if self.fsync == "batch":
                self._file.sync()
        except OSError as error:
            raise SinkUnavailable(self._plain(error)) from error
        if self._file.was_moved(self.path):
            self.close()

    def _append(self, event: Event) -> Event:
        try:
            line = orjson.dumps(event.to_core_v1(), option=orjson.OPT_APPEND_NEWLINE)
        except (ValueError, TypeError) as error:
            raise SinkRejected(f'Event "{event.name}" is invalid: {error}', code=422, reason="Invalid") from error
        if self._file is None:
            self.open()
        assert self._file is not None
        try:
            if self.max_bytes is not None and self._file.size and self._file.size + len(line) > self.max_bytes:
                self._rotate(self._file)
            self._file.append(line, sync=self.fsync == "always")
        except OSError as error:
            self.close()  # opening it repairs what is left of the line
            raise SinkUnavailable(self._plain(error)) from error
        return event

    def _rotate(self, file: _File) -> None:
        if self.fsync != "never":
            file.sync()
        names = [self.path, *(f"{self.path}.{number}" for number in range(1, self.keep + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with contextlib.suppress(FileNotFoundError):
                os.replace(newer, older)  # noqa: PTH105
        if not self.keep:
            os.unlink(self.path)  # noqa: PTH108
        self._file = None
        file.close()
        self._file = _File(self.path)

    def _plain(self, error: OSError) -> str:
        if isinstance(error, BlockingIOError):
            return f"event log {self.path}: another process writes it"
        if isinstance(error, FileNotFoundError):
            return f"event log {self.path}: the directory does not exist"
        return f"event log {self.path}: {(error.strerror or str(error)).lower()}"


class _File:
    """An open log file with a whole last line. Every method may raise `OSError`.

    Attributes:
        size: its bytes.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe must not block
        self._descriptor = os.open(path, flags, _MODE)
        try:
            status = os.fstat(self._descriptor)
            _require_regular(status.st_mode)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not status.st_size:
                os.fchmod(self._descriptor, _MODE)  # of an empty file that was there before
            self.size = self._repair(os.fstat(self._descriptor).st_size)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._identity = status.st_dev, status.st_ino

    def close(self) -> None:
        os.close(self._descriptor)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def was_moved(self, path: str) -> bool:
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError:
            return True
        return self._identity != (status.st_dev, status.st_ino)

    def append(self, line: bytes, *, sync: bool) -> None:
        """Append a line, or nothing."""
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):  # a full disk takes a part, and says why at the next call
                written += os.write(self._descriptor, line[written:])
            if sync:
                self.sync()
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(line)

    def recent_names(self) -> set[tuple[str, str]]:
        return _names(self._tail(self.size))

    def _tail(self, size: int) -> bytes:
        return os.pread(self._descriptor, min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))

    def _repair(self, size: int) -> int:
        """Make the last line whole; returns the size then."""
        torn = self._tail(size).rpartition(b"\n")[2]
        if not torn:
            return size
        text = torn.rstrip(b"\0")  # what a file system may leave of a line after power loss
        if text and not _is_torn(text):
            return size + os.write(self._descriptor, b"\n")
        os.ftruncate(self._descriptor, size - len(torn))
        return size - len(torn)


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(0, "it is not a regular file")


def _is_torn(line: bytes) -> bool:
    """Whether a line is the beginning of one of ours, and not all of it."""
    if not (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
        return False
    try:
        orjson.loads(line)
    except ValueError:
        return True
    return False


def _recent_names(path: str) -> set[tuple[str, str]]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return _names(file.read(_TAIL_BYTES))
    except FileNotFoundError:
        return set()


def _names(tail: bytes) -> set[tuple[str, str]]:
    """Return the namespaces and names of the last events in a piece of a file."""
    names = set()
    for line in tail.splitlines()[-_RECENT:]:
        try:
            metadata = orjson.loads(line)["metadata"]
            names.add((metadata.get("namespace", ""), metadata.get("name", "")))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # the torn beginning of the piece, or a line of somebody else
    return names
