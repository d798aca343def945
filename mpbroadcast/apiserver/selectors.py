r"""Field and label selectors: what they say, and which events they mean (spec 2.10). Pure.

Field selectors know ``=``, ``==`` and ``!=``, joined by commas, with ``\\`` before a comma, an equals sign or a
backslash in a value. Label selectors know these too, and ``in``, ``notin``, ``key`` and ``!key``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from mpbroadcast.apiserver.status import bad_request
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.store.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mpbroadcast.apiserver.resource import EventResource
    from mpbroadcast.event.model import Event

__all__ = ["Selected", "parse_fields", "parse_labels", "select"]

_TERMS: Final = 100  # of one selector; each is looked at for every event
_FIELD_OPERATOR: Final = re.compile(r"!=|==|=")
_UNESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)

_KEY: Final = r"(?:[A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_VALUE: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"
_EXISTS: Final = re.compile(rf"\s*(!?)\s*({_KEY})\s*")
_EQUALS: Final = re.compile(rf"\s*({_KEY})\s*(!=|==|=)\s*({_VALUE})\s*")
_SET: Final = re.compile(rf"\s*({_KEY})\s+(in|notin)\s*\(([^()]*)\)\s*")
_WHOLE_VALUE: Final = re.compile(_VALUE)


class FieldTerm(NamedTuple):
    """One term of a field selector."""

    field: str
    equal: bool
    value: str


class LabelTerm(NamedTuple):
    """One term of a label selector: the key's value is (not) among these; None for being there at all."""

    key: str
    wanted: bool
    values: frozenset[str] | None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an object with these labels is meant; what lacks the key is meant by every negation."""
        value = labels.get(self.key)
        if value is None:
            return not self.wanted
        return (self.values is None or value in self.values) is self.wanted


class Selected(NamedTuple):
    """Which events a request means.

    Attributes:
        selection: for the store.
        changeable: whether an event can begin or cease to be meant while it exists: the selectors look at something
            that an update may change.
    """

    selection: Selection
    changeable: bool


def _split(text: str, separator: str = ",") -> Iterator[str]:
    """Split at separators that stand neither behind a backslash nor inside parentheses."""
    part: list[str] = []
    depth = 0
    characters = iter(text)
    for character in characters:
        if character == "\\":
            part.append(character + next(characters, ""))
        elif character == separator and depth == 0:
            yield "".join(part)
            part = []
        else:
            depth += (character == "(") - (character == ")")
            part.append(character)
    yield "".join(part)


def parse_fields(text: str) -> tuple[FieldTerm, ...]:
    """Read a field selector.

    Raises:
        ApiError: 400.
    """
    terms = []
    for part in _split(text):
        if not part:
            continue
        operator = _FIELD_OPERATOR.search(part)
        if operator is None:
            raise bad_request(f"invalid selector: '{text[:256]}'; can't understand '{part[:256]}'")
        value = _UNESCAPED.sub(r"\1", part[operator.end() :])
        terms.append(FieldTerm(part[: operator.start()].strip(), operator.group() != "!=", value))
    if len(terms) > _TERMS:
        raise bad_request(f"a field selector has at most {_TERMS} terms")
    return tuple(terms)


def _label_term(part: str) -> LabelTerm | None:
    if match := _EXISTS.fullmatch(part):
        return LabelTerm(match[2], wanted=not match[1], values=None)
    if match := _EQUALS.fullmatch(part):
        return LabelTerm(match[1], wanted=match[2] != "!=", values=frozenset({match[3]}))
    if match := _SET.fullmatch(part):
        values = [value.strip() for value in match[3].split(",")]
        if all(_WHOLE_VALUE.fullmatch(value) for value in values):
            return LabelTerm(match[1], wanted=match[2] == "in", values=frozenset(values))
    return None


def parse_labels(text: str) -> tuple[LabelTerm, ...]:
    """Read a label selector.

    Raises:
        ApiError: 400.
    """
    terms = []
    for part in _split(text):
        if not part.strip():
            continue
        term = _label_term(part)
        if term is None:
            raise bad_request(f"unable to parse requirement: {part[:256]!r} of the label selector {text[:256]!r}")
        terms.append(term)
    if len(terms) > _TERMS:
        raise bad_request(f"a label selector has at most {_TERMS} terms")
    return tuple(terms)


def select(resource: EventResource, namespace: str, name: str, fields: str, labels: str) -> Selected:
    """Return which events a request means.

    Args:
        resource: whose field names are spoken.
        namespace: from the URL, "" for all.
        name: from the URL, "" for all.
        fields: the field selector.
        labels: the label selector.

    Raises:
        ApiError: 400.
    """
    field_terms, label_terms = parse_fields(fields), parse_labels(labels)
    for term in field_terms:
        if term.field not in resource.labels:
            raise bad_request(f"field label not supported: {term.field[:256]}")
    # For the index: the store looks only at events that have these. Whether one is really meant is decided by `keep`.
    wanted = {term.field: term.value for term in field_terms if term.equal}
    prefix = resource.involved
    selection = Selection(
        namespace=namespace or wanted.get("metadata.namespace", ""),
        name=name or wanted.get("metadata.name", ""),
        involved=ObjectReference(
            namespace=wanted.get(f"{prefix}.namespace", ""),
            name=wanted.get(f"{prefix}.name", ""),
            uid=wanted.get(f"{prefix}.uid", ""),
        ),
        types=(wanted["type"],) if "type" in wanted else (),
        reasons=(wanted["reason"],) if "reason" in wanted else (),
        keep=_keep(resource, field_terms, label_terms) if field_terms or label_terms else None,
    )
    fixed = {"metadata.name", "metadata.namespace"}
    return Selected(selection, bool(label_terms) or any(term.field not in fixed for term in field_terms))


def _keep(
    resource: EventResource, fields: tuple[FieldTerm, ...], labels: tuple[LabelTerm, ...]
) -> Callable[[Event], bool]:
    tests = [(resource.labels[term.field], term.equal, term.value) for term in fields]

    def keep(event: Event) -> bool:
        return all((read(event) == value) is equal for read, equal, value in tests) and all(
            term.matches(event.labels) for term in labels
        )

    return keep
