"""The spool and the journal: what is on disk, and what survives."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpbroadcast.base.outcome import Settled
from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.sinks.journal import Journal
from mpbroadcast.sinks.spool import Spool, SpoolFull
from tests.kube.fake_api import RESET, FakeApi
from tests.sinks.kubernetes_engine import Run, record
from tests.sinks.test_kubernetes_handler import everything, messages_by_object

MIB = 1 << 20


@pytest.fixture
def api():
    with FakeApi() as api:
        yield api


def records(first, last, size=20):
    return [(n, 32, b"%d" % n + b"x" * size) for n in range(first, last + 1)]


def payloads(found):
    return [int(record.payload.split(b"x")[0]) for record in found]


def spool_at(path, **options):
    return Spool(path, **{"max_bytes": 64 * MIB, "fsync": False} | options)


def test_records_come_back_in_order_after_a_restart(tmp_path):
    spool = spool_at(tmp_path / "s")
    assert [1, 2, 3] == spool.append(records(1, 3), 7)
    spool.close()
    spool = spool_at(tmp_path / "s")
    spool.append(records(4, 5), 7)
    assert [1, 2, 3, 4, 5] == payloads(spool.read(10))
    assert (3, 5, False) == (spool.last_at_open, len(spool), spool.unread)
    spool.close()


def test_only_what_is_not_done_comes_back(tmp_path):
    spool = spool_at(tmp_path / "s")
    for number in spool.append(records(1, 10), 7):
        if number % 2:
            spool.done(number)
    spool.close()
    spool = spool_at(tmp_path / "s")
    assert [2, 4, 6, 8, 10] == payloads(spool.read(10))
    spool.close()


def test_files_are_private_and_deleted_when_done(tmp_path):
    spool = spool_at(tmp_path / "s")
    numbers = spool.append(records(1, 20, MIB), 7)
    spool.append(records(21, 40, MIB), 7)
    assert 0o700 == stat.S_IMODE((tmp_path / "s").stat().st_mode)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "s").iterdir()}
    before = len(list((tmp_path / "s").glob("*.log")))
    for number in numbers:
        spool.done(number)
    spool.flush()
    assert 2 == before
    assert 1 == len(list((tmp_path / "s").glob("*.log")))
    for number in range(21, 41):
        spool.done(number)
    spool.flush()
    assert [] == list((tmp_path / "s").glob("*.log"))
    assert [41] == spool.append(records(41, 41), 7)
    spool.close()


def test_a_record_cut_off_by_a_crash_is_dropped_and_the_rest_kept(tmp_path):
    spool = spool_at(tmp_path / "s")
    spool.append(records(1, 5), 7)
    spool.close()
    (file,) = (tmp_path / "s").glob("*.log")
    os.truncate(file, file.stat().st_size - 3)
    spool = spool_at(tmp_path / "s")
    assert [1, 2, 3, 4] == payloads(spool.read(10))
    assert [5] == spool.append(records(5, 5), 7)
    spool.close()


def test_damage_is_counted_and_not_waited_for(tmp_path):
    spool = spool_at(tmp_path / "s")
    spool.append(records(1, 5), 7)
    (file,) = (tmp_path / "s").glob("*.log")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    found = spool.read(10)
    spool.read(10)
    assert [1, 2] == payloads(found)
    assert (3, False, 2) == (spool.lost, spool.unread, len(spool))
    spool.close()


def test_the_bound_refuses_and_keeps_nothing(tmp_path):
    spool = spool_at(tmp_path / "s", max_bytes=MIB)
    with pytest.raises(SpoolFull, match="bound"):
        spool.append(records(1, 2, MIB), 7)
    assert 0 == len(spool)
    spool.append(records(1, 2), 7)
    spool.close()


def test_a_full_disk_refuses_and_keeps_nothing(tmp_path):
    """Here: the largest file this process may write."""
    code = """
