"""One value as Go's ``fmt`` prints it under one verb. Runs in: wherever `goformat` does.

What has no counterpart in Go is printed as what comes nearest: a set as a slice, a named tuple or dataclass as a
struct, an exception or anything with a ``__str__`` of its own as its text, an enum member as its value where that is
its text and by its name otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from mpbroadcast.base.goquote import go_quote, go_quote_rune

__all__ = ["Spec", "bad_verb", "format_value", "go_type", "typed_text"]

_DEPTH: Final = 64  # values in values; beyond it, and for a value within itself, "..." is printed

_Path = tuple[int, ...]  # the ids of the values around the one that is being printed

# The values of this package stand for Go's, whose printed type F2 shows.
_GO_PACKAGES: Final = {"mpbroadcast.event.parts": "v1"}
_INITIALISMS: Final = frozenset({"api", "id", "ip", "tls", "uid", "uri", "url"})


class Spec(NamedTuple):
    """One ``%...``: its verb, flags, width and precision."""

    verb: str
    flags: str
    width: int | None
    precision: int | None


class _WrongVerb(Exception):
    """This value is not printed with this verb."""


_V: Final = Spec("v", "", None, None)
_SHARP: Final = Spec("v", "#", None, None)


def format_value(spec: Spec, arg: object) -> str:
    """Print one argument. Never raises an `Exception`; whatever an argument's own code raises shows in the text."""
    try:
        return _format(spec, arg, ())
    except _WrongVerb:
        return bad_verb(spec.verb, arg)
    except Exception as error:  # noqa: BLE001 - Go recovers from a panicking String method in the same way
        return _panic(spec.verb, error)


def _panic(verb: str, error: Exception) -> str:
    try:
        text = str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - nothing about a broken object can be trusted
        text = type(error).__name__
    return f"%!{verb}(PANIC=String method: {text})"


def bad_verb(verb: str, arg: object) -> str:
    """Say, as Go does, that a value cannot be printed with a verb: ``%!d(string=hi)``."""
    return f"%!{verb}({typed_text(arg)})"


def typed_text(arg: object) -> str:
    """A value with its type, ``int=3``; ``<nil>`` for None. Never raises an `Exception`."""
    return "<nil>" if arg is None else f"{go_type(arg)}={format_value(_V, arg)}"


# --- types -----------------------------------------------------------------------------------------------------------

_TYPE_NAMES: Final[dict[type, str]] = {
    str: "string",
    int: "int",
    float: "float64",
    bool: "bool",
    bytes: "[]uint8",
    bytearray: "[]uint8",
    memoryview: "[]uint8",
    complex: "complex128",
    type(None): "<nil>",
}
_ANY: Final = "interface {}"


def _element_type(values: Sequence[object]) -> str:
    types = {type(value) for value in values}
    name = _TYPE_NAMES.get(types.pop(), _ANY) if len(types) == 1 else _ANY
    return _ANY if name == "<nil>" else name


def go_type(arg: object) -> str:
    """The type as ``%T`` prints it: Go's name where there is one, else Python's with its last module."""
    cls = type(arg)
    name = _TYPE_NAMES.get(cls)
    if name is not None:
        return name
    if cls is dict:
        assert isinstance(arg, dict)
        return f"map[{_element_type(list(arg))}]{_element_type(list(arg.values()))}"
    if cls in {list, tuple, set, frozenset}:
        assert isinstance(arg, (list, tuple, set, frozenset))
        return f"[]{_element_type(list(arg))}"
    module = str(cls.__module__)
    package = _GO_PACKAGES.get(module, module.rpartition(".")[2])
    return cls.__qualname__ if module == "builtins" else f"{package}.{cls.__qualname__}"


# --- containers ------------------------------------------------------------------------------------------------------


def _sort_key(value: object) -> tuple[int, Any]:
    """Go prints a map's keys in order: numbers by size, texts by their bytes, the rest by what it looks like."""
    if isinstance(value, (int, float)) and value == value:  # noqa: PLR0124 - NaN has no place in an order
        return 1, value
    if isinstance(value, str):
        return 2, value.encode("utf-8", "surrogatepass")
    return 3, format_value(_V, value).encode("utf-8", "surrogatepass")


