"""Go's quoting: the letters, what is printable, and that no control character is left."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.base.goquote import go_escape, go_quote, go_quote_rune

ANY = st.text(alphabet=st.characters(), max_size=30)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("", '""'),
        ("web-1", '"web-1"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\x00\x1b\x7f", r'"\x00\x1b\x7f"'),
        ("\x85\xa0\xad", r'"\u0085\u00a0\u00ad"'),
        ("é⌘😀'", '"é⌘😀\'"'),
        ("\u200b\u2028\u3000\ufeff\U000e0001", r'"\u200b\u2028\u3000\ufeff\U000e0001"'),
        ("\ud800", r'"\ufffd"'),
        ("\N{REPLACEMENT CHARACTER}", '"\N{REPLACEMENT CHARACTER}"'),
    ],
)
def test_texts_are_quoted_as_go_quotes_them(text, quoted):
    assert quoted == go_quote(text)


def test_ascii_only():
    assert r'"\u00e9\U0001f600a"' == go_quote("é😀a", ascii_only=True)
    assert r"'\u2318'" == go_quote_rune(0x2318, ascii_only=True)


@pytest.mark.parametrize(
    ("code", "quoted"),
    [
        (0x78, "'x'"),
        (0x27, r"'\''"),
        (0x22, "'\"'"),
        (10, r"'\n'"),
        (0xD800, "'\N{REPLACEMENT CHARACTER}'"),
        (-1, "'\N{REPLACEMENT CHARACTER}'"),
        (0x110000, "'\N{REPLACEMENT CHARACTER}'"),
        (10**30, "'\N{REPLACEMENT CHARACTER}'"),
    ],
)
def test_code_points_are_quoted(code, quoted):
    assert quoted == go_quote_rune(code)


@given(ANY)
def test_nothing_that_moves_a_cursor_is_left(text):
    quoted = go_quote(text)
    assert all(unicodedata.category(char)[0] not in "CZ" or char == " " for char in quoted)
    quoted.encode()


@given(st.text(alphabet=st.characters(max_codepoint=0x7E, min_codepoint=0x20), max_size=30))
def test_printable_ascii_is_quoted_as_json_quotes_it(text):
    assert json.dumps(text) == go_quote(text)


@given(ANY)
def test_escaping_without_a_quote_leaves_quotes(text):
    assert text.count('"') == go_escape(text, quote="").count('"')


def test_what_needs_nothing_is_the_same_object():
    text = "some text: 1"
    assert text is go_escape(text)
