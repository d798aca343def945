"""`NATSSink` against one real server."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from mpbroadcast.base.outcome import Settled
from mpbroadcast.errors import SinkRejected, SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.sinks.nats import NATSSink
from mpbroadcast.testing import check_sink
from tests.nats.servers import Run, check_log, record, records_of

ROOT = Path(__file__).parents[2]


made = []


def sink_of(servers, **options):
    urls = servers if isinstance(servers, str) else servers.urls
    made.append(NATSSink(urls, **({"timeout": 5} | options)))
    return made[-1]


@pytest.fixture(autouse=True)
def close_sinks():
    yield
    while made:
        made.pop().close()


def test_it_keeps_the_rules_of_logs(server):
    check_sink(lambda: sink_of(server), append_only=True)


def test_a_message_is_the_event_as_core_v1_under_its_subject(server):
    sink = sink_of(server)
    event = Event.from_record(record(1, "node.a")[2])
    sink.create(event)
    sink.patch(event.replace(count=2), b'{"count":2}')
    sink.close()
    first, second = server.messages()
    assert "events.default.Pod.node%2Ea" == first[0] == second[0]
    assert orjson.loads(orjson.dumps(event.to_core_v1())) == first[2]
    assert 2 == second[2]["count"]


def test_the_same_write_is_stored_once(server):
    """By this process, and by the one that takes its place."""
    event = Event.from_record(record(1)[2])
    for _ in range(2):
        sink = sink_of(server)
        sink.create(event)
        sink.create(event)
        sink.close()
    assert 1 == server.count()


def test_the_stream_is_made_as_asked(server):
    sink = sink_of(server, stream="S", subject="k8s.{kind}", storage="memory", max_age=60, duplicate_window=7)
    sink.create(Event.from_record(record(1)[2]))
    sink.close()

    async def act(js):
        return (await js.stream_info("S")).config

    config = server.run(act)
    assert (["k8s.*"], "memory", 60, 7, 1) == (
        config.subjects,
        config.storage,
        config.max_age,
        config.duplicate_window,
        config.num_replicas,
    )


def test_a_stream_for_other_subjects_is_named(server):
    async def act(js):
        await js.add_stream(name="EVENTS", subjects=["other.>"])

    server.run(act)
    with pytest.raises(SinkUnavailable, match=r"stream EVENTS takes \"other\.>\", not 'events\.\*\.\*\.\*'"):
        sink_of(server).create(Event.from_record(record(1)[2]))


def test_more_replicas_than_servers_is_said(server):
    with pytest.raises(SinkUnavailable, match=r"^stream EVENTS: replicas > 1 not supported in non-clustered mode$"):
        sink_of(server, replicas=3).create(Event.from_record(record(1)[2]))


def test_an_event_that_is_too_large_is_refused(make_servers):
    servers = make_servers(extra="max_payload: 2000").ready()
    sink = sink_of(servers)
    with pytest.raises(SinkRejected, match=r"the event has \d+ bytes, which the servers do not take") as caught:
        sink.create(Event.from_record(record(1, message="m" * 3000)[2]))
    assert 413 == caught.value.code
    sink.close()


def test_a_server_that_is_not_there_is_one_line():
    sink = sink_of("nats://anna:s3cret@127.0.0.1:1", timeout=2)
    with pytest.raises(SinkUnavailable, match=r"^NATS at nats://127\.0\.0\.1:1: [^\n]+$") as caught:
        sink.create(Event.from_record(record(1)[2]))
    assert "s3cret" not in str(caught.value)
    sink.close()


def test_many_events_go_out_side_by_side_and_each_object_s_in_order(server):
    with Run(sink_of(server)) as run:
        run.give(records_of(3000))
    assert {Settled.HANDLED} == set(run.settled.values())
    check_log([body for _, _, body in server.messages()], 3000)


def test_a_server_that_is_killed_and_started_again(server):
    """Under load, twice: what was not acknowledged is published again, and stored once."""
    with Run(sink_of(server)) as run:
        for start in range(1, 4001, 500):
            run.give(records_of(500, first=start))
            if start in {1001, 2501}:
                run.wait(lambda start=start: len(run.settled) >= start - 400)
                server.kill(0)
                server.start(0)
        run.wait(lambda: len(run.settled) == 4000)
    check_log([body for _, _, body in server.messages()], 4000)


def test_a_server_that_is_stopped_is_waited_for(server):
    """SIGSTOP closes no connection: what it has and did not acknowledge comes twice, and is stored once."""
    with Run(sink_of(server, timeout=20)) as run:
        run.give(records_of(500))
        run.wait(lambda: len(run.settled) >= 100)
        server.signal(0, signal.SIGSTOP)
        run.give(records_of(500, first=501))
        time.sleep(2.6)  # longer than it waits for an answer
        server.signal(0, signal.SIGCONT)
        run.wait(lambda: len(run.settled) == 1000)
    check_log([body for _, _, body in server.messages()], 1000)


def test_what_was_stored_is_known_after_the_duplicate_window(server):
    """The answer was lost, and NATS away for longer than its memory of ids lasts."""
    sink = sink_of(server, duplicate_window=0.2)
    event = Event.from_record(record(1)[2])
    sink.create(event)
    body = orjson.dumps(event.to_core_v1())
    from mpbroadcast.sinks.jetstream import message_id

    sink._client._first_tries[message_id(event, body)] = -1000.0
    time.sleep(0.5)
    sink.create(event)
    assert {} == sink._client._first_tries
    sink.create(event)  # as a new write, to see that the servers themselves have forgotten it
    sink.close()
    assert 2 == server.count()


def test_a_stream_that_is_deleted_is_made_again(server):
    sink = sink_of(server)
    sink.create(Event.from_record(record(1)[2]))

    async def act(js):
        await js.delete_stream("EVENTS")

    server.run(act)
    sink.create(Event.from_record(record(2)[2]))
    sink.close()
    assert 1 == server.count()


def test_a_sink_s_process_that_is_killed_repeatedly(server, tmp_path):
    """Its successor gets what was not settled again: stored once, in order."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.nats.killed", server.urls[0], str(tmp_path), "4000", "8"], cwd=ROOT, check=False
    )
    assert 0 == child.returncode
    check_log([body for _, _, body in server.messages()], 4000)


