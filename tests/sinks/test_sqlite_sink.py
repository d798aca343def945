"""`SQLiteSink`: transactions, retention, failures that pass, and what it is in the application."""

from __future__ import annotations

import os
import pickle
import resource
import sqlite3
import subprocess
from datetime import timedelta

import pytest

from mpbroadcast.correlator import CorrelatorOptions
from mpbroadcast.errors import NotFound, SinkRejected, SinkUnavailable, StoreError
from mpbroadcast.sinks.base import BatchingSink, RecordSink
from mpbroadcast.sinks.delivery import Delivery, Verdict
from mpbroadcast.sinks.sqlite import SQLiteSink
from mpbroadcast.store.sqlite import Store
from mpbroadcast.testing.clocks import SteppingClock

SECOND = 1_000_000_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@pytest.fixture
def sink(path):
    sink = SQLiteSink(path)
    yield sink
    sink.close()


@pytest.fixture
def numbered(make_event):
    def make(number, **fields):
        about = make_event().involved_object._replace(name=f"pod-{number}")
        return make_event(1_767_323_045 * SECOND + number, involved_object=about, **fields)

    return make


def messages(path):
    with Store.open(path, read_only=True) as store:
        return [event.message for event in store.list().events]


def names(path):
    with Store.open(path, read_only=True) as store:
        return [event.involved_object.name for event in store.list().events]


def test_making_one_touches_no_file(path):
    sink = SQLiteSink(path)
    assert isinstance(sink, BatchingSink)
    assert isinstance(sink, RecordSink)
    assert not path.exists()


def test_only_its_options_are_pickled(path, make_event):
    sink = SQLiteSink(path, ttl=timedelta(hours=1), max_bytes=1 << 20, batch=7)
    sink.create(make_event())
    copy = pickle.loads(pickle.dumps(sink))
    sink.close()
    assert (str(path), 3600.0, 1 << 20, 7) == (copy.path, copy.ttl, copy.max_bytes, copy.batch)
    with pytest.raises(SinkRejected):
        copy.create(make_event())
    copy.close()


def test_a_relative_path_is_that_of_the_application(path, make_event, monkeypatch):
    monkeypatch.chdir(path.parent)
    sink = pickle.loads(pickle.dumps(SQLiteSink("events.db")))
    monkeypatch.chdir("/")
    sink.create(make_event())
    sink.close()
    assert path.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ttl", 0),
        ("ttl", -1),
        ("ttl", "1h"),
        ("ttl", timedelta()),
        ("max_bytes", 1000),
        ("max_bytes", 2e6),
        ("batch", 0),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_one_line_that_names_it(path, option, value):
    with pytest.raises(ValueError) as caught:
        SQLiteSink(path, **{option: value})
    assert str(caught.value).startswith(option)
    assert "\n" not in str(caught.value)


def test_check_creates_a_private_store(path):
    SQLiteSink(path).check()
    assert 0o600 == path.stat().st_mode & 0o777


def test_check_says_in_one_line_why_a_path_cannot_be_written(tmp_path):
    (tmp_path / "text").write_text("some text\n" * 200)
    sqlite3.connect(tmp_path / "newer").close()
    with Store.open(tmp_path / "newer") as store:
        store._connection.execute("PRAGMA user_version = 999")
    for name, says in (
        ("missing/events.db", "does not exist"),
        (".", "directory"),
        ("text", "not an event store"),
        ("newer", "newer mpbroadcast"),
    ):
        with pytest.raises(StoreError, match=says) as caught:
            SQLiteSink(tmp_path / name).check()
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_of_a_directory_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="permission denied"):
        SQLiteSink(tmp_path / "events.db").check()


def test_repeats_are_counted_and_nothing_else_is_done(sink):
    assert CorrelatorOptions(max_events=None, burst_size=None) == sink.default_correlator


def test_answers_of_the_store_pass_through(sink, make_event):
    stored = sink.create(make_event())
    with pytest.raises(SinkRejected) as caught:
        sink.create(make_event())
    assert (409, "AlreadyExists") == (caught.value.code, caught.value.reason)
    assert 2 == sink.patch(stored, b'{"count":2}').count
    with pytest.raises(NotFound):
        sink.patch(make_event(name="gone"), b"{}")


def test_events_and_position_are_kept_together_or_not_at_all(sink, path, numbered):
    sink.begin()
    sink.create(numbered(1))
    sink.set_position("ring", 1)
    sink.commit()
    sink.begin()
    sink.create(numbered(2))
    sink.set_position("ring", 2)
    sink.rollback()
    assert (["pod-1"], 1) == (names(path), sink.position("ring"))


def test_what_comes_after_a_lost_transaction_is_not_kept(sink, path, numbered, monkeypatch):
    """A position without its events would lose them: until the next `begin` every write is refused."""
    sink.begin()
    sink.create(numbered(1))
    monkeypatch.setattr(sink._store, "_create", lambda event: (_ for _ in ()).throw(StoreError("the disk is full")))
    with pytest.raises(SinkUnavailable, match="disk is full"):
        sink.create(numbered(2))
    for write in (
        lambda: sink.create(numbered(3)),
        lambda: sink.create_records([numbered(3)]),
        lambda: sink.set_position("ring", 3),
        sink.commit,
    ):
        with pytest.raises(SinkUnavailable):
            write()
    assert ([], 0) == (names(path), sink.position("ring"))
    sink.begin()
    sink.create(numbered(4))
    sink.commit()
    assert ["pod-4"] == names(path)


