"""Format strings: Python's ``%``, with Go's verbs understood. Runs in: wherever ``eventf`` or `klog` is called.

Two rules:

* What Python's ``%`` can format, comes out as Python formats it: ``%s %d %i %5.2f %r %x %(name)s``.
* Everything else is Go's (R13): ``%v %+v %#v %q %t %T %p %U %b``, numbers given to ``%q``, texts given to ``%x``, and
  what Go writes into the text where an argument is wrong (``%!d(string=hi)``), missing (``%!s(MISSING)``) or too many
  (``%!(EXTRA int=3)``), instead of an error.

Bytes are the one exception: ``%s`` shows their text, as in Go, where Python would show ``b'...'``.

`gofmt` never raises: recording an event must not fail the caller's work. How values look is in `govalue`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from mpbroadcast.base.govalue import Spec, bad_verb, format_value, typed_text
from mpbroadcast.base.text import well_formed

__all__ = ["gofmt", "gosprint"]

_DIRECTIVE: Final = re.compile(
    r"%(?:\((?P<name>[^)]*)\))?(?P<flags>[-+# 0]*)"
    r"(?P<width>\*|[0-9]+)?(?:(?P<point>\.)(?P<precision>\*|[0-9]*))?(?:[hlL](?=[diouxXeEfFgGcrsa]))?"
    r"(?:\[(?P<index>[^\]]*)\])?(?P<verb>.)?",
    re.DOTALL,
)
_LIMIT: Final = 1_000_000  # Go's: a width or precision beyond it is refused
_PYTHON_VERBS: Final = frozenset("sdifFeEgGxXocrau")
_MISSING: Final = object()
_V: Final = Spec("v", "", None, None)


class _Directive(NamedTuple):
    """One ``%...`` of a format string, parsed."""

    name: str | None
    flags: str
    width: str | None
    precision: str | None
    position: str | None
    verb: str


class _Plan(NamedTuple):
    """A parsed format string.

    ``simple`` is the same string for Python's own operator, with ``%s`` for a plain ``%v``; that is right for arguments
    of the types in ``types``.
    """

    parts: tuple[str | Spec | _Directive, ...]
    simple: str | None
    types: frozenset[type]
    named: bool


_SAME_IN_GO: Final[frozenset[type]] = frozenset({str, int})  # %s and %v print these alike
_PLAIN: Final[frozenset[type]] = frozenset({str, int, float})


@lru_cache(maxsize=1024)
def _plan(fmt: str) -> _Plan:
    parts: list[str | Spec | _Directive] = []
    simple: list[str] = []
    is_simple = True
    types = _PLAIN
    named = False
    at = 0
    for match in _DIRECTIVE.finditer(fmt):
        parts.append(fmt[at : match.start()])
        simple.append(fmt[at : match.start()])
        at = match.end()
        name, flags, width, point, precision, position, verb = match.groups()
        if verb == "%":
            parts.append("%")
            simple.append("%%")
            continue
        precision = (precision or "0") if point else None
        parts.append(_ready(_Directive(name, flags, width, precision, position, verb or "")))
        named = named or name is not None
        if name is None and position is None and verb == "v" and not (flags or width or point):
            simple.append("%s")
            types = _SAME_IN_GO
        else:
            simple.append(match.group())
            plain = name is None and position is None and verb in _PYTHON_VERBS
            is_simple = is_simple and plain and "*" not in (width, precision) and _small(width) and _small(precision)
    parts.append(fmt[at:])
    simple.append(fmt[at:])
    return _Plan(tuple(part for part in parts if part != ""), "".join(simple) if is_simple else None, types, named)


def _ready(directive: _Directive) -> _Directive | Spec:
    """What needs nothing but the next argument is ready to be used."""
    name, flags, width, precision, position, verb = directive
    if name is not None or position is not None or not verb or "*" in (width, precision):
        return directive
    if not _small(width) or not _small(precision):
        return directive
    return Spec(verb, flags, None if width is None else int(width), None if precision is None else int(precision))


def _small(number: str | None) -> bool:
    return number is None or number == "*" or (len(number) <= 7 and int(number) <= _LIMIT)


def gofmt(fmt: str, *args: object) -> str:
    """Format a text. Never raises an `Exception`, never blocks; safe in any thread.

    Args:
        fmt: the format. It is applied without arguments too: write ``%%`` for a percent sign.
        args: the arguments; for ``%(name)s`` a single mapping.

    Returns:
        Text without lone surrogates. What was wrong with the format or an argument stands in it, as in Go.
    """
    try:
        plan = _plan(fmt)
        if plan.simple is not None and plan.types.issuperset(map(type, args)):
            try:
                return well_formed(plan.simple % args)
            except (TypeError, ValueError, OverflowError):
                pass  # a wrong argument: the long way says which
        return well_formed(_Formatting(args).run(plan))
    except Exception as error:  # noqa: BLE001 - the promise: a broken format fails nobody's work
        return _unusable(fmt, error)


def _unusable(fmt: object, error: Exception) -> str:
    """Say what can be said where not even the format could be read."""
    if issubclass(type(fmt), str):  # isinstance() would ask the object itself
        return well_formed(f"{fmt}%!(PANIC={type(error).__name__})")
    return bad_verb("v", fmt)


class _Formatting:
    """One call of `gofmt`: the arguments and which of them is next."""

    def __init__(self, args: tuple[object, ...]) -> None:
        self._args = args
        self._next = 0
        self._reordered = False
        self._named: Mapping[Any, Any] | None = None

    def run(self, plan: _Plan) -> str:
        args = self._args
        if plan.named and len(args) == 1 and isinstance(args[0], Mapping):
            self._named = args[0]
        out = []
        for part in plan.parts:
            if type(part) is str:
                out.append(part)
            elif type(part) is Spec:
                out.append(self._plain(part))
            else:
                assert isinstance(part, _Directive)
                out.append(self._directive(part))
        # As in Python, a single mapping may stay unused: the format may use some of it, or nothing.
        if self._named is None and not self._reordered and self._next < len(args):
            out.append(f"%!(EXTRA {', '.join([typed_text(arg) for arg in args[self._next :]])})")
        return "".join(out)

    def _take(self) -> object:
        if self._next >= len(self._args):
            return _MISSING
        self._next += 1
        return self._args[self._next - 1]

    def _plain(self, spec: Spec) -> str:
        at = self._next
        if at >= len(self._args):
            return f"%!{spec.verb}(MISSING)"
        self._next = at + 1
        arg = self._args[at]
        return arg if type(arg) is str and spec == _V else format_value(spec, arg)

    def _directive(self, directive: _Directive) -> str:
        name, flags, width_text, precision_text, position, verb = directive
        out = ""
        width, problem = self._number(width_text)
        if problem:
            out += "%!(BADWIDTH)"
        precision, problem = self._number(precision_text)
        if problem:
            out += "%!(BADPREC)"
        if precision is not None and precision < 0:
            precision = 0
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        if not verb:
            return out + "%!(NOVERB)"
        if position is not None and not self._jump(position):
            return f"{out}%!{verb}(BADINDEX)"
        arg = self._take() if name is None else self._look_up(name)
        if arg is _MISSING:
            return f"{out}%!{verb}(MISSING)"
        return out + format_value(Spec(verb, flags, width, precision), arg)

    def _number(self, text: str | None) -> tuple[int | None, bool]:
        """A width or precision, and whether it is one that cannot be used."""
        if text is None:
            return None, False
        if text != "*":
            return (int(text), False) if _small(text) else (None, True)
        arg = self._take()
        if isinstance(arg, int) and not isinstance(arg, bool) and -_LIMIT <= arg <= _LIMIT:
            return arg, False
        return None, True

    def _jump(self, position: str) -> bool:
        """Go to the argument that ``%[n]d`` names."""
        self._reordered = True
        if not position.isdecimal() or len(position) > 6 or not 1 <= int(position) <= len(self._args):
            return False
        self._next = int(position) - 1
        return True

    def _look_up(self, name: str) -> object:
        if self._named is None:
            return _MISSING
        try:
            return self._named[name]
        except Exception:  # noqa: BLE001 - a mapping of the user's own
            return _MISSING


def gosprint(*args: object) -> str:
    """Print values as Go's ``Sprint``: as ``%v``, with a blank between two that are no texts. Never raises."""
    out: list[str] = []
    for number, arg in enumerate(args):
        if number and not issubclass(type(arg), str) and not issubclass(type(args[number - 1]), str):
            out.append(" ")
        out.append(format_value(_V, arg))
    return well_formed("".join(out))
