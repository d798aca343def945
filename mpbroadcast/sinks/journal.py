"""What was decided about events that are under way, in memory that outlives the process. Runs in: a sink's process.

A repeat is written as an absolute count on an event that is named elsewhere, an aggregate as an event that no record
holds. A successor that correlates such a record anew would decide differently, and count it twice. So the decision is
noted before its first try, and a successor carries out the very same one again, which changes nothing if it was done.
A plain create needs no note: the same record gives the same name, and its repeat meets itself.

::

    0        8                          64              64 + half
    [ word   |          unused          |  half 0       |  half 1      ]     word = bytes used * 2 + which half
    note:  u32 length | u32 crc | u64 number | payload | padding to 8         an empty payload: that number is settled

``word`` is stored last and in one piece, so that a SIGKILL at any moment leaves the notes before it or after it.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Journal"]

_SIZE: Final = 1 << 20
_FIRST: Final = 64
_HEAD: Final = struct.Struct("<IIQ")
_WORD: Final = struct.Struct("<Q")


class Journal:
    """Notes by number. Belongs to one process at a time; a forked child shares the memory.

    Args:
        path: of a file that keeps the notes, made with mode 0600; None for memory that is shared with forked children
            and gone with the last of them.

    Attributes:
        full: how many notes found no room; their events may be counted twice after a crash.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.full = 0
        if path is None:
            self._memory = mmap.mmap(-1, _SIZE)
        else:
            path.touch(0o600, exist_ok=True)
            with path.open("r+b") as file:
                # Written, not truncated: a full disk must be met here, and not as SIGBUS in the middle of a note.
                present = file.seek(0, 2)
                if present < _SIZE:
                    file.write(bytes(_SIZE - present))
                    file.flush()
                self._memory = mmap.mmap(file.fileno(), _SIZE)
        self._half_bytes = (_SIZE - _FIRST) // 2
        self._notes: dict[int, bytes] = {}
        self._half, self._used = 0, 0
        self._read()

    def notes(self) -> dict[int, bytes]:
        """Read anew what is noted and not settled: what a process that died has left."""
        self._read()
        return dict(self._notes)

    def note(self, number: int, payload: bytes) -> bool:
        """Note something, in place of what was noted under the number before; False if there is no room."""
        self._notes[number] = payload
        if self._append(number, payload) or self._compact():
            return True
        del self._notes[number]
        self.full += 1
        return False

    def settle(self, number: int) -> None:
        """Forget what was noted under a number, if anything was."""
        if self._notes.pop(number, None) is None:
            return
        if not self._notes:
            self._publish(self._half, 0)
        elif not self._append(number, b""):
            self._compact()

    def close(self) -> None:
        """Let go of the memory; a file stays."""
        self._memory.close()

    def _publish(self, half: int, used: int) -> None:
        self._half, self._used = half, used
        _WORD.pack_into(self._memory, 0, used * 2 + half)

    def _append(self, number: int, payload: bytes) -> bool:
        at = _FIRST + self._half * self._half_bytes + self._used
        size = _padded(len(payload))
        if self._used + size > self._half_bytes:
            return False
        self._write(at, number, payload)
        self._publish(self._half, self._used + size)
        return True

    def _write(self, at: int, number: int, payload: bytes) -> None:
        _HEAD.pack_into(self._memory, at, len(payload), _checksum(number, payload), number)
        self._memory[at + _HEAD.size : at + _HEAD.size + len(payload)] = payload

    def _compact(self) -> bool:
        """Write what is live into the other half, and only then use it."""
        if sum(_padded(len(payload)) for payload in self._notes.values()) > self._half_bytes:
            return False
        half, used = 1 - self._half, 0
        for number, payload in self._notes.items():
            self._write(_FIRST + half * self._half_bytes + used, number, payload)
            used += _padded(len(payload))
        self._publish(half, used)
        return True

    def _read(self) -> None:
        (word,) = _WORD.unpack_from(self._memory, 0)
        half, used = word & 1, min(word >> 1, self._half_bytes)
        self._notes = {}
        at = start = _FIRST + half * self._half_bytes
        while at + _HEAD.size <= start + used:
            length, crc, number = _HEAD.unpack_from(self._memory, at)
            payload = self._memory[at + _HEAD.size : at + _HEAD.size + length]
            if at + _padded(length) > start + used or _checksum(number, payload) != crc:
                break  # not ours, or a file that lost power
            if length:
                self._notes[number] = payload
            else:
                self._notes.pop(number, None)
            at += _padded(length)
        self._half, self._used = half, at - start


def _padded(length: int) -> int:
    return (_HEAD.size + length + 7) & ~7


def _checksum(number: int, payload: bytes) -> int:
    return zlib.crc32(payload, number & 0xFFFFFFFF)
