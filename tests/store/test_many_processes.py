"""A store while it is written: readers beside it, and writers that are killed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from mpbroadcast.store.sqlite import Store

WRITER = """
import sys
from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.store.sqlite import Store

path, total, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
static = encode_static(ObjectReference("Pod", "apps", "web", "uid", "v1"), "Normal", "Started", EventSource("kubelet"))
with Store.open(path) as store:
    done = store.position("ring")
    print("open", flush=True)
    while done < total:
        store.begin()
        numbers = range(done + 1, min(done + size, total) + 1)
        store.create_records([encode_record(10**18 + number, static, str(number)) for number in numbers])
        store.set_position("ring", numbers[-1])
        store.commit()
        done = numbers[-1]
"""


def start_writer(path, total, size):
    command = [sys.executable, "-c", WRITER, str(path), str(total), str(size)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert b"open\n" == writer.stdout.readline()
    return writer


def integrity(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall()
    finally:
        connection.close()


@pytest.mark.slow
def test_killed_writers_leave_every_event_once(path):
    """SIGKILL at a random moment, again and again: what the position says is stored, once, and nothing else."""
    rng, total, kills = random.Random(7), 60_000, 0
    while True:
        writer = start_writer(path, total, 200)
        try:
            writer.wait(rng.uniform(0.005, 0.1) * (1 + kills / 4))  # in the end also a slow machine gets through
        except subprocess.TimeoutExpired:
            writer.send_signal(signal.SIGKILL)
            kills += writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        with Store.open(path, read_only=True) as reader:
            reader._connection.execute("BEGIN")
            done = reader.position("ring")
            [(stored, distinct)] = reader._connection.execute("SELECT count(*), count(DISTINCT name) FROM event")
            reader._connection.execute("COMMIT")
        assert done == stored == distinct
        assert done % 200 == 0
        if writer.returncode == 0:
            break
    assert total == done
    assert kills >= 3
    assert [("ok",)] == integrity(path)
    with Store.open(path, read_only=True) as reader:
        assert [str(number) for number in range(1, total + 1)] == [event.message for event in reader.list().events]


def test_readers_see_whole_batches_while_a_writer_writes(path):
    """Also page by page, and by following the changes; and none of them waits."""
    total, size = 10_000, 50
    Store.open(path).close()
    writer = start_writer(path, total, size)
    with Store.open(path, read_only=True) as reader:
        known, version, looks = {}, 1, 0
        while len(known) < total:
            changes = reader.changes_since(version, limit=1000)
            version = changes.resource_version
            for change in changes.changes:
                assert change.object.name not in known
                known[change.object.name] = change.object.message
            with reader._snapshot():
                done = reader.position("ring")
                [stored] = reader._connection.execute("SELECT count(*) FROM event").fetchone()
            assert done == stored
            assert done % size == 0
            first = reader.list(limit=100)
            rest = reader.list(continue_=first.continue_).events if first.continue_ else ()
            # Versions begin at 1, and each event was written once: the pages show what was there at the first one.
            assert len(first.events) + len(rest) == first.resource_version - 1
            looks += 1
        assert [str(number) for number in range(1, total + 1)] == list(known.values())
    assert 0 == writer.wait(30)
    writer.stdout.close()
    assert looks > 1


def test_a_writer_waits_for_another(path, make_event):
    """A batch takes milliseconds, so that two processes (a sink, and ``mpbroadcast record``) can write one store."""
    with Store.open(path) as one, Store.open(path) as other:
        one.begin()
        one.create(make_event(1))
        thread = threading.Thread(target=lambda: other.create(make_event(2)))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        one.commit()
        thread.join()
        assert 2 == len(one.list().events)


def test_a_writer_that_is_stopped_in_a_batch_does_not_hinder_readers(path):
    writer = start_writer(path, 1_000_000, 1000)
    os.kill(writer.pid, signal.SIGSTOP)
    try:
        with Store.open(path, read_only=True) as reader:
            before = time.monotonic()
            assert reader.position("ring") == len(reader.list().events)
            assert time.monotonic() - before < 20
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
