"""`gofmt`: Python's format strings as Python formats them, everything else as Go does, and never an exception."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, UserDict, deque
from decimal import Decimal
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.base.goformat import gofmt, gosprint
from mpbroadcast.base.text import well_formed
from mpbroadcast.event.parts import EventSeries, ObjectReference

A = ObjectReference("Pod", "baz", "foo", "bar", "v1", "", "spec.containers[2]")
A_TEXT = (
    'v1.ObjectReference{Kind:"Pod", Namespace:"baz", Name:"foo", UID:"bar", APIVersion:"v1", ResourceVersion:"", '
    'FieldPath:"spec.containers[2]"}'
)


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y_id: str


@dataclasses.dataclass
class Job:
    name: str
    tries: int


@dataclasses.dataclass
class Named:
    name: str

    def __str__(self):
        return f"job {self.name}"


class Broken:
    def __str__(self):
        raise RuntimeError("boom")


class BrokenTwice(Exception):
    def __str__(self):
        raise BrokenTwice


class Hostile:
    """Everything about it raises."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __str__(self):
        raise BrokenTwice

    __repr__ = __str__


GO = [
    (("some verbose message: %v", 1), "some verbose message: 1"),
    # wrong, missing, too many
    (("%d", "hi"), "%!d(string=hi)"),
    (("%s",), "%!s(MISSING)"),
    (("%s %d", "a"), "a %!d(MISSING)"),
    (("x", 3), "x%!(EXTRA int=3)"),
    (("%d", 1, "a", None), "1%!(EXTRA string=a, <nil>)"),
    (("%z", 3), "%!z(int=3)"),
    (("100%",), "100%!(NOVERB)"),
    (("50% done",), "50%!d(MISSING)one"),
    (("%t", 1), "%!t(int=1)"),
    (("%q", None), "%!q(<nil>)"),
    (("%q", 1.5), "%!q(float64=1.5)"),
    (("%d", None), "%!d(<nil>)"),
    (("%d", float("inf")), "%!d(float64=+Inf)"),
    (("%f", "a"), "%!f(string=a)"),
    (("%c", "ab"), "%!c(string=ab)"),
    (("%*d", "a", 1), "%!(BADWIDTH)1"),
    (("%.*f", "a", 1.5), "%!(BADPREC)1.500000"),
    (("%9999999d", 1), "%!(BADWIDTH)1"),
    (("%[3]d", 1), "%!d(BADINDEX)"),
    (("%[x]d", 1), "%!d(BADINDEX)"),
    (("%v", Broken()), "%!v(PANIC=String method: boom)"),
    (("%s", Broken()), "%!s(PANIC=String method: boom)"),
    (("%v", [1, Broken()]), "[1 %!v(PANIC=String method: boom)]"),
    (("%q", BrokenTwice()), "%!q(PANIC=String method: BrokenTwice)"),
    (("%d", ["a", 1]), "[%!d(string=a) 1]"),
    # percent
    (("100%%",), "100%"),
    (("%5%",), "%"),
    # %v
    (("%v", None), "<nil>"),
    (("%v %v", True, False), "true false"),
    (("%v", "text"), "text"),
    (("%v", ValueError("broken")), "broken"),
    (("%v", {"b": 2, "a": 1}), "map[a:1 b:2]"),
    (("%v", {2: "x", 10: "y", 1: None}), "map[1:<nil> 2:x 10:y]"),
    (("%v", OrderedDict(z=[1], a={})), "map[a:map[] z:[1]]"),
    (("%v", UserDict(a=1)), "map[a:1]"),
    (("%v", [1, "a", None, [True]]), "[1 a <nil> [true]]"),
    (("%v", (1, 2)), "[1 2]"),
    (("%v", {3, 1, 2}), "[1 2 3]"),
    (("%v", deque([1])), "[1]"),
    (("%v", {"a": 1}.values()), "[1]"),
    (("%v", range(10**12)), "range(0, 1000000000000)"),
    (("%v", b"ab"), "[97 98]"),
    (("%v", Point(1, "a")), "{1 a}"),
    (("%+v", Point(1, "a")), "{X:1 YID:a}"),
    (("%v", Job("j", 2)), "{j 2}"),
    (("%+v", Job("j", 2)), "{Name:j Tries:2}"),
    (("%v", Named("j")), "job j"),
    (("%v", Colour.RED), "RED"),
    (("%v", enum.IntEnum("N", {"ONE": 1}).ONE), "1"),
    (("%v", enum.StrEnum("S", {"A": "text"}).A), "text"),
    (("%v", Decimal("1.50")), "1.50"),
    (("%v", SimpleNamespace(a=1)), "namespace(a=1)"),
    (("%5v|%-5v|%05v", 1, 2, -3), "    1|2    |-0003"),
    (("%5v|%-6v|%.2v", "a", True, "abc"), "    a|true  |ab"),
    # floats as Go's %g
    (("%v %v %v", 1.0, 1.5, -0.0), "1 1.5 -0"),
    (("%v %v", 100000.0, 999999.0), "100000 999999"),
    (("%v %v", 1000000.0, 1234567.0), "1e+06 1.234567e+06"),
    (("%v %v", 0.0001, 0.00001), "0.0001 1e-05"),
    (("%v %v %v", float("inf"), float("-inf"), float("nan")), "+Inf -Inf NaN"),
    (("%v %v", 1e100, 5e-324), "1e+100 5e-324"),
    (("%v", 608863452348.1149), "6.088634523481149e+11"),
    (("%+v|% v|%08.3v", 1.5, 1.5, 3.14159), "1.5| 1.5|00003.14"),
    (("%v", 3 + 4j), "(3+4i)"),
    # %#v and %T
    (("%#v", A), A_TEXT),
    (("%v", A), "{Pod baz foo bar v1  spec.containers[2]}"),
    (("%#v", EventSeries(2)), "v1.EventSeries{Count:2, LastObservedTime:<nil>}"),
    (("%#v %#v %#v", "a\n", 1, None), r'"a\n" 1 <nil>'),
    (("%#v", [1, 2]), "[]int{1, 2}"),
    (("%#v", {"a": 1.5}), 'map[string]float64{"a":1.5}'),
    (("%#v", ["a", 1]), '[]interface {}{"a", 1}'),
    (("%T %T %T %T", "a", 1, 1.5, None), "string int float64 <nil>"),
    (("%T %T %T", [1], {"a": True}, b""), "[]int map[string]bool []uint8"),
    (("%T %T", A, ValueError()), "v1.ObjectReference ValueError"),
    # the other verbs
    (("%q", 'a"b\n'), r'"a\"b\n"'),
    (("%q %q", 65, 10), r"'A' '\n'"),
    (("%q", ["a", "b"]), '["a" "b"]'),
    (("%q", b"ab"), '"ab"'),
    (("%q", ValueError("x")), '"x"'),
    (("%+q %#q %#q", "é", "a\\b", "`"), '"\\u00e9" `a\\b` "`"'),
    (("%.2q|%6q", "abc", "a"), '"ab"|   "a"'),
    (("%t %6t", True, False), "true  false"),
    (("%x %X", "hi!", b"\xab"), "686921 AB"),
    (("% x %#x %# x", "hi", "hi", "hi"), "68 69 0x6869 0x68 0x69"),
    (("%x %x", 255, -255), "ff -ff"),
    (("%x", 1.5), "0x1.8p+00"),
    (("%b %#b %08b %O", 5, 5, -5, 8), "101 0b101 -0000101 0o10"),
    (("%U %#U", 0x1F600, 0x41), "U+1F600 U+0041 'A'"),
    (("%p", None), "%!p(<nil>)"),
    (("%s", b"a\xffb"), "a\N{REPLACEMENT CHARACTER}b"),
    # widths from arguments, positions, names
    (("%*d|%-*d|%*d", 4, 1, 4, 2, -4, 3), "   1|2   |3   "),
    (("%.*f", 1, 2.55), "2.5"),
    (("%[2]d %[1]d", 1, 2), "2 1"),
    (("%(a)s is %(b)q", {"a": 1, "b": "x"}), '1 is "x"'),
    (("%(a)s and %(c)d", {"a": 1}), "1 and %!d(MISSING)"),
    (("%(a)v", 3), "%!v(MISSING)%!(EXTRA int=3)"),
    # what is no text
    (("\ud800 %s", "\udfff"), "\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"),
    ((None,), "%!v(<nil>)"),
]


