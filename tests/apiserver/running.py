"""A real server in a process of its own, and a plain HTTP client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

CORE = "/api/v1"
NEW = "/apis/events.k8s.io/v1"

_START = """
import json, sys
from mpbroadcast.apiserver.server import ServeOptions, run
options = json.load(sys.stdin)
if options.get("namespaces") is not None:
    options["namespaces"] = tuple(options["namespaces"])
run(ServeOptions(**options), out=lambda line: print(line, flush=True))
"""


@dataclass
class Answer:
    """What a server answered."""

    code: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """One keep-alive connection."""

    def __init__(self, url, token=None, **options):
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.hostname, parts.port, timeout=20, **options)
        self.token = token

    def close(self):
        self.connection.close()

    def send(self, method, path, body=None, headers=None, **query):
        """Send a request; returns the response to be read."""
        target = quote(path, safe="/?=&%:") + (f"?{urlencode(query, doseq=True)}" if query else "")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if body is not None else {}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        self.connection.request(method, target, body, sent | (headers or {}))
        return self.connection.getresponse()

    def __call__(self, method, path, body=None, headers=None, **query):
        response = self.send(method, path, body, headers, **query)
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())


class Process:
    """The server in its process; ``url`` is where it listens."""

    def __init__(self, command, stdin=None, **environment):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | environment,
        )
        if stdin is not None:
            self.process.stdin.write(stdin)
        self.process.stdin.close()
        self.process.stdin = None
        self.lines = []
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise AssertionError(self._written_errors())
        self.lines.append(line)
        self.url = line.split()[3]

    def stop(self, number=signal.SIGTERM):
        """Stop it; returns exit code and what it wrote to standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop: {self._written_errors()}") from None
        if not self.process.stdout.closed:
            self.lines += self.process.stdout.readlines()
            self.process.stdout.close()
            self.written = self._written_errors()
            self.errors.close()
        return self.process.returncode, self.written

    def _written_errors(self):
        self.errors.seek(0)
        return self.errors.read()


@contextlib.contextmanager
def serving(**options):
    """Run a server with these `ServeOptions` on a free port; what it writes to standard error fails the test."""
    server = Process([sys.executable, "-c", _START], json.dumps({"port": 0} | options))
    try:
        yield server
    finally:
        code, errors = server.stop()
    assert "" == errors
    assert 0 == code


def watch_lines(response):
    """The events of a watch, decoded, as they come."""
    while line := response.readline():
        yield json.loads(line)


def core_event(name="web-1.17a", namespace="default", **fields):
    """A valid event of core/v1, as kubelet sends it."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace} | fields.pop("metadata", {}),
        "involvedObject": {"kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": "web-1", "uid": "u1"},
        "reason": "Pulled",
        "message": "Successfully pulled image",
        "type": "Normal",
        "count": 1,
        "firstTimestamp": "2026-11-25T03:00:00Z",
        "lastTimestamp": "2026-11-25T03:00:00Z",
        "source": {"component": "kubelet", "host": "node-1"},
    } | fields


def new_event(name="web-2.17b", namespace="default", **fields):
    """A valid event of events.k8s.io/v1, as kube-scheduler sends it."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace} | fields.pop("metadata", {}),
        "regarding": {"kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": "web-2", "uid": "u2"},
        "reason": "FailedScheduling",
        "action": "Scheduling",
        "note": "0/3 nodes are available",
        "type": "Warning",
        "eventTime": "2026-11-25T03:00:00.000001Z",
        "reportingController": "example.com/scheduler",
        "reportingInstance": "scheduler-1",
    } | fields
