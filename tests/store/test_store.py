"""`Store`: create, get, patch, delete, batches and positions."""

from __future__ import annotations

import orjson
import pytest

from mpbroadcast.errors import NotFound, SinkRejected, StoreError
from mpbroadcast.event.parts import EventSeries
from mpbroadcast.store.selection import Selection
from mpbroadcast.store.sqlite import Store

SECOND = 1_000_000_000


def names(events):
    return [event.involved_object.name for event in events]


def refused(act, *arguments):
    """What a call raises, as code and reason."""
    with pytest.raises(SinkRejected) as caught:
        act(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.code, caught.value.reason


def test_get_gives_what_create_gave(store, make_event):
    stored = store.create(make_event())
    assert stored == store.get("apps", stored.name)


def test_a_created_event_has_uid_version_and_creation_time_and_whole_seconds(store, make_event, clock):
    event = make_event()
    stored = store.create(event)
    assert event.first_timestamp // SECOND * SECOND == stored.first_timestamp == stored.last_timestamp
    assert clock.now_ns() // SECOND * SECOND == stored.creation_timestamp
    assert 36 == len(stored.uid)
    assert stored.uid != store.create(make_event(2)).uid
    assert int(stored.resource_version) + 1 == store.resource_version()


def test_an_event_of_the_new_shape_keeps_microseconds(store, make_event):
    t_ns = 1_767_323_045_123_456_789
    event = make_event(
        event_time=t_ns, series=EventSeries(3, t_ns + 5), first_timestamp=None, last_timestamp=None, count=0, action="a"
    )
    stored = store.get("apps", store.create(event).name)
    assert t_ns - 789 == stored.event_time
    assert EventSeries(3, t_ns - 789) == stored.series


def test_an_event_without_a_namespace_goes_to_default(store, make_event):
    stored = store.create(make_event(namespace=""))
    assert "default" == stored.namespace
    assert stored == store.get("default", stored.name) == store.get("", stored.name)


def test_a_second_event_of_one_name_is_refused_and_changes_nothing(store, make_event):
    stored = store.create(make_event())
    version = store.resource_version()
    assert (409, "AlreadyExists") == refused(store.create, make_event(message="another"))
    assert stored == store.get("apps", stored.name)
    assert version == store.resource_version()


@pytest.mark.parametrize(
    "fields", [{"name": ""}, {"count": 1 << 31}, {"first_timestamp": 10**21}, {"series": EventSeries(-(1 << 40))}]
)
def test_what_is_no_event_is_refused_with_422(store, make_event, fields):
    assert (422, "Invalid") == refused(store.create, make_event(**fields))
    assert () == store.list().events


def test_lone_surrogates_become_replacement_characters(store, make_event):
    stored = store.create(make_event(message="a\ud800b", reason="r\udfff"))
    assert ("a\ufffdb", "r\ufffd") == (stored.message, stored.reason)
    assert stored == store.get("apps", stored.name)


def test_a_patch_changes_what_it_names_and_gives_a_new_version(store, make_event):
    before = store.create(make_event())
    after = store.patch("apps", before.name, b'{"count":5,"message":"again","metadata":{"annotations":{"a":"1"}}}')
    assert (
        before.replace(
            count=5, message="again", annotations={"a": "1"}, resource_version=str(int(before.resource_version) + 1)
        )
        == after
    )
    assert after == store.get("apps", before.name)


def test_a_patch_that_changes_nothing_writes_nothing(store, make_event):
    stored = store.create(make_event())
    assert stored == store.patch("apps", stored.name, b"{}")
    assert stored == store.patch("apps", stored.name, orjson.dumps({"count": 1, "message": "message 1"}))


def test_a_patch_of_an_indexed_field_is_found_by_it(store, make_event):
    """The columns are copies out of the JSON: both have to change."""
    stored = store.create(make_event())
    store.patch("apps", stored.name, b'{"reason":"Killed","type":"Warning"}')
    assert 1 == len(store.list(Selection(reasons=("Killed",), types=("Warning",))).events)
    assert () == store.list(Selection(reasons=("Started",))).events


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (b"no json", (400, "BadRequest")),
        (b"[1]", (400, "BadRequest")),
        (b'{"metadata":{"name":"other"}}', (400, "BadRequest")),
        (b'{"metadata":{"namespace":"other"}}', (400, "BadRequest")),
        (b'{"$patch":"delete"}', (400, "BadRequest")),
        (b'{"metadata":{"resourceVersion":"1"}}', (409, "Conflict")),
        (b'{"metadata":{"uid":"1"}}', (409, "Conflict")),
        (b'{"count":"many"}', (422, "Invalid")),
        (b'{"message":' + b'{"a":' * 70 + b"1" + b"}" * 71, (400, "BadRequest")),
    ],
)
def test_a_patch_that_makes_no_sense_is_refused_and_changes_nothing(store, make_event, patch, expected):
    stored = store.create(make_event())
    assert expected == refused(store.patch, "apps", stored.name, patch)
    assert stored == store.get("apps", stored.name)


def test_what_is_not_there_is_not_found(store):
    for act in (store.get, store.delete, lambda *who: store.patch(*who, b'{"count":2}')):
        with pytest.raises(NotFound):
            act("apps", "gone")


def test_a_deleted_event_is_gone_and_its_name_is_free(store, make_event):
    stored = store.create(make_event())
    store.delete("apps", stored.name)
    with pytest.raises(NotFound):
        store.get("apps", stored.name)
    assert int(store.create(make_event()).resource_version) > int(stored.resource_version) + 1


def test_a_batch_is_kept_as_a_whole(store, path, make_event):
    store.begin()
    for number in range(5):
        store.create(make_event(number))
    store.set_position("ring", 5)
    with Store.open(path, read_only=True) as reader:
        assert () == reader.list().events
        assert 0 == reader.position("ring")
        store.commit()
        assert [f"web-{number}" for number in range(5)] == names(reader.list().events)
        assert 5 == reader.position("ring")


def test_a_batch_that_is_given_up_leaves_nothing_and_its_versions_are_used_again(store, make_event):
    version = store.resource_version()
    store.begin()
    store.create(make_event())
    store.set_position("ring", 1)
    store.rollback()
    assert () == store.list().events
    assert (0, version) == (store.position("ring"), store.resource_version())


def test_a_refused_write_does_not_hinder_its_batch(store, make_event):
    store.begin()
    store.create(make_event(1))
    refused(store.create, make_event(1))
    store.create(make_event(2))
    store.commit()
    assert ["web-1", "web-2"] == names(store.list().events)


def test_closing_gives_up_an_open_batch(path, make_event):
    store = Store.open(path)
    store.begin()
    store.create(make_event())
    store.close()
    store.close()
    with Store.open(path) as again:
        assert () == again.list().events


def test_a_commit_without_a_batch_says_so(store):
    with pytest.raises(StoreError, match="none was begun"):
        store.commit()


def test_positions_are_kept_for_each_source(store):
    store.set_position("one", 7)
    store.set_position("two", (1 << 63) - 1)
    store.set_position("one", 8)
    assert [8, (1 << 63) - 1, 0] == [store.position(source) for source in ("one", "two", "three")]


def test_versions_go_on_after_opening_again(path, make_event):
    with Store.open(path) as store:
        last = int(store.create(make_event(1)).resource_version)
        store.delete("apps", make_event(1).name)
    with Store.open(path) as store:
        assert int(store.create(make_event(2)).resource_version) > last + 1
