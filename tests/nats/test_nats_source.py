"""`NATSSource`: what ``mpbroadcast get`` shows of a stream."""

from __future__ import annotations

from contextlib import closing

import pytest

from mpbroadcast.cli.nats_options import access_of, is_nats, stream_of
from mpbroadcast.cli.nats_source import NATSSource
from mpbroadcast.errors import SinkError, SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.sinks.nats import NATSSink
from mpbroadcast.store.selection import Selection
from tests.nats.servers import Run, record, records_of


def publish(servers, records):
    with Run(NATSSink(servers.urls)) as run:
        run.give(records)


def source_of(servers, **selection):
    return NATSSource(Selection(**selection), access_of(servers.urls[0]), "EVENTS")


def messages(pages):
    return [event.message for page in pages for event in page]


def test_pages_give_what_is_there_in_order(server):
    publish(server, records_of(1200, objects=1))
    with closing(source_of(server)) as source:
        pages = list(source.pages(500))
    assert [500, 500, 200] == [len(page) for page in pages]
    assert [f"m-{n}" for n in range(1, 1201)] == messages(pages)


def test_of_an_event_that_was_counted_up_the_latest_is_shown(server):
    event = Event.from_record(record(1)[2])
    sink = NATSSink(server.urls)
    for count in (1, 2, 3):
        sink.patch(event.replace(count=count), b"{}")
    sink.close()
    with closing(source_of(server)) as source:
        assert [[3]] == [[one.count for one in page] for page in source.pages(0)]


def test_following_gives_what_comes_and_only_what_is_meant(server):
    publish(server, [record(1, "web", "old")])
    with closing(source_of(server, types=("Normal",), name="")) as source:
        assert ["old"] == messages(source.pages(0))
        publish(server, [record(2, "web", "new"), record(3, "web", "newer")])
        found = []
        for events in source.follow():
            found += [event.message for event in events]
            if len(found) == 2:
                break
        assert ["new", "newer"] == found


def test_another_namespace_is_not_shown(server):
    publish(server, [record(1, "web", "here"), record(2, "web", "there", namespace="other")])
    with closing(source_of(server, namespace="other")) as source:
        assert ["there"] == messages(source.pages(0))


def test_following_goes_on_after_the_server_was_killed(server, monkeypatch):
    monkeypatch.setattr("mpbroadcast.relay.reader._SILENCE_SECONDS", -1.0)  # sooner than in earnest
    publish(server, [record(1, "web", "old")])
    with closing(source_of(server)) as source:
        assert ["old"] == messages(source.pages(0))
        server.kill(0)
        server.start(0)
        publish(server, [record(2, "web", "new")])
        assert ["new"] == [event.message for event in next(source.follow())]


def test_a_server_that_goes_away_while_it_is_read_is_one_line(server, monkeypatch):
    monkeypatch.setattr("mpbroadcast.cli.nats_source._AWAY_SECONDS", 1.0)
    publish(server, [record(1, "web", "old")])
    with closing(source_of(server)) as source:
        server.kill(0)
        with pytest.raises(SinkUnavailable, match=r"^NATS at nats://[^\n]+ does not answer any more: the events"):
            list(source.pages(0))


def test_an_empty_stream_and_messages_that_are_no_events(server):
    async def make(js):
        await js.add_stream(name="EVENTS", subjects=["events.>"])

    async def disturb(js):
        for body in (b"no json", b"[1]", b'{"metadata": 7}'):
            await js.publish("events.x", body)

    server.run(make)
    with closing(source_of(server)) as source:
        assert [] == messages(source.pages(500))
    server.run(disturb)
    with closing(source_of(server)) as source:
        assert [] == messages(source.pages(500))
        assert 3 == source.unreadable


def test_a_missing_stream_is_one_line(server):
    with pytest.raises(SinkUnavailable, match=r"^there is no stream EVENTS; [^\n]+$"):
        source_of(server)


def test_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MPBROADCAST_NATS_TOKEN", "of-the-environment")
    assert "of-the-environment" == access_of("nats://host").token
    (tmp_path / "token").write_text("of-the-file\n")
    assert "of-the-file" == access_of("nats://host", token_file=str(tmp_path / "token")).token
    with pytest.raises(SinkError, match=r"^the token file .* cannot be read: No such file"):
        access_of("nats://host", token_file=str(tmp_path / "none"))


@pytest.mark.parametrize(("source", "expected"), [("nats://a", True), ("tls://a", True), ("events.db", False)])
def test_which_sources_are_nats(source, expected):
    assert expected == is_nats(source)


def test_wrong_options_are_errors_of_usage():
    with pytest.raises(Exception, match="--from must be URLs"):
        access_of("events.db")
    with pytest.raises(Exception, match="--stream must have letters"):
        stream_of("a.b")
    with pytest.raises(Exception, match="tls_cert and tls_key go together"):
        access_of("nats://host", tls_cert="x")
