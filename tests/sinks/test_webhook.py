"""`WebhookSink` against a real HTTP server that answers what it is told to."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mpbroadcast.base.outcome import Settled
from mpbroadcast.errors import SinkError, SinkRejected, SinkUnavailable
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.wire import KIND_RECORD
from mpbroadcast.sinks.handler import SinkHandler
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.sinks.webhook import WebhookSink
from mpbroadcast.testing import check_sink
from tests.sinks.conftest import START_NS

FAST = RetryPolicy(base_seconds=0.01, cap_seconds=0.02)


class Server:
    """Takes requests.

    Attributes:
        answers: (status, headers) for the next requests; then 200.
        refuse: a text for which every body that has it is answered with 400.
        taken: (headers, body) of each that was answered with 200.
        seen: all of them.
    """

    def __init__(self):
        self.answers, self.refuse = deque(), None
        self.taken, self.seen = [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers = server.answers.popleft() if server.answers else (200, {})
                if server.refuse is not None and server.refuse in body:
                    status = 400
                server.seen.append((self.headers, body))
                if status == 200:
                    server.taken.append((self.headers, body))
                self.send_response(status)
                for name, value in ({"Content-Length": "0"} | headers).items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/hooks/s3cret"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def messages(self):
        found = []
        for _, body in self.taken:
            batch = json.loads(body)
            found += [event["message"] for event in (batch if isinstance(batch, list) else [batch])]
        return found

    def close(self):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def make_sink(server):
    made = []

    def make(url=None, **options):
        made.append(WebhookSink(url or server.url, **options))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def record(sequence, message):
    static = encode_static(ObjectReference("Pod", "default", "web", "u", "v1"), "Normal", "R", EventSource("lab"))
    return sequence, KIND_RECORD, encode_record(START_NS + sequence, static, message)


def deliver(sink, messages):
    """Runs them through the handler of a watcher; what each was settled as."""
    handler = SinkHandler(sink, correlator=None, retry=FAST, name="w", source="r")
    settled = {}
    handler.open()
    handler.handle([record(n, message) for n, message in enumerate(messages, 1)], settled.__setitem__)
    handler.close()
    return settled


def test_it_keeps_the_rules_of_logs(make_sink):
    check_sink(make_sink, append_only=True)


def test_a_batch_is_one_request(server, make_sink):
    settled = deliver(make_sink(), [f"m-{n}" for n in range(50)])
    assert {Settled.HANDLED} == set(settled.values())
    assert 1 == len(server.taken)
    assert [f"m-{n}" for n in range(50)] == server.messages()
    headers, _ = server.taken[0]
    assert "application/json" == headers["Content-Type"]
    assert 32 == len(headers["Idempotency-Key"])


def test_one_event_at_a_time_has_no_array_around_it(server, make_sink, make_event):
    make_sink(batch=1).create(make_event(message="alone"))
    assert "alone" == json.loads(server.taken[0][1])["message"]


def test_lines_are_lines(server, make_sink):
    deliver(make_sink(lines=True), ["a", "b"])
    headers, body = server.taken[0]
    assert "application/x-ndjson" == headers["Content-Type"]
    assert ["a", "b"] == [json.loads(line)["message"] for line in body.splitlines()]


def test_a_template_makes_the_body_and_no_text_breaks_it(server, make_sink, make_event):
    template = '{"text": "$type: $kind $namespace/$name $reason x$count: $message $$", "id": "$event"}'
    sink = make_sink(batch=1, template=template)
    event = make_event(message='"}, \\ \n$reason ${x}\x1b', count=2, type="Warning")
    sink.create(event)
    assert {"text": f"Warning: Pod baz/foo Started x2: {event.message} $", "id": event.name} == json.loads(
        server.taken[0][1]
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('{"a": "$colour"}', r"template must not have \$colour"),
        ('{"a": "$ "}', r"template must not have a single \$"),
        ("{text: $message}", "template must be JSON"),
    ],
)
def test_a_template_that_makes_no_sense_is_refused(template, expected):
    with pytest.raises(ValueError, match=expected):
        WebhookSink("http://127.0.0.1", template=template)


def test_headers_are_sent_and_shown_nowhere(server, make_sink, make_event):
    sink = make_sink(headers={"Authorization": "Bearer t0ken"})
    sink.create(make_event())
    assert "Bearer t0ken" == server.taken[0][0]["Authorization"]
    again = pickle.loads(pickle.dumps(sink))
    assert repr(sink) == repr(again)
    assert "t0ken" not in repr(sink)
    assert "s3cret" not in repr(sink)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_what_comes_back_is_tried_again(server, make_sink, status):
    server.answers.extend([(status, {}), (status, {})])
    settled = deliver(make_sink(), ["a", "b"])
    assert {Settled.HANDLED} == set(settled.values())
    assert ["a", "b"] == server.messages()
    assert 3 == len(server.seen)
    assert 1 == len({headers["Idempotency-Key"] for headers, _ in server.seen})


def test_how_long_to_wait_is_what_the_server_says(server, make_sink, make_event):
    server.answers.append((503, {"Retry-After": "7"}))
    with pytest.raises(SinkUnavailable, match=r"^webhook http://127\.0\.0\.1:\d+: 503 Service Unavailable$") as caught:
        make_sink().create(make_event())
    assert (503, 7.0) == (caught.value.code, caught.value.retry_after)


def test_one_bad_event_takes_no_other_with_it(server, make_sink):
    server.refuse = b"bad"
    settled = deliver(make_sink(), ["a", "bad", "b", "c"])
    assert [1, 3, 4] == [number for number, outcome in settled.items() if outcome is Settled.HANDLED]
    assert Settled.FAILED is settled[2]
    assert ["a", "b", "c"] == server.messages()


@pytest.mark.parametrize(("status", "expected"), [(404, "404 Not Found$"), (302, r"302 Found \(redirects are not")])
def test_other_answers_are_final(server, make_sink, make_event, status, expected):
    server.answers.append((status, {"Location": "http://127.0.0.1:1/"}))
    with pytest.raises(SinkRejected, match=expected) as caught:
        make_sink().create(make_event())
    assert status == caught.value.code
    assert "s3cret" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable(make_sink, make_event):
    with pytest.raises(SinkUnavailable, match=r"^webhook http://127\.0\.0\.1:1: [^\n]+$") as caught:
        make_sink("http://anna:pw@127.0.0.1:1/s3cret").create(make_event())
    assert "s3cret" not in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"url": "ftp://x"}, "url must be"),
        ({"url": "http://[x"}, "url must be"),
        ({"batch": 0}, "batch must be"),
        ({"timeout": 0}, "timeout must be"),
        ({"connect_timeout": True}, "connect_timeout must be"),
        ({"headers": {"A": "b\r\nC: d"}}, "headers must have texts of one line; that of 'A'"),
    ],
)
def test_options_that_make_no_sense_are_named(options, expected):
    with pytest.raises(ValueError, match=f"^{expected}"):
        WebhookSink(**({"url": "http://127.0.0.1"} | options))


def test_an_authority_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SinkError, match=r"^tls_ca .*ca\.pem: no such file or directory$"):
        WebhookSink("https://127.0.0.1", tls_ca=tmp_path / "ca.pem").check()


def test_making_one_loads_no_client():
    program = (
        "import sys; from mpbroadcast.sinks import WebhookSink; WebhookSink('http://127.0.0.1')\n"
        "print('aiohttp' in sys.modules)"
    )
    assert b"False\n" == subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
