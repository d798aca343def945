"""`JSONLinesSink`: whole lines whatever dies, rotation, and who else may touch the file."""

from __future__ import annotations

import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import threading

import orjson
import pytest

from mpbroadcast.errors import SinkRejected, SinkUnavailable, StoreError
from mpbroadcast.event.model import Event
from mpbroadcast.sinks.delivery import Delivery, Verdict
from mpbroadcast.sinks.jsonlines import JSONLinesSink


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


@pytest.fixture
def sink(path):
    sink = JSONLinesSink(path)
    yield sink
    sink.close()


def events(*paths):
    """The events of log files; fails on any line that is not one."""
    found = []
    for path in paths:
        data = path.read_bytes()
        assert data == b"" or data.endswith(b"\n")
        found += [Event.from_core_v1(orjson.loads(line)) for line in data.splitlines()]
    return found


def write(path, *written):
    sink = JSONLinesSink(path)
    for event in written:
        sink.create(event)
    sink.close()


def test_making_one_touches_no_file_and_only_its_options_are_pickled(path, make_event):
    sink = JSONLinesSink(path, max_bytes=1000, keep=2, fsync="batch")
    assert not path.exists()
    sink.create(make_event())
    copy = pickle.loads(pickle.dumps(sink))
    sink.close()
    assert (str(path), 1000, 2, "batch") == (copy.path, copy.max_bytes, copy.keep, copy.fsync)
    copy.create(make_event(2))
    copy.close()
    assert 2 == len(events(path))


@pytest.mark.parametrize(
    ("option", "value"), [("max_bytes", 0), ("max_bytes", True), ("keep", -1), ("keep", None), ("fsync", "sometimes")]
)
def test_an_option_that_makes_no_sense_is_refused_with_one_line_that_names_it(path, option, value):
    with pytest.raises(ValueError) as caught:
        JSONLinesSink(path, **{option: value})
    assert str(caught.value).startswith(option)


def test_each_event_is_one_line_of_json(sink, path, make_event):
    written = [make_event(number, message="two\nlines \u2028 \x00") for number in range(1, 4)]
    for event in written:
        sink.create(event)
    assert [event.to_core_v1() for event in written] == [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert 0o600 == path.stat().st_mode & 0o777


def test_a_patch_writes_the_whole_event_again(sink, path, make_event):
    sink.create(make_event())
    sink.patch(make_event(count=2), b'{"count":2}')
    assert [1, 2] == [event.count for event in events(path)]
    assert 1 == len({event.name for event in events(path)})


def test_what_is_no_json_is_refused_and_leaves_no_trace(sink, path, make_event):
    with pytest.raises(SinkRejected) as caught:
        sink.create(make_event(first_timestamp=10**21))
    assert 422 == caught.value.code
    assert [] == events(path)


@pytest.mark.parametrize("torn", range(1, 60, 7))
def test_a_torn_last_line_is_cut_off(path, make_event, torn):
    write(path, make_event(1))
    line = orjson.dumps(make_event(2).to_core_v1())
    with path.open("ab") as file:
        file.write(line[:torn])
    write(path, make_event(3))
    assert [make_event(1).name, make_event(3).name] == [event.name for event in events(path)]


def test_a_last_line_that_only_lacks_its_end_gets_one(path, make_event):
    path.write_bytes(orjson.dumps(make_event(1).to_core_v1()))
    write(path, make_event(2))
    assert 2 == len(events(path))


def test_blocks_of_nothing_after_power_loss_are_cut_off(path, make_event):
    write(path, make_event(1))
    with path.open("ab") as file:
        file.write(b'{"kind":"Event","apiV' + bytes(5000))
    write(path, make_event(2))
    assert 2 == len(events(path))


def test_nothing_of_another_program_is_cut_off(path, make_event):
    path.write_bytes(b"precious\ndata")
    write(path, make_event())
    assert path.read_bytes().startswith(b"precious\ndata\n{")


def test_a_path_that_cannot_be_a_log_is_refused_with_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("missing/x", "does not exist"), (".", "directory"), ("pipe", "not a regular file")):
        with pytest.raises(StoreError, match=says) as caught:
            JSONLinesSink(tmp_path / name).check()
        assert "\n" not in str(caught.value)


def test_check_lets_go_of_the_file(path, make_event):
    sink = JSONLinesSink(path)
    sink.check()
    write(path, make_event())
    assert 0o600 == path.stat().st_mode & 0o777


def test_two_sinks_cannot_write_one_file(sink, path, make_event):
    sink.create(make_event(1))
    other = JSONLinesSink(path)
    with pytest.raises(SinkUnavailable, match="another process writes it"):
        other.create(make_event(2))
    with pytest.raises(StoreError, match="another process writes it"):
        other.check()
    sink.close()
    other.create(make_event(2))
    other.close()


