"""Events on an API server, in both API shapes. Runs in: the process that connects, on its event loop.

The two shapes are two views of the same stored objects (spec 0.1). Bodies are bytes of orjson, made from an `Event`
without any model object between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import quote, urlencode

import orjson

from mpbroadcast.errors import SinkRejected, SinkUnavailable
from mpbroadcast.event.limits import fill_for_events_v1
from mpbroadcast.event.model import Event
from mpbroadcast.event.shapes import CORE_V1, EVENTS_V1, events_v1_for_create
from mpbroadcast.event.times import decode_time
from mpbroadcast.kube.status import answer_error, is_success, parse_object

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mpbroadcast.kube.transport import Answer, Transport

__all__ = ["Api", "EventsClient", "Page", "WatchedEvent", "body_for_create"]

Api = Literal["v1", "events.k8s.io/v1"]

STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"
WATCH_SECONDS: Final = 300
"""After how long we ask the server to end a watch, which then goes on where it was."""

_ROOTS: Final = {CORE_V1: "/api/v1", EVENTS_V1: "/apis/events.k8s.io/v1"}
_KEPT: Final = (
    "involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "type", "eventTime",
    "series", "action", "related", "reportingComponent", "reportingInstance",
)  # fmt: skip
_KEPT_METADATA: Final = ("name", "namespace", "annotations", "labels")
_PAGE: Final = 500  # kubectl's chunk size
_GONE: Final = 410


class Page(NamedTuple):
    """One page of a list.

    Attributes:
        events: in the server's order.
        resource_version: of the list: where a watch goes on.
        more: whether there are further pages.
    """

    events: list[Event]
    resource_version: str
    more: bool


class WatchedEvent(NamedTuple):
    """One change: ``ADDED``, ``MODIFIED`` or ``DELETED``, and the event as it is after it."""

    type: str
    event: Event


def body_for_create(event: Event, api: Api) -> tuple[dict[str, Any], int]:
    """Write an event as the server takes it on create: filled and cut where the server has limits (spec 0.3).

    Returns:
        The body, ready for a JSON encoder, and how many texts were cut.

    Raises:
        ValueError: a time lies outside of the years 1 to 9999.
    """
    if api == EVENTS_V1:
        return events_v1_for_create(event)
    if event.event_time is None:
        return event.to_core_v1(), 0
    # A core/v1 event with this time is held to the limits of the newer shape, but may keep the older fields.
    filled, cuts = fill_for_events_v1(event)
    filled = filled.replace(
        source=event.source,
        count=event.count,
        first_timestamp=event.first_timestamp,
        last_timestamp=event.last_timestamp,
    )
    return filled.to_core_v1(), cuts


class EventsClient:
    """Creates, patches and reads events. Belongs to one event loop; any number of tasks of it.

    Args:
        transport: sends the requests.
        api: the shape that is spoken.

    Attributes:
        cuts: how many texts had to be cut to the server's limits.

    Raises:
        ValueError: there is no such API.
    """

    def __init__(self, transport: Transport, api: Api = "v1") -> None:
        if api not in _ROOTS:
            raise ValueError(f"api must be 'v1' or 'events.k8s.io/v1', not {api!r}")
        self._transport = transport
        self._api = api
        self._root = _ROOTS[api]
        self._collections: dict[str, str] = {}
        self.cuts = 0

    async def create(self, event: Event) -> Event:
        """Store an event.

        Raises:
            SinkRejected: refused; 404 says that there is no such namespace.
            SinkUnavailable: not stored, or not known whether it was.
        """
        try:
            body, cuts = body_for_create(event, self._api)
        except ValueError as error:
            raise SinkRejected(f"the event cannot be written as JSON: {error}") from None
        self.cuts += cuts
        answer = await self._transport.request("POST", self._collection(event.namespace), orjson.dumps(body))
        if not 200 <= answer.code < 300:
            raise answer_error(answer.code, answer.headers, answer.body, creating=True)
        stored = _stored(answer)
        if self._api == CORE_V1 and cuts == 0 and _is_same(stored, body):
            return _as_sent(event, stored)
        return self._decode(stored)

    async def patch(self, event: Event, patch: bytes) -> Event:
        """Change a stored event by a strategic merge patch.

        Raises:
            NotFound: there is no such event.
            SinkRejected: refused.
            SinkUnavailable: not changed, or not known whether it was.
        """
        path = self._path(event.namespace, event.name)
        answer = await self._transport.request("PATCH", path, patch, STRATEGIC_MERGE_PATCH)
        if not is_success(answer.code):
            raise answer_error(answer.code, answer.headers, answer.body)
        return self._decode(_stored(answer))

    async def get(self, namespace: str, name: str) -> Event:
        """Read one event.

        Raises:
            NotFound: there is no such event.
            SinkRejected: refused.
            SinkUnavailable: not now.
        """
        answer = await self._transport.request("GET", self._path(namespace, name))
        if not is_success(answer.code):
            raise answer_error(answer.code, answer.headers, answer.body)
        return self._decode(_object(answer))

    async def pages(
        self,
        namespace: str | None = None,
        *,
        field_selector: str = "",
        label_selector: str = "",
        limit: int = _PAGE,
    ) -> AsyncIterator[Page]:
        """List events page by page; the server never has to answer with all of them at once.

        Args:
            namespace: None for all.
            field_selector: such as ``involvedObject.name=web,type=Warning``.
            label_selector: likewise for labels.
            limit: events of one page.

        Raises:
            SinkRejected: refused; 410 when the list has become too old between two pages.
            SinkUnavailable: not now.
        """
        query = {"limit": str(limit), "fieldSelector": field_selector, "labelSelector": label_selector}
        while True:
            answer = await self._transport.request("GET", self._collection(namespace or "", query))
            if not is_success(answer.code):
                raise answer_error(answer.code, answer.headers, answer.body)
            body = _object(answer)
            metadata, items = body.get("metadata"), body.get("items")
            if not isinstance(metadata, dict) or not isinstance(items, (list, type(None))):
                raise SinkUnavailable("the server answered something that is no list")
            following = str(metadata.get("continue") or "")
            events = [self._decode(item) for item in items or ()]
            yield Page(events, str(metadata.get("resourceVersion") or ""), bool(following))
            if not following:
                return
            query["continue"] = following

    async def watch(
        self,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        field_selector: str = "",
        label_selector: str = "",
    ) -> AsyncIterator[WatchedEvent]:
        """Give the changes after a resource version, without an end; goes on by itself when the server ends a watch.

        Args:
            namespace: None for all.
            resource_version: of a list; "" for whatever is there now, and then what comes.
            field_selector: as with `pages`.
            label_selector: likewise.

        Raises:
            SinkRejected: refused; 410 when the version is too old: list again.
            SinkUnavailable: the connection failed.
        """
        version = resource_version
        while True:
            query = {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "timeoutSeconds": str(WATCH_SECONDS),
                "resourceVersion": version,
                "fieldSelector": field_selector,
                "labelSelector": label_selector,
            }
            lines = self._transport.stream(self._collection(namespace or "", query), silence=WATCH_SECONDS + 30.0)
            async for line in lines:
                if not isinstance(line, bytes):
                    if not is_success(line.code):
                        raise answer_error(line.code, line.headers, line.body)
                    continue
                type_, body = _change(line)
                metadata = body.get("metadata")
                version = str((metadata if isinstance(metadata, dict) else {}).get("resourceVersion") or version)
                if type_ != "BOOKMARK":
                    yield WatchedEvent(type_, self._decode(body))

    async def follow(
        self, namespace: str | None = None, *, field_selector: str = "", label_selector: str = ""
    ) -> AsyncIterator[WatchedEvent]:
        """List, then watch, without an end; lists again when the server has forgotten what came in between.

        After that only what is new is given; what was deleted in between is not told.

        Raises:
            SinkRejected: refused.
            SinkUnavailable: the connection failed.
        """
        seen: dict[str, str] = {}
        while True:
            version, listed = "", {}
            async for page in self.pages(namespace, field_selector=field_selector, label_selector=label_selector):
                version = page.resource_version
                for event in page.events:
                    listed[event.uid] = event.resource_version
                    if seen.get(event.uid) != event.resource_version:
                        yield WatchedEvent("MODIFIED" if event.uid in seen else "ADDED", event)
            seen = listed
            try:
                async for change in self.watch(
                    namespace, resource_version=version, field_selector=field_selector, label_selector=label_selector
                ):
                    if change.type == "DELETED":
                        seen.pop(change.event.uid, None)
                    else:
                        seen[change.event.uid] = change.event.resource_version
                    yield change
            except SinkRejected as error:
                if error.code != _GONE:
                    raise

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    def _collection(self, namespace: str, query: dict[str, str] | None = None) -> str:
        path = self._collections.get(namespace)
        if path is None:
            if namespace in {".", ".."}:
                raise SinkRejected(f"no namespace can be called {namespace!r}")
            where = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
            path = f"{self._root}{where}/events"
            if len(self._collections) < 1024:
                self._collections[namespace] = path
        if query:
            path += "?" + urlencode({name: value for name, value in query.items() if value})
        return path

    def _path(self, namespace: str, name: str) -> str:
        if not name or name in {".", ".."}:
            raise SinkRejected(f"no event can be called {name!r}")
        return f"{self._collection(namespace)}/{quote(name, safe='')}"

    def _decode(self, body: Any) -> Event:
        try:
            return Event.from_events_v1(body) if self._api == EVENTS_V1 else Event.from_core_v1(body)
        except ValueError as error:
            raise SinkUnavailable(f"the server answered {error}") from None


def _stored(answer: Answer) -> dict[str, Any]:
    """Read what was stored. A success that cannot be read is none: the write is tried again, and recognised."""
    body = _object(answer)
    if body.get("kind") != "Event" or type(body.get("metadata")) is not dict:
        raise SinkUnavailable("the server answered something that is no event")
    return body


def _is_same(stored: dict[str, Any], sent: dict[str, Any]) -> bool:
    """Say whether the server stored what it was given, as it mostly does."""
    new, old = stored["metadata"], sent["metadata"]
    return list(map(stored.get, _KEPT)) == list(map(sent.get, _KEPT)) and list(map(new.get, _KEPT_METADATA)) == list(
        map(old.get, _KEPT_METADATA)
    )


def _as_sent(event: Event, stored: dict[str, Any]) -> Event:
    """Make the stored event out of the one that was sent: a tenth of the cost of reading all of it."""
    metadata = stored["metadata"]
    version, uid, created = metadata.get("resourceVersion"), metadata.get("uid"), metadata.get("creationTimestamp")
    try:
        return event.replace(
            resource_version=str(version or ""),
            uid=str(uid or ""),
            creation_timestamp=decode_time(created),
            first_timestamp=decode_time(stored["firstTimestamp"]),
            last_timestamp=decode_time(stored["lastTimestamp"]),
        )
    except (ValueError, TypeError, KeyError):
        raise SinkUnavailable("the server answered an event with times that are none") from None


def _object(answer: Answer) -> dict[str, Any]:
    body = parse_object(answer.body)
    if body is None:
        raise SinkUnavailable("the server answered something that is no JSON object", code=0)
    return body


def _change(line: bytes) -> tuple[str, dict[str, Any]]:
    """Read a line of a watch.

    Raises:
        SinkRejected, SinkUnavailable: it is an error, or no line of a watch.
    """
    whole = parse_object(line)
    body = None if whole is None else whole.get("object")
    if whole is None or not isinstance(body, dict):
        raise SinkUnavailable("the server sent something that is no line of a watch")
    if whole.get("type") == "ERROR":
        code = body.get("code")
        raise answer_error(code if isinstance(code, int) else 500, {}, orjson.dumps(body))
    return str(whole.get("type")), body
