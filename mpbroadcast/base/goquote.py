r"""Go's ``strconv.Quote``, which klog and ``%q`` write strings with.

The letters: ``\a \b \f \n \r \t \v \\ \"`` are escaped by name, other control characters as ``\x1b``, what Go does not
count as printable as ``\u200b`` or ``\U000e0001``. Python's own idea of printable is the same in all but the blanks
(Go prints U+0020 only, as Python does) and follows the same Unicode categories: letters, marks, numbers, punctuation
and symbols. A Python string has no invalid bytes; a lone surrogate stands for them and is written as ``\ufffd``,
what Go makes of an invalid code point.
"""

from __future__ import annotations

from typing import Final

__all__ = ["go_escape", "go_quote", "go_quote_rune"]

_NAMED: Final = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
}

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def _escape(char: str, quote: str, ascii_only: bool) -> str:
    if char == quote:
        return "\\" + char
    named = _NAMED.get(char)
    if named is not None:
        return named
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:
        return r"\ufffd"
    if char.isprintable() and (code < 0x80 or not ascii_only):
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def go_escape(text: str, *, quote: str = '"', ascii_only: bool = False) -> str:
    r"""Escape a text as Go does inside of quotes.

    Args:
        text: any string.
        quote: the quote character that has to be escaped too; "" for none.
        ascii_only: whether everything beyond ASCII is escaped, as ``%+q`` wants it.

    Returns:
        The same string object when there is nothing to escape.
    """
    if quote == '"' and text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join([_escape(char, quote, ascii_only) for char in text])


def go_quote(text: str, *, ascii_only: bool = False) -> str:
    r"""Quote a text as Go's ``%q`` does: ``"web-1\n"``. Never raises for a string; the result has no control character.

    Args:
        text: any string.
        ascii_only: whether everything beyond ASCII is escaped (``%+q``).
    """
    return f'"{go_escape(text, ascii_only=ascii_only)}"'


def go_quote_rune(code: int, *, ascii_only: bool = False) -> str:
    r"""Quote a code point as Go's ``%q`` does for a number: ``'x'``, ``'\n'``; what is no code point is U+FFFD.

    Args:
        code: any number.
        ascii_only: whether everything beyond ASCII is escaped (``%+q``).
    """
    char = chr(code) if 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else _REPLACEMENT
    return f"'{_escape(char, chr(39), ascii_only)}'"
