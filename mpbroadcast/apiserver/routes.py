"""Which URL does what. Runs in: the server's event loop; everything that touches the store is handed to `backend`."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mpbroadcast.apiserver import discovery, openapi, operations, status
from mpbroadcast.apiserver.app import answering, http_exception
from mpbroadcast.apiserver.namespaces import ALWAYS, namespace_body, namespace_list
from mpbroadcast.apiserver.negotiation import accepts, negotiate, parse_accept
from mpbroadcast.apiserver.output import EventWriter, encode
from mpbroadcast.apiserver.query import flag, list_query, require_version
from mpbroadcast.apiserver.request import FieldCheck, delete_options, dry_run, read_json_object, read_patch
from mpbroadcast.apiserver.resource import CORE_EVENTS, NEW_EVENTS
from mpbroadcast.apiserver.selectors import Selected, select
from mpbroadcast.apiserver.watch import Watch, WatchOptions
from mpbroadcast.errors import StoreError
from mpbroadcast.store.selection import Token
from mpbroadcast.store.sqlite import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from mpbroadcast.apiserver.backend import Backend, Listener
    from mpbroadcast.apiserver.query import ListQuery
    from mpbroadcast.apiserver.resource import EventResource
    from mpbroadcast.base.clock import Clock
    from mpbroadcast.event.model import Event
    from mpbroadcast.store.selection import Page, Selection

    Endpoint = Callable[[Request], Awaitable[Response]]

__all__ = ["Api"]

_log: Final = logging.getLogger(__name__)

_STEP: Final = 1000  # events read at a time, some 30 ms; other requests come in between
_WATCH_SECONDS: Final = (1800, 3600)  # how long a watch lasts if the client does not say, as in the real server
_INCLUDES: Final = {"Metadata", "Object", "None"}
_DISCOVERY: Final = "apidiscovery.k8s.io"


def _json(value: Any, code: int = 200) -> Response:
    return Response(encode(value), code, media_type="application/json")


class _WatchResponse(Response):
    """The answer to a watch: goes on until its time is over, the client goes away, or the server stops."""

    def __init__(self, backend: Backend, watch: Watch) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]  # nobody knows it
        self._backend = backend
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        listener = self._backend.listen()
        gone = asyncio.create_task(_hear_the_client_go(receive, listener))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async for lines in self._watch.lines(listener):
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
            except StoreError as error:
                _log.error("%s", error)
                line = encode({"type": "ERROR", "object": status.internal_error(str(error)).body()})
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._backend.forget(listener)


async def _hear_the_client_go(receive: Receive, listener: Listener) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.closing = True
    listener.wake()


class Api:
    """The endpoints over one store.

    Args:
        backend: the store.
        clock: for ages.
        namespaces: the only ones that events may be created in, besides the ones that always are; None for any.
        address: host and port, for discovery.
    """

    def __init__(self, backend: Backend, *, clock: Clock, namespaces: tuple[str, ...] | None, address: str) -> None:
        self._backend = backend
        self._clock = clock
        self._namespaces = None if namespaces is None else {*ALWAYS, *namespaces}
        self._address = address
        self._since_ns = clock.now_ns()

    def application(self) -> Starlette:
        """Return the ASGI application."""
        routes = [*self._discovery_routes(), *self._event_routes()]
        app = Starlette(routes=routes, exception_handlers={HTTPException: http_exception})
        app.router.redirect_slashes = False
        return app

    # Discovery

    def _discovery_routes(self) -> list[Route]:
        documents: dict[str, Callable[[], Any]] = {
            "/": discovery.root,
            "/version": discovery.version,
            "/api/v1": partial(discovery.resources, "v1"),
            "/openapi/v3": openapi.index_v3,
        }
        for name in discovery.GROUP_VERSIONS:
            documents[f"/apis/{name.partition('/')[0]}"] = partial(discovery.api_group, name)
            documents[f"/apis/{name}"] = partial(discovery.resources, name)
        endpoints: dict[str, Endpoint] = {path: partial(_document, make) for path, make in documents.items()}
        endpoints |= dict.fromkeys(("/healthz", "/livez", "/readyz"), self._health)
        endpoints |= {
            "/api": partial(_discovery, ("v1",), partial(discovery.api_versions, self._address)),
            "/apis": partial(_discovery, discovery.GROUP_VERSIONS, discovery.api_groups),
            "/openapi/v2": _openapi_v2,
            "/openapi/v3/{group:path}": _openapi_v3,
            "/api/v1/namespaces": self._list_namespaces,
            "/api/v1/namespaces/{namespace}": self._get_namespace,
        }
        # Some clients end these with a slash.
        slashed = {f"{path}/": endpoint for path, endpoint in endpoints.items() if "{" not in path and path != "/"}
        return [_route(path, "GET", endpoint) for path, endpoint in (endpoints | slashed).items()]

    async def _health(self, _: Request) -> Response:
        await self._backend.read(Store.resource_version)
        return Response("ok", media_type="text/plain")

    async def _list_namespaces(self, request: Request) -> Response:
        if flag(request.query_params, "watch"):
            raise status.method_not_allowed()
        negotiated = negotiate(request.headers.get("accept", ""))
        names = sorted({*ALWAYS, *(self._namespaces or ()), *await self._backend.read(Store.namespaces)})
        return _json(namespace_list(names, self._since_ns, self._clock.now_ns(), negotiated))

    async def _get_namespace(self, request: Request) -> Response:
        name = request.path_params["namespace"]
        negotiated = negotiate(request.headers.get("accept", ""))
        known = {*ALWAYS, *(self._namespaces or ())}
        if name not in known and name not in await self._backend.read(Store.namespaces):
            raise status.not_found("namespaces", name)
        return _json(namespace_body(name, self._since_ns, self._clock.now_ns(), negotiated))

    # Events

    def _event_routes(self) -> list[Route]:
        routes = []
        for resource, prefix in ((CORE_EVENTS, "/api/v1"), (NEW_EVENTS, "/apis/events.k8s.io/v1")):
            everywhere = f"{prefix}/events"
            collection = f"{prefix}/namespaces/{{namespace}}/events"
            item = f"{collection}/{{name}}"
            for path, method, endpoint in (
                (everywhere, "GET", self._list),
                (collection, "GET", self._list),
                (collection, "POST", self._create),
                (collection, "DELETE", self._delete_collection),
                (item, "GET", self._get),
                (item, "PUT", self._update),
                (item, "PATCH", self._patch),
                (item, "DELETE", self._delete),
            ):
                routes.append(_route(path, method, partial(endpoint, resource)))
        return routes

    def _writer(self, request: Request, resource: EventResource) -> EventWriter:
        include = request.query_params.get("includeObject") or "Metadata"
        if include not in _INCLUDES:
            raise status.bad_request(f"includeObject: Unsupported value: {include[:64]!r}: Metadata, Object or None")
        return EventWriter(
            resource,
            negotiate(request.headers.get("accept", "")),
            include=include,
            now_ns=self._clock.now_ns,
            pretty=flag(request.query_params, "pretty"),
        )

    def _one(
        self, request: Request, resource: EventResource, event: Event, code: int = 200, check: FieldCheck | None = None
    ) -> Response:
        response = Response(self._writer(request, resource).one(event), code, media_type="application/json")
        if check is not None:
            response.raw_headers.extend(check.headers())
        return response

    async def _get(self, resource: EventResource, request: Request) -> Response:
        if flag(request.query_params, "watch"):
            return await self._list(resource, request)
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        event = await self._backend.read(lambda store: operations.get(store, namespace, name))
        return self._one(request, resource, event)

    async def _list(self, resource: EventResource, request: Request) -> Response:
        watch = flag(request.query_params, "watch")
        if watch and request.method == "HEAD":
            raise status.method_not_allowed()
        query = list_query(request.query_params, watch=watch)
        path = request.path_params
        selected = select(resource, path.get("namespace", ""), path.get("name", ""), query.fields, query.labels)
        writer = self._writer(request, resource)
        if watch:
            return await self._watch(query, selected, writer)
        return await self._read_list(query, selected.selection, writer)

    async def _read_list(self, query: ListQuery, selection: Selection, writer: EventWriter) -> Response:
        first_limit = min(query.limit or _STEP, _STEP)

        def first(store: Store) -> tuple[Page, bytes | None]:
            require_version(query, store.resource_version())
            page = _page(store, selection, first_limit, query.continue_)
            if page.continue_ and query.limit != len(page.events):
                return page, None  # there is more to come
            return page, writer.page(page.events, page.resource_version, page.continue_)

        page, body = await self._backend.read(first)
        if body is not None:
            return Response(body, media_type="application/json")
        return StreamingResponse(self._parts(query.limit, selection, writer, page), media_type="application/json")

    async def _parts(self, limit: int, selection: Selection, writer: EventWriter, page: Page) -> AsyncIterator[bytes]:
        """Write a long list piece by piece, so that it is never in memory as a whole."""
        yield await self._backend.read(lambda _, page=page: writer.first_part(page.events))  # type: ignore[misc]
        left = limit - len(page.events) if limit else 0

        def following(store: Store, token: str, step: int) -> tuple[Page, bytes]:
            following_page = _page(store, selection, step, token)
            return following_page, writer.next_part(following_page.events)

        try:
            while page.continue_ and not (limit and left <= 0):
                step = min(left, _STEP) if limit else _STEP
                page, part = await self._backend.read(partial(following, token=page.continue_, step=step))
                left -= len(page.events)
                yield part
        except (StoreError, status.ApiError) as error:
            _log.error("a list was broken off: %s", error)
            return  # without its end: no client takes half a list for a whole one
        yield writer.last_part(page.resource_version, page.continue_)

    async def _watch(self, query: ListQuery, selected: Selected, writer: EventWriter) -> Response:
        since = query.version or None
        if query.initial_events is not None:
            current = await self._backend.read(Store.resource_version)
            if since is not None and since > current:
                raise status.version_too_large(since, current)
            since = None if query.initial_events else since or current
        options = WatchOptions(
            since=since,
            initial=since is None,
            bookmarks=query.bookmarks,
            mark_initial_end=bool(query.initial_events),
            seconds=query.seconds or random.uniform(*_WATCH_SECONDS),  # noqa: S311 - spreads the work, keeps no secret
        )
        return _WatchResponse(self._backend, Watch(self._backend, selected, writer, options))

    def _require_namespace(self, namespace: str) -> None:
        if self._namespaces is not None and namespace not in self._namespaces:
            raise status.not_found("namespaces", namespace)

    async def _create(self, resource: EventResource, request: Request) -> Response:
        namespace = request.path_params["namespace"]
        body, check, dry = await read_json_object(request), FieldCheck.of(request, resource), dry_run(request)
        check(body)
        event = operations.read_object(resource, body)
        generate = (body.get("metadata") or {}).get("generateName") or ""
        if not isinstance(generate, str):
            raise status.bad_request("metadata.generateName is no string")
        self._require_namespace(namespace)
        created = await self._backend.write(
            lambda store: operations.create(store, resource, namespace, event, generate=generate, dry_run=dry)
        )
        return self._one(request, resource, created, 201, check)

    async def _update(self, resource: EventResource, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        body, check, dry = await read_json_object(request), FieldCheck.of(request, resource), dry_run(request)
        check(body)
        event = operations.read_object(resource, body)
        self._require_namespace(namespace)
        updated, is_new = await self._backend.write(
            lambda store: operations.update(store, resource, namespace, name, event, dry_run=dry)
        )
        return self._one(request, resource, updated, 201 if is_new else 200, check)

    async def _patch(self, resource: EventResource, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        changes, apply = await read_patch(request)
        check, dry = FieldCheck.of(request, resource), dry_run(request)
        patched = await self._backend.write(
            lambda store: operations.patch(
                store, resource, namespace, name, changes, apply=apply, check=check, dry_run=dry
            )
        )
        return self._one(request, resource, patched, 200, check)

    async def _delete(self, resource: EventResource, request: Request) -> Response:
        del resource
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        preconditions, dry = await delete_options(request)
        deleted = await self._backend.write(
            lambda store: operations.delete(store, namespace, name, preconditions, dry_run=dry)
        )
        return _json(status.success(name, deleted.uid))

    async def _delete_collection(self, resource: EventResource, request: Request) -> Response:
        query = list_query(request.query_params, watch=False)
        _, dry = await delete_options(request)
        selection = select(resource, request.path_params["namespace"], "", query.fields, query.labels).selection
        writer = self._writer(request, resource)
        parts, token = [], ""
        while True:

            def step(store: Store, token: str = token) -> tuple[bytes, str, int]:
                events, following = operations.delete_collection(store, selection, token, dry_run=dry)
                part = writer.next_part(events) if token else writer.first_part(events)
                return part, following, store.resource_version()

            part, token, version = await self._backend.write(step)
            parts.append(part)
            if not token:
                return Response(b"".join((*parts, writer.last_part(version, ""))), media_type="application/json")


def _page(store: Store, selection: Selection, limit: int, token: str) -> Page:
    if token:
        try:
            Token.decode(token)
        except StoreError as error:
            raise status.bad_request(f"continue key is not valid: {error}") from error
    return store.list(selection, limit=limit, continue_=token)


def _route(path: str, method: str, endpoint: Endpoint) -> Route:
    return Route(path, answering(endpoint), methods=[method])


async def _document(make: Callable[[], Any], _: Request) -> Response:
    return _json(make())


async def _discovery(group_versions: tuple[str, ...], make: Callable[[], Any], request: Request) -> Response:
    for _, parameters in parse_accept(request.headers.get("accept", "")):
        version = parameters.get("v", "")
        if parameters.get("g") == _DISCOVERY and version in {"v2", "v2beta1"}:
            body = discovery.aggregated(group_versions, f"{_DISCOVERY}/{version}")
            media_type = f"application/json;g={_DISCOVERY};v={version};as=APIGroupDiscoveryList"
            return Response(encode(body), media_type=media_type, headers={"Vary": "Accept"})
    return _json(make())


async def _openapi_v2(request: Request) -> Response:
    if accepts(request.headers.get("accept", ""), *openapi.PROTOBUF_V2_TYPES):
        return Response(openapi.document_v2_protobuf(), media_type=openapi.PROTOBUF_V2)
    return Response(openapi.document_v2(), media_type="application/json")


async def _openapi_v3(request: Request) -> Response:
    document = openapi.document_v3(request.path_params["group"])
    if document is None:
        raise status.unknown_path()
    return Response(document, media_type="application/json")
