"""Kubernetes' log lines: klog's functions and formats (spec F1), over Python's ``logging``.

Runs in: any process. Public as ``mpbroadcast.klog``.

::

    I0724 14:05:30.123456   12345 controller.py:395] "Event occurred" object="baz/foo" type="Normal" count=3
    ^                             ^                  ^                ^
    severity, date and            process id         message          structured: key=value pairs
    local time                    file:line

Every line goes to the logger ``klog``: whatever an application does with ``logging`` holds for it too. Where nothing is
configured lines go to standard error in klog's format. `KlogFormatter` gives this format to any handler and logger.
`set_output` gives lines to a file directly instead, several times as fast: for programs that log every event.

What a text of others could do to a terminal is done away with: control characters but tab and line break are written
as escapes. All functions are safe in any thread and after any fork; they block as long as the handler's output does.
They raise nothing for a wrong format or value, which shows in the line instead.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TextIO

from mpbroadcast.base.goformat import gofmt, gosprint
from mpbroadcast.base.goquote import go_escape, go_quote
from mpbroadcast.base.text import well_formed

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "KlogFormatter",
    "ObjectName",
    "V",
    "Verbose",
    "error",
    "error_s",
    "errorf",
    "flush",
    "has_output",
    "info",
    "info_s",
    "infof",
    "kobj",
    "kref",
    "set_output",
    "set_verbosity",
    "structured",
    "verbosity",
    "warning",
    "warningf",
]

_LOGGER: Final = logging.getLogger("klog")
_MISSING_VALUE: Final = "(MISSING)"
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    r"""Escape what is a command to a terminal; tab and line break stay."""
    if text.isprintable():
        return text
    return _CONTROLS.sub(lambda match: go_escape(match[0], quote=""), text)


# --- structured text -------------------------------------------------------------------------------------------------


class ObjectName:
    """Names an object in a structured line: ``"namespace/name"``, or ``"name"`` without a namespace."""

    __slots__ = ("name", "namespace")

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace = namespace
        self.name = name

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def __repr__(self) -> str:
        return f"ObjectName({self.namespace!r}, {self.name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectName):
            return NotImplemented
        return (self.namespace, self.name) == (other.namespace, other.name)

    def __hash__(self) -> int:
        return hash((self.namespace, self.name))


def kref(namespace: str, name: str) -> ObjectName:
    """Name an object by its namespace, which may be empty, and name."""
    return ObjectName(namespace, name)


def kobj(obj: Any) -> ObjectName:
    """Name an object: whatever has a name and namespace, itself, in its metadata, or as a mapping. None has no name."""
    holder = _member(obj, "metadata") or obj
    return ObjectName(str(_member(holder, "namespace") or ""), str(_member(holder, "name") or ""))


def _member(obj: Any, name: str) -> Any:
    return obj.get(name) if isinstance(obj, Mapping) else getattr(obj, name, None)


def _is_object(value: Any) -> bool:
    """Whether a value names an object of the API: a reference, an event, a model of a client. No mapping does."""
    if isinstance(value, (BaseException, Mapping)):
        return False
    holder = getattr(value, "metadata", None) or value
    return isinstance(getattr(holder, "name", None), str) and hasattr(holder, "namespace")


def _text_value(text: str) -> str:
    if "\n" not in text:
        return "=" + go_quote(text)
    lines = text.removesuffix("\n").split("\n")
    return "=<\n" + "".join([f"\t{line}\n" for line in lines]) + " >"


def _json_default(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_json_default, sort_keys=True)
    except (TypeError, ValueError):  # keys of several types, or a value within itself
        return go_quote(gofmt("%+v", value))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text_value(value)
    if value is None or isinstance(value, (bool, int, float)):
        return "=" + _json(value)
    if isinstance(value, (bytes, bytearray)):
        return "=" + go_quote(bytes(value).decode("utf-8", "replace"), ascii_only=True)
    if _is_object(value):
        return _text_value(str(kobj(value)))
    if isinstance(value, (Mapping, Sequence, set, frozenset)):
        plain = dict(value) if isinstance(value, Mapping) else list(value)
        return "=" + _json(plain)
    return _text_value(str(value))


def pair(key: object, value: object) -> str:
    """One key and value as `structured` writes them, with a blank before."""
    name = key if isinstance(key, str) else gofmt("%v", key)
    try:
        return f" {name}{_value(value)}"
    except Exception as error:  # noqa: BLE001 - as in klog a broken value does not lose the line
        return f" {name}={go_quote(gofmt('<panic: %s>', error))}"


def structured(msg: str, pairs: Iterable[tuple[object, object]] = ()) -> str:
    r"""Write a structured message, as klog does: ``"Event occurred" object="baz/foo" count=3``.

    Args:
        msg: the message, quoted with Go's escapes.
        pairs: keys and values, in order. Texts are quoted; one with a line break is written as ``=<``, its lines
            indented by a tab, and ``>``; what has a name and a namespace as ``"namespace/name"``; numbers, lists and
            mappings as JSON; everything else as its text. Of a repeated key the last value is written.

    Returns:
        The text without a header. Never raises for a value.
    """
    values: dict[object, object] = {}
    for key, value in pairs:
        name = key if isinstance(key, str) else gofmt("%v", key)
        values.pop(name, None)
        values[name] = value
    text = go_quote(gofmt("%v", msg)) + "".join([pair(key, value) for key, value in values.items()])
    return harmless(well_formed(text))


def _pairs(key_values: tuple[object, ...], named: Mapping[str, object]) -> list[tuple[object, object]]:
    keys, values = key_values[::2], list(key_values[1::2])
    if len(values) < len(keys):
        values.append(_MISSING_VALUE)
    return [*zip(keys, values, strict=True), *named.items()]


# --- the line --------------------------------------------------------------------------------------------------------

_SEVERITIES: Final = ((logging.CRITICAL, "F"), (logging.ERROR, "E"), (logging.WARNING, "W"))
_PID_DIGITS: Final = 10**7  # klog shows the last seven
_ROUNDING: Final = 0.2  # of a microsecond: more than a float of seconds since 1970 is off


@lru_cache(maxsize=64)
def _date(seconds: int, zone: tuple[str, str]) -> str:  # noqa: ARG001 - a new zone is a new date
    t = time.localtime(seconds)
    return f"{t.tm_mon:02d}{t.tm_mday:02d} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


class KlogFormatter(logging.Formatter):
    """Gives records of any logger klog's format (F1): ``I0102 15:04:05.000000   12345 file.py:10] text``.

    DEBUG and INFO have the letter I, then W, E and F; the time is local. The process id is that of the record: right
    in forked processes, and behind a queue handler that of the process that logged. Tracebacks follow on lines of
    their own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one record; does not block."""
        severity = "I"
        for level, letter in _SEVERITIES:
            if record.levelno >= level:
                severity = letter
                break
        seconds = int(record.created)
        microseconds = int((record.created - seconds) * 1e6 + _ROUNDING)
        pid = (record.process or os.getpid()) % _PID_DIGITS
        where = f"{record.filename}:{record.lineno}" if record.lineno else "???:1"
        head = f"{severity}{_date(seconds, time.tzname)}.{microseconds:06d} {pid:7d} {where}] "
        text = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        for more in (record.exc_text, self.formatStack(record.stack_info) if record.stack_info else None):
            if more:
                text = f"{text}\n{more}"
        return head + harmless(well_formed(text))


class _StandardError(logging.StreamHandler[Any]):
    """Standard error as it is at the time of the call, as `logging.lastResort` does it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(KlogFormatter())

    @property
    def stream(self) -> Any:
        """The stream to write to."""
        return sys.stderr