def _items(arg: Any) -> list[Any] | None:
    """The elements of what Go would hold in a slice; None for anything else."""
    if isinstance(arg, AbstractSet):
        return sorted(arg, key=_sort_key)
    if isinstance(arg, (bytes, bytearray, memoryview)):
        return list(bytes(arg))
    if isinstance(arg, Sequence) and not isinstance(arg, (str, range)):
        return list(arg)
    return list(arg) if isinstance(arg, ValuesView) else None


def _fields(arg: Any) -> list[tuple[str, Any]] | None:
    """The fields of what Go would hold in a struct: a named tuple, a dataclass without a text of its own."""
    names = getattr(type(arg), "_fields", None)
    if isinstance(arg, tuple) and isinstance(names, tuple):
        return list(zip(names, arg, strict=False))
    if dataclasses.is_dataclass(arg) and not isinstance(arg, type) and type(arg).__str__ is object.__str__:
        return [(field.name, getattr(arg, field.name)) for field in dataclasses.fields(arg)]
    return None


@lru_cache(maxsize=1024)
def _own_struct(cls: type, values: tuple[Any, ...]) -> str:
    """``%#v`` of a value of this package. F2 prints one for each logged event, mostly of the same few objects."""
    texts = [
        f"{_go_name(name)}:{format_value(_SHARP, value)}"
        for name, value in zip(cls._fields, values, strict=True)  # type: ignore[attr-defined] # a named tuple
    ]
    return f"{_GO_PACKAGES[cls.__module__]}.{cls.__qualname__}{{{', '.join(texts)}}}"


def _go_name(name: str) -> str:
    """``api_version`` as Go spells it: ``APIVersion``."""
    return "".join([w.upper() if w in _INITIALISMS else w[:1].upper() + w[1:] for w in name.split("_")])


def _nested(spec: Spec, arg: Any, path: _Path) -> str:
    """A value within another: one with a wrong verb, or a broken one, does not hide its neighbours."""
    if len(path) > _DEPTH or id(arg) in path:
        return "..."
    try:
        return _format(spec, arg, path)
    except _WrongVerb:
        return bad_verb(spec.verb, arg)
    except Exception as error:  # noqa: BLE001 - as in `format_value`
        return _panic(spec.verb, error)


def _container(spec: Spec, arg: Any, path: _Path) -> str | None:
    """Print a map, struct or slice element by element with the same verb; None for what is none of them."""
    sharp = spec.verb == "v" and "#" in spec.flags
    comma = ", " if sharp else " "
    path = (*path, id(arg))
    if isinstance(arg, Mapping):
        pairs = [f"{_nested(spec, key, path)}:{_nested(spec, arg[key], path)}" for key in sorted(arg, key=_sort_key)]
        return f"{go_type(arg)}{{{comma.join(pairs)}}}" if sharp else f"map[{comma.join(pairs)}]"
    fields = _fields(arg)
    if fields is not None:
        named = spec.verb == "v" and ("+" in spec.flags or sharp)
        texts = [(f"{_go_name(name)}:" if named else "") + _nested(spec, value, path) for name, value in fields]
        return f"{go_type(arg)}{{{comma.join(texts)}}}" if sharp else f"{{{comma.join(texts)}}}"
    items = _items(arg)
    if items is None:
        return None
    texts = [_nested(spec, item, path) for item in items]
    return f"{go_type(arg)}{{{comma.join(texts)}}}" if sharp else f"[{comma.join(texts)}]"


# --- single values ---------------------------------------------------------------------------------------------------


def _pad(spec: Spec, text: str) -> str:
    if spec.width is None:
        return text
    return text.ljust(spec.width) if "-" in spec.flags else text.rjust(spec.width)


def _python(spec: Spec, arg: Any, verb: str, flags: str | None = None) -> str:
    """Format by Python's own operator, which knows these verbs, flags, widths and precisions as Go does."""
    width = "" if spec.width is None else str(spec.width)
    precision = "" if spec.precision is None else f".{spec.precision}"
    return f"%{spec.flags if flags is None else flags}{width}{precision}{verb}" % (arg,)


