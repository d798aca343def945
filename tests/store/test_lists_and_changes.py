"""Pages, selections, and what changed since a version."""

from __future__ import annotations

import pytest

from mpbroadcast.errors import StoreError
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event.wire import ADDED, DELETED, MODIFIED
from mpbroadcast.store.retention import HISTORY
from mpbroadcast.store.selection import Selection, Token


def names(events):
    return [event.involved_object.name for event in events]


def all_pages(store, limit, **options):
    """Reads page after page; returns the events and how many pages there were."""
    events, pages, following = [], 0, ""
    while True:
        page = store.list(limit=limit, continue_=following, **options)
        events += page.events
        pages += 1
        following = page.continue_
        if not following:
            return events, pages


def test_a_list_is_in_the_order_of_creation_also_after_patches(store, make_event):
    for number in (3, 1, 2):
        store.create(make_event(number))
    store.patch("apps", make_event(3).name, b'{"count":2}')
    assert ["web-3", "web-1", "web-2"] == names(store.list().events)


@pytest.mark.parametrize(("count", "limit", "pages"), [(0, 3, 1), (3, 3, 1), (7, 3, 3), (6, 1, 6), (5, 0, 1)])
def test_pages_hold_every_event_once(store, make_event, count, limit, pages):
    events = [store.create(make_event(number)) for number in range(count)]
    assert (events, pages) == all_pages(store, limit)


def test_pages_show_what_was_there_at_the_first_one(store, make_event):
    """Later events are left to `changes_since`; what was deleted meanwhile is gone."""
    for number in range(6):
        store.create(make_event(number))
    first = store.list(limit=2)
    store.create(make_event(6))
    store.delete("apps", make_event(3).name)
    store.patch("apps", make_event(0).name, b'{"count":9}')
    rest = store.list(limit=100, continue_=first.continue_)
    assert ["web-2", "web-4", "web-5"] == names(rest.events)
    assert first.resource_version == rest.resource_version
    changes = store.changes_since(first.resource_version).changes
    assert [(ADDED, "web-6"), (DELETED, "web-3"), (MODIFIED, "web-0")] == [
        (change.type, change.object.involved_object.name) for change in changes
    ]


@pytest.mark.parametrize("word", ["x", "!!!", "WzEsMV0", Token(1, 5).encode(), "WzIsMSwxXQ", "é"])
def test_a_continue_token_of_somebody_else_is_refused(store, word):
    with pytest.raises(StoreError, match="continue token"):
        store.list(continue_=word)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [0, 1, 2, 3]),
        (Selection(namespace="apps"), [0, 1, 3]),
        (Selection(involved=ObjectReference(name="web-1")), [1]),
        (Selection(involved=ObjectReference(kind="pod", name="web-1")), [1]),
        (Selection(involved=ObjectReference(kind="Node", name="web-1")), []),
        (Selection(involved=ObjectReference(uid="uid-3")), [3]),
        (Selection(involved=ObjectReference(namespace="other")), [2]),
        (Selection(involved=ObjectReference(api_version="v1"), types=("Warning",)), [3]),
        (Selection(types=("Normal", "Warning"), reasons=("Killed",)), [0, 3]),
        (Selection(types=("Other",)), []),
        (Selection(keep=lambda event: event.message.endswith("2")), [2]),
    ],
)
def test_a_selection_finds_what_it_says(store, make_event, selection, expected):
    store.create(make_event(0, reason="Killed"))
    store.create(make_event(1))
    store.create(make_event(2, involved_object=ObjectReference("Pod", "other", "web-2", "uid-2", "v1")))
    store.create(make_event(3, type="Warning", reason="Killed"))
    assert [f"web-{number}" for number in expected] == names(store.list(selection).events)


def test_changes_are_added_modified_and_deleted_oldest_first(store, make_event):
    for number in range(3):
        store.create(make_event(number))
    since = store.resource_version()
    store.patch("apps", make_event(1).name, b'{"count":2}')
    store.create(make_event(3))
    store.delete("apps", make_event(0).name)
    found = store.changes_since(since)
    assert [(MODIFIED, "web-1"), (ADDED, "web-3"), (DELETED, "web-0")] == [
        (change.type, change.object.involved_object.name) for change in found.changes
    ]
    assert found.complete
    assert store.resource_version() == found.resource_version == int(found.changes[-1].object.resource_version)
    assert () == store.changes_since(found.resource_version).changes


def test_of_an_event_that_came_and_went_in_between_nothing_is_said(store, make_event):
    since = store.resource_version()
    store.create(make_event())
    store.delete("apps", make_event().name)
    assert () == store.changes_since(since).changes


def test_changes_can_be_read_in_pieces(store, make_event):
    since = store.resource_version()
    for number in range(5):
        store.create(make_event(number))
    pieces = []
    while found := store.changes_since(since, limit=2).changes:
        pieces.append(names(change.object for change in found))
        since = store.changes_since(since, limit=2).resource_version
    assert [["web-0", "web-1"], ["web-2", "web-3"], ["web-4"]] == pieces


def test_who_lags_too_far_behind_is_told(store, make_event):
    """An API server answers 410 Gone then; additions alone are complete for ever."""
    since = store.resource_version()
    store.begin()
    for number in range(HISTORY + 20):
        store.create(make_event(number))
        if number < 10:
            store.delete("apps", make_event(number).name)
    store.delete("apps", make_event(12).name)
    store.commit()
    assert not store.changes_since(since).complete
    assert store.changes_since(since, deletions=False).complete
    assert store.changes_since(store.resource_version() - 5).complete
    assert not store.changes_since(store.resource_version() + 5).complete


def test_a_row_that_holds_no_event_is_skipped_and_counted(store, make_event):
    for number in range(4):
        store.create(make_event(number))
    store._connection.execute("UPDATE event SET object = ? WHERE object_name = 'web-1'", (b'{"metadata": 5}',))
    store._connection.execute("UPDATE event SET object = 'no json' WHERE object_name = 'web-2'")
    page = store.list()
    assert (["web-0", "web-3"], 2) == (names(page.events), page.unreadable)
    assert 2 == store.changes_since(1).unreadable
    store.delete("apps", make_event(1).name)
    assert 1 == store.list().unreadable
