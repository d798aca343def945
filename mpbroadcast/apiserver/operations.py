"""What can be done with events: the real API server's rules over a `Store`. Runs in: the thread that owns the store.

Every function blocks on the file, changes it in one transaction, and raises `ApiError` for what the server would
refuse.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from mpbroadcast.apiserver import status
from mpbroadcast.apiserver.patches import json_patch, strategic_merge_patch
from mpbroadcast.apiserver.validation import validate_create, validate_update
from mpbroadcast.errors import NotFound, SinkRejected
from mpbroadcast.event.model import Event
from mpbroadcast.store.merge import merge_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mpbroadcast.apiserver.resource import EventResource
    from mpbroadcast.store.selection import Selection
    from mpbroadcast.store.sqlite import Store

__all__ = [
    "PATCH_TYPES",
    "Preconditions",
    "create",
    "decode",
    "delete",
    "delete_collection",
    "get",
    "patch",
    "read_object",
    "update",
]

# Of a generated name: letters that make no words, and no digits that look like letters, as in Kubernetes.
_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH: Final = 5
_PREFIX_LIMIT: Final = 58  # bytes of generateName that are used
_NAME_TRIES: Final = 8  # as often as the real server looks for a free name
_DELETE_STEP: Final = 500  # events of one transaction

PATCH_TYPES: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "application/json-patch+json": json_patch,
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": strategic_merge_patch,
}
"""How each kind of patch is applied to an object."""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """Of a deletion: only this object, only in this version; "" for any."""

    uid: str = ""
    resource_version: str = ""

    def check(self, event: Event) -> None:
        """Refuse another object or version.

        Raises:
            ApiError: 409.
        """
        for what, wanted, actual in (
            ("UID", self.uid, event.uid),
            ("ResourceVersion", self.resource_version, event.resource_version),
        ):
            if wanted not in {"", actual}:
                raise status.conflict(
                    event.name,
                    f"Precondition failed: {what} in precondition: {wanted[:256]}, {what} in object meta: {actual}",
                )


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turn what the store refuses into API errors."""
    try:
        yield
    except SinkRejected as error:
        raise status.from_store(error, name) from error


@contextmanager
def _transaction(store: Store, *, dry_run: bool = False) -> Iterator[None]:
    store.begin()
    try:
        yield
    except BaseException:
        store.rollback()
        raise
    if dry_run:
        store.rollback()
    else:
        store.commit()


def read_object(resource: EventResource, body: Mapping[str, Any]) -> Event:
    """Read an event that a client sent.

    Raises:
        ApiError: 400, it is none of this group and version.
    """
    api_version, kind = body.get("apiVersion") or resource.api_version, body.get("kind") or "Event"
    if api_version != resource.api_version:
        shown = str(api_version)[:256]
        raise status.bad_request(
            f"the API version in the data ({shown}) does not match the expected API version ({resource.api_version})"
        )
    if kind != "Event":
        raise status.bad_request(
            f'{str(kind)[:256]} in version "{resource.api_version}" cannot be handled as a Event: it is another kind'
        )
    try:
        return resource.read(body)
    except ValueError as error:
        message = str(error).removeprefix("not an event: ")
        raise status.bad_request(
            f'Event in version "{resource.api_version}" cannot be handled as a Event: {message}'
        ) from error


def _in_namespace(event: Event, namespace: str) -> Event:
    if event.namespace not in {"", namespace}:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return event.replace(namespace=namespace)


def get(store: Store, namespace: str, name: str) -> Event:
    """Return one event.

    Raises:
        ApiError: 404.
    """
    with _refusals(name):
        return store.get(namespace, name)


def create(
    store: Store, resource: EventResource, namespace: str, event: Event, *, generate: str = "", dry_run: bool = False
) -> Event:
    """Store a new event.

    Args:
        store: where.
        resource: whose rules hold.
        namespace: from the URL.
        event: what the client sent.
        generate: ``metadata.generateName``, of which a name is made if there is none.
        dry_run: do everything but keep it.

    Raises:
        ApiError: 400, 409, 422.
    """
    if event.resource_version:
        raise status.bad_request("resourceVersion should not be set on objects to be created")
    wanted = _in_namespace(event, namespace)
    if wanted.name or not generate:
        return _create(store, resource, wanted, dry_run=dry_run)
    for _ in range(_NAME_TRIES):
        suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(_SUFFIX_LENGTH))
        try:
            return _create(store, resource, wanted.replace(name=generate[:_PREFIX_LIMIT] + suffix), dry_run=dry_run)
        except status.ApiError as error:
            if error.reason != "AlreadyExists":
                raise
    message = f'no free name was found for "{generate[:256]}", try again'
    raise status.ApiError(409, "AlreadyExists", message, details={"name": generate, "kind": "events"})