def _cut(spec: Spec, text: str) -> str:
    return text if spec.precision is None else text[: spec.precision]


def _go_float(value: float, precision: int | None) -> str:
    """Go's ``%g``: the shortest digits that give the same number, with an exponent below -4 and from 6 on."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if precision is not None:
        return f"{value:.{precision}g}"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = len(whole) - 1 + int(power or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0"
    if -5 < exponent < 6:
        if exponent < 0:
            return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
        digits = digits.ljust(exponent + 1, "0")
        point = "." if len(digits) > exponent + 1 else ""
        return f"{sign}{digits[: exponent + 1]}{point}{digits[exponent + 1 :]}"
    point = "." if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{point}{digits[1:]}e{exponent:+03d}"


def _go_number(spec: Spec, value: float | complex) -> str:  # noqa: PYI041 - mypy narrows it
    if isinstance(value, complex):
        real, imag = _go_float(value.real, spec.precision), _go_float(value.imag, spec.precision)
        return _pad(spec, f"({real}{'' if imag[0] in '+-' else '+'}{imag}i)")
    if isinstance(value, int):
        return _python(spec, value, "d", "".join([flag for flag in "- 0" if flag in spec.flags]))
    text = _go_float(value, spec.precision)
    if text[0] not in "+-":
        text = (" " if " " in spec.flags else "") + text
    if "0" in spec.flags and "-" not in spec.flags and spec.width is not None and math.isfinite(value):
        sign = text[0] if text[0] in "+- " else ""
        return sign + text[len(sign) :].rjust(spec.width - len(sign), "0")
    return _pad(spec, text)


def _text_of(arg: Any) -> str:
    """The text of a value that is neither number nor container. What its ``__str__`` raises is raised."""
    if isinstance(arg, str):
        return str.__str__(arg)
    if isinstance(arg, Enum):
        own = type(arg).__str__
        return arg.name if own is Enum.__str__ else str(arg)
    return str(arg)


def _bytes_text(arg: bytes | bytearray | memoryview) -> str:
    return bytes(arg).decode("utf-8", "replace")


def _value(spec: Spec, arg: Any, path: _Path) -> str:
    """``%v``, ``%+v`` and ``%#v``."""
    sharp = "#" in spec.flags
    if arg is None:
        return _pad(spec, "<nil>")
    if isinstance(arg, Enum):
        return _pad(spec, go_quote(_text_of(arg)) if sharp else _cut(spec, _text_of(arg)))
    if isinstance(arg, bool):
        return _pad(spec, "true" if arg else "false")
    if isinstance(arg, str):
        return _pad(spec, go_quote(arg) if sharp else _cut(spec, arg))
    if isinstance(arg, (int, float, complex)):
        return _go_number(spec, arg)
    if spec == _SHARP and isinstance(arg, tuple) and type(arg).__module__ in _GO_PACKAGES:
        return _own_struct(type(arg), arg)
    if not isinstance(arg, BaseException):
        text = _container(spec, arg, path)
        if text is not None:
            return text
    return _pad(spec, repr(arg) if sharp else _cut(spec, _text_of(arg)))


def _string(spec: Spec, arg: Any, path: _Path) -> str:  # noqa: ARG001 - one signature for all verbs
    """``%s``: Python's, but for bytes."""
    if isinstance(arg, (bytes, bytearray, memoryview)):
        arg = _bytes_text(arg)
    return _python(spec, str(arg), "s")


def _python_verb(spec: Spec, arg: Any, path: _Path) -> str:
    try:
        return _python(spec, arg, spec.verb)
    except (TypeError, OverflowError, ValueError):
        return _elements(spec, arg, path)


def _elements(spec: Spec, arg: Any, path: _Path) -> str:
    """Go prints a slice or map under any verb, element by element."""
    text = None if isinstance(arg, (str, BaseException)) or arg is None else _container(spec, arg, path)
    if text is None:
        raise _WrongVerb
    return text


