"""A small API server for events that can also misbehave. Runs in: a thread of the tests, or a process of its own.

It keeps events as the server does, checks what the recorded answers of a real one say about limits, and for the next
requests does what it is told: reset, answer half, answer garbage, be slow, refuse.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections import deque
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.kube.kubernetes_rules import invalid

RESET, HALF, GARBAGE, NO_HTTP, SLOW, DONE_THEN_RESET, CLOSE_EARLY = (
    "reset", "half", "garbage", "no http", "slow", "done, then reset", "close early"
)  # fmt: skip


class Reply(NamedTuple):
    code: int
    headers: dict = MappingProxyType({})
    body: bytes = b""


def status(code, reason, message, causes=()):
    details = {"causes": [{"reason": cause} for cause in causes]} if causes else {}
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
            "details": details, "code": code}  # fmt: skip
    return Reply(code, {}, json.dumps(body).encode())


class Seen(NamedTuple):
    method: str
    path: str
    headers: dict
    body: bytes


class FakeApi:
    """Serves in a thread until the end of the ``with`` block.

    Attributes:
        faults: what to do with the next requests, one each; None serves it.
        always: what to do with every other one.
        tokens: which bearer tokens are good; None: any, also none.
        events: the stored ones by namespace and name, in the order of their creation.
        log: (method, namespace, name, body) of every write that was carried out.
        seen: every request.
    """

    def __init__(self, *, journal=None, port=0, tls=None, namespaces=None):
        self.faults = deque()
        self.always = None
        self.tokens = None
        self.namespaces = namespaces
        self.events = {}
        self.log = []
        self.seen = []
        self.connections = 0
        self.most_at_once = 0
        self.watchers = []
        self._at_once = 0
        self._version = 0
        self._port = port
        self._tls = tls
        self._journal = None
        if journal is not None:
            self._load(Path(journal))

    def _load(self, path):
        if path.exists():
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError):  # the last line of a killed server
                    namespace, name, body = json.loads(line)
                    self.events[namespace, name] = body
                    self._version = max(self._version, int(body["metadata"]["resourceVersion"]))
        self._journal = path.open("ab", buffering=0)

    def __enter__(self):
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(RuntimeError):  # it has been stopped already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        if self._journal is not None:
            self._journal.close()

    @property
    def url(self):
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def _run(self, ready):
        asyncio.run(self.serve(ready))

    async def serve(self, ready=None):
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        if ready:
            ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connection(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")
                method, target, _ = first.split(" ")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    go_on = await self._request(Seen(method, target, headers, body), writer)
                finally:
                    self._at_once -= 1
                if not go_on:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _request(self, request, writer):  # noqa: C901 - one way to misbehave after another
        self.seen.append(request)
        await asyncio.sleep(0)  # let the others come in
        fault = self.faults.popleft() if self.faults else self.always
        if fault == RESET:
            writer.transport.abort()
            return False
        if fault == SLOW:
            await asyncio.sleep(3600)
        if fault == NO_HTTP:
            writer.write(b"220 mail.example.com ESMTP ready\r\n\r\n")
            await writer.drain()
            return False
        if fault == GARBAGE:
            return await self._answer(writer, Reply(201, {}, b"\x00\xff<html>"))
        if fault == CLOSE_EARLY:
            return False
        if isinstance(fault, Reply):
            return await self._answer(writer, fault)
        reply = self._serve(request, writer)
        if reply is None:
            return await self._watch(writer)
        if fault == DONE_THEN_RESET:
            writer.transport.abort()
            return False
        if fault == HALF:
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 1000000\r\n\r\n" + reply.body[:20])
            await writer.drain()
            return False
        if callable(fault):
            return await fault(writer, reply)
        return await self._answer(writer, reply)

    async def _answer(self, writer, reply):
        headers = {"Content-Type": "application/json", "Content-Length": len(reply.body)} | dict(reply.headers)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.code} X\r\n{lines}\r\n".encode() + reply.body)
        await writer.drain()
        return "close" not in str(reply.headers.get("Connection"))

    def _serve(self, request, writer):
        given = request.headers.get("authorization", "").removeprefix("Bearer ").removeprefix("bearer ")
        if self.tokens is not None and given not in self.tokens:
            return status(401, "Unauthorized", "Unauthorized")
        parts = urlsplit(request.path)
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        api = "core" if path[:2] == ["api", "v1"] else "events"
        path = path[2:] if api == "core" else path[3:]
        namespace = path[1] if path[0] == "namespaces" else ""
        name = path[3] if len(path) > 3 else (path[1] if path[0] == "events" and len(path) > 1 else "")
        if self.namespaces is not None and namespace and namespace not in self.namespaces:
            return status(404, "NotFound", f'namespaces "{namespace}" not found')
        if request.method == "GET":
            return self._read(namespace, name, parse_qs(parts.query))
        body = json.loads(request.body)
        if request.method == "POST":
            return self._create(api, namespace, body)
        key = (namespace, name)
        if key not in self.events:
            return status(404, "NotFound", f'events "{name}" not found')
        merged = _merge(self.events[key], body)
        problem = invalid(api, namespace, merged, self.events[key])
        return (problem and status(422, "Invalid", problem, ["FieldValueInvalid"])) or self._keep(
            "PATCH", key, merged, 200, body
        )

    def _create(self, api, namespace, body):
        key = (namespace, body["metadata"].get("name", ""))
        if key in self.events:
            return status(409, "AlreadyExists", f'events "{key[1]}" already exists')
        problem = invalid(api, namespace, body, None)
        if problem:
            return status(422, "Invalid", problem, ["FieldValueInvalid"])
        return self._keep("POST", key, body, 201, body)

    def _keep(self, method, key, body, code, change):
        self._version += 1
        uid = self.events.get(key, {}).get("metadata", {}).get("uid", f"uid-{self._version}")
        stamps = {"resourceVersion": str(self._version), "uid": uid, "creationTimestamp": "2026-01-02T03:04:05Z"}
        body = body | {"metadata": body["metadata"] | stamps}
        if self._journal is not None:
            self._journal.write(json.dumps([*key, body]).encode() + b"\n")
        self.events[key] = body
        self.log.append((method, *key, change))
        return Reply(code, {}, json.dumps(body).encode())

    def _read(self, namespace, name, query):
        if name:
            body = self.events.get((namespace, name))
            return Reply(200, {}, json.dumps(body).encode()) if body else status(404, "NotFound", "not found")
        if query.get("watch"):
            if query.get("resourceVersion", ["0"])[0] == "1":
                return status(410, "Expired", "too old resource version")
            return None
        items = [body for (where, _), body in self.events.items() if where == namespace or not namespace]
        start = int(query.get("continue", ["0"])[0])
        limit = int(query.get("limit", ["1000000"])[0])
        page = items[start : start + limit]
        more = str(start + limit) if start + limit < len(items) else ""
        body = {
            "kind": "EventList",
            "metadata": {"resourceVersion": str(self._version), "continue": more},
            "items": page,
        }
        return Reply(200, {}, json.dumps(body).encode())

    async def _watch(self, writer):
        lines = self.watchers.pop(0) if self.watchers else []
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
        if not self.watchers:
            await asyncio.sleep(3600)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _merge(old, change):
    if not isinstance(change, dict):
        return change
    merged = dict(old) if isinstance(old, dict) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


if __name__ == "__main__":
    asyncio.run(FakeApi(journal=sys.argv[2], port=int(sys.argv[1])).serve())