_FALLBACK: Final = _StandardError()


_output: TextIO | None = None
_second = (0, "")
_pid = os.getpid() % _PID_DIGITS


@lru_cache(maxsize=1024)
def _place(path: str, line: int) -> str:
    """Process, file and line as they stand in the header."""
    return f" {_pid:7d} {os.path.basename(path)}:{line}] "  # noqa: PTH119 - of a text, on a hot path


def _forked() -> None:
    global _pid  # noqa: PLW0603 - asking the kernel for each line costs a tenth of it
    _pid = os.getpid() % _PID_DIGITS
    _place.cache_clear()


os.register_at_fork(after_in_child=_forked)
_INFO: Final = logging.INFO


def set_output(stream: TextIO | None) -> None:
    """Write lines to a stream from now on, without ``logging``; None: through ``logging`` again.

    Of this process and its later children, so also of watchers that are started later. The stream is only flushed as it
    does so itself, and by `flush`, which watchers call before they count lines as handled.

    Args:
        stream: an open text file, in UTF-8. One that is opened for appending may be shared by processes.
    """
    global _output  # noqa: PLW0603 - one output for the process, as in klog
    _output = stream


def has_output() -> bool:
    """Whether `set_output` gave a stream."""
    return _output is not None


def flush() -> None:
    """Hand over what a stream of `set_output` still buffers. Blocks as long as that takes."""
    if _output is not None:
        _output.flush()


def _write(stream: TextIO, level: int, text: str, where: str) -> None:
    """One line to the stream of `set_output`."""
    global _second  # noqa: PLW0603 - the date of the second that is running; a race writes the same
    if level <= _LOGGER.manager.disable or level < _LOGGER.level:
        return
    severity = "I" if level <= _INFO else "W" if level == logging.WARNING else "E"
    microseconds = time.time_ns() // 1000
    seconds = microseconds // 1_000_000
    now, date = _second
    if now != seconds:
        date = _date(seconds, time.tzname)
        _second = (seconds, date)
    rest = microseconds - seconds * 1_000_000
    stream.write(f"{severity}{date}.{rest:06d}{where}{text}\n")


