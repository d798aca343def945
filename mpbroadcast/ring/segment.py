"""The segment: one shared memory file per broadcaster, and the ways in which a process comes to it.

An anonymous, sealed memfd: no name in ``/dev/shm``, nothing left behind by ``kill -9``, no resource tracker; or a file,
when a directory is given, see ``directory.py``. Forked children inherit it; a pickled segment is found again through
this process's table, through the descriptor that a spawned child was given, or through ``/proc/PID/fd`` of the process
that pickled it.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import fcntl
import os
import pathlib
import threading
import weakref
from typing import TYPE_CHECKING, Any

from mpbroadcast.errors import SegmentError
from mpbroadcast.ring import _ring

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FILE_SUFFIX", "MEMFD_PREFIX", "Segment", "find_segments", "inherited_descriptors"]

MEMFD_PREFIX = "mpbroadcast:"
FILE_SUFFIX = ".mpbroadcast"  # of a segment that lies in a file, see directory.py
_MFD_NOEXEC_SEAL = 0x0008  # Linux 6.3; older kernels answer EINVAL
_OWN_SEGMENTS: weakref.WeakValueDictionary[bytes, Segment] = weakref.WeakValueDictionary()
_TABLE_LOCK = threading.Lock()
_INHERIT: contextvars.ContextVar[bool] = contextvars.ContextVar("mpbroadcast_inherit", default=False)
os.register_at_fork(after_in_child=lambda: globals().__setitem__("_TABLE_LOCK", threading.Lock()))


def _memfd(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(MEMFD_PREFIX + name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create(MEMFD_PREFIX + name, flags)
    if fd > 2:
        return fd
    try:  # a process without stdin: helpers put /dev/null there
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def _check_bytes(what: str, value: int) -> None:
    low, high = _ring.MIN_RING_BYTES, _ring.MAX_RING_BYTES
    if not isinstance(value, int) or not low <= value <= high or value & (value - 1):
        raise ValueError(f"{what} must be a power of two between {low} and {high} bytes, not {value!r}")


def _check_count(what: str, value: int, high: int) -> None:
    if not isinstance(value, int) or not 1 <= value <= high:
        raise ValueError(f"{what} must be between 1 and {high}, not {value!r}")


class Segment:
    """A mapped segment and its file descriptor.

    Attributes:
        ring: the extension's view of it: puts, locks, slots, counters.

    Thread-safe. A forked child may go on using the object: what belongs to a process alone (its lane, its locks) lives
    where a fork wipes it. Picklable; see ``__reduce__``.
    """

    def __init__(self, fd: int, *, writable: bool = True) -> None:
        self.ring = _ring.Segment(fd, writable=writable)  # the descriptor is ours to close from here on, and not before
        if writable:  # what unpickling finds must be able to record
            with _TABLE_LOCK:
                _OWN_SEGMENTS.setdefault(self.ring.token, self)

    @classmethod
    def create(
        cls, *, name: str, lanes: int, lane_bytes: int, slots: int, slot_bytes: int, queue_length: int | None
    ) -> Segment:
        """Makes a fresh segment; its memory is virtual until something is recorded.

        Raises:
            ValueError: a size that makes no sense; the line says which and what it may be.
            SegmentError: the kernel gives no such memory.
        """
        sizes = {"lanes": lanes, "lane_bytes": lane_bytes, "slots": slots, "slot_bytes": slot_bytes}
        cls.check(name=name, queue_length=queue_length, **sizes)
        fd = -1
        try:
            fd = _memfd(name)
            cls.format(fd, name=name, queue_length=queue_length, **sizes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
            return cls(fd)
        except OSError as error:
            _close(fd)
            raise SegmentError(f"no shared memory for a segment: {os.strerror(error.errno or 0)}") from error
        except BaseException:
            _close(fd)
            raise

    @staticmethod
    def check(*, name: str, lanes: int, lane_bytes: int, slots: int, slot_bytes: int, queue_length: int | None) -> None:
        """Refuses a name or a size that makes no sense.

        Raises:
            ValueError: with one line that says which and what it may be.
            TypeError: the name is no string.
        """
        _check_bytes("lane_bytes", lane_bytes)
        _check_bytes("watcher_bytes", slot_bytes)
        _check_count("max_processes", lanes, _ring.MAX_LANES)
        _check_count("max_watchers", slots, _ring.MAX_SLOTS)
        if queue_length is not None and (not isinstance(queue_length, int) or queue_length < 1):
            raise ValueError(f"queue_length must be None or at least 1, not {queue_length!r}")
        if not isinstance(name, str):
            raise TypeError(f"the name of a broadcaster is a string, not {name!r}")
        if "\0" in name or not 1 <= len(name.encode()) < 64:
            raise ValueError("the name of a broadcaster has 1 to 63 bytes and no NUL")

    @staticmethod
    def format(
        fd: int, *, name: str, lanes: int, lane_bytes: int, slots: int, slot_bytes: int, queue_length: int | None
    ) -> None:
        """Makes an empty file a segment, with a token of its own.

        Raises:
            OSError: the file cannot be made as large, or written.
        """
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, _ring.total_bytes(lanes, lane_bytes, slots, slot_bytes))
        token = os.urandom(16)
        _ring.format_segment(fd, lanes, lane_bytes, slots, slot_bytes, queue_length or 0, token, name.encode())

    @classmethod
    def open_of(cls, pid: int, fd: int, *, token: bytes | None = None, writable: bool = True) -> Segment:
        """Opens the segment that is descriptor ``fd`` of process ``pid``, of the same user.

        Raises:
            SegmentError: no such process or descriptor, no permission, or another segment than ``token`` says.
        """
        try:
            own = os.open(f"/proc/{pid}/fd/{fd}", (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise SegmentError(f"the segment of process {pid} cannot be opened: {why}") from error
        try:
            segment = cls(own, writable=writable)
        except BaseException:
            _close(own)
            raise
        if token is not None and segment.ring.token != token:
            segment.close()
            raise SegmentError(f"process {pid} no longer has the segment that was asked for")
        return segment

    @property
    def fd(self) -> int:
        """The descriptor of the memory file. It stays open as long as this object lives.

        (A daemon closes all its descriptors, this one too; a helper that still has the file then gives a new one.)

        Raises:
            SegmentError: closed, and no helper has it.
        """
        return self.ring.fd

    def __reduce__(self) -> tuple[Any, ...]:
        """Token, creator and descriptor number; while a child is being spawned, the descriptor itself.

        ``DupFd`` outside of spawning would start a thread in this process to serve the descriptor: not used then.
        """
        if _INHERIT.get():
            return _restore, (self.ring.token, 0, self.fd, None)
        from multiprocessing import context, reduction  # noqa: PLC0415 - 9 ms that programs without pickling save

        passed = reduction.DupFd(self.fd) if context.get_spawning_popen() is not None else None
        return _restore, (self.ring.token, os.getpid(), self.fd, passed)

    def close(self) -> None:
        """Unmaps the segment unless somebody in this process still reads from it, and closes the descriptor."""
        fd = -1
        with contextlib.suppress(SegmentError):
            fd = self.fd
        if self.ring.close():
            _close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            _close(self.fd)  # looked at before: a number that is another file's by now is not closed


def _close(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)


@contextlib.contextmanager
def inherited_descriptors() -> Iterator[None]:
    """Segments pickled in here are for a process that will inherit the descriptor under the same number."""
    token = _INHERIT.set(True)
    try:
        yield
    finally:
        _INHERIT.reset(token)


def _restore(token: bytes, pid: int, fd: int, passed: Any) -> Segment:
    own = _OWN_SEGMENTS.get(token)
    if own is not None:
        if passed is not None and (spare := passed.detach()) != own.fd:
            _close(spare)
        return own
    if pid == 0:
        os.set_inheritable(fd, False)
        return Segment(fd)
    if passed is not None:
        given = passed.detach()
        os.set_inheritable(given, False)
        return Segment(given)
    return Segment.open_of(pid, fd, token=token)


def find_segments(pid: int) -> list[int]:
    """The descriptors of process ``pid`` that are segments, one per memory file, in order of their numbers.

    Raises:
        SegmentError: no such process, or it belongs to another user.
    """
    found: dict[tuple[int, int], int] = {}
    try:
        links = sorted((int(link.name), link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir())
    except OSError as error:
        raise SegmentError(f"process {pid} cannot be looked at: {os.strerror(error.errno or 0)}") from error
    for number, link in links:
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("/memfd:" + MEMFD_PREFIX) or target.endswith(FILE_SUFFIX):
                stat = link.stat()
                found.setdefault((stat.st_dev, stat.st_ino), number)
    return list(found.values())
