"""Writes the seed corpus of the ring's fuzz targets: short programs in their byte codes, one for each weak spot.

Runs in: tests and ``make fuzz``. Writes: a directory per target.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SEEDS", "write"]

RING_WORDS: Final = {"tail": 0, "base": 8, "accepted": 16, "head": 128, "taken": 136}  # offsets in struct mpb_ring
VALUES: Final = (0, 1, 7, 8, (1 << 16) - 8, 1 << 16, (1 << 58) - 8, (1 << 63) + 6, (1 << 64) - 1)


def damage(where: int, value: int) -> bytes:
    """An aligned word at an offset set to a value; see ``damage`` in ``input.h``."""
    return b"\x03" + where.to_bytes(3, "little") + value.to_bytes(8, "little")


def nudge(where: int, by: int) -> bytes:
    return b"\x02" + where.to_bytes(3, "little") + struct.pack("<h", by)


def bits(where: int, bit: int) -> bytes:
    return bytes([1 | bit << 2]) + where.to_bytes(3, "little")


def _ring() -> dict[str, bytes]:
    puts = b"".join(bytes([0]) + struct.pack("<H", length) for length in (0, 1, 8, 500, 599))
    large = bytes([20]) + struct.pack("<H", 32000)
    seeds = {
        "puts": b"\1" + puts + b"\x09" + b"\x08" + puts * 20 + b"\x09\x08",
        "wrap": b"\1" + (large + b"\x09\x08") * 4 + puts + b"\x09",
        "trims": b"\1" + puts + b"\x09\x08" + bytes([7 + 10 * 2]) + puts + bytes([7]) + puts + b"\x09",
        "successors": b"\1" + puts + b"\x05" + puts + b"\x06\x09\x08\x06" + puts + b"\x09",
    }
    for name, offset in RING_WORDS.items():
        for value in VALUES:
            seeds[f"{name}-{value:x}"] = (
                b"\1" + puts + b"\x03" + damage(offset, value) + b"\x09\x05" + puts + b"\x09\x08\x09"
            )
        seeds[f"{name}-nudged"] = (
            b"\1" + puts + b"\x03" + nudge(offset, 8) + b"\x09" + b"\x03" + nudge(offset, -16) + puts
        )
    for value in VALUES:  # a chunk that is being trimmed, named wrongly, and put around
        for offset in (0, 8):
            begun = b"\1" + puts + b"\x09\x08\x07\x11" + damage(offset, value)
            seeds[f"chunk-{offset}-{value:x}"] = begun + puts + large * 3 + b"\x09"
        begun = b"\1" + puts + b"\x09\x08\x43" + puts + b"\x11" + damage(0, 0)
        seeds[f"chunk-{value:x}"] = begun + b"\x11" + damage(8, value) + puts + large + b"\x09"
    for value in (0xFFFF << 32, 0xFFFF << 32 | 0xFFF8, 0x7FF8, 0xFFFFFFFF, 1 << 56):
        seeds[f"header-{value:x}"] = b"\1" + puts * 3 + b"\x04" + damage(0, value) + b"\x09\x08" + puts + b"\x09"
    return seeds


def _work() -> bytes:
    """Puts into each lane, a burst, rounds, reads of both rings: what every program begins with."""
    puts = b"".join(bytes([lane << 4]) + struct.pack("<H", 100 * lane) for lane in (0, 1, 2))
    return puts + b"\x0f" + puts * 3 + b"\x03\x20" + b"\x0f\x0c\x1c\x0d\x1d" + puts * 4


def _distribute() -> dict[str, bytes]:
    work, rest = _work(), b"\x0f\x0f\x0c\x1c\x0d\x1d\x08\x0f\x09\x19\x0f"
    seeds = {
        "work": b"\0" + work + rest + work + rest,
        "limit": b"\2" + work * 3 + rest,
        "large": b"\0"
        + b"".join(bytes([0x80 | lane << 4]) + struct.pack("<H", 30000) + b"\x0f" for lane in (0, 1, 2) * 4),
        "stops": b"\0" + work + bytes([10 | 2 << 4]) + b"\x0f\x0f" + work + bytes([10 | 3 << 4]) + rest,
        "policy": b"\0" + work + b"\x1b\x0b" + b"\x03\xff" * 6 + b"\x0f" * 8 + rest,
    }
    for one_lane in (0, 1):
        start = bytes([one_lane])
        for name, offset in RING_WORDS.items():
            for value in VALUES:
                lane = b"\x04\x00" + damage(offset, value)
                seeds[f"lane-{one_lane}-{name}-{value:x}"] = start + work + lane + b"\x0f" + work + rest
            seeds[f"lane-{one_lane}-{name}-nudged"] = start + work + b"\x04\x00" + nudge(offset, 8) + rest + work + rest
        for value in (0xFFFF << 32, 0xFFFFFFFF, 1 << 15):
            seeds[f"header-{one_lane}-{value:x}"] = start + work + b"\x04\x01" + damage(0, value) + rest + work + rest
        seeds[f"stamp-{one_lane}"] = start + work + b"\x04\x01" + damage(8, (1 << 64) - 1) + rest + work + rest
    for name, offset in RING_WORDS.items():
        for value in VALUES:
            seeds[f"slot-{name}-{value:x}"] = (
                b"\0" + work + b"\x06\x00" + damage(offset, value) + b"\x0f\x0c" + work + rest
            )
    for outcome in (1, 5, 6, 200):
        flags = b"\x06\x01\0\x07\0\0" + bytes([outcome])
        seeds[f"settled-{outcome}"] = b"\0" + work + b"\x0f" + flags + b"\x0c" + rest + work + rest
    for bit in range(8):
        seeds[f"state-{bit}"] = b"\0" + work + b"\x06\x00" + bits(264, bit) + rest + work + rest
        seeds[f"decided-{bit}"] = b"\0" + work + b"\x06\x02" + bits(8 * bit, bit) + rest + work + rest
    return seeds


def _adopt() -> dict[str, bytes]:
    life = b"\x20" + bytes([0, 1, 2, 60, 61, 62, 7, 200]) + b"\x10\x10" + bytes(range(20, 44)) + b"\0"
    seeds = {f"whole-{options}": bytes([options]) + life for options in range(8)}
    for options in range(8):
        for name, offset in RING_WORDS.items():
            for value in VALUES[::2]:
                seeds[f"lane-{options}-{name}-{value:x}"] = (
                    bytes([options]) + life + b"\x00\x00" + damage(offset, value)
                )
        seeds[f"stamp-{options}"] = bytes([options]) + life + b"\x00\x01" + damage(8, (1 << 64) - 1)
    for offset in range(0, 128, 8):
        seeds[f"sizes-{offset}"] = b"\2" + life + b"\x13" + damage(offset, (1 << 40) + 1)
        seeds[f"flipped-{offset}"] = b"\0" + life + b"\x13" + bits(offset, 3)
    for name, offset in RING_WORDS.items():
        for value in VALUES:
            seeds[f"slot-{name}-{value:x}"] = b"\2" + life + b"\x02\x00" + damage(offset, value)
    return seeds


SEEDS: Final = {"ring": _ring, "distribute": _distribute, "adopt": _adopt}


def write(target: str, directory: Path) -> int:
    """Writes the seeds of a target; returns how many there are now."""
    directory.mkdir(parents=True, exist_ok=True)
    seeds = SEEDS[target]()
    for name, program in seeds.items():
        (directory / name).write_bytes(program)
    return len(seeds)
