"""How a store refuses a write: the errors of a Kubernetes API server, in its words."""

from __future__ import annotations

from mpbroadcast.errors import NotFound, SinkRejected

__all__ = ["already_exists", "bad_request", "conflict", "invalid", "not_found", "unreadable"]


def not_found(name: str) -> NotFound:
    """404: there is no such event."""
    return NotFound(f'events "{name}" not found')


def already_exists(name: str) -> SinkRejected:
    """409: there is an event of that name."""
    return SinkRejected(f'events "{name}" already exists', code=409, reason="AlreadyExists")


def conflict(name: str, why: str) -> SinkRejected:
    """409: the write was meant for another state of the event."""
    return SinkRejected(f'Operation cannot be fulfilled on events "{name}": {why}', code=409, reason="Conflict")


def invalid(name: str, why: str) -> SinkRejected:
    """422: what would be stored is no event."""
    return SinkRejected(f'Event "{name}" is invalid: {" ".join(why.split())}', code=422, reason="Invalid")


def bad_request(why: str) -> SinkRejected:
    """400: what was sent makes no sense."""
    return SinkRejected(why, code=400, reason="BadRequest")


def unreadable(name: str, error: ValueError) -> SinkRejected:
    """500: what is stored is no event."""
    return SinkRejected(f'events "{name}" cannot be read: {error}', code=500, reason="InternalError")
