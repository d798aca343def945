"""Several broadcasters side by side, and many watch attempts: names and numbers never mix."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from mpbroadcast.broadcaster import Broadcaster
from mpbroadcast.cli.running import find_running
from mpbroadcast.errors import NoFreeSlot
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.metrics import families, render

from .conftest import Seen, eventually, forked

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")


class Names:
    """A handler that writes down event names and messages."""

    def __init__(self, path):
        self._seen = Seen(path)

    def __call__(self, event):
        self._seen(f"{event.name} {event.message}")

    @property
    def lines(self):
        return self._seen.lines


def record(broadcasters, first, times):
    """The n-th broadcaster gets n times as many events as the first."""
    recorders = [broadcaster.new_recorder("test") for broadcaster in broadcasters]
    for number in range(first, first + times):
        for index, recorder in enumerate(recorders):
            for repeat in range(index + 1):
                assert recorder.event(POD, "Normal", "Step", f"to {index}: {number}.{repeat}")


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_ten_in_one_process_each_get_their_own(make, tmp_path, processes):
    """All with the same name, used alternately, in this process and in a fork of it."""
    made, handlers = [], [Names(tmp_path / str(index)) for index in range(10)]
    for handler in handlers:
        made.append(make(EventBroadcaster, name="same", processes=processes))
        made[-1].start_event_watcher(handler, name="same")
    record(made, 0, 10)
    with forked(lambda: record(made, 10, 10)):
        pass
    for index, broadcaster in enumerate(made):
        assert broadcaster.flush(20)
        numbers = broadcaster.stats()
        expected = 20 * (index + 1)
        assert (expected, expected, 0) == (numbers.accepted, numbers.forwarded, numbers.lost)
        assert [10 * (index + 1)] * 2 == [lane.accepted for lane in numbers.lanes]
        assert expected == numbers.watcher("same").handled
        assert {f"to {index}"} == {line.split(" ", 1)[1].partition(":")[0] for line in handlers[index].lines}
        assert expected == len(handlers[index].lines)
    names = [line.split()[0] for handler in handlers for line in handler.lines]
    assert len(names) == len(set(names)), "events of all of them may go to one store"


def test_one_that_shuts_down_disturbs_no_other(make, tmp_path):
    made, handlers = [], [Names(tmp_path / str(index)) for index in range(4)]
    for handler in handlers:
        made.append(make(EventBroadcaster))
        made[-1].start_event_watcher(handler)
    record(made, 0, 5)
    for index in (2, 0):
        assert made[index].shutdown(10).complete
    rest = [made[1], made[3]]
    for broadcaster in rest:
        assert broadcaster.new_recorder("test").event(POD, "Normal", "Later", "still there")
        assert broadcaster.flush(20)
    assert [5, 11, 15, 21] == [len(handler.lines) for handler in handlers]
    assert not made[0].new_recorder("test").event(POD, "Normal", "Late", "refused")
    assert [0, 0] == [broadcaster.stats().lost for broadcaster in rest]
    assert ["stopped"] == [reason for reason, _, _ in made[0].stats().losses()]


SERVICE = """
    import sys
    from mpbroadcast import EventBroadcaster, ObjectReference
    with EventBroadcaster(name="service") as broadcaster:
        broadcaster.start_event_watcher(lambda event: None, name="nothing")
        recorder = broadcaster.new_recorder("test")
        for _ in range(int(sys.argv[1])):
            recorder.event(ObjectReference("Pod", "default", "web-0"), "Normal", "Step", "a step")
        broadcaster.flush(10)
        print("ready", flush=True)
        sys.stdin.read()
