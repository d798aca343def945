"""`FakeRecorder` and the fake sinks: they keep what they are given, and never block.

Both work without any other process. What a forked child records stays in the child.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.base.text import well_formed
from mpbroadcast.errors import InvalidEvent, NoReference, NotFound, SinkRejected, SinkUnavailable
from mpbroadcast.event.codec import DEFAULT_NAMESPACE
from mpbroadcast.event.goformat import gofmt
from mpbroadcast.event.model import Event
from mpbroadcast.event.names import event_name
from mpbroadcast.event.parts import EventSource, EventType, ObjectReference
from mpbroadcast.event.reference import get_reference
from mpbroadcast.event.scheme import DEFAULT_SCHEME
from mpbroadcast.store.merge import merge_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpbroadcast.base.clock import Clock
    from mpbroadcast.event.scheme import Scheme

__all__ = ["FakeBatchingSink", "FakeRecorder", "FakeSink", "SinkCall"]

_TYPES: Final = frozenset(EventType)


class FakeRecorder:
    """An ``EventRecorder`` for tests: keeps every event, as a value and as client-go's fakes would print it.

    Unlike a real recorder it is strict: what the real one would drop with a log line raises here, so that a test finds
    it. Unlike client-go's fakes it never blocks, and a ``%`` in a reason is not taken for a format (W47).

    Args:
        scheme: to look up the kind of objects that do not carry it; None: the kinds of the official client, as with a
            real recorder.
        source: the component that the events come from.
        include_object: whether the texts name the object, as those of ``tools/record`` with ``IncludeObject`` do.
        events_api: whether the texts are those of ``tools/events``, which have no annotations.
        verbose: whether they are those of ``tools/events`` with ``Verbose``: action, both objects, annotations.
        capacity: how many events it takes; any further one is refused with False and counted, as by a full lane.
        clock: when the events happen.

    Attributes:
        events: what was recorded, in order.
        texts: the same as texts (spec 2.8), such as ``Normal Started Pod started``.
        dropped: how many events were refused because of the capacity.

    Raises:
        ValueError: ``include_object`` together with ``events_api`` or ``verbose``: there are no such texts.
    """

    def __init__(
        self,
        *,
        scheme: Scheme | None = None,
        source: EventSource | str = "fake",
        include_object: bool = False,
        events_api: bool = False,
        verbose: bool = False,
        capacity: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if include_object and (events_api or verbose):
            raise ValueError("include_object is an option of tools/record, events_api and verbose of tools/events")
        self.events: list[Event] = []
        self.texts: list[str] = []
        self.dropped = 0
        self._scheme = DEFAULT_SCHEME if scheme is None else scheme
        self._source = EventSource(source) if isinstance(source, str) else source
        self._include_object = include_object
        self._events_api = events_api
        self._verbose = verbose
        self._capacity = capacity
        self._clock = clock

    def event(
        self,
        obj: Any,
        type: str,  # noqa: A002 - the field's name in Kubernetes
        reason: str,
        message: object,
        *,
        annotations: Mapping[str, str] | None = None,
        related: Any = None,
        action: str | None = None,
    ) -> bool:
        """Record an event with a literal message.

        Returns:
            True; False when the capacity is reached.

        Raises:
            InvalidEvent: the type is neither ``Normal`` nor ``Warning``, an object cannot be referenced, or a field
                is of a wrong type.
        """
        return self._record(obj, type, reason, str(message), annotations=annotations, related=related, action=action)

    def eventf(
        self,
        obj: Any,
        type: str,  # noqa: A002 - the field's name in Kubernetes
        reason: str,
        fmt: str,
        *args: object,
        annotations: Mapping[str, str] | None = None,
        related: Any = None,
        action: str | None = None,
    ) -> bool:
        """Record an event with a formatted message; a wrong argument shows in the message, as in Go (R13).

        Returns:
            True; False when the capacity is reached.

        Raises:
            InvalidEvent: as with `event`.
        """
        return self._record(
            obj, type, reason, gofmt(fmt, *args), annotations=annotations, related=related, action=action
        )

    def annotated_eventf(
        self,
        obj: Any,
        annotations: Mapping[str, str] | None,
        type: str,  # noqa: A002 - the field's name in Kubernetes
        reason: str,
        fmt: str,
        *args: object,
    ) -> bool:
        """Record an event with annotations and a formatted message.

        Returns:
            True; False when the capacity is reached.

        Raises:
            InvalidEvent: as with `event`.
        """
        return self._record(obj, type, reason, gofmt(fmt, *args), annotations=annotations)

    def with_logger(self, logger: object) -> Self:  # noqa: ARG002 - it logs nothing
        """Return this recorder."""
        return self

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self.events.clear()
        self.texts.clear()

    def _record(
        self,
        obj: Any,
        type_: str,
        reason: str,
        message: str,
        *,
        annotations: Mapping[str, str] | None,
        related: Any = None,
        action: str | None = None,
    ) -> bool:
        reference = self._reference(obj, "the object")
        other = None if related is None else self._reference(related, "the related object")
        _check_fields(type_, reason, annotations, action)
        if self._capacity is not None and len(self.events) >= self._capacity:
            self.dropped += 1
            return False
        now_ns = self._clock.now_ns()
        event = Event(
            name=event_name(reference.name, now_ns),
            namespace=reference.namespace or DEFAULT_NAMESPACE,
            annotations=annotations,
            involved_object=reference,
            related=other,
            type=str(type_),
            reason=reason,
            action=action or "",
            message=well_formed(message),
            source=self._source,
            reporting_controller=self._source.component,
            reporting_instance=self._source.host,
            count=1,
            first_timestamp=now_ns,
            last_timestamp=now_ns,
        )
        self.texts.append(self._text(event))
        self.events.append(event)
        return True

    def _reference(self, obj: Any, what: str) -> ObjectReference:
        try:
            return get_reference(obj, self._scheme)
        except NoReference as error:
            raise InvalidEvent(f"no reference can be made to {what}: {error}") from error

    def _text(self, event: Event) -> str:
        """Print an event as client-go's fakes do (spec 2.8)."""
        head, about, annotations = f"{event.type} {event.reason}", event.involved_object, _go_map(event.annotations)
        if self._verbose:
            return f"{head} {event.action} {event.message}{_kind(about)}{_kind(event.related)}{annotations}"
        if self._events_api:
            return f"{head} {event.message}"
        kind = f" involvedObject{{kind={about.kind},apiVersion={about.api_version}}}" if self._include_object else ""
        return f"{head} {event.message}{kind}{annotations}"


