"""``get``, ``record`` and ``demo`` against an API server: the one of this package, as another process."""

from __future__ import annotations

import json
import re

import pytest

from mpbroadcast.store.sqlite import Store

from .conftest import eventually, make_event

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.fixture
def server(cli, tmp_path):
    """A server over ``events.db``, and the kubeconfig that leads to it."""
    with cli.started("serve", "--store", "events.db", "--port", "0", "--write-kubeconfig", "config") as process:
        assert "Serving Events at" in process.stdout.readline()
        eventually((tmp_path / "config").exists)
        yield process


CLUSTER = ("--kubeconfig", "config")


@pytest.mark.usefixtures("server")
def test_a_cluster_shows_what_its_store_shows(cli, tmp_path):
    with Store.open(tmp_path / "events.db") as store:
        for name in ("web-1", "web-2", "web-3"):
            store.create(make_event(name, type="Warning" if name == "web-2" else "Normal"))
        store.create(make_event("nightly", namespace="backups"))
    for args in (
        (), ("-A",), ("-n", "backups"), ("--types", "warning"), ("--for", "pods/web-3"), ("--chunk-size", "1"),
        ("-o", "yaml"), ("-o", "json"), ("-A", "-o", "wide"),
    ):  # fmt: skip
        expected, found = cli("get", *args).stdout, cli("get", *args, *CLUSTER).stdout
        assert expected.count("\n") > 1
        assert re.sub(r"\b\d+m\d*s?\b", "", expected) == re.sub(r"\b\d+m\d*s?\b", "", found)


@pytest.mark.usefixtures("server")
def test_nothing_found_in_a_cluster(cli):
    assert "No events found in default namespace.\n" == cli("get", *CLUSTER).stderr
    assert [] == json.loads(cli("get", "-o", "json", *CLUSTER).stdout)["items"]


@pytest.mark.usefixtures("server")
def test_recording_to_a_cluster_creates_then_counts(cli):
    event = ("record", "pod/web-1", "--reason", "Began", "--message", "m")
    first, second = cli(*event, *CLUSTER).stdout, cli(*event, *CLUSTER).stdout
    assert first.replace("created", "counted") == second
    assert re.search(r"^2m? .*|.* 2 +web-1\.", cli("get", "-o", "wide", *CLUSTER).stdout)


@pytest.mark.usefixtures("server")
def test_a_watch_follows_a_cluster(cli):
    cli("record", "pod/web-1", "--reason", "Began", "--message", "m", "--store", "events.db")
    with cli.started("get", "-w", "-o", "name", *CLUSTER) as process:
        assert process.stdout.readline().startswith("event/web-1.")
        cli("record", "pod/web-2", "--reason", "Began", "--message", "m", "--store", "events.db")
        assert process.stdout.readline().startswith("event/web-2.")


def test_a_cluster_that_cannot_be_reached_is_one_line(cli, server):
    server.kill()
    server.wait()
    for command in (("get",), ("record", "pod/x", "--reason", "R", "--message", "m")):
        err = cli(*command, *CLUSTER, code=1).stderr
        assert 1 == len(err.splitlines())
        assert "annot connect" in err


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_the_demo_records_to_a_cluster_as_well(cli):
    text = cli("demo", "-q", "--events", "60", "--store", "mine.db", *CLUSTER).stdout
    [counts] = re.findall(r"^  kubernetes +60 +60 +0 +0 +0 +0 +0   ok$", text, re.MULTILINE)
    assert counts
    assert "Everything adds up" in text
    assert 20 < len(cli("get", "-o", "name", *CLUSTER).stdout.splitlines()) <= 60
