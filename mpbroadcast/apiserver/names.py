"""The grammar of names, labels and annotations, with the real server's sentences for what breaks it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mpbroadcast.apiserver.status import Cause
from mpbroadcast.base.goquote import go_quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "invalid_value",
    "label_name_errors",
    "metadata_causes",
    "qualified_name_errors",
    "required",
    "subdomain_errors",
]

_SUBDOMAIN_PATTERN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_NAME_PATTERN: Final = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_PATTERN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_VALUE_PATTERN: Final = rf"({_NAME_PATTERN})?"

_SUBDOMAIN: Final = re.compile(_SUBDOMAIN_PATTERN)
_NAME: Final = re.compile(_NAME_PATTERN)
_LABEL: Final = re.compile(_LABEL_PATTERN)
_VALUE: Final = re.compile(_VALUE_PATTERN)

_SUBDOMAIN_LIMIT: Final = 253  # bytes
_NAME_LIMIT: Final = 63  # bytes, of a label's value as well
_ANNOTATIONS_LIMIT: Final = 256 * 1024  # bytes of all keys and values together


def _used(pattern: str, sentence: str, *examples: str) -> str:
    listed = " or ".join(f"'{example}', " for example in examples)
    return f"{sentence} (e.g. {listed}regex used for validation is '{pattern}')"


_NOT_A_SUBDOMAIN: Final = _used(
    _SUBDOMAIN_PATTERN,
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character",
    "example.com",
)
_NOT_A_LABEL: Final = _used(
    _LABEL_PATTERN,
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character",
    "my-name",
    "123-abc",
)
_NOT_A_NAME: Final = _used(
    _NAME_PATTERN,
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    "MyName",
    "my.name",
    "123-abc",
)
_NOT_A_VALUE: Final = _used(
    _VALUE_PATTERN,
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character",
    "MyValue",
    "my_value",
    "12345",
)


def required(field: str, detail: str = "") -> Cause:
    """Return the cause for a field that must not be empty."""
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", field)


def invalid_value(field: str, value: str, detail: str) -> Cause:
    """Return the cause for a field with a wrong value; the value is quoted as Go quotes it, and cut if it is long."""
    shown = value if len(value) <= 512 else value[:512] + "..."
    return Cause("FieldValueInvalid", f"Invalid value: {go_quote(shown)}: {detail}", field)


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def subdomain_errors(text: str) -> Iterator[str]:
    """Say what keeps a text from being a DNS-1123 subdomain."""
    if len(text.encode()) > _SUBDOMAIN_LIMIT:
        yield _too_long(_SUBDOMAIN_LIMIT)
    elif not _SUBDOMAIN.fullmatch(text):
        yield _NOT_A_SUBDOMAIN


def label_name_errors(text: str) -> Iterator[str]:
    """Say what keeps a text from being a DNS-1123 label, such as the name of a namespace."""
    if len(text.encode()) > _NAME_LIMIT:
        yield _too_long(_NAME_LIMIT)
    elif not _LABEL.fullmatch(text):
        yield _NOT_A_LABEL


def qualified_name_errors(text: str) -> Iterator[str]:
    """Say what keeps a text from being a qualified name, such as ``example.com/my-controller``."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        optional = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        yield f"a qualified name {_NOT_A_NAME} {optional}"
        return
    if slash:
        if prefix:
            yield from (f"prefix part {error}" for error in subdomain_errors(prefix))
        else:
            yield "prefix part must be non-empty"
    if not name:
        yield "name part must be non-empty"
    if len(name.encode()) > _NAME_LIMIT:
        yield f"name part {_too_long(_NAME_LIMIT)}"
    if not _NAME.fullmatch(name):
        yield f"name part {_NOT_A_NAME}"


def _path_segment_errors(name: str) -> Iterator[str]:
    if name in {".", ".."}:
        yield f"may not be '{name}'"
    yield from (f"may not contain '{character}'" for character in "/%" if character in name)


def metadata_causes(
    name: str, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Iterator[Cause]:
    """Say what is wrong with an object's metadata, whatever the object is."""
    if not name:
        yield required("metadata.name", "name or generateName is required")
    for error in _path_segment_errors(name):
        yield invalid_value("metadata.name", name, error)
    for error in label_name_errors(namespace):
        yield invalid_value("metadata.namespace", namespace, error)
    yield from _label_causes(labels)
    for key in annotations:
        for error in qualified_name_errors(key.lower()):
            yield invalid_value("metadata.annotations", key, error)
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        detail = f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes"
        yield Cause("FieldValueTooLong", detail, "metadata.annotations")


def _label_causes(labels: Mapping[str, str]) -> Iterator[Cause]:
    for key, value in labels.items():
        for error in qualified_name_errors(key):
            yield invalid_value("metadata.labels", key, error)
        if len(value.encode()) > _NAME_LIMIT:
            yield invalid_value("metadata.labels", value, _too_long(_NAME_LIMIT))
        elif not _VALUE.fullmatch(value):
            yield invalid_value("metadata.labels", value, _NOT_A_VALUE)
