"""What ``Accept`` asks for: plain objects, a Table for kubectl's columns, or metadata only; always JSON. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from mpbroadcast.apiserver.status import not_acceptable

__all__ = ["Accepted", "Form", "accepts", "negotiate", "parse_accept"]

_JSON: Final = {"application/json", "application/*", "*/*"}
_META_GROUP: Final = "meta.k8s.io"
_META_VERSIONS: Final = {"v1", "v1beta1"}
_RANGES: Final = 64  # of one header; nobody means more


class Form(Enum):
    """How objects are shown."""

    OBJECT = "object"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"


class Accepted(NamedTuple):
    """One media range that the client takes."""

    media_type: str
    parameters: dict[str, str]


class Negotiated(NamedTuple):
    """What is sent: a form, and the version of ``meta.k8s.io`` it is written in."""

    form: Form
    version: str = "v1"


def parse_accept(header: str) -> list[Accepted]:
    """Read an ``Accept`` header, what the client likes best first; empty without a header."""
    found: list[tuple[float, Accepted]] = []
    for part in header.split(",")[:_RANGES]:
        media_type, *parameters = (text.strip() for text in part.split(";"))
        if not media_type:
            continue
        pairs = {key.strip(): value.strip() for key, _, value in (text.partition("=") for text in parameters)}
        quality = _quality(pairs.pop("q", "1"))
        if quality > 0:
            found.append((quality, Accepted(media_type.lower(), pairs)))
    found.sort(key=lambda entry: -entry[0])
    return [accepted for _, accepted in found]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def accepts(header: str, *media_types: str) -> bool:
    """Tell whether the client names one of these media types outright."""
    return any(accepted.media_type in media_types for accepted in parse_accept(header))


def negotiate(header: str) -> Negotiated:
    """Return how to answer.

    Raises:
        ApiError: 406, the client takes no JSON.
    """
    if not header.strip():
        return Negotiated(Form.OBJECT)
    for media_type, parameters in parse_accept(header):
        if media_type not in _JSON:
            continue
        wanted = parameters.get("as", "").removesuffix("List")
        if not wanted:
            return Negotiated(Form.OBJECT)
        known = parameters.get("g") == _META_GROUP and parameters.get("v") in _META_VERSIONS
        if known and wanted in {Form.TABLE.value, Form.METADATA.value}:
            return Negotiated(Form(wanted), parameters["v"])
    raise not_acceptable()
