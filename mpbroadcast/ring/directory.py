"""A segment in a file: found by the next start when everything has died with its container. Runs in: the application.

The file has the layout of a memory segment, mode 0600, and the broadcaster's name. As long as a process of its program
lives, kernel locks on the file say so; when none does, the next start takes it over as it is: lanes, watcher rings and
positions go on where they were, so that the promises about killed processes hold for all of them at once. A clean end
removes the file. ::

    open ── no such file ──▶ create, reserve the space, lock, and only then give it its name
      └──── there ──▶ LOCK_START ──▶ owner lives? refused │ helpers live? waited for │ damaged? set aside │ adopted

Nothing is synced: power loss is not promised anything.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import struct
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from mpbroadcast.errors import SegmentError
from mpbroadcast.ring import _ring
from mpbroadcast.ring.segment import FILE_SUFFIX, Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Sizes", "file_of", "is_empty", "left_over", "open_in", "remove"]

HELPERS_SECONDS: Final = 10.0  # how long helpers of a program that has ended may take to finish
_POLL_SECONDS: Final = 0.02
_HEADER: Final = struct.Struct("<QIIIIQQQ")  # magic, version, lanes, slots, clock, lane_bytes, slot_bytes, total_bytes
_MAGIC: Final = 0x31747361636D706D
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux
_KNOWN: Final = frozenset({_ring.SLOT_REGISTERED, _ring.SLOT_ACTIVE, _ring.SLOT_STOPPING, _ring.SLOT_CLOSED})

_log = logging.getLogger("mpbroadcast")


class Sizes(NamedTuple):
    """What `Segment.create` takes."""

    lanes: int
    lane_bytes: int
    slots: int
    slot_bytes: int
    queue_length: int | None


def open_in(directory: str | os.PathLike[str], name: str, sizes: Sizes) -> tuple[Segment, bool]:
    """The segment of that name in a directory, owned by this process from here on; and whether it was there already.

    Waits up to ten seconds for helpers of a program that has ended and that still deliver.

    Args:
        directory: must exist and be writable.
        name: of the broadcaster.
        sizes: of a new file; one that is there keeps its own.

    Raises:
        ValueError: a size that makes no sense.
        SegmentError: another living program uses it, the directory cannot be used, or there is no room.
    """
    from urllib.parse import quote  # noqa: PLC0415 - only with a directory

    path = os.path.join(os.path.abspath(os.fspath(directory)), quote(name, safe="") + FILE_SUFFIX)  # noqa: PTH100, PTH118 - links stay links
    Segment.check(name=name, **sizes._asdict())
    deadline = time.monotonic() + HELPERS_SECONDS
    try:
        while True:
            with _opened(path) as fd:
                if fd < 0:
                    if (made := _create(path, name, sizes)) is not None:
                        return made, False
                elif (taken := _take(fd, path, deadline)) is not None:
                    return taken, True
            time.sleep(_POLL_SECONDS)
    except OSError as error:
        raise SegmentError(f"{path} cannot be used: {os.strerror(error.errno or 0)}") from error


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """A descriptor of the file, or -1; closed again unless it became a segment's."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield -1
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _create(path: str, name: str, sizes: Sizes) -> Segment | None:
    """A fresh file that is ours before it has its name; None: somebody else was faster."""
    directory = os.path.dirname(path)  # noqa: PTH120
    with _nameless(path) as (fd, temporary):
        Segment.format(fd, name=name, **sizes._asdict())
        if not _is_tmpfs(directory):
            # Written to by page faults: on a full disk that would be a SIGBUS in the middle of somebody's recording.
            try:
                os.posix_fallocate(fd, 0, os.fstat(fd).st_size)
            except OSError as error:
                raise SegmentError(
                    f"no room for {os.fstat(fd).st_size >> 20} MiB in {directory} ({os.strerror(error.errno or 0)});"
                    " smaller lane_bytes, watcher_bytes, max_processes or max_watchers need less"
                ) from error
        _ring.adopt_segment(fd, _boot_id())
        _lock(fd, fcntl.F_WRLCK, _ring.LOCK_START)  # until it is ours, as in _take
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path, src_dir_fd=fd)  # the descriptor makes it linkat(), which follows /proc/self/fd
            return _owned(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
    return None


def _owned(fd: int) -> Segment:
    segment = Segment(fd)
    segment.ring.lock(_ring.LOCK_OWNER)
    return segment


@contextlib.contextmanager
def _nameless(path: str) -> Iterator[tuple[int, str]]:
    """An open file without a name that it can be found by, and the path that a link to it is made from."""
    directory = os.path.dirname(path)  # noqa: PTH120
    fd, made = -1, ""
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        made = f"{path}.{os.urandom(4).hex()}"
        fd = os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield fd, made or f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
        if made:
            os.unlink(made)  # noqa: PTH108


def _take(fd: int, path: str, deadline: float) -> Segment | None:
    """The segment of a file that was there; None: look again in a moment."""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid():
        raise SegmentError(f"{path} is no file of this user")
    if not _lock(fd, fcntl.F_WRLCK, _ring.LOCK_START):
        _later(deadline, f"{path}: another program is starting with it")
        return None
    try:
        if not _is_at(fd, path):
            return None
        if not _is_free(fd, _ring.LOCK_OWNER):
            raise SegmentError(
                f"{path} is used by another program that runs; stop it, or choose another name or directory"
            )
        busy = f"{path}: helpers of a program that has ended still deliver what is in it; try again in a moment"
        if not _is_free(fd, _ring.LOCK_DIST) or not _is_free(fd, _ring.LOCK_SLOT, _ring.MAX_SLOTS):
            _later(deadline, busy)
            return None
        damage = _damage(fd, info.st_size)
        if damage:
            _set_aside(path, damage)
            return None
        if _ring.adopt_segment(fd, _boot_id()):
            _later(deadline, busy)
            return None
        return _owned(os.dup(fd))
    finally:
        _lock(fd, fcntl.F_UNLCK, _ring.LOCK_START)


def _later(deadline: float, why: str) -> None:
    if time.monotonic() >= deadline:
        raise SegmentError(why)


def _lock(fd: int, kind: int, byte: int, count: int = 1) -> bool:
    with contextlib.suppress(BlockingIOError, PermissionError):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, count, 0))
        return True
    return False


