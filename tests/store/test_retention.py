"""What `Store.prune` deletes: too old, too much; and what a watcher learns of it."""

from __future__ import annotations

import pytest

from mpbroadcast.event.wire import DELETED
from mpbroadcast.store import retention

SECOND = 1_000_000_000


def names(store):
    return [event.involved_object.name for event in store.list().events]


def fill(store, make_event, count, first=0, **fields):
    store.begin()
    for number in range(first, first + count):
        store.create(make_event(number, **fields))
    store.commit()


def test_what_was_written_too_long_ago_goes(store, make_event, clock):
    for number in range(4):
        store.create(make_event(number))
        clock.step(10 * SECOND)
    assert 2 == store.prune(ttl_ns=25 * SECOND)
    assert ["web-2", "web-3"] == names(store)
    assert 0 == store.prune(ttl_ns=25 * SECOND)


def test_a_repeat_makes_an_event_young_again(store, make_event, clock):
    for number in range(2):
        store.create(make_event(number))
    clock.step(20 * SECOND)
    store.patch("apps", make_event(0).name, b'{"count":2}')
    assert 1 == store.prune(ttl_ns=10 * SECOND)
    assert ["web-0"] == names(store)


def test_a_date_in_the_future_makes_no_event_immortal(store, make_event, clock):
    store.create(make_event(last_timestamp=clock.now_ns() + 10**6 * SECOND))
    clock.step(20 * SECOND)
    assert 1 == store.prune(ttl_ns=10 * SECOND)


def test_no_call_deletes_more_than_its_limit(store, make_event, clock):
    fill(store, make_event, 25)
    clock.step(20 * SECOND)
    assert [10, 10, 5, 0] == [store.prune(ttl_ns=SECOND, limit=10) for _ in range(4)]


def test_the_oldest_go_while_the_file_is_too_large_and_it_shrinks(store, make_event, path):
    """Also where the file has to give its space back to the disk."""
    limit = 1 << 20
    fill(store, make_event, 3000, message="x" * 300)
    assert retention.used_bytes(store._connection) > 2 * limit
    while store.prune(max_bytes=limit, limit=500):
        pass
    assert retention.used_bytes(store._connection) <= limit
    kept = names(store)
    assert 100 < len(kept)
    assert [f"web-{number}" for number in range(3000 - len(kept), 3000)] == kept
    for _ in range(100):
        store.create(make_event(9999))
        store.delete("apps", make_event(9999).name)
        store.prune(max_bytes=limit)
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < 2 * limit


def test_a_steady_flow_stays_within_the_size(store, make_event):
    limit = 1 << 20
    for round_ in range(40):
        fill(store, make_event, 200, first=round_ * 200)
        store.prune(max_bytes=limit, limit=400)
        assert retention.used_bytes(store._connection) <= limit + (256 << 10)
    assert "web-7999" == names(store)[-1]


def test_watchers_learn_what_retention_deleted(store, make_event, clock):
    for number in range(3):
        store.create(make_event(number))
    since = store.resource_version()
    clock.step(20 * SECOND)
    store.create(make_event(3))
    store.prune(ttl_ns=10 * SECOND)
    deleted = [change for change in store.changes_since(since).changes if change.type == DELETED]
    assert ["web-0", "web-1", "web-2"] == [change.object.involved_object.name for change in deleted]
    assert "message 0" == deleted[0].object.message


def test_tombstones_are_forgotten(store, make_event, clock, monkeypatch):
    monkeypatch.setattr(retention, "HISTORY", 100)
    for round_ in range(5):
        fill(store, make_event, 100, first=round_ * 100)
        clock.step(20 * SECOND)
        store.prune(ttl_ns=10 * SECOND)
    [(tombstones,)] = store._connection.execute("SELECT count(*) FROM tombstone").fetchall()
    assert tombstones <= 100


@pytest.mark.parametrize("within_batch", [True, False])
def test_pruning_is_part_of_an_open_batch(store, make_event, clock, within_batch):
    store.create(make_event())
    clock.step(20 * SECOND)
    if within_batch:
        store.begin()
    store.prune(ttl_ns=SECOND)
    store.rollback()
    assert (["web-1"] if within_batch else []) == names(store)