import resource, signal, sys
from mpbroadcast.sinks.spool import Spool, SpoolFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(sys.argv[1], max_bytes=1 << 30)
spool.append([(1, 32, b"first")], 7)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    spool.append([(2, 32, b"x" * 8_000), (3, 32, b"x" * 8_000)], 7)
except SpoolFull as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append([(2, 32, b"second")], 7)
print([record.payload for record in spool.read(10)])
"""
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=True)
    assert "File too large" in out.stdout
    assert "[b'first', b'second']" in out.stdout
    assert resource.RLIMIT_FSIZE is not None


def test_a_second_process_is_told_in_one_line(tmp_path):
    spool = spool_at(tmp_path / "s")
    with pytest.raises(SinkUnavailable, match="another process uses it"):
        spool_at(tmp_path / "s")
    spool.close()
    spool_at(tmp_path / "s").close()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(SinkUnavailable, match="No such file"):
        spool_at(tmp_path / "a" / "b")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["append", "read", "done", "flush", "reopen", "kill"]), st.integers(0, 40))))
def test_whatever_happens_what_is_not_done_comes_again_in_order(tmp_path_factory, steps):
    """A model: what was appended, less what is done; a kill forgets what was done since the last flush."""
    path = tmp_path_factory.mktemp("spool") / "s"
    spool = spool_at(path)
    appended, done, flushed, handed, next_sequence = [], set(), set(), [], 1
    for step, n in steps:
        if step == "append":
            appended += spool.append(records(next_sequence, next_sequence + n), 7)
            next_sequence += n + 1
        elif step == "read":
            handed += [record.number for record in spool.read(n)]
        elif step == "done" and handed:
            number = handed[n % len(handed)]
            spool.done(number)
            done.add(number)
        elif step == "flush":
            assert spool.flush()
            flushed = set(done)
        elif step in {"reopen", "kill"}:
            if step == "kill":
                spool._new_done.clear()
                done = set(flushed)
            spool.close()
            flushed = set(done)
            spool = spool_at(path)
            handed = []
        assert len(set(appended) - done) == len(spool)
    rest = [number for number in appended if number not in done]
    spool.flush()
    spool.close()
    spool = spool_at(path)
    assert rest == [record.number for record in spool.read(100_000)]
    spool.close()


# The journal


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.binary(min_size=1, max_size=60_000) | st.none()), max_size=80))
def test_a_journal_holds_what_was_noted_and_not_settled(steps):
    """Also over many changes of its halves; what found no room is counted, and only that is missing."""
    journal, model = Journal(), {}
    for number, payload in steps:
        if payload is None:
            journal.settle(number)
            model.pop(number, None)
        elif journal.note(number, payload):
            model[number] = payload
        else:
            model.pop(number, None)
    assert model == journal.notes()
    journal.close()


def test_a_forked_child_s_notes_are_there_after_it_was_killed():
    journal = Journal()
    pid = os.fork()
    if pid == 0:
        journal.note(5, b"five")
        journal.note(6, b"six")
        journal.settle(5)
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert {6: b"six"} == journal.notes()
    journal.close()


def test_a_journal_in_a_file_survives_and_is_private(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.note(1, b"one")
    journal.close()
    again = Journal(path)
    assert {1: b"one"} == again.notes()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    again.close()


def test_a_note_larger_than_the_journal_is_counted():
    journal = Journal()
    assert not journal.note(1, bytes(2 * MIB))
    assert journal.note(2, b"fits")
    assert (1, {2: b"fits"}) == (journal.full, journal.notes())
    journal.close()


# With the handler


def test_an_outage_goes_to_disk_and_comes_back_in_order(api, tmp_path):
    """The ring is free again at once, though nothing is delivered."""
    api.always = RESET
    with Run(api.url, **everything(spool=tmp_path / "s")) as run:
        run.give(*[record(n, f"pod-{n % 20}", str(n)) for n in range(1, 101)])
        run.wait(lambda: len(run.settled) == 100)
        for start in range(101, 10_101, 500):
            run.give(*[record(n, f"pod-{n % 20}", str(n)) for n in range(start, start + 500)])
        run.wait(lambda: len(run.settled) == 10_100)
        assert 0 == len(api.events)
        api.always = None
    assert 10_100 == len(api.events)
    for messages in messages_by_object(api).values():
        assert sorted(messages, key=int) == messages
    assert [] == list((tmp_path / "s").glob("*.log"))
    assert 10_100 == run.counts["spooled"] == run.counts["created"]


def test_a_restart_of_the_whole_program_goes_on(api, tmp_path, caplog):
    api.always = RESET
    with Run(api.url, **everything(spool=tmp_path / "s")) as run:
        run.give(*[record(n, f"pod-{n % 5}", str(n)) for n in range(1, 101)])
        run.stop = True
    assert {Settled.HANDLED: 100} == Counter(run.settled.values())
    assert "100 events could not be delivered; they stay in the spool" in caplog.text
    api.always = None
    with Run(api.url, **everything(spool=tmp_path / "s")) as again:
        again.give(*[record(n, f"pod-{n % 5}", str(n + 1000)) for n in range(1, 101)])
    assert 200 == sum(len(messages) for messages in messages_by_object(api).values())
    for messages in messages_by_object(api).values():
        assert sorted(messages, key=int) == messages


def test_repeats_are_counted_once_over_a_restart(api, tmp_path):
    """Some of them were done and not yet known to be done."""
    with Run(api.url, spool=tmp_path / "s") as run:
        run.give(record(1), record(2), record(3))
        run.wait(lambda: len(run.settled) == 3)
        api.always = "done, then reset"
        run.give(record(4))
        run.wait(lambda: len(api.log) >= 4)
        run.stop = True
    api.always = None
    with Run(api.url, spool=tmp_path / "s") as again:
        again.give(record(5))
    assert 5 == sum(body["count"] for body in api.events.values())


def test_a_full_spool_leaves_events_in_the_ring(api, tmp_path, caplog):
    """Said once; recording goes on, and when there is room again, so does the spool."""
    api.always = RESET
    run = Run(api.url, **everything(spool=tmp_path / "s", spool_bytes=MIB))
    with run:
        run.give(record(1))
        run.wait(lambda: run.settled)
        import threading

        giving = threading.Thread(
            target=lambda: [
                run.give(*[record(n, f"p-{n}", "x" * 500) for n in range(s, s + 100)]) for s in range(2, 5002, 100)
            ]
        )
        giving.start()
        run.wait(lambda: "The spool is full" in caplog.text)
        time.sleep(0.6)
        assert giving.is_alive()
        assert 1 == caplog.text.count("The spool is full")
        api.always = None
        giving.join(30)
        run.wait(lambda: len(run.settled) == 5001)
    assert 5001 == len(api.events)


def test_what_is_too_old_is_lost_and_counted(api, tmp_path):
    api.always = RESET
    with Run(api.url, spool=tmp_path / "s") as run:
        run.give(record(1, "a"), record(2, "b"))
        run.stop = True
    api.always = None
    time.sleep(0.2)
    with Run(api.url, spool=tmp_path / "s", spool_age=0.1) as again:
        again.give(record(3, "c"))
    assert 1 == len(api.events)
    assert 2 == again.counts["spool_lost"]


def test_a_record_that_was_spooled_and_not_settled_is_not_taken_twice(api, tmp_path):
    """A process died between the two."""
    api.always = RESET
    with Run(api.url, spool=tmp_path / "s") as run:
        run.give(record(1), record(2))
        run.stop = True
    api.always = None
    with Run(api.url, spool=tmp_path / "s", repeated_until=2) as again:
        again.give(record(1), record(2), record(3))
    assert [3] == [body["count"] for body in api.events.values()]
    assert {Settled.HANDLED: 3} == Counter(again.settled.values())
    assert isinstance(tmp_path, Path)
