"""Which events of a store are meant, and what a store answers: pages and changes. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from mpbroadcast.errors import StoreError
from mpbroadcast.event.parts import ObjectReference

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpbroadcast.event.model import Event
    from mpbroadcast.event.wire import WatchEvent

__all__ = ["EVERYTHING", "Changes", "Page", "Selection", "Token"]

_ANY_OBJECT: Final = ObjectReference()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events are meant. Every given part must hold; a part that is empty holds for all.

    Attributes:
        namespace: where the event lives.
        name: the event's own name.
        involved: its kind (in any letter case), namespace, name, uid and API version are compared where non-empty. With
            a name the events are found through an index, whatever else is asked.
        types: any of these, exactly as written.
        reasons: any of these, exactly as written.
        keep: a further test for what is not listed here; it must not raise.
    """

    namespace: str = ""
    name: str = ""
    involved: ObjectReference = _ANY_OBJECT
    types: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    keep: Callable[[Event], bool] | None = None

    def matches(self, event: Event) -> bool:
        """Tell whether the event is meant."""
        wanted, involved = self.involved, event.involved_object
        return (
            self.namespace in {"", event.namespace}
            and self.name in {"", event.name}
            and wanted.name in {"", involved.name}
            and wanted.namespace in {"", involved.namespace}
            and wanted.uid in {"", involved.uid}
            and wanted.api_version in {"", involved.api_version}
            and (not wanted.kind or wanted.kind.lower() == involved.kind.lower())
            and (not self.types or event.type in self.types)
            and (not self.reasons or event.reason in self.reasons)
            and (self.keep is None or self.keep(event))
        )

    def where(self) -> tuple[str, list[str]]:
        """Return SQL that rules out events which cannot match, as ``AND ...`` terms, and its values.

        What SQL lets through still has to pass `matches`. A unary ``+`` keeps SQLite from using a term's index: it
        has no statistics and would walk a whole namespace to find one object in it.
        """
        terms: list[str] = []
        values: list[str] = []
        found = False
        for column, value, selective in (
            ("name", self.name, True),
            ("object_name", self.involved.name, True),
            ("object_uid", self.involved.uid, False),
            ("object_namespace", self.involved.namespace, False),
            ("namespace", self.namespace, bool(self.name)),
        ):
            if value:
                indexed = selective or not found
                found = found or selective
                terms.append(f"{'' if indexed else '+'}{column} = ?")
                values.append(value)
        for column, several in (("reason", self.reasons), ("type", self.types)):
            if several:
                terms.append(f"{'+' if found else ''}{column} IN ({', '.join('?' * len(several))})")
                values.extend(several)
                found = found or column == "reason"
        if self.types and "Normal" not in self.types:
            terms.append("type <> 'Normal'")  # the partial index on type is used only if this stands in the query
        return "".join(f" AND {term}" for term in terms), values


EVERYTHING: Final = Selection()


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        events: in the order of their creation.
        resource_version: the version of the store when the *first* page was read. Watching from here misses nothing.
        continue_: what to give for the next page, "" after the last one.
        unreadable: rows that were skipped since they hold no event.
    """

    events: tuple[Event, ...]
    resource_version: int
    continue_: str = ""
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened in a store after a version.

    Of several writes of one event only the last is there, and of an event that came and went in between nothing.

    Attributes:
        changes: oldest first, each ``ADDED``, ``MODIFIED`` or ``DELETED`` with the event; a deleted one in its last
            state, with the version of the deletion.
        resource_version: where to go on from.
        complete: False when deletions from that long ago were forgotten, or the version is not one of this store's.
            A watcher must list again then (an API server answers 410 Gone). ADDED and MODIFIED are complete anyway.
        unreadable: rows that were skipped since they hold no event.
    """

    changes: tuple[WatchEvent, ...]
    resource_version: int
    complete: bool = True
    unreadable: int = 0


class Token(NamedTuple):
    """Where the next page of a list begins: after this row, among what existed at this version."""

    resource_version: int
    after: int

    def encode(self) -> str:
        """Return it as a word that is safe in a URL."""
        return base64.urlsafe_b64encode(orjson.dumps([1, *self])).decode().rstrip("=")

    @classmethod
    def decode(cls, word: str) -> Token:
        """Read what `encode` wrote.

        Raises:
            StoreError: it is not such a word.
        """
        try:
            padded = word.encode("ascii") + b"=" * (-len(word) % 4)
            match orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True)):
                case [1, int(resource_version), int(after)] if 0 <= after <= resource_version < 1 << 63:
                    return cls(resource_version, after)
        except (ValueError, binascii.Error):
            pass
        raise StoreError("the continue token was not made by an event store")