def _is_free(fd: int, byte: int, count: int = 1) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, count, 0)
    found: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
    return found == fcntl.F_UNLCK


def _is_at(fd: int, path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    return False


def _damage(fd: int, size: int) -> str:
    """Why a file is no segment that could be taken over; empty: it is one."""
    raw = os.pread(fd, _HEADER.size, 0)
    if len(raw) < _HEADER.size or size < 4096:
        return "it is too short"
    magic, version, lanes, slots, _, lane_bytes, slot_bytes, _ = _HEADER.unpack(raw)
    if magic != _MAGIC:
        return "it is no segment"
    if version != _ring.LAYOUT_VERSION:
        return f"it was made by another version of mpbroadcast (layout {version})"
    powers = all(
        _ring.MIN_RING_BYTES <= n <= _ring.MAX_RING_BYTES and n & (n - 1) == 0 for n in (lane_bytes, slot_bytes)
    )
    if not powers or not 1 <= lanes <= _ring.MAX_LANES or not 1 <= slots <= _ring.MAX_SLOTS:
        return "its header makes no sense"
    return "" if _ring.total_bytes(lanes, lane_bytes, slots, slot_bytes) == size else "its size is wrong"


def _set_aside(path: str, damage: str) -> None:
    aside = f"{path}.damaged"
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = f"{path}.damaged-{number}"
    os.rename(path, aside)  # noqa: PTH104
    _log.error("%s cannot be taken over: %s; it is set aside as %s", path, damage, aside)


def _boot_id() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def _is_tmpfs(directory: str) -> bool:
    """Whether reserving there would take memory."""
    device = os.lstat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return any(
            line.split()[2] == wanted and line.partition(" - ")[2].split()[0] in ("tmpfs", "ramfs") for line in file
        )
    return False


# ---- what a segment holds, and its end


def file_of(segment: Segment) -> str | None:
    """The path of a segment's file; None: it is memory, or its file has been removed."""
    with contextlib.suppress(OSError, SegmentError):
        link = os.readlink(f"/proc/self/fd/{segment.fd}")  # noqa: PTH115
        return link if link.endswith(FILE_SUFFIX) else None
    return None


def left_over(segment: Segment) -> dict[str, int]:
    """Unhandled events by the name of the watcher that they wait for; of watchers that were not started again yet."""
    return {
        slot["name"].decode("utf-8", "replace"): slot["forwarded"] - _settled(slot)
        for slot in segment.ring.snapshot()["slots"]
        if slot["managed"] == _ring.MANAGED_LEFT and slot["state"] in _KNOWN
    }


def _settled(slot: dict[str, int]) -> int:
    return sum(slot[name] for name in ("handled", "failed", "given_up", "filtered", "lost"))


def is_empty(segment: Segment) -> bool:
    """Whether everything that was accepted has been distributed, and handled by every watcher that has a helper."""
    shot = segment.ring.snapshot()
    return (
        shot["state"] == _ring.DRAINED
        and all(lane["tail"] == lane["head"] for lane in shot["lanes"])
        and all(
            not slot["managed"] or slot["state"] == _ring.SLOT_FREE or slot["tail"] == slot["head"]
            for slot in shot["slots"]
        )
    )


def remove(segment: Segment) -> None:
    """Removes a segment's file when nothing is left in it. Without a file it does nothing."""
    path = file_of(segment)
    if path is None:
        return
    if not is_empty(segment):
        _log.warning("not everything was delivered; the rest stays in %s for the next start", path)
        return
    if _is_at(segment.fd, path):
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
