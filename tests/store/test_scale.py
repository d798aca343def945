"""100,000 events: what is asked often is answered through an index. Plans are looked at, not clocks."""

from __future__ import annotations

import pytest

from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.store.reading import _CHANGES
from mpbroadcast.store.retention import _OLDEST
from mpbroadcast.store.selection import Selection
from mpbroadcast.store.sqlite import Store

COUNT = 100_000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    statics = [
        encode_static(
            ObjectReference("Pod", f"ns-{number % 7}", f"web-{number}", f"uid-{number}", "v1"),
            "Warning" if number % 100 == 0 else "Normal",
            "Failed" if number % 500 == 0 else "Started",
            EventSource("kubelet"),
        )
        for number in range(1000)
    ]
    with Store.open(tmp_path_factory.mktemp("large") / "events.db") as store:
        store.begin()
        store.create_records([encode_record(10**18 + number, statics[number % 1000], "m") for number in range(COUNT)])
        store.commit()
        yield store


def plan(store, query, values=()):
    return " | ".join(row[3].decode() for row in store._connection.execute(f"EXPLAIN QUERY PLAN {query}", values))


def plan_of_list(store, selection, limit=None, continue_=""):
    """The plan of the very query that `Store.list` makes, and how many rows of it were read."""
    queries = []
    store._connection.set_trace_callback(queries.append)
    page = store.list(selection, limit=limit, continue_=continue_)
    store._connection.set_trace_callback(None)
    [query] = [query for query in queries if "object FROM event" in query]
    return plan(store, query), page


@pytest.mark.parametrize(
    ("selection", "index", "count"),
    [
        (Selection(involved=ObjectReference(name="web-77")), "event_object", 100),
        (Selection(namespace="ns-0", involved=ObjectReference("pod", "ns-0", "web-77", "uid-77")), "event_object", 100),
        (Selection(types=("Warning",)), "event_type", 1000),
        (Selection(reasons=("Failed",)), "event_reason", 200),
        (Selection(namespace="ns-3", name=f"web-10.{10**18 + 10:x}"), "event_identity", 1),
    ],
)
def test_a_list_of_few_events_is_found_through_an_index_and_not_sorted(large, selection, index, count):
    found, page = plan_of_list(large, selection)
    assert count == len(page.events)
    assert f"USING INDEX {index}" in found
    assert "SCAN" not in found
    assert "TEMP B-TREE" not in found


@pytest.mark.parametrize("selection", [Selection(), Selection(namespace="ns-3")])
def test_a_page_ends_the_walk(large, selection):
    """Nothing is sorted, so a page of a hundred reads a hundred rows, wherever it begins."""
    page = large.list(selection, limit=100)
    found, following = plan_of_list(large, selection, 100, page.continue_)
    assert "TEMP B-TREE" not in found
    assert "SEARCH event USING" in found
    assert 100 == len(following.events)
    assert int(following.events[0].uid[-12:], 16) > int(page.events[-1].uid[-12:], 16)


def test_all_pages_together_hold_all(large):
    seen, following = 0, ""
    while True:
        page = large.list(limit=9_999, continue_=following)
        seen += len(page.events)
        following = page.continue_
        if not following:
            break
    assert COUNT == seen


def test_changes_are_found_through_an_index(large):
    found = plan(large, _CHANGES, (COUNT, COUNT, COUNT, True))
    assert "USING INDEX event_resource_version" in found
    assert "SCAN event" not in found
    assert "TEMP B-TREE" not in found


def test_deleting_the_oldest_walks_along_the_index_of_versions(large):
    found = plan(large, f"SELECT 1 FROM event WHERE {_OLDEST} WHERE written < ?)", (10, 1))
    assert "USING INDEX event_resource_version" in found or "USING COVERING INDEX event_resource_version" in found
    assert "TEMP B-TREE" not in found
