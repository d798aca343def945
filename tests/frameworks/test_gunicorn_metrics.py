"""Scraping a gunicorn application with four workers: whoever answers gives the numbers of all of them."""

from __future__ import annotations

import http.client
import json
import socket
from collections import Counter

import pytest

from tests.frameworks.conftest import needs
from tests.path.conftest import eventually

needs("gunicorn")
parser = pytest.importorskip("prometheus_client.parser")

EVENTS = """
from prometheus_client import REGISTRY

from mpbroadcast import EventBroadcaster, ObjectReference, metrics

SITE = ObjectReference(kind="Service", namespace="default", name="web", api_version="v1")
broadcaster = EventBroadcaster(name="web")
broadcaster.start_event_watcher(lambda event: None, name="nothing")
recorder = broadcaster.new_recorder("web")
REGISTRY.register(metrics.BroadcasterCollector(broadcaster))
"""
WEB = """
import json, os

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from events import SITE, broadcaster, recorder

own = {"recorded": 0, "refused": 0}


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/metrics":
        body = generate_latest()
    elif path == "/flush":
        body = str(broadcaster.flush(10)).encode()
    else:
        for number in range(int(path.rpartition("/")[2] or 0)):
            own["recorded"] += recorder.event(SITE, "Normal", "Served", str(number))
            own["refused"] += not recorder.event(SITE, "Odd", "Refused", "neither Normal nor Warning")
        body = json.dumps(own | {"pid": os.getpid()}).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Worker", str(os.getpid()))])
    return [body]
"""
CONF = """
workers = 4
preload_app = True


def on_exit(server):
    from events import broadcaster

    broadcaster.shutdown()
"""


@pytest.mark.timeout(120)
def test_the_numbers_are_those_that_the_four_workers_count_whoever_is_asked(program):
    for name, text in (("events.py", EVENTS), ("web.py", WEB), ("gunicorn.conf.py", CONF)):
        program.write(name, text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program.python("-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "web:app")

    def get(path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return int(answer.headers["X-Worker"]), answer.read().decode()
        except OSError:
            return None
        finally:
            connection.close()

    eventually(lambda: get("/record/0"))
    counted: dict[int, dict[str, int]] = {}

    def work():
        worker, text = get("/record/25")
        counted[worker] = json.loads(text)
        return len(counted) == 4

    eventually(work)
    for _ in range(20):
        work()
    assert "True" == get("/flush")[1]
    recorded, refused = (sum(numbers[what] for numbers in counted.values()) for what in ("recorded", "refused"))
    assert recorded == refused >= 4 * 25

    answered = Counter()

    def scrape():
        worker, text = get("/metrics")
        answered[worker] += 1
        found = Counter()
        for family in parser.text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name, sample.labels.get("reason") or sample.labels.get("outcome")] += sample.value
        assert recorded == found["mpbroadcast_events_accepted_total", None]
        assert recorded == found["mpbroadcast_events_forwarded_total", None]
        assert recorded == found["mpbroadcast_watcher_events_settled_total", "handled"]
        assert recorded == found["mpbroadcast_handling_seconds_count", None]
        assert refused == found["mpbroadcast_events_lost_total", "invalid"]
        assert refused == sum(n for (name, _), n in found.items() if name == "mpbroadcast_events_lost_total")
        assert (4, 1) == (found["mpbroadcast_recording_processes", None], found["mpbroadcast_up", None])
        return len(answered) == 4

    assert eventually(scrape, timeout=60), "every worker has been asked"