def _kind(reference: ObjectReference | None) -> str:
    if reference is None or not (reference.kind or reference.api_version):
        return ""
    return f" {{kind={reference.kind},apiVersion={reference.api_version}}}"


def _go_map(texts: Mapping[str, str]) -> str:
    """Print a map as Go does, with sorted keys, after a blank; nothing for an empty one."""
    return f" map[{' '.join(f'{key}:{texts[key]}' for key in sorted(texts))}]" if texts else ""


def _check_fields(type_: object, reason: object, annotations: object, action: object) -> None:
    if not isinstance(type_, str) or type_ not in _TYPES:
        raise InvalidEvent(f"the type of an event is Normal or Warning, not {type_!r}")
    if not isinstance(reason, str):
        raise InvalidEvent(f"the reason of an event is a string, not {reason!r}")
    if action is not None and not isinstance(action, str):
        raise InvalidEvent(f"the action of an event is a string, not {action!r}")
    if annotations is not None and not isinstance(annotations, Mapping):
        raise InvalidEvent(f"the annotations of an event are a mapping, not {annotations!r}")
    for key, value in (annotations or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidEvent(f"the annotations of an event are strings, not {key!r}: {value!r}")


@dataclass(frozen=True, slots=True)
class SinkCall:
    """One call of a sink.

    Attributes:
        op: ``create`` or ``patch``.
        event: what was given.
        patch: the patch, empty for a create.
        error: what was raised, or None.
    """

    op: str
    event: Event
    patch: bytes = b""
    error: Exception | None = None


class FakeSink:
    """A sink that behaves as an API server does, without one.

    Events are kept as core/v1 JSON, so what it returns has lost what JSON loses: times of the old shape are whole
    seconds, those of the new one whole microseconds. Every write gets the next resource version. Never blocks; not
    shared between processes.

    Args:
        faults: what the next calls raise, one for each call; None lets a call through.

    Attributes:
        calls: every create and patch, in order.
        closed: how often it was closed.
    """

    def __init__(self, faults: Iterable[Exception | None] = ()) -> None:
        self.calls: list[SinkCall] = []
        self.closed = 0
        self._faults: deque[Exception | None] = deque(faults)
        self._always: Exception | None = None
        self._stored: dict[tuple[str, str], dict[str, Any]] = {}
        self._version = 0

    @property
    def events(self) -> list[Event]:
        """What is stored, in the order of creation."""
        return [Event.from_core_v1(body) for body in self._stored.values()]

    def get(self, namespace: str, name: str) -> Event | None:
        """Return a stored event, or None."""
        body = self._stored.get((namespace, name))
        return None if body is None else Event.from_core_v1(body)

    def fail(self, *faults: Exception | None) -> None:
        """Let the next calls raise these, one for each call, and forget what was said before; None lets one through."""
        self._faults = deque(faults)

    def fail_always(self, fault: Exception | None) -> None:
        """Let every call without a fault of its own raise this; None ends that."""
        self._always = fault

    def expire(self, *names: str) -> None:
        """Remove stored events by name, as a server does after an hour; without names all of them."""
        for key in [key for key in self._stored if not names or key[1] in names]:
            del self._stored[key]

    def create(self, event: Event) -> Event:
        """Store an event that is not there yet."""
        return self._noted("create", event, b"", self._create)

    def patch(self, event: Event, patch: bytes) -> Event:
        """Change an event that is there."""
        return self._noted("patch", event, patch, self._patch)

    def close(self) -> None:
        """Count the call."""
        self.closed += 1

    def _noted(self, op: str, event: Event, patch: bytes, act: Callable[[Event, bytes], dict[str, Any]]) -> Event:
        try:
            self._raise_fault()
            body = act(event, patch)
        except Exception as error:
            self.calls.append(SinkCall(op, event, patch, error))
            raise
        self.calls.append(SinkCall(op, event, patch))
        return Event.from_core_v1(body)

    def _raise_fault(self) -> None:
        fault = self._faults.popleft() if self._faults else self._always
        if fault is not None:
            raise fault

    def _create(self, event: Event, _: bytes) -> dict[str, Any]:
        key = (event.namespace, event.name)
        if key in self._stored:
            raise SinkRejected(f'events "{event.name}" already exists', code=409, reason="AlreadyExists")
        return self._keep(key, event.to_core_v1())

    def _patch(self, event: Event, patch: bytes) -> dict[str, Any]:
        key = (event.namespace, event.name)
        if key not in self._stored:
            raise NotFound(f'events "{event.name}" not found')
        try:
            changes = orjson.loads(patch)
        except orjson.JSONDecodeError as error:
            raise SinkRejected(f"the patch is no JSON: {error}", code=400, reason="BadRequest") from error
        return self._keep(key, merge_patch(self._stored[key], changes))

    def _keep(self, key: tuple[str, str], body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        self._stored[key] = orjson.loads(orjson.dumps(body))
        return self._stored[key]


class FakeBatchingSink(FakeSink):
    """A `FakeSink` with transactions and positions, for what uses a `BatchingSink`.

    Attributes:
        commits: how many transactions were committed.
    """

    def __init__(self, faults: Iterable[Exception | None] = ()) -> None:
        super().__init__(faults)
        self.commits = 0
        self._positions: dict[str, int] = {}
        self._before: tuple[dict[tuple[str, str], dict[str, Any]], dict[str, int]] | None = None
        self._lost_commits = 0
        self._silent_commits = 0

    def lose_commits(self, count: int = 1, *, but_keep: bool = False) -> None:
        """Let the next commits fail.

        Args:
            count: how many.
            but_keep: whether they are durable all the same, and only seem to have failed.
        """
        self._lost_commits = count
        self._silent_commits = count if but_keep else 0

    def begin(self) -> None:
        """Open a transaction."""
        assert self._before is None, "a transaction is open already"
        self._before = (dict(self._stored), dict(self._positions))

    def commit(self) -> None:
        """Make the transaction durable, or lose it."""
        assert self._before is not None, "no transaction is open"
        before, self._before = self._before, None
        if self._lost_commits:
            self._lost_commits -= 1
            if self._silent_commits:
                self._silent_commits -= 1
            else:
                self._stored, self._positions = before
            raise SinkUnavailable("the transaction was lost")
        self.commits += 1

    def position(self, source: str) -> int:
        """Return up to where a source is stored; 0 for a source that is not known."""
        return self._positions.get(source, 0)

    def set_position(self, source: str, sequence: int) -> None:
        """Note, in the open transaction, up to where a source is stored."""
        assert self._before is not None, "no transaction is open"
        self._positions[source] = sequence