@pytest.mark.parametrize(("arguments", "text"), GO, ids=[repr(a[0])[:40] + str(i) for i, (a, _) in enumerate(GO)])
def test_go_formats(arguments, text):
    assert text == gofmt(*arguments)


@pytest.mark.client_go("REC-04")
def test_the_legacy_log_line():
    line = gofmt("Event(%#v): type: '%v' reason: '%v' %v", A, "Normal", "Started", "some verbose message: 1")
    assert f"Event({A_TEXT}): type: 'Normal' reason: 'Started' some verbose message: 1" == line


def test_a_value_within_itself_ends():
    loop = [1]
    loop.append(loop)
    table = {"a": loop}
    table["b"] = table
    assert "[1 ...]" == gofmt("%v", loop)
    assert "map[a:[1 ...] b:...]" == gofmt("%v", table)


def test_a_value_a_thousand_deep_ends():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert gofmt("%v", deep).startswith("[[[[")


def test_an_integer_that_python_will_not_print_is_said():
    assert "PANIC=String method: Exceeds the limit" in gofmt("%v", 10**10_000)


def test_pointers_are_some_number():
    assert gofmt("%p", {}).startswith("0x")


PYTHON_VALUES = st.integers() | st.floats() | st.text(max_size=8) | st.none() | st.booleans() | st.lists(st.integers())
DIRECTIVES = st.builds(
    "%{}{}{}{}".format,
    st.sampled_from(["", "-", "0", "+", " ", "#", "-0"]),
    st.sampled_from(["", "5", "12"]),
    st.sampled_from(["", ".0", ".3"]),
    st.sampled_from("sdiourcaeEfFgG"),
)


