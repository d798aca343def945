"""Files: who may read them, what is refused and in which words, older and newer versions."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from functools import partial

import pytest

from mpbroadcast.errors import StoreError
from mpbroadcast.store import opening
from mpbroadcast.store.migration import SCHEMA_VERSION, migrate
from mpbroadcast.store.sqlite import Store


def refusal(path, **options):
    """The one line that opening fails with."""
    with pytest.raises(StoreError) as caught:
        Store.open(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_the_files_are_private_whatever_the_umask_is(path, make_event, umask, mask):
    umask(mask)
    with Store.open(path) as store:
        store.create(make_event())
        assert [0o600] * 3 == [mode(file) for file in sorted(path.parent.iterdir())]


def test_an_empty_file_becomes_a_private_store(path, make_event):
    path.touch(0o644)
    with Store.open(path) as store:
        store.create(make_event())
    assert 0o600 == mode(path)


def test_the_mode_of_a_store_that_is_there_is_left_alone(path):
    Store.open(path).close()
    path.chmod(0o640)
    Store.open(path).close()
    assert 0o640 == mode(path)


def test_a_path_that_cannot_be_a_store_is_refused_with_one_line(tmp_path):
    assert "directory" in refusal(tmp_path / "missing" / "events.db")
    assert "it is a directory" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")


def test_reading_does_not_create(path):
    assert "there is no event store" in refusal(path, read_only=True)
    assert not path.exists()


def test_an_empty_file_is_nothing_to_read(path):
    path.touch()
    assert "nothing has been recorded" in refusal(path, read_only=True)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path, read_only):
    path.write_bytes(b"some text\n" * 500)
    assert "not an event store" in refusal(path, read_only=read_only)
    assert b"some text\n" * 500 == path.read_bytes()


@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_of_another_program_is_refused_and_left_as_it_is(path, read_only):
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    before = path.read_bytes()
    assert "of another program" in refusal(path, read_only=read_only)
    assert before == path.read_bytes()


def test_a_truncated_store_is_refused_or_says_that_it_is_damaged(path, make_event):
    with Store.open(path) as store:
        store.begin()
        for number in range(2000):
            store.create(make_event(number))
        store.commit()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match="damaged") as caught, Store.open(path) as store:
        store.list()
    assert "\n" not in str(caught.value)


def test_garbage_in_the_middle_of_a_store_gives_plain_errors_only(path, make_event):
    """Whatever page is overwritten: answers or a `StoreError`, never another exception."""
    with Store.open(path) as store:
        store.begin()
        for number in range(500):
            store.create(make_event(number))
        store.commit()
    whole = path.read_bytes()
    lines = 0
    for page in range(1, len(whole) // 8192):
        broken = bytearray(whole)
        broken[page * 8192 : (page + 1) * 8192] = os.urandom(8192)
        path.write_bytes(broken)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        try:
            with Store.open(path) as store:
                store.list()
                store.create(make_event(1000))
                store.prune(max_bytes=1)
        except StoreError as error:
            lines += str(error).count("\n")
    assert 0 == lines


def test_a_state_that_was_tampered_with_is_called_damaged(path, make_event):
    with Store.open(path) as store:
        store._connection.execute("UPDATE state SET resource_version = 'x'")
        with pytest.raises(StoreError, match="no resource version"):
            store.create(make_event())


def test_a_store_of_a_newer_version_is_refused_and_left_alone(path):
    with Store.open(path) as store:
        store._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert "newer mpbroadcast" in refusal(path)
    assert "newer mpbroadcast" in refusal(path, read_only=True)


class TestAnOlderVersion:
    """There is none yet: the present version stands for it, and two that are made up for its successors."""

    MIGRATIONS = (
        ("ALTER TABLE event ADD COLUMN second TEXT", "UPDATE event SET second = reason"),
        ("CREATE TABLE third (a)",),
    )

    @pytest.fixture
    def later(self, monkeypatch):
        """The program of two versions later; or one with migrations of its own."""

        def become(migrations=self.MIGRATIONS):
            monkeypatch.setattr(opening, "SCHEMA_VERSION", 1 + len(migrations))
            monkeypatch.setattr(opening, "migrate", partial(migrate, migrations=migrations))

        return become

    def test_is_brought_up_to_date_by_the_first_writer_and_keeps_its_events(self, path, make_event, later):
        with Store.open(path) as store:
            stored = [store.create(make_event(number)) for number in range(3)]
            version = store.resource_version()
        later()
        for _ in range(2):
            with Store.open(path) as store:
                assert (stored, version) == (list(store.list().events), store.resource_version())
                [(user_version,)] = store._connection.execute("PRAGMA user_version").fetchall()
                assert 3 == user_version
                assert [(b"Started",)] * 3 == store._connection.execute("SELECT second FROM event").fetchall()

    def test_half_way_takes_only_the_rest_of_the_way(self, path, make_event, later):
        with Store.open(path) as store:
            store.create(make_event())
        later(self.MIGRATIONS[:1])
        Store.open(path).close()
        later()
        with Store.open(path) as store:
            assert 1 == len(store.list().events)

    def test_cannot_be_read_before_that_and_the_line_says_what_to_do(self, path, later):
        Store.open(path).close()
        later()
        assert "older mpbroadcast" in refusal(path, read_only=True)

    def test_stays_as_it_is_when_the_migration_fails(self, path, make_event, later, monkeypatch):
        with Store.open(path) as store:
            store.create(make_event())
        later((self.MIGRATIONS[0], ("CREATE TABLE event (a)",)))
        assert "already exists" in refusal(path)
        monkeypatch.undo()
        with Store.open(path) as store:
            assert 1 == len(store.list().events)
            columns = [row[1] for row in store._connection.execute("PRAGMA table_info(event)")]
            assert b"second" not in columns


def test_a_store_on_a_read_only_disk_can_be_read(path, make_event):
    """No ``-wal`` is there, and none can be made."""
    with Store.open(path) as store:
        stored = store.create(make_event())
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with Store.open(path, read_only=True) as reader:
            assert stored == reader.get("apps", stored.name)
    finally:
        path.parent.chmod(0o700)


def test_two_that_create_one_store_at_once_share_it(path, make_event):
    stores, barrier = [], threading.Barrier(4)

    def create():
        barrier.wait()
        stores.append(Store.open(path))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4 == len(stores)
    for number, store in enumerate(stores):
        store.create(make_event(number))
    assert [4] * 4 == [len(store.list().events) for store in stores]
    for store in stores:
        store.close()
