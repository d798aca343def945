"""The exporter, and the numbers of helpers and of broadcasters that share a name."""

from __future__ import annotations

import os
import signal
import urllib.request

import pytest

from mpbroadcast.errors import BroadcastError
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.metrics import labelled, render, start_exporter
from tests.cli.pictures import stats
from tests.path.conftest import eventually, helpers_of

parser = pytest.importorskip("prometheus_client.parser")
POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")


def parsed(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return parsed(answer.read().decode())


@pytest.fixture
def broadcaster():
    with EventBroadcaster(processes=False, name="web") as one:
        yield one


def test_a_scrape_gives_the_numbers_of_now_and_nothing_else(broadcaster):
    recorder = broadcaster.new_recorder("test")
    with start_exporter(broadcaster, port=0) as exporter:
        for expected in (1, 2):
            assert recorder.event(POD, "Normal", "Step", "a step")
            found = scraped(exporter.port)
            assert expected == found["mpbroadcast_events_accepted_total", ("broadcaster", "web")]
        assert {"mpbroadcast"} == {key[0].split("_")[0] for key in found}


def test_when_it_is_closed_the_port_is_free(broadcaster):
    exporter = start_exporter(broadcaster, port=0)
    exporter.close()
    exporter.close()
    with start_exporter(broadcaster, port=exporter.port) as again:
        assert exporter.port == again.port
        assert scraped(again.port)


@pytest.mark.parametrize(
    ("addr", "port", "why"),
    [
        ("192.0.2.1", 0, "cannot assign requested address"),
        ("127.0.0.1", 70_000, "port must be 0-65535"),
    ],
)
def test_a_place_where_nobody_can_listen_is_one_line(broadcaster, addr, port, why):
    with pytest.raises(BroadcastError) as caught:
        start_exporter(broadcaster, port=port, addr=addr)
    assert f"metrics cannot be served at {addr}:{port}: " in str(caught.value)
    assert why in str(caught.value)


def test_a_port_that_is_taken_is_one_line(broadcaster):
    with start_exporter(broadcaster, port=0) as exporter, pytest.raises(BroadcastError, match="address already in use"):
        start_exporter(broadcaster, port=exporter.port)


def test_broadcasters_of_one_name_are_told_apart():
    assert [(("broadcaster", "a"),), (("broadcaster", "b"),)] == [labels for _, labels in labelled(
        [stats(name="a", created_ns=1), stats(name="b", created_ns=2)])]  # fmt: skip
    same = [stats(name="a", created_ns=2), stats(name="a", created_ns=1)]
    found = labelled(same)
    assert [1, 2] == [one.created_ns for one, _ in found], "the older one is the first, also at the next scrape"
    assert [{"broadcaster": "a", "pid": "50", "number": number} for number in "12"] == [
        dict(labels) for _, labels in found
    ]
    lines = [line.rpartition(" ")[0] for line in render(found).splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_a_helper_that_has_died_with_its_spare_shows(make):
    broadcaster = make(name="web")
    broadcaster.start_event_watcher(lambda event: None, name="mine")
    eventually(lambda: all(helpers_of(broadcaster).values()))

    def number(metric):
        key = (f"mpbroadcast_{metric}", ("broadcaster", "web"), ("helper", "watcher mine"))
        return parsed(render(labelled([broadcaster.stats()]))).get(key)

    assert (1, 1) == (number("helper_up"), number("helper_spares"))
    pids = helpers_of(broadcaster)
    os.kill(pids["mine spare"], signal.SIGSTOP)  # so that it does not take over before it is killed, too
    for name in ("mine", "mine spare"):
        os.kill(pids[name], signal.SIGKILL)
    assert eventually(lambda: (number("helper_up"), number("helper_spares")) == (0, 0))


def test_threads_have_no_spares_and_nobody_misses_them(broadcaster):
    broadcaster.start_event_watcher(lambda event: None, name="mine")
    found = {key[0] for key in parsed(render(labelled([broadcaster.stats()])))}
    assert "mpbroadcast_helper_up" in found
    assert "mpbroadcast_helper_spares" not in found


def test_after_shutdown_no_helper_is_missed(make):
    broadcaster = make(name="web")
    broadcaster.start_event_watcher(lambda event: None, name="mine")
    broadcaster.shutdown(10)
    found = parsed(render(labelled([broadcaster.stats()])))
    assert not [key for key in found if key[0] in {"mpbroadcast_helper_up", "mpbroadcast_helper_spares"}]
    assert 0 == found["mpbroadcast_up", ("broadcaster", "web")]
