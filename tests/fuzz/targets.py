"""Fuzz targets in Python: one call takes any bytes; only an answer or one clear line may come of them.

Runs in: tests and ``make fuzz``. `record` and `shapes` are the event codec, `request` the API server without a socket.
A target raises what a fuzzer should keep; it returns for bytes that were answered as they should be.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Final

import orjson

from mpbroadcast.apiserver.app import Edge
from mpbroadcast.apiserver.backend import Backend
from mpbroadcast.apiserver.routes import Api
from mpbroadcast.base.clock import SYSTEM_CLOCK
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from tests.apiserver.running import core_event, new_event

__all__ = ["SEEDS", "TARGETS"]

_ANSWER_SECONDS: Final = 10.0  # one request takes milliseconds
_KEPT_EVENTS: Final = 200  # requests between two sweeps, so that lists stay short
_POD: Final = ObjectReference("Pod", "ns", "web-1", "u-1", "v1", "42", "spec.containers{app}")
_STATIC: Final = encode_static(_POD, "Normal", "Started", EventSource("ctl", "node-1"), "Start", _POD)


def _one_line(error: Exception) -> None:
    if not str(error) or "\n" in str(error):
        raise AssertionError(f"no clear line: {error!r}") from error


def _shown(event: Event) -> None:
    """What was accepted can be looked at, written in both shapes, and read back."""
    for field in ("name", "namespace", "type", "reason", "message", "action"):
        if not isinstance(getattr(event, field), str):
            raise AssertionError(f"{field} is {getattr(event, field)!r}")  # noqa: TRY004 - a fault of ours
    try:
        core, new = event.to_core_v1(), event.to_events_v1(as_stored=True)
        event.to_events_v1()
    except ValueError as error:
        _one_line(error)
        return
    try:
        written = orjson.dumps(core), orjson.dumps(new)
    except TypeError:  # an integer beyond 64 bits: only a reader of foreign JSON gets those, and a sink refuses them
        return
    for encoded, read in zip(written, (Event.from_core_v1, Event.from_events_v1), strict=True):
        back = read(orjson.loads(encoded))
        if (event.name, event.message, event.involved_object) != (back.name, back.message, back.involved_object):
            raise AssertionError(f"{event} became {back}")


def record(data: bytes) -> None:
    """A ring payload."""
    try:
        event = Event.from_record(data)
    except ValueError as error:
        _one_line(error)
        return
    _shown(event)


def shapes(data: bytes) -> None:
    """A JSON object as an event of either API."""
    try:
        body = orjson.loads(data)
    except ValueError:
        return
    if not isinstance(body, dict):
        return
    for read in (Event.from_core_v1, Event.from_events_v1):
        try:
            event = read(body)
        except ValueError as error:
            _one_line(error)
        else:
            _shown(event)


class _Server:
    """The API server's ASGI application over a store of its own, on a loop of its own."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mpbroadcast-fuzz-")
        self._loop = asyncio.new_event_loop()
        self._backend = Backend(Path(self._directory.name) / "events.db", clock=SYSTEM_CLOCK)
        api = Api(self._backend, clock=SYSTEM_CLOCK, namespaces=None, address="127.0.0.1:8089")
        self._app = Edge(api.application(), token=None, loopback=True)
        self._loop.run_until_complete(self._backend.start())
        self._asked = 0

    def close(self) -> None:
        self._loop.run_until_complete(self._backend.close())
        self._backend.close_files()
        self._loop.close()
        self._directory.cleanup()

    def ask(
        self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, bytes, bytes]:
        """Status, content type and body of the answer."""
        self._asked += 1
        if self._asked % _KEPT_EVENTS == 1:
            self._loop.run_until_complete(self._answer("DELETE", b"/api/v1/namespaces/default/events", [], b""))
            event = orjson.dumps(core_event("fuzz"))
            self._loop.run_until_complete(self._answer("POST", b"/api/v1/namespaces/default/events", [], event))
        return self._loop.run_until_complete(self._answer(method, target, headers, body))

    async def _answer(
        self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, bytes, bytes]:
        path, _, query = target.partition(b"?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path.decode("utf-8", "replace"), "raw_path": path, "query_string": query, "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8089),
        }  # fmt: skip
        given, answer = [{"type": "http.request", "body": body, "more_body": False}], []

        async def receive() -> dict[str, Any]:
            return given.pop() if given else {"type": "http.disconnect"}  # a watch ends at once

        async def send(message: dict[str, Any]) -> None:
            answer.append(message)

        async with asyncio.timeout(_ANSWER_SECONDS):
            await self._app(scope, receive, send)
        if not answer:
            return 0, b"", b""
        return (
            answer[0]["status"],
            dict(answer[0]["headers"]).get(b"content-type", b""),
            b"".join(message.get("body", b"") for message in answer[1:]),
        )


