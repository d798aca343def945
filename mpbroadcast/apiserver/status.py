"""The errors of a Kubernetes API: a code, a reason for programs, a sentence for people, what was wrong. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpbroadcast.errors import SinkRejected

__all__ = [
    "ApiError",
    "Cause",
    "bad_request",
    "conflict",
    "expired",
    "from_store",
    "internal_error",
    "invalid",
    "method_not_allowed",
    "not_acceptable",
    "not_found",
    "not_supported",
    "success",
    "unknown_path",
    "unsupported_media_type",
    "version_too_large",
]

_TOO_MANY_CAUSES: Final = 50  # of one answer; a client that gets everything wrong learns enough from these


class Cause(NamedTuple):
    """One thing that is wrong with an object: a machine-readable reason, a sentence, and the field's path."""

    reason: str
    message: str
    field: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        code: the HTTP status code.
        reason: the machine-readable reason of the Status, or "".
        details: of the Status, or None.
        headers: of the answer.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the Status object, keys in Go's order."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = dict(self.details)
        return status | {"code": self.code}


def success(name: str, uid: str) -> dict[str, Any]:
    """Return the Status that answers a deletion."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": name, "kind": "events", "uid": uid},
    }


def bad_request(message: str) -> ApiError:
    """400: the request makes no sense."""
    return ApiError(400, "BadRequest", message)


def not_found(resource: str, name: str) -> ApiError:
    """404: there is no such object."""
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', details={"name": name, "kind": resource})


def unknown_path() -> ApiError:
    """404: there is no such resource."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", details={})


def method_not_allowed() -> ApiError:
    """405: the resource does not do that."""
    return ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource", details={}
    )


def not_acceptable() -> ApiError:
    """406: this server writes JSON only."""
    return ApiError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/json;stream=watch",
    )


def unsupported_media_type(*accepted: str) -> ApiError:
    """415: the body is in a format that is not read here."""
    return ApiError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}",
    )


def conflict(name: str, why: str) -> ApiError:
    """409: the write was meant for another state of the event."""
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on events "{name}": {why}',
        details={"name": name, "kind": "events"},
    )


def expired(message: str) -> ApiError:
    """410: that state of the store is forgotten; list again."""
    return ApiError(410, "Expired", message)


def version_too_large(asked: int, current: int) -> ApiError:
    """504: that state of the store has not come yet, and nobody waits for it."""
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    return ApiError(504, "Timeout", message, details=details, headers={"Retry-After": "1"})


def internal_error(message: str) -> ApiError:
    """500: the server could not do its work."""
    details = {"causes": [{"message": message}]}
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", details=details)


def invalid(kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object breaks rules; each of them is a cause."""
    # The same sentence twice is said once, as Kubernetes' aggregated errors do.
    sentences = list(dict.fromkeys(str(cause) for cause in causes[:_TOO_MANY_CAUSES]))
    text = sentences[0] if len(sentences) == 1 else f"[{', '.join(sentences)}]"
    details: dict[str, Any] = {"name": name} if name else {}
    details["kind"] = kind
    details["causes"] = [cause._asdict() for cause in causes[:_TOO_MANY_CAUSES]]
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details=details)


def not_supported(message: str) -> ApiError:
    """422: the patch cannot be carried out on this object; the API server's own words for it say little."""
    return ApiError(
        422, "Invalid", f"the server rejected our request due to an error in our request: {message}", details={}
    )


def from_store(error: SinkRejected, name: str) -> ApiError:
    """Return what a store refused as an API error."""
    return ApiError(error.code or 500, error.reason, str(error), details={"name": name, "kind": "events"})
