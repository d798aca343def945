"""Text: what any encoder takes (Python strings may hold lone surrogates, UTF-8 cannot), and numbers of things. Pure."""

from __future__ import annotations

__all__ = ["counted", "well_formed"]


def counted(count: int, one: str, many: str = "") -> str:
    """Say how many of something there are: ``1 event was``, ``1200 events were``.

    Args:
        count: how many.
        one: what follows 1.
        many: what follows any other number; by default that with an "s".
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def well_formed(text: str) -> str:
    r"""Replace each lone surrogate by U+FFFD, as Go's JSON encoder does with what is no character.

    Args:
        text: any string; a lone surrogate in it (from ``surrogateescape`` or a cut-off JSON ``\ud800``) would make
            every UTF-8 encoder fail.

    Returns:
        The same string object when there is nothing to replace.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