def test_a_store_that_was_moved_away_is_followed_by_a_new_one(sink, path, numbered, caplog):
    for number in (1, 2):
        sink.begin()
        sink.create(numbered(number))
        sink.commit()
        path.rename(path.with_name(f"moved-{number}"))
    sink.begin()
    sink.create(numbered(3))
    sink.commit()
    assert ["pod-3"] == names(path)
    assert ["pod-1"] == names(path.with_name("moved-1"))
    assert 2 == sum("moved or deleted" in line for line in caplog.messages)


def test_a_store_that_cannot_be_opened_is_unavailable_until_it_can(tmp_path, make_event):
    sink = SQLiteSink(tmp_path / "later" / "events.db")
    for act in (sink.open, sink.begin, lambda: sink.create(make_event()), lambda: sink.position("ring")):
        with pytest.raises(SinkUnavailable, match="does not exist"):
            act()
    (tmp_path / "later").mkdir()
    sink.create(make_event())
    sink.close()
    assert 1 == len(messages(tmp_path / "later" / "events.db"))


def test_a_damaged_store_is_unavailable_until_it_is_moved_away(sink, path, numbered):
    sink.create(numbered(1))
    sink.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(b"garbage" * 5000)
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match="not an event store"):
            sink.begin()
    path.unlink()
    sink.begin()
    sink.create(numbered(2))
    sink.commit()
    assert ["pod-2"] == names(path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill_until_unavailable(sink, numbered, first=0):
    def fill():
        for batch in range(1, 1000):
            sink.begin()
            for number in range(50):
                sink.create(numbered(first + 50 * batch + number, message="x" * 500))
            sink.set_position("ring", 50 * batch)
            sink.commit()

    with pytest.raises(SinkUnavailable) as caught:
        fill()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_full_disk_is_waited_for(small_disk, numbered):
    (small_disk / "ballast").write_bytes(b"x" * (512 << 10))
    path = small_disk / "events.db"
    sink = SQLiteSink(path)
    assert "the disk is full" in fill_until_unavailable(sink, numbered)
    kept = sink.position("ring")
    assert kept == len(names(path)) > 0
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            (small_disk / "ballast").unlink()

    delivery = Delivery(sink, sleep=sleep)
    events = [numbered(number) for number in range(10_000, 10_050)]
    outcomes = delivery.deliver_many(events, source="ring", first_sequence=kept + 1)
    assert [Verdict.DELIVERED] * 50 == [outcome.verdict for outcome in outcomes]
    assert 3 == len(waited)
    assert kept + 50 == len(names(path)) == sink.position("ring")
    sink.close()


def test_a_file_size_limit_is_like_a_full_disk(sink, path, numbered):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink.create(numbered(1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, hard))
    try:
        fill_until_unavailable(sink, numbered, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = names(path)
    sink.begin()
    sink.create(numbered(10_000))
    sink.commit()
    assert [*kept, "pod-10000"] == names(path)


def test_old_events_go_while_new_ones_come(path, numbered):
    clock = SteppingClock(1_767_323_045 * SECOND)
    sink = SQLiteSink(path, ttl=60, clock=clock)
    for number in range(5):
        sink.begin()
        sink.create(numbered(number))
        sink.commit()
        clock.step(25 * SECOND)
        sink._prune_at = 0.0  # a second of the machine's own has passed
    assert ["pod-2", "pod-3", "pod-4"] == names(path)
    sink.close()


def test_old_events_go_while_nothing_comes(path, numbered):
    clock = SteppingClock(1_767_323_045 * SECOND)
    sink = SQLiteSink(path, ttl=60, clock=clock)
    sink.create(numbered(1))
    clock.step(61 * SECOND)
    wait = sink.idle()
    assert [] == names(path)
    assert 0 < wait <= 1
    sink.close()


def test_what_is_left_to_delete_goes_with_the_next_batch(path, numbered):
    clock = SteppingClock(1_767_323_045 * SECOND)
    sink = SQLiteSink(path, ttl=60, clock=clock)
    sink.begin()
    sink.create_records([numbered(number) for number in range(2500)])
    sink.commit()
    clock.step(61 * SECOND)
    sink._prune_at = 0.0
    left = []
    for number in range(3):
        sink.begin()
        sink.create(numbered(10_000 + number))
        sink.commit()
        left.append(len(names(path)))
    assert [1499, 498, 3] == left
    sink.close()


def test_the_file_stays_within_its_size(path, numbered):
    sink = SQLiteSink(path, max_bytes=1 << 20)
    for round_ in range(30):
        sink.begin()
        sink.create_records([numbered(round_ * 100 + number, message="x" * 400) for number in range(100)])
        sink.commit()
    kept = names(path)
    sink.close()
    assert path.stat().st_size < (1 << 20) + (512 << 10)
    assert [f"pod-{number}" for number in range(3000 - len(kept), 3000)] == kept
    assert 300 < len(kept)


def test_idle_wants_nothing_without_a_ttl_and_never_raises(sink, tmp_path):
    assert None is sink.idle()
    away = SQLiteSink(tmp_path / "missing" / "events.db", ttl=5)
    assert 0 < away.idle()


def test_closing_twice_and_rolling_back_nothing_is_fine(sink, make_event):
    sink.rollback()
    sink.create(make_event())
    sink.rollback()
    sink.close()
    sink.close()
    sink.rollback()