def _log(level: int, text: str, depth: int) -> None:
    """Hand a line over. ``depth`` counts the functions of this module between the user's line and this one."""
    text = harmless(well_formed(text))
    if _output is not None:
        frame = sys._getframe(depth + 1)  # noqa: SLF001 - documented for this use
        _write(_output, level, text, _place(frame.f_code.co_filename, frame.f_lineno))
    elif _LOGGER.hasHandlers():
        _LOGGER.log(level, text, stacklevel=depth + 2)
    elif level >= max(_LOGGER.level, _LOGGER.manager.disable + 1) and sys.stderr is not None:
        code = sys._getframe(depth + 1)  # noqa: SLF001 - documented for this use
        path, line, name = code.f_code.co_filename, code.f_lineno, code.f_code.co_name
        _FALLBACK.handle(_LOGGER.makeRecord(_LOGGER.name, level, path, line, text, (), None, name))


def begun_line(level: int, start: str, rest: str, place: tuple[str, int]) -> None:
    """One line whose start was put together before, for who logs many that begin alike.

    Args:
        level: of ``logging``.
        start: text that went through `harmless`, without lone surrogates.
        rest: text without lone surrogates that may hold anything else.
        place: file and line to show where lines go to the stream of `set_output`.
    """
    text = start + (rest if rest.isprintable() else harmless(rest))
    if _output is not None:
        _write(_output, level, text, _place(*place))
    else:
        _log(level, text, 1)


# --- klog's functions ------------------------------------------------------------------------------------------------

_verbosity = 0


def set_verbosity(level: int) -> None:
    """Let ``V(n)`` write what is at most at this level; 0 by default. Of this process and its later children."""
    global _verbosity  # noqa: PLW0603 - one level for the process, as in klog
    _verbosity = int(level)


def verbosity() -> int:
    """The level that was set."""
    return _verbosity


def infof(fmt: str, *args: object) -> None:
    """Log a formatted line; the format is `gofmt`'s. Fits ``start_logging(klog.infof)``."""
    _log(logging.INFO, gofmt(fmt, *args), 1)


def warningf(fmt: str, *args: object) -> None:
    """Log a formatted warning."""
    _log(logging.WARNING, gofmt(fmt, *args), 1)


def errorf(fmt: str, *args: object) -> None:
    """Log a formatted error."""
    _log(logging.ERROR, gofmt(fmt, *args), 1)


def info(*args: object) -> None:
    """Log values as Go's ``Sprint`` writes them: with blanks only between two that are no texts."""
    _log(logging.INFO, gosprint(*args), 1)


def warning(*args: object) -> None:
    """Log values as a warning."""
    _log(logging.WARNING, gosprint(*args), 1)


def error(*args: object) -> None:
    """Log values as an error."""
    _log(logging.ERROR, gosprint(*args), 1)


def info_s(msg: str, *key_values: object, **named: object) -> None:
    """Log a structured line: ``info_s("Pod started", "pod", klog.kobj(pod), count=3)``."""
    _log(logging.INFO, structured(msg, _pairs(key_values, named)), 1)


def error_s(err: object, msg: str, *key_values: object, **named: object) -> None:
    """Log a structured error; ``err``, if it is not None, comes first. Whatever the verbosity is, it is written."""
    _log(logging.ERROR, structured(msg, _with_error(err, _pairs(key_values, named))), 1)


def _with_error(err: object, pairs: list[tuple[object, object]]) -> list[tuple[object, object]]:
    return pairs if err is None else [("err", err), *pairs]


class Verbose:
    """What ``V(n)`` gives: true, and willing to log, where the verbosity is at least ``n``."""

    __slots__ = ("enabled",)

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    def __bool__(self) -> bool:
        return self.enabled

    def infof(self, fmt: str, *args: object) -> None:
        """Log a formatted line, or nothing."""
        if self.enabled:
            _log(logging.INFO, gofmt(fmt, *args), 1)

    def info(self, *args: object) -> None:
        """Log values, or nothing."""
        if self.enabled:
            _log(logging.INFO, gosprint(*args), 1)

    def info_s(self, msg: str, *key_values: object, **named: object) -> None:
        """Log a structured line, or nothing."""
        if self.enabled:
            _log(logging.INFO, structured(msg, _pairs(key_values, named)), 1)

    def error_s(self, err: object, msg: str, *key_values: object, **named: object) -> None:
        """Log a structured line with an error as information (letter I), or nothing."""
        if self.enabled:
            _log(logging.INFO, structured(msg, _with_error(err, _pairs(key_values, named))), 1)


_SILENT: Final = Verbose(False)
_SPEAKING: Final = Verbose(True)


def V(level: int) -> Verbose:  # noqa: N802 - klog's own name
    """Log only at this verbosity or a higher one: ``klog.V(2).infof(...)``, ``if klog.V(5): ...``."""
    return _SPEAKING if level <= _verbosity else _SILENT
