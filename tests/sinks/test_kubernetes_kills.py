"""The server and the sink's process are killed: everything arrives, nothing twice, in order."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.kube.fake_api import FakeApi
from tests.sinks.kubernetes_engine import Run, record
from tests.sinks.kubernetes_killed import about, numbers, records_of
from tests.sinks.test_kubernetes_handler import everything

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """An API server in a process of its own that can be killed and started again with what it had stored."""

    def __init__(self, journal):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.journal = journal
        self.start()

    def start(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kube.fake_api", str(self.port), str(self.journal)], cwd=ROOT
        )
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("the server did not start")

    def kill(self):
        self._process.kill()
        self._process.wait()

    def writes(self):
        """Every version of every event, in order."""
        found = []
        for line in self.journal.read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # cut off by a kill
        return found


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "journal")
    yield server
    server.kill()


def check(server, records):
    """Each distinct event once, each repeat counted once, and each object's events in their order."""
    last = {name: body for _, name, body in server.writes()}
    sums = Counter()
    for body in last.values():
        sums[body["involvedObject"]["name"], body["message"]] += body["count"]
    wanted = Counter(about(n) for n, _, _ in records)
    assert wanted == sums
    first_seen = {}
    for _, name, body in server.writes():
        if body["message"] != "again" and name not in first_seen:
            first_seen[name] = body
    by_object = {}
    for body in first_seen.values():
        by_object.setdefault(body["involvedObject"]["name"], []).append(int(body["message"][2:]))
    assert all(sorted(found) == found for found in by_object.values())


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again(server):
    """In the middle of 5,000 distinct events, four times."""
    rng = random.Random(3)
    with Run(server.url, **everything()) as run:
        for start in range(1, 5001, 250):
            run.give(*[record(n, f"pod-{n % 97}", f"m-{n}") for n in range(start, start + 250)])
            if start % 1250 == 1:
                least = start + rng.randrange(200)
                run.wait(lambda least=least: len(run.settled) >= least)
                server.kill()
                time.sleep(0.2)
                server.start()
        run.wait(lambda: len(run.settled) == 5000, 50)
    names = [(body["involvedObject"]["name"], body["message"]) for _, _, body in server.writes()]
    assert Counter((f"pod-{n % 97}", f"m-{n}") for n in range(1, 5001)) == Counter(names)
    by_object = {}
    for obj, message in names:
        by_object.setdefault(obj, []).append(int(message[2:]))
    assert all(sorted(found) == found for found in by_object.values())


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("spool", [False, True], ids=["ring", "spool"])
def test_a_sink_that_is_killed_twenty_times(server, tmp_path, spool):
    """And the server with it, three times; repeats that were under way are counted once."""
    count = 5000
    place = str(tmp_path / "spool") if spool else ""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.sinks.kubernetes_killed", server.url, str(tmp_path), str(count), "20", place],
        cwd=ROOT,
    )
    for share in (0.2, 0.5, 0.8):
        end = time.monotonic() + 40
        while len(numbers(tmp_path / "settled")) < share * count and child.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        server.kill()
        time.sleep(0.1)
        server.start()
    assert 0 == child.wait(120)
    assert set(range(1, count + 1)) == set(numbers(tmp_path / "settled"))
    check(server, records_of(count))


def test_the_fake_server_keeps_what_it_had(tmp_path):
    path = tmp_path / "journal"
    with FakeApi(journal=path) as api, Run(api.url) as run:
        run.give(record(1))
    with FakeApi(journal=path) as again:
        assert 1 == len(again.events)
