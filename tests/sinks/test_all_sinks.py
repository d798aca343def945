"""What holds for every sink of this package."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest

from mpbroadcast import sinks
from mpbroadcast.base.outcome import Settled
from mpbroadcast.ring import _ring
from mpbroadcast.sinks.jsonlines import JSONLinesSink
from mpbroadcast.sinks.log import LogSink
from mpbroadcast.sinks.sqlite import SQLiteSink
from mpbroadcast.store.sqlite import Store
from mpbroadcast.testing import FakeBatchingSink, FakeSink, check_sink


@pytest.mark.parametrize("make", [FakeSink, FakeBatchingSink])
def test_the_fakes_keep_the_rules_of_sinks(make):
    check_sink(make)


def test_the_sqlite_sink_keeps_the_rules_of_sinks(tmp_path):
    check_sink(lambda: SQLiteSink(tmp_path / "events.db"))


@pytest.mark.parametrize("fsync", ["never", "batch", "always"])
def test_the_json_lines_sink_keeps_the_rules_of_logs(tmp_path, fsync):
    check_sink(lambda: JSONLinesSink(tmp_path / "events.jsonl", fsync=fsync), append_only=True)


def test_the_log_sink_keeps_the_rules_of_logs():
    check_sink(LogSink, append_only=True)


@pytest.mark.parametrize("make", [SQLiteSink, JSONLinesSink, LogSink])
def test_a_sink_can_be_pickled_before_it_is_opened(tmp_path, make):
    sink = LogSink() if make is LogSink else make(tmp_path / "file")
    assert repr(sink) == repr(pickle.loads(pickle.dumps(sink)))


def fork(act):
    """Runs something in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def ended_well(child):
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("make", [SQLiteSink, JSONLinesSink])
def test_a_forked_spare_takes_the_place_of_its_parent(tmp_path, make, make_event):
    """It inherits the open sink, and must let go of it before the parent writes on: locks and connections."""
    sink = make(tmp_path / "file")
    sink.create(make_event(1))
    forked, written = os.pipe(), os.pipe()

    def spare():
        os.write(forked[1], b"x")
        os.read(written[0], 1)
        sink.create(make_event(3))
        sink.close()

    def parent():
        os.read(forked[0], 1)
        sink.create(make_event(2))
        sink.close()
        os.write(written[1], b"x")

    child = fork(spare)
    parent()
    assert ended_well(child)
    assert 3 == (tmp_path / "file").read_bytes().count(b'"kind":"Event"')
    for end in (*forked, *written):
        os.close(end)


def test_a_child_of_another_thread_leaves_the_connection_alone(tmp_path, make_event):
    """``processes=False``: the application forks while the thread of its sink is in the middle of a transaction."""
    sink = SQLiteSink(tmp_path / "events.db")
    sink.begin()
    sink.create(make_event(1))
    assert ended_well(fork(sink.rollback))
    sink.create(make_event(2))
    sink.commit()
    with Store.open(sink.path, read_only=True) as store:
        assert 2 == len(store.list().events)
        assert [(b"ok",)] == store._connection.execute("PRAGMA integrity_check").fetchall()
    sink.close()


def test_importing_the_package_of_sinks_loads_no_database_and_no_sink():
    program = (
        "import sys, mpbroadcast.sinks\n"
        "from mpbroadcast.sinks import JSONLinesSink, LogSink, EventSink\n"
        "heavy = {'sqlite3', 'kubernetes', 'aiohttp', 'mpbroadcast.sinks.sqlite'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert b"[]\n" == subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout


def test_every_public_name_is_there():
    for name in sinks.__all__:
        assert name in dir(sinks)
        assert getattr(sinks, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        sinks.Nothing  # noqa: B018


def test_the_outcomes_are_the_numbers_of_the_ring():
    assert {name: getattr(_ring, name) for name in Settled.__members__} == {word.name: word.value for word in Settled}
