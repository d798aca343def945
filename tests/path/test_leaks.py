"""Broadcasters come and go, events pass by the million: no descriptor, process, mapping or memory stays.

``MPB_LEAKS=full`` makes it 1,000 broadcasters and 10 million events.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path

import pytest

from mpbroadcast.broadcaster import FullChannelBehavior
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.ring import _ring

from .conftest import eventually

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")
FULL = os.environ.get("MPB_LEAKS") == "full"
WAIT = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
LEAK_KIB = 1024  # growth that a leak of one object per round would pass by far


def descriptors():
    return Counter(
        str(link.readlink()).split(" ")[0].partition(":")[0]
        for link in Path("/proc/self/fd").iterdir()
        if os.path.lexists(link)
    )


def mappings():
    return Path("/proc/self/maps").read_text().count("mpbroadcast")


def anonymous_kib(pid):
    """Memory of its own, whether or not a fork still shares it: a helper's end must not look like growth here."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def helpers_left(name):
    """Processes that have a segment of this test open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if any(f"mpbroadcast:{name} " in str(link.readlink()) for link in (process / "fd").iterdir()):
                    found.append(process.name)
            except OSError:
                continue
    return found


def used(name, **options):
    """One broadcaster's life: watchers of two sorts, some events, a watch, the end."""
    with EventBroadcaster(name=name, **options) as broadcaster:
        broadcaster.start_event_watcher(lambda event: None)
        watch = broadcaster.watch()
        recorder = broadcaster.new_recorder("leaks")
        for number in range(20):
            assert recorder.event(POD, "Normal", "Counted", str(number))
        assert "0" == watch.get(10).object.message
        watch.stop()
        assert broadcaster.shutdown(30).complete


@pytest.mark.slow
@pytest.mark.timeout(3600 if FULL else 120)
@pytest.mark.parametrize(
    ("options", "count"),
    [({}, 1000 if FULL else 40), ({"processes": False}, 1000 if FULL else 100)],
    ids=["processes", "threads"],
)
def test_broadcasters_that_come_and_go_leave_nothing(options, count):
    name = f"leaks-{os.getpid()}-{len(options)}"
    for _ in range(5):
        used(name, **options)
    gc.collect()
    before, mapped, memory = descriptors(), mappings(), anonymous_kib(os.getpid())
    for _ in range(count):
        used(name, **options)
    gc.collect()
    assert before == descriptors()
    assert mapped == mappings()
    assert anonymous_kib(os.getpid()) - memory < LEAK_KIB + count * 4
    assert eventually(lambda: not helpers_left(name))


def test_broadcasters_in_a_directory_leave_no_file_either(tmp_path):
    sizes = {"max_processes": 2, "max_watchers": 4, "lane_bytes": 1 << 16, "watcher_bytes": 1 << 16}
    name = f"leaks-{os.getpid()}-directory"
    used(name, directory=tmp_path, **sizes)
    gc.collect()
    before, mapped = descriptors(), mappings()
    for _ in range(5):
        used(name, directory=tmp_path, **sizes)
    gc.collect()
    assert (before, mapped) == (descriptors(), mappings())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(3600 if FULL else 120)
def test_memory_stays_flat_while_events_pass_by_the_million(make):
    """Every process of it: the application, the distributor, the watcher, their spares."""
    broadcaster = make(full_channel_behavior=WAIT)
    broadcaster.start_event_watcher(lambda event: None, name="w")
    event = broadcaster.new_recorder("leaks").event
    events = 10_000_000 if FULL else 300_000

    def send(count):
        sent = 0
        while sent < count:
            if event(POD, "Normal", "Counted", "0123456789" * 10):
                sent += 1
            else:
                broadcaster.flush(20)
        assert broadcaster.flush(60)

    send(events // 5)
    stats = broadcaster.stats()
    pids = [os.getpid(), stats.distributor.pid, stats.watchers[0].helper.pid, stats.watchers[0].helper.spare_pid]
    before = [anonymous_kib(pid) for pid in pids]
    open_before = descriptors()
    send(events)
    after = [anonymous_kib(pid) for pid in pids]
    growth = [now - then for now, then in zip(after, before, strict=True)]
    print(f"KiB before {before}, grown by {growth}")
    assert max(growth) < LEAK_KIB
    assert open_before == descriptors()
    stats = broadcaster.stats()
    assert events + events // 5 == stats.accepted == stats.watcher("w").handled


def test_adopting_a_segment_leaks_neither_descriptors_nor_mappings(tmp_path):
    from mpbroadcast.ring import directory as files

    segment, _ = files.open_in(tmp_path, "x", files.Sizes(2, 1 << 16, 2, 1 << 16, None))
    path = Path(files.file_of(segment))
    segment.close()
    with path.open("r+b") as file:
        _ring.adopt_segment(file.fileno(), bytes(16))
        before, mapped = descriptors(), mappings()
        for _ in range(200):
            assert 0 == _ring.adopt_segment(file.fileno(), bytes(16))
        assert (before, mapped) == (descriptors(), mappings())
