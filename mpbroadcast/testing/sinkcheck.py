"""The checks that every sink must pass, to be run by whoever writes one.

In a test of your own::

    from mpbroadcast.testing import check_sink

    def test_my_sink(tmp_path):
        check_sink(lambda: MySink(tmp_path / "events"))
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from itertools import count
from typing import Final

from mpbroadcast.errors import NotFound, SinkRejected
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSeries, EventSource, ObjectReference
from mpbroadcast.sinks.base import BatchingSink, EventSink, is_already_exists

__all__ = ["check_sink"]

Check = Callable[[EventSink], None]
"""Raises an `AssertionError` when the sink breaks the rule that its docstring says."""

_SECOND: Final = 1_000_000_000
_numbers: Final = count(1)

_AWKWARD: Final = "<b>&\"quoted\" 'and' \\back\\ \N{LINE SEPARATOR} é 日本 😀\ttab\nline\r\x01\x7f %s %d {} "


def check_sink(
    make_sink: Callable[[], EventSink],
    *,
    append_only: bool = False,
    other_namespace: str = "kube-system",
) -> None:
    """Check a sink against the rules of `mpbroadcast.sinks.base.EventSink`.

    Every check gets a sink of its own and uses event names of its own, so that they can share what they write to.

    Args:
        make_sink: makes a sink that is ready to write; the check closes it.
        append_only: the sink writes a log and can neither find nor change what it wrote: only creating and closing
            are checked.
        other_namespace: a namespace besides ``default`` that exists where the sink writes.

    Raises:
        AssertionError: one line for each check that failed.
    """
    checks: list[Check] = [_creates, _creates_awkward_text, _closes_twice]
    if not append_only:
        checks += [
            _refuses_a_second_create,
            _does_not_find_what_is_not_there,
            _patches,
            _patches_in_order,
            _patches_a_series,
            _takes_an_empty_patch,
            _keeps_namespaces_apart(other_namespace),
            _batches,
        ]
    failures = [line for check in checks if (line := _run(check, make_sink))]
    if failures:
        raise AssertionError("\n".join([f"the sink failed {len(failures)} of {len(checks)} checks:", *failures]))


def _run(check: Check, make_sink: Callable[[], EventSink]) -> str:
    """Run one check; returns a line about what is wrong, or nothing."""
    sink = make_sink()
    problem = _problem(lambda: check(sink)) or _problem(sink.close)
    return f"- {str(check.__doc__).splitlines()[0]} {problem}" if problem else ""


def _problem(act: Callable[[], object]) -> str:
    try:
        act()
    except AssertionError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a check that fails in an unexpected way has failed
        return f"{type(error).__name__}: {error}"
    return ""


def _event(**fields: object) -> Event:
    """Make an event of the old shape whose name nobody has used."""
    now_ns = time.time_ns()
    reference = ObjectReference(
        "Pod", str(fields.get("namespace", "default")), f"sinkcheck-{next(_numbers)}", "u", "v1"
    )
    defaults: dict[str, object] = {
        "name": f"{reference.name}.{now_ns:x}",
        "namespace": reference.namespace,
        "annotations": {"example.com/a": "1"},
        "involved_object": reference,
        "type": "Normal",
        "reason": "Checked",
        "message": "checked",
        "source": EventSource("sinkcheck", "host"),
        "reporting_controller": "sinkcheck",
        "reporting_instance": "host",
        "count": 1,
        "first_timestamp": now_ns,
        "last_timestamp": now_ns,
    }
    return Event(**(defaults | fields))  # type: ignore[arg-type]


def _same(wanted: Event, stored: Event) -> None:
    """Compare what a sink must keep; times may have been cut to whole seconds."""
    for name in ("name", "namespace", "involved_object", "type", "reason", "message", "count"):
        _equal(name, getattr(wanted, name), getattr(stored, name))
    _equal("annotations", dict(wanted.annotations), dict(stored.annotations))
    for name in ("first_timestamp", "last_timestamp"):
        _equal(name, _seconds(getattr(wanted, name)), _seconds(getattr(stored, name)))


def _seconds(t_ns: int | None) -> int | None:
    return None if t_ns is None else t_ns // _SECOND


def _equal(what: str, wanted: object, actual: object) -> None:
    if wanted != actual:
        raise AssertionError(f"{what} is {actual!r}, not {wanted!r}")


def _read(sink: EventSink, event: Event) -> Event:
    """Read an event back: an empty patch changes nothing and returns what is stored."""
    return sink.patch(event, b"{}")


def _creates(sink: EventSink) -> None:
    """A create returns what was stored."""
    event = _event()
    _same(event, sink.create(event))


def _creates_awkward_text(sink: EventSink) -> None:
    """Any text survives, and so does none."""
    for message in (_AWKWARD, "", "x" * 1000):
        event = _event(message=message)
        _same(event, sink.create(event))


def _closes_twice(sink: EventSink) -> None:
    """Closing twice is fine."""
    sink.close()
    sink.close()


def _refuses_a_second_create(sink: EventSink) -> None:
    """A create of what is there is refused with 409 AlreadyExists, and changes nothing."""
    event = _event()
    sink.create(event)
    try:
        sink.create(event.replace(message="another"))
    except NotFound as error:
        raise AssertionError(f"it raised {error!r}") from error
    except SinkRejected as error:
        if not is_already_exists(error):
            raise AssertionError(f"it was refused with {error.code} {error.reason!r}") from error
    else:
        raise AssertionError("it was taken")
    _same(event, _read(sink, event))


def _does_not_find_what_is_not_there(sink: EventSink) -> None:
    """A patch of what is not there raises NotFound."""
    try:
        sink.patch(_event(), b'{"count":2}')
    except NotFound:
        return
    raise AssertionError("it raised nothing")


def _patches(sink: EventSink) -> None:
    """A patch changes count, last time and message, nothing else, and gives a new resource version."""
    event = _event()
    first = sink.create(event)
    later = event.last_timestamp or 0
    wanted = event.replace(count=7, message="patched", last_timestamp=(later // _SECOND + 60) * _SECOND)
    last = wanted.to_core_v1()["lastTimestamp"]
    patch = f'{{"count":7,"lastTimestamp":"{last}","message":"patched"}}'.encode()
    second = sink.patch(wanted, patch)
    _same(wanted, second)
    _same(wanted, _read(sink, event))
    if not first.resource_version or first.resource_version == second.resource_version:
        raise AssertionError(f"the versions are {first.resource_version!r} and {second.resource_version!r}")


def _patches_in_order(sink: EventSink) -> None:
    """Of many patches the last one holds."""
    event = _event()
    sink.create(event)
    for number in range(2, 12):
        sink.patch(event, b'{"count":%d}' % number)
    _same(event.replace(count=11), _read(sink, event))


def _patches_a_series(sink: EventSink) -> None:
    """An event of the new shape keeps its time, and a patch gives it a series."""
    now_ns = time.time_ns() // _SECOND * _SECOND
    event = _event(
        action="checking",
        count=0,
        first_timestamp=None,
        last_timestamp=None,
        source=EventSource(""),
        event_time=now_ns + 123_456_000,
    )
    stored = sink.create(event)
    _equal("event_time", event.event_time, stored.event_time)
    series = EventSeries(2, now_ns + 5 * _SECOND)
    seen = event.replace(series=series).to_core_v1()["series"]["lastObservedTime"]
    stored = sink.patch(event, f'{{"series":{{"count":2,"lastObservedTime":"{seen}"}}}}'.encode())
    _equal("series", series, stored.series)


def _takes_an_empty_patch(sink: EventSink) -> None:
    """A patch that says nothing changes nothing."""
    event = _event()
    sink.create(event)
    _same(event, sink.patch(event, b"{}"))


def _keeps_namespaces_apart(other: str) -> Check:
    def check(sink: EventSink) -> None:
        event = _event()
        there = _event(namespace=other, name=event.name, message="of the other namespace")
        sink.create(event)
        sink.create(there)
        _same(event, _read(sink, event))
        _same(there, _read(sink, there))

    check.__doc__ = "Equal names in two namespaces are two events."
    return check


def _batches(sink: EventSink) -> None:
    """A sink with transactions keeps the position with the events, also when a write in between fails."""
    if not isinstance(sink, BatchingSink):
        return
    source = f"sinkcheck-{time.time_ns():x}-{next(_numbers)}"
    _equal("the position of an unknown source", 0, sink.position(source))
    events = [_event(), _event()]
    sink.begin()
    sink.create(events[0])
    with contextlib.suppress(SinkRejected):
        sink.create(events[0])
    sink.create(events[1])
    sink.set_position(source, 17)
    sink.commit()
    _equal("the position", 17, sink.position(source))
    for event in events:
        _same(event, _read(sink, event))
