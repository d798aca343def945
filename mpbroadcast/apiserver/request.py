"""What a writing request says: its body as an object, its patch, its options; and the warnings it earns.

Runs in: the server's event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.apiserver import status
from mpbroadcast.apiserver.app import read_body
from mpbroadcast.apiserver.operations import PATCH_TYPES, Preconditions, decode
from mpbroadcast.apiserver.schema import CORE_EVENT, NEW_EVENT, unknown_fields
from mpbroadcast.base.goquote import go_quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from mpbroadcast.apiserver.resource import EventResource

__all__ = ["FieldCheck", "delete_options", "dry_run", "read_json_object", "read_patch"]

_JSON: Final = "application/json"
_FIELD_VALIDATIONS: Final = {"", "Ignore", "Warn", "Strict"}
_WARNINGS: Final = 20  # headers of one answer


@dataclass(slots=True)
class FieldCheck:
    """Looks for fields that an event does not have: refuses them, warns of them, or does nothing.

    Attributes:
        resource: whose fields.
        mode: the query parameter ``fieldValidation``; "" is ``Warn``.
        unknown: what was found.
    """

    resource: EventResource
    mode: str
    unknown: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, request: Request, resource: EventResource) -> FieldCheck:
        """Read the mode from a request.

        Raises:
            ApiError: 400, there is no such mode.
        """
        mode = request.query_params.get("fieldValidation", "")
        if mode not in _FIELD_VALIDATIONS:
            raise status.bad_request(f"fieldValidation: Unsupported value: {mode[:64]!r}: Ignore, Warn or Strict")
        return cls(resource, mode)

    def __call__(self, body: Mapping[str, Any]) -> None:
        """Look at an object.

        Raises:
            ApiError: 400, if unknown fields are refused and there are some.
        """
        if self.mode == "Ignore":
            return
        self.unknown = list(unknown_fields(body, NEW_EVENT if self.resource.strict else CORE_EVENT))
        if self.unknown and self.mode == "Strict":
            errors = ", ".join(self._sentences())
            raise status.bad_request(
                f'Event in version "{self.resource.api_version}" cannot be handled as a Event: '
                f"strict decoding error: {errors}"
            )

    def _sentences(self) -> list[str]:
        return [f"unknown field {go_quote(name[:256])}" for name in self.unknown[:_WARNINGS]]

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the warnings as headers."""
        sentences = [go_quote(sentence).encode("ascii", "backslashreplace") for sentence in self._sentences()]
        return [(b"warning", b"299 - " + sentence) for sentence in sentences]


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json_object(request: Request) -> dict[str, Any]:
    """Return the object in the body.

    Raises:
        ApiError: 400, 408, 413, 415.
    """
    if _media_type(request) not in {"", _JSON}:
        raise status.unsupported_media_type(_JSON)
    body = decode(await read_body(request))
    if not isinstance(body, dict):
        raise status.bad_request("the body of the request is no object")
    return body


async def read_patch(request: Request) -> tuple[Any, Callable[[Any, Any], Any]]:
    """Return the patch in the body, and what applies it.

    Raises:
        ApiError: 400, 408, 413, 415.
    """
    apply = PATCH_TYPES.get(_media_type(request))
    if apply is None:
        raise status.unsupported_media_type(*PATCH_TYPES)
    changes = decode(await read_body(request))
    if not isinstance(changes, dict | list):
        raise status.bad_request("the patch is neither an object nor a list")
    return changes, apply


def dry_run(request: Request, *more: object) -> bool:
    """Tell whether nothing is to be kept.

    Raises:
        ApiError: 400, a value that does not exist.
    """
    values = [*request.query_params.getlist("dryRun"), *more]
    for value in values:
        if value not in {"", "All"}:
            raise status.bad_request(f"dryRun: Unsupported value: {str(value)[:64]!r}: only All is supported")
    return "All" in values


async def delete_options(request: Request) -> tuple[Preconditions, bool]:
    """Return what must hold for a deletion, and whether it is a dry run.

    Raises:
        ApiError: 400, 408, 413, 415.
    """
    if _media_type(request) not in {"", _JSON}:
        raise status.unsupported_media_type(_JSON)
    encoded = await read_body(request)
    body = decode(encoded) if encoded.strip() else {}
    if not isinstance(body, dict):
        raise status.bad_request("the delete options are no object")
    wanted = body.get("preconditions") or {}
    runs = body.get("dryRun") or []
    if not isinstance(wanted, dict) or not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
        raise status.bad_request("the delete options have a field of a wrong type")
    texts = [wanted.get(key) or "" for key in ("uid", "resourceVersion")]
    if not all(isinstance(text, str) for text in texts):
        raise status.bad_request("a precondition of the delete options is no string")
    return Preconditions(*texts), dry_run(request, *runs)