def test_full_files_are_kept_in_order(path, make_event):
    line = len(orjson.dumps(make_event(1).to_core_v1())) + 1
    sink = JSONLinesSink(path, max_bytes=3 * line, keep=2)
    for number in range(1, 12):
        sink.create(make_event(number))
    sink.close()
    files = [path.with_name(f"{path.name}.2"), path.with_name(f"{path.name}.1"), path]
    assert sorted(files) == sorted(path.parent.iterdir())
    assert [make_event(number).name for number in range(4, 12)] == [event.name for event in events(*files)]
    assert [0o600] * 3 == [file.stat().st_mode & 0o777 for file in files]


def test_no_full_file_is_kept_if_none_is_wanted(path, make_event):
    sink = JSONLinesSink(path, max_bytes=1, keep=0)
    for number in range(1, 4):
        sink.create(make_event(number))
    sink.close()
    assert [path] == list(path.parent.iterdir())
    assert [make_event(3).name] == [event.name for event in events(path)]


def test_an_event_that_is_too_large_gets_a_file_of_its_own(path, make_event):
    sink = JSONLinesSink(path, max_bytes=2000)
    for number, size in ((1, 10), (2, 5000), (3, 10)):
        sink.create(make_event(number, message="x" * size))
    sink.close()
    assert [1, 1, 1] == [len(events(path.with_name(path.name + suffix))) for suffix in (".2", ".1", "")]


def test_rotating_goes_on_where_a_process_before_it_stopped(path, make_event):
    line = len(orjson.dumps(make_event(1).to_core_v1())) + 1
    for number in range(1, 8):
        sink = JSONLinesSink(path, max_bytes=3 * line)
        sink.create(make_event(number))
        sink.close()
    assert [3, 3, 1] == [len(events(path.with_name(path.name + suffix))) for suffix in (".2", ".1", "")]


def test_a_file_that_was_moved_away_is_followed_by_a_new_one(sink, path, make_event):
    sink.create(make_event(1))
    path.rename(path.with_name("moved"))
    sink.flush()
    sink.create(make_event(2))
    assert [1, 1] == [len(events(path)), len(events(path.with_name("moved")))]


def test_a_full_disk_leaves_no_part_of_a_line_and_is_waited_for(sink, path, make_event):
    sink.create(make_event(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))
    try:
        with pytest.raises(SinkUnavailable) as caught:
            sink.create(make_event(2))
        assert 1 == len(events(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    sink.create(make_event(2))
    assert 2 == len(events(path))


@pytest.mark.parametrize(("fsync", "expected"), [("never", 0), ("batch", 1), ("always", 3)])
def test_the_disk_is_waited_for_as_often_as_asked(path, make_event, monkeypatch, fsync, expected):
    synced = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    sink = JSONLinesSink(path, fsync=fsync)
    for number in range(1, 4):
        sink.create(make_event(number))
    sink.flush()
    assert expected == len(synced)
    sink.close()


def test_a_line_that_could_not_be_synced_is_taken_back(path, make_event, monkeypatch):
    sink = JSONLinesSink(path, fsync="always")
    sink.create(make_event(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(SinkUnavailable, match="input/output error"):
            sink.create(make_event(2))
    sink.create(make_event(2))
    sink.close()
    assert 2 == len(events(path))


def test_what_a_killed_process_had_written_is_not_written_again(path, make_event):
    """Its watcher may not have settled the last batch: those events come again."""
    write(path, *(make_event(number) for number in range(1, 6)))
    delivery = Delivery(JSONLinesSink(path))
    outcomes = delivery.deliver_many([make_event(number) for number in range(3, 9)], repeated=True)
    delivery.close()
    assert [Verdict.DELIVERED] * 6 == [outcome.verdict for outcome in outcomes]
    assert [make_event(number).name for number in range(1, 9)] == [event.name for event in events(path)]


def test_that_works_across_a_rotation(path, make_event):
    write(path, make_event(1))
    path.rename(path.with_name(f"{path.name}.1"))
    with pytest.raises(SinkRejected):
        write(path, make_event(1))


WRITER = """
import sys
from mpbroadcast.event.model import Event
from mpbroadcast.sinks.jsonlines import JSONLinesSink

sink = JSONLinesSink(sys.argv[1], max_bytes=8 << 20, keep=1000)
sink.open()
print("open", flush=True)
number = 0
while True:
    number += 1
    sink.create(Event(name=f"{sys.argv[2]}-{number}", namespace="apps", message="x" * 100_000))
"""


@pytest.mark.slow
def test_killed_writers_leave_whole_lines_only(path):
    rng = random.Random(5)
    for round_ in range(10):
        command = [sys.executable, "-c", WRITER, str(path), str(round_)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert b"open\n" == writer.stdout.readline()
        timer = threading.Timer(rng.uniform(0.005, 0.03), writer.send_signal, [signal.SIGKILL])
        timer.start()
        assert -signal.SIGKILL == writer.wait()
        timer.join()
        writer.stdout.close()
    sink = JSONLinesSink(path)
    sink.open()
    sink.close()
    written = [event.name for event in events(*path.parent.iterdir())]
    assert len(written) == len(set(written)) > 10
    for round_ in range(10):
        numbers = sorted(int(name.split("-")[1]) for name in written if name.startswith(f"{round_}-"))
        assert list(range(1, len(numbers) + 1)) == numbers
