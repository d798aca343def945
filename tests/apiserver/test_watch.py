"""Watches: what comes, in which order, and how they begin and end."""

from __future__ import annotations

import threading
import time

import pytest

from mpbroadcast.apiserver.server import ServeOptions, Server
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.store.sqlite import Store
from tests.apiserver.running import CORE, Client, core_event, new_event, serving, watch_lines

MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


@pytest.fixture
def watch(server):
    """Begins a watch on a connection of its own; gives an iterator over its events."""
    clients = []

    def watch(path, headers=None, **query):
        client = Client(server.url)
        clients.append(client)
        response = client.send("GET", path, headers=headers, watch="true", **query)
        assert 200 == response.status, response.read()
        assert "application/json" == response.getheader("content-type")
        return watch_lines(response)

    yield watch
    for client in clients:
        client.close()


@pytest.fixture
def create(call, core, namespace):
    def create(name="web-1.17a", **fields):
        return call("POST", core, core_event(name, namespace, **fields)).json

    return create


def _short(line):
    return line["type"], line["object"]["metadata"]["name"]


def _version(call, core):
    return call("GET", core).json["metadata"]["resourceVersion"]


def test_a_watch_from_a_version_tells_everything_after_it(call, create, core, watch):
    create("before")
    lines = watch(core, resourceVersion=_version(call, core))
    created = create("a")
    assert {"type": "ADDED", "object": created} == next(lines)
    patched = call("PATCH", f"{core}/a", {"count": 2}, MERGE).json
    assert {"type": "MODIFIED", "object": patched} == next(lines)
    call("DELETE", f"{core}/a")
    deleted = next(lines)
    assert ("DELETED", 2) == (deleted["type"], deleted["object"]["count"])
    assert int(deleted["object"]["metadata"]["resourceVersion"]) > int(patched["metadata"]["resourceVersion"])


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}, {"resourceVersion": ""}])
def test_a_watch_without_a_version_begins_with_what_there_is(create, core, watch, query):
    create("a")
    create("b")
    lines = watch(core, **query)
    assert [("ADDED", "a"), ("ADDED", "b")] == [_short(next(lines)) for _ in range(2)]
    create("c")
    assert ("ADDED", "c") == _short(next(lines))


def test_both_groups_hear_of_one_write(call, create, core, new, namespace, watch):
    version = _version(call, core)
    old, young = watch(core, resourceVersion=version), watch(new, resourceVersion=version)
    call("POST", new, new_event("e", namespace))
    assert "0/3 nodes are available" == next(old)["object"]["message"]
    assert "0/3 nodes are available" == next(young)["object"]["note"]


def test_other_namespaces_and_selectors_are_not_heard(call, create, core, namespace, watch):
    version = _version(call, core)
    lines = watch(core, resourceVersion=version, fieldSelector="type=Warning")
    call("POST", f"{CORE}/namespaces/else-{namespace}/events", core_event("x", f"else-{namespace}", type="Warning"))
    create("normal")
    create("warning", type="Warning")
    assert ("ADDED", "warning") == _short(next(lines))


def test_an_event_that_leaves_the_selection_is_taken_away_and_one_that_enters_it_is_added(call, create, core, watch):
    """The client listed before, as informers do: what it knows must be right at the end."""
    create("listed", metadata={"labels": {"app": "web"}})
    create("unseen")
    lines = watch(core, resourceVersion=_version(call, core), labelSelector="app=web")
    call("PATCH", f"{core}/unseen", {"count": 9}, MERGE)
    call("PATCH", f"{core}/listed", {"metadata": {"labels": None}}, MERGE)
    assert ("DELETED", "listed") == _short(next(lines))
    call("PATCH", f"{core}/unseen", {"metadata": {"labels": {"app": "web"}}}, MERGE)
    assert ("ADDED", "unseen") == _short(next(lines))
    call("PATCH", f"{core}/unseen", {"count": 10}, MERGE)
    assert ("MODIFIED", "unseen") == _short(next(lines))
    call("DELETE", f"{core}/unseen")
    assert ("DELETED", "unseen") == _short(next(lines))


def test_one_event_can_be_watched_by_its_url(call, create, core, watch):
    create("a")
    lines = watch(f"{core}/a")
    assert ("ADDED", "a") == _short(next(lines))
    create("b")
    call("DELETE", f"{core}/a")
    assert ("DELETED", "a") == _short(next(lines))


