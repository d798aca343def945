"""``mpbroadcast get --from nats://...``: the real program, a real server."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from mpbroadcast.sinks.nats import NATSSink
from tests.nats.servers import Run, free_ports, record, records_of

PROGRAM = [sys.executable, "-m", "mpbroadcast", "get"]


def publish(servers, records, **options):
    with Run(NATSSink(servers.urls, **options)) as run:
        run.give(records)


def get(*args, code=0, timeout=50):
    done = subprocess.run([*PROGRAM, *args], capture_output=True, text=True, timeout=timeout, check=False)
    assert "Traceback" not in done.stderr
    assert code == done.returncode, done.stdout + done.stderr
    return done


@contextmanager
def watching(log, *args):
    """The program, which goes on; what it says goes into a file."""
    with log.open("wb") as file, subprocess.Popen([*PROGRAM, "-w", *args], stdout=file, stderr=file) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(log, text, seconds=30):
    end = time.monotonic() + seconds
    while text not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def test_what_a_stream_holds_is_printed_as_of_a_store(server):
    publish(server, [record(1, "web-0", "first"), record(2, "web-1", "second", namespace="other")])
    assert ["LAST", "first"] == [line.split()[i] for line, i in zip(_lines(server), (0, -1), strict=True)]
    assert ["other", "default"] == sorted((line.split()[0] for line in _lines(server, "-A")[1:]), reverse=True)
    assert ["second"] == [line.split()[-1] for line in _lines(server, "-n", "other", "--for", "pod/web-1")[1:]]


def _lines(server, *args):
    return get("--from", server.urls[0], *args).stdout.splitlines()


def test_another_stream_is_named_and_an_empty_namespace_is_said(server):
    publish(server, [record(1, "web-0", "elsewhere")], stream="MINE", subject="mine.{name}")
    assert "elsewhere" in get("--from", server.urls[0], "--stream", "MINE").stdout
    done = get("--from", server.urls[0], "--stream", "MINE", "-n", "none")
    assert ("", "No events found in none namespace.\n") == (done.stdout, done.stderr)


def test_watching_shows_what_comes_and_says_once_that_the_server_is_away(server, tmp_path):
    publish(server, records_of(3, objects=3))
    log = tmp_path / "log"
    with watching(log, "--from", server.urls[0]) as process:
        wait_for(log, "m-3")
        publish(server, records_of(1, objects=3, first=4))
        wait_for(log, "m-4")
        server.kill(0)
        wait_for(log, "does not answer; waiting for it")
        server.start(0)
        publish(server, records_of(1, objects=3, first=5))
        wait_for(log, "m-5")
        assert process.poll() is None
    text = log.read_text()
    assert 1 == text.count("does not answer")
    assert 1 == text.count("LAST SEEN")
    assert "Traceback" not in text


@pytest.mark.parametrize("options", [(), ("-w",)], ids=["once", "watching"])
def test_a_server_that_is_away_is_one_line(options):
    url = f"nats://anna:s3cret@127.0.0.1:{free_ports(1)[0]}"
    done = get("--from", url, *options, code=1)
    assert "" == done.stdout
    assert 1 == done.stderr.count("\n"), done.stderr
    assert done.stderr.startswith(f"mpbroadcast: NATS at nats://127.0.0.1:{url.rpartition(':')[2]}: ")
    assert "s3cret" not in done.stderr


def test_a_stream_that_is_not_there_is_one_line(server):
    done = get("--from", server.urls[0], code=1)
    assert "mpbroadcast: there is no stream EVENTS; a NATSSink makes it when it first publishes\n" == done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--from", "events.db"), "--from must be URLs such as nats://127.0.0.1:4222"),
        (("--from", "nats://h", "--store", "x.db"), "events come from one of them"),
        (("--from", "nats://h", "--context", "x"), "events come from one of them"),
        (("--from", "nats://h", "--stream", "a.b"), "--stream must"),
        (("--stream", "MINE"), "go with --from nats://"),
        (("--tls-ca", "x.pem"), "go with --from nats://"),
    ],
)
def test_options_that_do_not_go_together_are_named(args, says):
    done = get(*args, code=2)
    assert says in done.stderr
    assert 1 == done.stderr.count("\n"), done.stderr
