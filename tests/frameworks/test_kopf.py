"""Kopf: a real operator against a stub of the API server, and the page's handlers with Kopf's own Body objects."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.frameworks.conftest import needs
from tests.path.conftest import eventually

needs("kopf")
PAGE = "kopf"
DATABASE = {
    "apiVersion": "example.com/v1",
    "kind": "Database",
    "metadata": {"name": "orders", "namespace": "default", "uid": "u-1", "resourceVersion": "7"},
    "spec": {"size": 5},
}


def test_the_handlers_of_the_page_record_with_kopfs_body_from_a_loop_and_from_threads(page, monkeypatch):
    import kopf

    monkeypatch.setenv("EVENTS", str(page.directory / "events.jsonl"))
    spec = importlib.util.spec_from_file_location("operator_events", page.directory / "operator_events.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    body = kopf.Body(DATABASE)

    async def operate():
        await module.start_events()
        await module.created(body=body, spec=body.spec)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(2) as threads:
            await asyncio.gather(*(loop.run_in_executor(threads, lambda: module.updated(body=body)) for _ in range(5)))
            await loop.run_in_executor(threads, module.stop_events)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(operate())
    events = [json.loads(line) for line in (page.directory / "events.jsonl").read_text().splitlines()]
    assert ["a database of 5 GiB is being made", *["orders cannot change its size"] * 5] == [
        e["message"] for e in events
    ]
    reference = {
        "kind": "Database",
        "namespace": "default",
        "name": "orders",
        "uid": "u-1",
        "apiVersion": "example.com/v1",
    }
    assert reference.items() <= events[0]["involvedObject"].items()


class Cluster(ThreadingHTTPServer):
    """As much of an API server as Kopf needs to see one object appear."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    def close(self):
        self.ended.set()
        self.shutdown()
        self.server_close()
        self.thread.join()


def resource(name: str, kind: str, *, namespaced: bool) -> dict[str, Any]:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    one = {"name": name, "singularName": kind.lower(), "kind": kind, "namespaced": namespaced, "shortNames": []}
    return one | {"verbs": verbs}


def group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


GROUPS = {
    "example.com": resource("databases", "Database", namespaced=True),
    "apiextensions.k8s.io": resource("customresourcedefinitions", "CustomResourceDefinition", namespaced=False),
}

LISTS = {
    "/databases": [DATABASE],
    "/customresourcedefinitions": [],
    "/namespaces": [{"metadata": {"name": "default", "uid": "n", "resourceVersion": "1"}}],
}


class Handler(BaseHTTPRequestHandler):
    server: Cluster

    def answer(self, body: dict[str, Any], code: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        known = {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"groups": [group(name) for name in GROUPS]},
            "/api/v1": {"groupVersion": "v1", "resources": [resource("namespaces", "Namespace", namespaced=False)]},
        }
        for name, one in GROUPS.items():
            known[f"/apis/{name}"] = group(name)
            known[f"/apis/{name}/v1"] = {"groupVersion": f"{name}/v1", "resources": [one]}
        if path in known:
            self.answer(known[path])
        elif "watch=" in query:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.flush()
            self.server.ended.wait(60)
        elif path.endswith(tuple(LISTS)):
            items = next(items for name, items in LISTS.items() if path.endswith(name))
            self.answer({"kind": "List", "metadata": {"resourceVersion": "7"}, "items": items})
        else:
            self.answer({"kind": "Status", "code": 404}, 404)

    def do_PATCH(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(DATABASE)

    def do_POST(self):
        self.do_PATCH()

    def log_message(self, *_):
        pass


@pytest.fixture
def cluster():
    one = Cluster()
    yield one
    one.close()


@pytest.mark.timeout(90)
def test_an_operator_records_what_it_does_and_ends_in_order(page, cluster):
    page.write("kubeconfig", json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "stub",
        "clusters": [{"name": "stub", "cluster": {"server": f"http://127.0.0.1:{cluster.server_port}"}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub", "namespace": "default"}}],
        "users": [{"name": "stub", "user": {"token": "t"}}],
    }))  # fmt: skip
    page.environment["KUBECONFIG"] = str(page.directory / "kubeconfig")
    options = ["-W", "always::DeprecationWarning:mpbroadcast"] if sys.version_info >= (3, 12) else []
    operator = page.python(
        *options, "-m", "kopf", "run", "--standalone", "--namespace", "default", "operator_events.py"
    )
    eventually(lambda: page.messages() or operator.poll() is not None, timeout=40)
    operator.send_signal(signal.SIGTERM)
    operator.wait(40)
    assert ["a database of 5 GiB is being made"] == page.messages(), page.log
    assert "multi-threaded" not in page.log
    assert {} == page.left()