_server: list[_Server] = []  # made at the first request, kept for all


def request(data: bytes) -> None:
    """``METHOD target``, then lines of headers, an empty line and the body, as HTTP has them."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    if not _server:
        _server.append(_Server())
    status, kind, answer = _server[0].ask(method.decode("latin-1").upper(), target, headers, body)
    if status >= 500 and not (status == 504 and b"resourceVersion" in target):
        raise AssertionError(f"{status}: {answer[:500]!r}")
    if status == 0:
        raise AssertionError("no answer")
    if status >= 400 and answer and kind == b"application/json":
        told = orjson.loads(answer)
        if (told["kind"], told["code"]) != ("Status", status):
            raise AssertionError(f"{status}: {answer[:500]!r}")
        _one_line(ValueError(told["message"].replace("\n", " ") or "an answer without words"))


def close() -> None:
    """Ends what the targets have started."""
    while _server:
        _server.pop().close()


def _records() -> list[bytes]:
    t = 1_784_901_930_123_456_789
    return [
        encode_record(t, _STATIC, "message"),
        encode_record(0, _STATIC, 'a "message" \\ with\n\x00 all \u00e9', "a-name", {"key": "value"}),
        encode_record(t, encode_static(ObjectReference(), "", "", EventSource("")), ""),
        encode_record(t, b"{}", "bare"),
    ]


def _bodies() -> list[bytes]:
    full = {
        "series": {"count": 3, "lastObservedTime": "2026-07-24T12:05:30.123456Z"},
        "eventTime": "2026-07-24T12:05:30.123456Z",
        "related": {"kind": "Node", "name": "n"},
        "metadata": {"name": "n", "annotations": {"k": "v"}, "labels": {}, "creationTimestamp": None},
        "count": -1,
        "deprecatedCount": 2**31,
    }
    return [
        orjson.dumps(body) for body in (core_event("a"), new_event("a"), core_event("a") | full, new_event("a") | full)
    ]


def _requests() -> list[bytes]:
    core, new = b"/api/v1/namespaces/default/events", b"/apis/events.k8s.io/v1/namespaces/default/events"
    patches = {
        b"application/merge-patch+json": [b'{"count":2}', b'{"metadata":null}', b"[]"],
        b"application/strategic-merge-patch+json": [
            b'{"$patch":"replace","metadata":{"name":"fuzz"}}',
            b'{"$retainKeys":["metadata"],"series":{"$patch":"delete"}}',
        ],
        b"application/json-patch+json": [
            b'[{"op":"add","path":"/metadata/labels","value":{"a":"b"}},{"op":"test","path":"/count","value":1}]',
            b'[{"op":"move","from":"/message","path":"/reason"},{"op":"copy","from":"","path":"/metadata/annotations"}]',
        ],
        b"application/apply-patch+yaml": [b"kind: Event\n"],
    }  # fmt: skip
    seeds = [
        b"%b %b\ncontent-type: application/json\n\n%b" % (b"POST", at, body) for at in (core, new) for body in _bodies()
    ]
    for at in (core, new):
        for kind, bodies in patches.items():
            seeds += [
                b"PATCH %b/fuzz?fieldValidation=Strict\ncontent-type: %b\n\n%b" % (at, kind, body) for body in bodies
            ]
        seeds.append(b"PUT %b/fuzz\ncontent-type: application/json\n\n%b" % (at, _bodies()[at is new]))
    lists = (
        b"fieldSelector=type%3DNormal,reason!%3Dx&labelSelector=a+in+(b,c),!d&limit=2",
        b"resourceVersion=0&resourceVersionMatch=NotOlderThan&pretty=true",
        b"watch=true&resourceVersion=1&timeoutSeconds=1&allowWatchBookmarks=true&sendInitialEvents=true",
        b"continue=abc&limit=-1",
    )
    accept = b"accept: application/json;as=Table;g=meta.k8s.io;v=v1, */*;q=0.5"
    seeds += [b"GET %b?%b\n%b\n\n" % (at, query, accept) for at in (core, new, b"/api/v1/events") for query in lists]
    seeds += [b"DELETE %b/fuzz?dryRun=All\n\n" % core, b"GET /openapi/v2\n\n", b"GET /apis\n\n", b"GET /healthz\n\n"]
    return seeds


TARGETS: Final = {"record": record, "shapes": shapes, "request": request}
SEEDS: Final = {"record": _records, "shapes": _bodies, "request": _requests}
