"""What an answer of the API server means: `answer_error`. Pure.

::

    429, 500, 502, 503, 504 and kin, 408 ─┐
    401: credentials to be renewed       ─┼─▶ SinkUnavailable: tried again, not before Retry-After
    a success that cannot be read        ─┘   (the write may have been done: its repeat meets 409)
    404 on a patch, get                  ───▶ NotFound
    everything else                      ───▶ SinkRejected: code, reason and cause as the Status says

The body of an answer is not trusted: it may be cut, no JSON, JSON of something else, or from a proxy on the way.
"""

from __future__ import annotations

import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from mpbroadcast.errors import NotFound, SinkError, SinkRejected, SinkUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["answer_error", "is_success", "missing_rule", "parse_object", "parse_retry_after"]

MOST_PATIENCE: Final = 600.0
"""Seconds that a server can make us wait at most: a wrong clock on one side must not stop everything for days."""

_TEXT_LIMIT: Final = 500  # characters of a message in an error
_FINAL_5XX: Final = frozenset({501, 505, 510})  # "not implemented" and kin do not pass
_ANONYMOUS: Final = '"system:anonymous"'

_FORBIDDEN: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)


def is_success(code: int) -> bool:
    """Say whether a status code means success."""
    return 200 <= code < 300


def parse_retry_after(value: str | None, now: float | None = None) -> float | None:
    """Read a ``Retry-After`` header: seconds, or an HTTP date.

    Returns:
        Seconds from now on, 0 to `MOST_PATIENCE`; None for what cannot be read.
    """
    if not value:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            when = parsedate_to_datetime(text)
            seconds = when.timestamp() - (time.time() if now is None else now)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), MOST_PATIENCE)


def parse_object(body: bytes) -> dict[str, Any] | None:
    """Read a body as a JSON object; None for anything else."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict else None


def answer_error(code: int, headers: Mapping[str, str], body: bytes, *, creating: bool = False) -> SinkError:
    """Turn an answer that is no success into an error to be raised.

    Args:
        code: the HTTP status code.
        headers: of the answer; looked up in lower case.
        body: of the answer, maybe garbage.
        creating: whether the request was a create: there a 404 means that the namespace is missing, and is final.
    """
    status = parse_object(body) or {}
    if status.get("kind") != "Status":
        status = {}
    message = _message(code, status, body)
    if 300 <= code < 400:
        return SinkRejected(f"the server answered {code}, a redirect, which is not followed", code=code)
    if _may_pass(code, message):
        return SinkUnavailable(message, code=code, retry_after=_retry_after(headers, status))
    reason, cause = _text(status.get("reason")), _cause(status)
    if code == 404 and not creating:
        return NotFound(message, reason=reason or "NotFound", cause=cause)
    return SinkRejected(message, code=code, reason=reason, cause=cause)


def _may_pass(code: int, message: str) -> bool:
    if code in {401, 408, 425, 429}:
        return True
    # Without credentials, because a plugin failed: not a matter of rules.
    if code == 403 and _ANONYMOUS in message:
        return True
    return code >= 500 and code not in _FINAL_5XX


def _message(code: int, status: dict[str, Any], body: bytes) -> str:
    text = " ".join(_text(status.get("message")).split())
    if not text:
        # What stands in a body that is no Status is mostly a page of a proxy; its beginning may help.
        text = " ".join(body[:120].decode(errors="replace").split())
        text = f"the server answered {code}: {text}" if text else f"the server answered {code}"
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _details(status: dict[str, Any]) -> dict[str, Any]:
    details = status.get("details")
    return details if isinstance(details, dict) else {}


def _cause(status: dict[str, Any]) -> str:
    causes = _details(status).get("causes")
    for cause in causes if isinstance(causes, list) else ():
        if isinstance(cause, dict) and _text(cause.get("reason")):
            return _text(cause.get("reason"))
    return ""


def _retry_after(headers: Mapping[str, str], status: dict[str, Any]) -> float | None:
    asked = parse_retry_after(headers.get("retry-after"))
    if asked is not None:
        return asked
    seconds = _details(status).get("retryAfterSeconds")
    return parse_retry_after(str(seconds)) if isinstance(seconds, int) and seconds > 0 else None


def missing_rule(error: SinkError) -> str | None:
    """Say in one line which rule a 403 asks for; None when that is not what it is about.

    The same line for every event of a namespace, so that it is easily said only once.
    """
    if getattr(error, "code", 0) != 403:
        return None
    found = _FORBIDDEN.search(str(error))
    if found is None:
        return None
    user, namespace = found["user"], found["namespace"]
    account = user.removeprefix("system:serviceaccount:").replace(":", "/", 1)
    who = f"service account {account}" if account != user else f"user {user}"
    where = f"in namespace {namespace}" if namespace else "in the whole cluster"
    return (
        f'{who} may not {found["verb"]} {found["resource"]} of API group "{found["group"]}" {where}: its role needs '
        f'apiGroups ["{found["group"]}"], resources ["{found["resource"]}"], verbs ["{found["verb"]}"]; '
        "mpbroadcast rbac prints the whole role"
    )