def _create(store: Store, resource: EventResource, event: Event, *, dry_run: bool) -> Event:
    validate_create(event, resource)
    with _refusals(event.name):
        if not dry_run:
            return store.create(event)
        with _transaction(store, dry_run=True):
            return store.create(event)


def update(
    store: Store, resource: EventResource, namespace: str, name: str, event: Event, *, dry_run: bool = False
) -> tuple[Event, bool]:
    """Put an event in the place of the stored one, or create it: events may be created by an update.

    Without a ``resourceVersion`` it replaces whatever is there.

    Returns:
        The event as stored, and whether it is new.

    Raises:
        ApiError: 400, 409, 422.
    """
    wanted = _in_namespace(event, namespace)
    if wanted.name != name:
        raise status.bad_request(
            f"the name of the object ({wanted.name[:256]}) does not match the name on the URL ({name[:256]})"
        )
    with _refusals(name), _transaction(store, dry_run=dry_run):
        try:
            current = store.get(namespace, name)
        except NotFound:
            if wanted.uid:
                Preconditions(uid=wanted.uid).check(Event(name=name))
            fresh = wanted.replace(resource_version="")
            validate_create(fresh, resource)
            return store.create(fresh), True
        return _replace(store, resource, current, wanted), False


def _replace(store: Store, resource: EventResource, current: Event, wanted: Event) -> Event:
    if wanted.resource_version not in {"", current.resource_version}:
        raise status.conflict(
            current.name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    Preconditions(uid=wanted.uid).check(current)
    validate_update(wanted, current, resource)
    return store.replace(wanted)


def patch(
    store: Store,
    resource: EventResource,
    namespace: str,
    name: str,
    changes: Any,
    *,
    apply: Callable[[Any, Any], Any],
    check: Callable[[Mapping[str, Any]], None] = lambda _: None,
    dry_run: bool = False,
) -> Event:
    """Change a stored event by a patch of the object that the client sees.

    Args:
        store: where.
        resource: in whose words the patch is written.
        namespace: of the event.
        name: of the event.
        changes: the patch.
        apply: one of `PATCH_TYPES`.
        check: looks at the patched object before anything else does.
        dry_run: do everything but keep it.

    Raises:
        ApiError: 400, 404, 409, 422.
    """
    with _refusals(name), _transaction(store, dry_run=dry_run):
        current = store.get(namespace, name)
        try:
            patched = apply(resource.write(current), changes)
        except ValueError as error:
            raise status.bad_request(str(error)) from error
        if not isinstance(patched, dict):
            raise status.bad_request("the patch leaves no object")
        check(patched)
        wanted = read_object(resource, patched)
        if wanted.name != name:
            raise status.bad_request(
                f"the name of the object ({wanted.name[:256]}) does not match the name on the URL ({name[:256]})"
            )
        if wanted.namespace != namespace:
            raise status.bad_request("the namespace of the object does not match the namespace on the URL")
        return _replace(store, resource, current, wanted)


def delete(store: Store, namespace: str, name: str, preconditions: Preconditions, *, dry_run: bool = False) -> Event:
    """Delete an event and return it as it was.

    Raises:
        ApiError: 404, 409.
    """
    with _refusals(name), _transaction(store, dry_run=dry_run):
        try:
            event = store.get(namespace, name)
        except SinkRejected as error:
            if isinstance(error, NotFound):
                raise
            event = Event(namespace=namespace, name=name)  # cannot be read, but can be deleted
        else:
            preconditions.check(event)
        store.delete(namespace, name)
    return event


def delete_collection(
    store: Store, selection: Selection, continue_: str = "", *, dry_run: bool = False
) -> tuple[tuple[Event, ...], str]:
    """Delete some of the events that are meant, those that existed at the first call.

    Each call is one transaction, so that other writers come in between.

    Args:
        store: where.
        selection: which events.
        continue_: what the call before returned.
        dry_run: do everything but keep it.

    Returns:
        What was deleted, and how to go on; "" at the end.
    """
    with _transaction(store, dry_run=dry_run):
        page = store.list(selection, limit=_DELETE_STEP, continue_=continue_)
        for event in page.events:
            store.delete(event.namespace, event.name)
    return page.events, page.continue_


def decode(body: bytes) -> Any:
    """Read JSON that a client sent.

    Raises:
        ApiError: 400.
    """
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise status.bad_request(f"the body of the request is no JSON: {' '.join(str(error).split())[:256]}") from error
