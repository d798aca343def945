"""`OTelSink` against a small collector that reads OTLP as the specification says."""

from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra 'otel' is not installed")

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

from mpbroadcast.base.outcome import Settled
from mpbroadcast.errors import MissingExtra, SinkError, SinkRejected, SinkUnavailable
from mpbroadcast.sinks import otel
from mpbroadcast.sinks.otel import OTelSink
from mpbroadcast.testing import check_sink
from tests.sinks.conftest import START_NS
from tests.sinks.test_webhook import deliver


class Collector:
    """Takes OTLP/HTTP.

    Attributes:
        answers: (status, headers) for the next requests; then 200.
        refuse: a text for which every request that has it in a body is answered with 400.
        requests: the decoded requests that were taken.
        seen: (path, headers) of all.
    """

    def __init__(self):
        self.answers, self.refuse = deque(), None
        self.requests, self.seen = [], []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.seen.append((self.path, self.headers))
                request = ExportLogsServiceRequest.FromString(body)
                status, headers = collector.answers.popleft() if collector.answers else (200, {})
                if collector.refuse is not None and collector.refuse in body:
                    status = 400
                if status == 200:
                    collector.requests.append(request)
                self.send_response(status)
                for name, value in ({"Content-Length": "0"} | headers).items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def records(self):
        return [
            record
            for request in self.requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def close(self):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def make_sink(collector):
    made = []

    def make(endpoint=None, **options):
        made.append(OTelSink(endpoint or collector.url, **({"timeout": 0.5} | options)))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def values(attributes):
    return {one.key: one.value.string_value or one.value.int_value for one in attributes}


def test_it_keeps_the_rules_of_logs(make_sink):
    check_sink(make_sink, append_only=True)


def test_an_event_is_a_log_record_with_its_attributes(collector, make_sink, make_event):
    make_sink(service="shop", resource={"deployment.environment": "test"}).create(
        make_event(type="Warning", count=3, message="it \x1b broke", action="Pulling")
    )
    (record,) = collector.records()
    assert START_NS == record.time_unix_nano
    assert SeverityNumber.SEVERITY_NUMBER_WARN == record.severity_number
    assert "Warning" == record.severity_text
    assert "it \x1b broke" == record.body.string_value
    assert {
        "k8s.event.name": f"foo.{START_NS:x}",
        "k8s.namespace.name": "baz",
        "k8s.event.reason": "Started",
        "k8s.event.action": "Pulling",
        "k8s.object.kind": "Pod",
        "k8s.object.name": "foo",
        "k8s.object.uid": "bar",
        "k8s.object.api_version": "v1",
        "k8s.object.fieldpath": "spec.containers[2]",
        "k8s.event.reporting_controller": "eventTest",
        "k8s.event.count": 3,
    } == values(record.attributes)
    resource = values(collector.requests[0].resource_logs[0].resource.attributes)
    assert ("shop", "test") == (resource["service.name"], resource["deployment.environment"])
    assert "mpbroadcast" == collector.requests[0].resource_logs[0].scope_logs[0].scope.name


def test_a_normal_event_is_information(collector, make_sink, make_event):
    make_sink().patch(make_event(), b"{}")
    assert SeverityNumber.SEVERITY_NUMBER_INFO == collector.records()[0].severity_number


def test_a_batch_is_one_request_to_the_usual_path(collector, make_sink):
    settled = deliver(make_sink(headers={"X-Key": "t0ken"}), [f"m-{n}" for n in range(100)])
    assert {Settled.HANDLED} == set(settled.values())
    assert [f"m-{n}" for n in range(100)] == [record.body.string_value for record in collector.records()]
    ((path, headers),) = collector.seen
    assert ("/v1/logs", "t0ken", "gzip") == (path, headers["X-Key"], headers["Content-Encoding"])


def test_a_path_of_its_own_is_kept(collector, make_sink, make_event):
    make_sink(f"{collector.url}/otlp/logs", compression=False).create(make_event())
    assert "/otlp/logs" == collector.seen[0][0]


def test_what_comes_back_is_tried_again(collector, make_sink):
    collector.answers.extend([(503, {"Retry-After": "0"}), (500, {}), (429, {"Retry-After": "0"})])
    settled = deliver(make_sink(), ["a", "b"])
    assert {Settled.HANDLED} == set(settled.values())
    assert ["a", "b"] == [record.body.string_value for record in collector.records()]


def test_how_long_to_wait_is_what_the_collector_says(collector, make_sink, make_event):
    collector.answers.append((503, {"Retry-After": "9"}))
    with pytest.raises(SinkUnavailable, match=r"^collector http://127\.0\.0\.1:\d+: 503$") as caught:
        make_sink().create(make_event())
    assert (503, 9.0) == (caught.value.code, caught.value.retry_after)


def test_one_bad_event_takes_no_other_with_it(collector, make_sink):
    collector.refuse = b"bad"
    settled = deliver(make_sink(compression=False), ["a", "bad", "b"])
    assert [Settled.HANDLED, Settled.FAILED, Settled.HANDLED] == [settled[n] for n in (1, 2, 3)]
    assert ["a", "b"] == [record.body.string_value for record in collector.records()]


def test_other_answers_are_final(collector, make_sink, make_event):
    collector.answers.append((401, {}))
    with pytest.raises(SinkRejected, match=r": 401$") as caught:
        make_sink().create(make_event())
    assert 401 == caught.value.code


def test_a_collector_that_is_not_there_is_unavailable(make_sink, make_event):
    with pytest.raises(SinkUnavailable, match=r"^collector http://127\.0\.0\.1:1: cannot be reached$"):
        make_sink("http://anna:pw@127.0.0.1:1/s3cret").create(make_event())


def test_it_is_picklable_also_after_use_and_shows_no_secret(make_sink, make_event):
    sink = make_sink(headers={"X-Key": "t0ken"})
    sink.create(make_event())
    again = pickle.loads(pickle.dumps(sink))
    assert repr(sink) == repr(again)
    assert "t0ken" not in repr(sink)
    again.create(make_event())
    again.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"endpoint": "collector:4318"}, "endpoint"), ({"batch": 0}, "batch"), ({"timeout": "x"}, "timeout")],
)
def test_options_that_make_no_sense_are_named(options, expected):
    with pytest.raises(ValueError, match=f"^{expected} must be"):
        OTelSink(**options)


def test_what_is_missing_is_named_before_anything_is_started(tmp_path, monkeypatch):
    with pytest.raises(SinkError, match=r"^tls_ca .*ca\.pem: the file is not there"):
        OTelSink(tls_ca=tmp_path / "ca.pem").check()
    monkeypatch.setattr(otel, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="OTelSink needs the extra 'otel'"):
        OTelSink().check()


def test_making_one_loads_no_sdk():
    program = (
        "import sys; from mpbroadcast.sinks import OTelSink; OTelSink()\n"
        "print(bool({'opentelemetry', 'requests', 'google.protobuf'} & set(sys.modules)))"
    )
    assert b"False\n" == subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