@pytest.mark.parametrize("version", ["999999999", "1"])
def test_a_version_that_is_unknown_or_forgotten_ends_in_410(call, create, core, watch, version, server):
    """A version of another store, or one whose deletions are forgotten: the client must list again."""
    if version == "1":
        with Store.open(server.folder / "events.db") as store:
            store.begin()
            for number in range(10_002):
                store.create(Event(name=f"x{number}", namespace="churn"))
            for number in range(10_002):
                store.delete("churn", f"x{number}")
            store.commit()
    lines = list(watch(core, resourceVersion=version))
    assert ["ERROR"] == [line["type"] for line in lines]
    status = lines[0]["object"]
    assert ("Status", 410, "Expired") == (status["kind"], status["code"], status["reason"])


def test_the_time_of_a_watch_ends_it_with_a_bookmark_if_wanted(call, create, core, watch):
    create("a")
    version = _version(call, core)
    assert [] == list(watch(core, resourceVersion=version, timeoutSeconds=1))
    [bookmark] = watch(core, resourceVersion=version, timeoutSeconds=1, allowWatchBookmarks="true")
    assert ("BOOKMARK", "Event") == (bookmark["type"], bookmark["object"]["kind"])
    assert int(version) <= int(bookmark["object"]["metadata"]["resourceVersion"])


def test_a_watch_can_be_told_where_what_there_was_ends(create, core, watch):
    """``sendInitialEvents``, with which newer informers replace their list."""
    create("a")
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    lines = watch(core, **query)
    assert ("ADDED", "a") == _short(next(lines))
    bookmark = next(lines)
    assert {"k8s.io/initial-events-end": "true"} == bookmark["object"]["metadata"]["annotations"]
    create("b")
    assert ("ADDED", "b") == _short(next(lines))
    query["sendInitialEvents"] = "false"
    lines = watch(core, **query)
    create("c")
    assert ("ADDED", "c") == _short(next(lines))


def test_a_table_is_watched_row_by_row_with_columns_once(call, create, core, watch):
    create("a")
    lines = watch(core, headers=TABLE, timeoutSeconds=1, allowWatchBookmarks="true")
    first = next(lines)
    assert ("ADDED", "Table", 10) == (first["type"], first["object"]["kind"], len(first["object"]["columnDefinitions"]))
    assert "a" == first["object"]["rows"][0]["object"]["metadata"]["name"]
    create("b")
    second = next(lines)
    assert (None, 1) == (second["object"]["columnDefinitions"], len(second["object"]["rows"]))
    bookmark = next(lines)
    assert ("BOOKMARK", []) == (bookmark["type"], bookmark["object"]["rows"])


def test_what_another_process_writes_is_heard(call, core, namespace, server, watch):
    lines = watch(core, resourceVersion=_version(call, core))
    with Store.open(server.folder / "events.db") as store:
        store.create(Event(name="theirs", namespace=namespace, involved_object=ObjectReference(namespace=namespace)))
    assert ("ADDED", "theirs") == _short(next(lines))


def test_every_one_of_many_writes_is_heard_in_order(call, create, core, watch):
    """Many more than are read at a time."""
    lines = watch(core, resourceVersion=_version(call, core))
    for number in range(1200):
        create(f"n{number}")
    heard = [next(lines) for _ in range(1200)]
    assert [("ADDED", f"n{number}") for number in range(1200)] == [_short(line) for line in heard]


def test_watches_end_when_the_server_stops():
    """A stop must not wait for clients that would watch for an hour."""
    with serving() as server:
        client = Client(server.url)
        lines = watch_lines(client.send("GET", "/api/v1/events", watch="true", allowWatchBookmarks="true"))
        client2 = Client(server.url)
        client2("POST", "/api/v1/namespaces/default/events", core_event())
        assert "ADDED" == next(lines)["type"]
        server.stop()
        assert ["BOOKMARK"] == [line["type"] for line in lines]
        client.close()
        client2.close()


def test_a_watcher_that_goes_away_is_forgotten(tmp_path):
    """Nothing of a watch is left behind when its client is gone; it might have gone on for an hour."""
    server = Server(ServeOptions(store=tmp_path / "events.db", port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        clients = [Client(server.url) for _ in range(20)]
        for client in clients:
            client.response = client.send("GET", "/api/v1/events", watch="true")
        assert 20 == server.watches
        for client in clients:
            client.response.close()
            client.close()
        while server.watches:
            time.sleep(0.001)  # the test's time limit ends this if they stay
    finally:
        server.stop()
        thread.join()