@given(st.lists(st.tuples(st.sampled_from(["", "a ", "%% "]), DIRECTIVES, PYTHON_VALUES), max_size=4))
def test_what_python_formats_comes_out_as_python_formats_it(parts):
    fmt = "".join(text + directive for text, directive, _ in parts)
    args = tuple(value for _, _, value in parts)
    try:
        expected = fmt % args
    except (TypeError, ValueError, OverflowError):
        return
    assert well_formed(expected) == gofmt(fmt, *args)


ANYTHING = st.recursive(
    PYTHON_VALUES
    | st.binary(max_size=4)
    | st.text(alphabet=st.characters(), max_size=4)
    | st.sampled_from([Broken(), BrokenTwice(), Colour.RED, A, object, 1j, Decimal("NaN"), Job("a", 1)]),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), v, max_size=3),
    max_leaves=5,
)
FORMATS = st.text(alphabet=st.sampled_from("%vdsqxXtTpbOUcf+-# 0.*123[]()a\ud800é"), max_size=14)


@given(FORMATS, st.lists(ANYTHING, max_size=4))
def test_nothing_makes_it_raise(fmt, args):
    text = gofmt(fmt, *args)
    text.encode()
    gosprint(*args).encode()


@pytest.mark.parametrize("verb", "vsdqxtTpbUOcfz")
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"k": v}])
def test_an_object_about_which_everything_raises_hides_nothing_else(verb, wrap):
    text = gofmt(f"%s %{verb} %d", "before", wrap(Hostile()), 3)
    assert ("before ", " 3") == (text[:7], text[-2:])
    assert gosprint("a", Hostile(), 1).startswith("a")


def test_a_format_that_is_no_text():
    assert "%!v([]uint8=[37 115])" == gofmt(b"%s", 1)
    assert "PANIC" in gofmt(Hostile())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((), ""), (("a", 1, 2, "b", None), "a1 2b<nil>"), ((1, 2), "1 2"), (("a", "b"), "ab"), (([1], {}), "[1] map[]")],
)
def test_sprint_puts_blanks_between_what_is_no_text(arguments, text):
    assert text == gosprint(*arguments)