def test_events_wait_in_the_spool_while_nats_is_away(server, tmp_path):
    server.kill(0)
    with Run(sink_of(server, timeout=0.3, spool=tmp_path / "spool")) as run:
        for start in range(1, 1001, 100):
            run.give(records_of(100, first=start))
        run.wait(lambda: len(run.settled) == 1000)  # on disk
        assert run.counts["spooled"]
        server.start(0)
    check_log([body for _, _, body in server.messages()], 1000)


@pytest.mark.parametrize(
    ("extra", "right", "wrong"),
    [
        ("authorization { token: t0ken }", {"token": "t0ken"}, {"token": "s3cret"}),
        ("authorization { user: anna, password: pw }", {"user": "anna", "password": "pw"}, {"user": "anna"}),
    ],
    ids=["token", "password"],
)
def test_credentials(make_servers, extra, right, wrong):
    servers = make_servers(extra=extra)
    sink = sink_of(servers, **right)
    sink.create(Event.from_record(record(1)[2]))
    sink.close()
    said = []
    for _ in range(5):  # the server may reset the connection before its words are read
        with pytest.raises(SinkUnavailable, match=r"^NATS at nats://127\.0\.0\.1:\d+: [^\n]+$") as caught:
            sink_of(servers, **wrong).create(Event.from_record(record(2)[2]))
        said.append(str(caught.value))
    assert any(text.endswith(": Authorization Violation") for text in said), said
    assert not any("s3cret" in text for text in said)


def test_tls_with_the_authority_that_is_named(make_servers, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    servers = make_servers(extra=f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}')
    url = servers.urls[0].replace("nats:", "tls:")
    sink = sink_of(url, tls_ca=certificate)
    sink.create(Event.from_record(record(1)[2]))
    sink.close()
    with pytest.raises(SinkUnavailable, match=r"^NATS at tls://[^\n]+$"):
        sink_of(url, timeout=1).create(Event.from_record(record(2)[2]))


def test_a_publisher_without_permission_is_told_why(make_servers, monkeypatch):
    monkeypatch.setattr("mpbroadcast.sinks.nats._ANSWER_SECONDS", 0.2)
    extra = 'authorization { users: [{ user: a, password: b, permissions: { publish: { deny: "events.>" } } }] }'
    servers = make_servers(extra=extra)
    sink = sink_of(servers, user="a", password="b", timeout=0.5)
    with pytest.raises(SinkUnavailable, match=r"no acknowledgement \([Pp]ermissions violation for publish to"):
        sink.create(Event.from_record(record(1)[2]))
    sink.close()


@pytest.mark.parametrize(
    "options",
    [
        {"window": 0},
        {"window": 5000},
        {"storage": "tape"},
        {"stream": "a.b"},
        {"replicas": 9},
        {"timeout": 0},
        {"max_age": 10},
        {"spool_bytes": 5},
        {"tls_cert": "x"},
        {"connect_timeout": -1},
    ],
)
def test_options_that_make_no_sense_are_named(options):
    name = next(iter(options)) if "max_age" not in options else "duplicate_window"
    with pytest.raises(ValueError, match=rf"^{name}[^\n]+$"):
        NATSSink("nats://127.0.0.1", **options)


def test_it_is_picklable_also_after_use_and_shows_no_secret(server):
    sink = sink_of(server, token="t0ken")
    sink.create(Event.from_record(record(1)[2]))
    again = pickle.loads(pickle.dumps(sink))
    sink.close()
    assert repr(sink) == repr(again)
    assert "t0ken" not in repr(sink)
    again.create(Event.from_record(record(2)[2]))
    again.close()
    assert 2 == server.count()


def test_making_one_loads_no_client():
    program = (
        "import sys; from mpbroadcast.sinks import NATSSink; NATSSink('nats://127.0.0.1')\n"
        "print(sorted({'nats', 'asyncio.sslproto', 'aiohttp'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=os.environ).stdout
    assert b"nats" not in out