"""


def test_two_programs_of_one_name_on_a_machine_are_told_apart():
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVICE), str(events)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for events in (3, 400)
    ]  # fmt: skip
    try:
        for program in programs:
            assert "ready\n" == program.stdout.readline()
        found = [running for running in find_running(name="service") if running.stats().owner_pid in pids(programs)]
        assert {programs[0].pid: 3, programs[1].pid: 400} == {
            running.stats().owner_pid: running.stats().accepted for running in found
        }
        for program, events in zip(programs, (3, 400), strict=True):
            (own,) = find_running(pid=program.pid)
            assert events == own.stats().watcher("nothing").handled
        text = render([(running.stats(), (("pid", str(running.stats().owner_pid)),)) for running in found])
        for program, events in zip(programs, (3, 400), strict=True):
            assert f'mpbroadcast_events_accepted_total{{pid="{program.pid}"}} {events}' in text
    finally:
        for program in programs:
            program.communicate("")
    assert [0, 0] == [program.returncode for program in programs]


def pids(programs):
    return {program.pid for program in programs}


def test_a_hundred_watch_attempts_have_names_and_numbers_of_their_own(make):
    """Of attempts that find no slot nothing is left: not a number, not a name."""
    broadcaster = make(Broadcaster, max_watchers=16, queue_length=8)
    watches, refused = [], 0
    for attempt in range(100):
        try:
            watches.append(broadcaster.watch())
        except NoFreeSlot:
            refused += 1
        else:
            assert broadcaster.action("ADDED", attempt, timeout=20)
    assert (16, 84) == (len(watches), refused)
    numbers = broadcaster.stats()
    assert 16 == len({watcher.name for watcher in numbers.watchers}) == len(numbers.watchers)
    assert broadcaster.flush(20)
    numbers = broadcaster.stats()
    # The n-th watch saw what was sent after it began; all it had no room for is its own loss.
    seen = {watcher.name: watcher.forwarded + watcher.dropped for watcher in numbers.watchers}
    assert list(range(16, 0, -1)) == list(seen.values())
    assert {watcher.name: max(0, seen[watcher.name] - 8) for watcher in numbers.watchers} == {
        watcher.name: watcher.dropped for watcher in numbers.watchers
    }
    for number, watch in enumerate(watches):
        watch.stop()
        assert list(range(number, min(number + 8, 16))) == [item.object for item in watch]


def test_a_hundred_watches_one_after_another_keep_the_totals_right(make):
    """Slots are used again; what was counted in them is kept, under no name of a watcher that still runs."""
    broadcaster = make(Broadcaster, max_watchers=4)
    other = make(Broadcaster, max_watchers=4)
    lasting = broadcaster.watch()
    for attempt in range(100):
        watch = eventually(lambda: claimed(broadcaster))
        assert broadcaster.action("ADDED", attempt, timeout=20)
        assert attempt == watch.get(20).object
        watch.stop()
        assert [] == list(watch)
    numbers = broadcaster.stats()
    assert 100 == numbers.retired.get("handled", 0) + sum(watcher.handled for watcher in numbers.watchers)
    assert 0 == numbers.lost
    assert 100 == sum(1 for _ in range(100) if lasting.get(20))
    assert (0, 0, {}) == (other.stats().accepted, len(other.stats().watchers), other.stats().retired)
    series = [sample.labels for family in families([(broadcaster.stats(), ())]) for sample in family.samples]
    assert 3 >= len({dict(labels)["watcher"] for labels in series if "watcher" in dict(labels)}), "no series for each"


def claimed(broadcaster):
    """A watch, once a slot is free again."""
    try:
        return broadcaster.watch()
    except NoFreeSlot:
        return None


def test_a_copy_in_a_child_is_the_same_broadcaster_and_no_new_one(make):
    """Made before the fork, used in the child: the numbers of both are in one place."""
    broadcaster = make(EventBroadcaster, name="one")
    with forked(lambda: record([broadcaster], 0, 7)):
        pass
    own = [running for running in find_running(pid=os.getpid()) if running.stats().owner_pid == os.getpid()]
    assert 7 in [
        running.stats().accepted for running in own if running.stats().created_ns == broadcaster.stats().created_ns
    ]
