"""The JSON of events that have nearly everything in common: written once, with placeholders. Pure.

Runs in: the processes of sinks. A recorder's events differ in name, object, message and times; the rest is the same for
all of one source, namespace, type and reason, however many objects they are about.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import orjson

from mpbroadcast.event.codec import Static
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event.times import decode_time

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["make_template"]

# Placeholders: nobody can have written them into an event by chance or on purpose, and they need no JSON escapes.
_NAME: Final = secrets.token_hex(16)
_MESSAGE: Final = secrets.token_hex(16)
_OBJECT: Final = secrets.token_hex(16)
_SEEN: Final = "9997-01-02T03:04:05Z"  # a time has to stand where times stand


def make_template(
    shared: tuple[Any, ...],
    finish: Callable[[Event], Event] = lambda event: event,
    more: tuple[tuple[str, bytes], ...] = (),
) -> bytes | None:
    """Write an event of a recorder with placeholders.

    Args:
        shared: a static part without its involved object.
        finish: gives the event what else it has, with placeholders of the caller's.
        more: those placeholders, each with the directive that takes its place. They stand behind the name.

    Returns:
        JSON in the core/v1 shape, to be formatted with name, what ``more`` says, involved object, message, and the time
        twice, each as JSON. None where a placeholder stands in the texts of ``shared``.
    """
    seen = decode_time(_SEEN)
    static = Static(ObjectReference(kind=_OBJECT), *shared)
    sample = Event(**static._asdict(), name=_NAME, message=_MESSAGE, first_timestamp=seen, last_timestamp=seen, count=1)
    text = orjson.dumps(finish(sample).to_core_v1()).replace(b"%", b"%%")
    for placeholder, directive, count in (
        (f'"{_NAME}"', b"%b", 1),
        *((placeholder, directive, 1) for placeholder, directive in more),
        (f'{{"kind":"{_OBJECT}"}}', b"%b", 1),
        (f'"{_MESSAGE}"', b"%b", 1),
        (f'"{_SEEN}"', b"%b", 2),
    ):
        if text.count(placeholder.encode()) != count:
            return None
        text = text.replace(placeholder.encode(), directive)
    return text
