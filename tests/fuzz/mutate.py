"""Changed copies of seeds, the same ones for the same number: what stands in for a fuzzer that sees coverage."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["mutations"]

_LARGEST: Final = 8192
_TOKENS: Final = (
    b'"', b"{", b"}", b"[", b"]", b"[]", b"{}", b"null", b"true", b"-1", b"1e999", b"18446744073709551616", b"0",
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\n", b"\x1b[2J", b"%00", b"$patch", b"metadata", b"  ", b"9" * 30,
)  # fmt: skip


def mutations(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """First the seeds themselves, then changed ones without end."""
    yield from seeds
    chance = random.Random(seed)
    while True:
        text = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 6)):
            _change(text, seeds, chance)
        yield bytes(text[:_LARGEST])


def _change(text: bytearray, seeds: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randint(0, len(text))
    length = chance.choice((1, 1, 2, 4, 8, 40))
    match chance.randrange(6):
        case 0:
            text[at:at] = chance.choice(_TOKENS)
        case 1:
            text[at : at + length] = chance.choice(_TOKENS)
        case 2:
            del text[at : at + length]
        case 3:
            text[at : at + 1] = bytes([chance.randrange(256)])
        case 4:
            text[at:at] = text[at : at + length] * chance.choice((1, 2, 30))
        case _:
            other = chance.choice(seeds)
            start = chance.randint(0, len(other))
            text[at : at + length] = other[start : start + length]