def _hex(spec: Spec, arg: Any, path: _Path) -> str:
    upper = spec.verb == "X"
    if isinstance(arg, str):
        arg = arg.encode("utf-8", "replace")
    if isinstance(arg, (bytes, bytearray, memoryview)):
        data = bytes(arg) if spec.precision is None else bytes(arg)[: spec.precision]
        spaced = " " in spec.flags
        prefix = "0x" if "#" in spec.flags else ""
        pairs = [f"{byte:02x}" for byte in data]
        text = " ".join([prefix + pair for pair in pairs]) if spaced else (prefix if pairs else "") + "".join(pairs)
        return _pad(spec, text.upper() if upper else text)
    if isinstance(arg, float) and math.isfinite(arg):
        mantissa, _, exponent = arg.hex().partition("p")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").removesuffix(".")
        text = ("+" if "+" in spec.flags and arg >= 0 else "") + f"{mantissa}p{int(exponent):+03d}"
        return _pad(spec, text.upper() if upper else text)
    return _python_verb(spec, arg, path)


def _quote(spec: Spec, arg: Any, path: _Path) -> str:
    if arg is None or isinstance(arg, (bool, float, complex)):
        raise _WrongVerb
    ascii_only = "+" in spec.flags
    if isinstance(arg, int) and not isinstance(arg, Enum):
        return _pad(spec, go_quote_rune(arg, ascii_only=ascii_only))
    if isinstance(arg, (bytes, bytearray, memoryview)):
        arg = _bytes_text(arg)
    elif not isinstance(arg, (str, Enum, BaseException)):
        text = _container(spec, arg, path)
        if text is not None:
            return text
    text = _cut(spec, _text_of(arg))
    if "#" in spec.flags and "`" not in text and all(char == "\t" or char.isprintable() for char in text):
        return _pad(spec, f"`{text}`")
    return _pad(spec, go_quote(text, ascii_only=ascii_only))


def _bool(spec: Spec, arg: Any, path: _Path) -> str:
    return _pad(spec, "true" if arg else "false") if isinstance(arg, bool) else _elements(spec, arg, path)


def _binary(spec: Spec, arg: Any, path: _Path) -> str:
    if not isinstance(arg, int) or isinstance(arg, bool):
        return _elements(spec, arg, path)
    sign = "-" if arg < 0 else "+" if "+" in spec.flags else " " if " " in spec.flags else ""
    prefix = {"b": "0b", "O": "0o"}[spec.verb] if "#" in spec.flags or spec.verb == "O" else ""
    digits = f"{abs(arg):{'b' if spec.verb == 'b' else 'o'}}"
    if "0" in spec.flags and "-" not in spec.flags and spec.width is not None:
        digits = digits.rjust(spec.width - len(sign), "0")
    return _pad(spec, sign + prefix + digits)


def _unicode(spec: Spec, arg: Any, path: _Path) -> str:
    if not isinstance(arg, int) or isinstance(arg, bool):
        return _elements(spec, arg, path)
    shown = f" '{chr(arg)}'" if "#" in spec.flags and 0 <= arg <= 0x10FFFF and chr(arg).isprintable() else ""
    return _pad(spec, f"U+{arg:04X}{shown}")


def _pointer(spec: Spec, arg: Any, path: _Path) -> str:  # noqa: ARG001 - one signature for all verbs
    if arg is None or isinstance(arg, (bool, int, float, complex, str, bytes)):
        raise _WrongVerb
    return _pad(spec, f"{id(arg):#x}")


def _type(spec: Spec, arg: Any, path: _Path) -> str:  # noqa: ARG001 - one signature for all verbs
    return _pad(spec, go_type(arg))


_VERBS: Final[dict[str, Callable[[Spec, Any, _Path], str]]] = {
    "v": _value,
    "s": _string,
    "q": _quote,
    "x": _hex,
    "X": _hex,
    "t": _bool,
    "T": _type,
    "p": _pointer,
    "b": _binary,
    "O": _binary,
    "U": _unicode,
    **dict.fromkeys("diufFeEgGocra", _python_verb),
}


def _format(spec: Spec, arg: Any, path: _Path) -> str:
    verb = _VERBS.get(spec.verb)
    if verb is None:
        raise _WrongVerb
    return verb(spec, arg, path)
