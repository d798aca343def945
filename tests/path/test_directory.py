"""directory=: everything dies at once, and the next start delivers what was left in the file."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from mpbroadcast.errors import SegmentError
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.ring import _ring
from mpbroadcast.ring import directory as files

from .conftest import eventually, helpers_of

POD = ObjectReference("Pod", "default", "web-0", "u-1", "v1")
SMALL = {"max_processes": 4, "max_watchers": 4, "lane_bytes": 1 << 20, "watcher_bytes": 1 << 20}
PROGRAM = """
    import os, signal, sys, time
    from mpbroadcast import EventBroadcaster, FullChannelBehavior, ObjectReference
    DIRECTORY, OUT = sys.argv[1:3]
    POD = ObjectReference("Pod", "default", "p")
    def handler(event):
        fd = os.open(OUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, event.message.encode() + b"\\n")
        os.close(fd)
        time.sleep(PAUSE)
    broadcaster = EventBroadcaster(name="app", directory=DIRECTORY, max_processes=4, max_watchers=4,
                                   lane_bytes=1 << 20, watcher_bytes=1 << 20)
    recorder = broadcaster.new_recorder("app")
    def record(first, last):
        for number in range(first, last):
            assert recorder.event(POD, "Normal", "Counted", str(number))
    def every_process():
        while True:
            s = broadcaster.stats()
            found = [s.distributor.spare_pid, s.distributor.pid]
            for w in s.watchers: found += [w.helper.spare_pid, w.helper.pid]
            if all(found): return found
            time.sleep(0.01)
    def kill_all():
        for pid in [*every_process(), os.getpid()]:
            os.kill(pid, signal.SIGKILL)
"""


def program(code, pause):
    return textwrap.dedent(PROGRAM).replace("PAUSE", str(pause)) + textwrap.dedent(code)


def run(code, *arguments, pause=0.0, before=()):
    command = [*before, sys.executable, "-c", program(code, pause), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def numbers(path):
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def in_order_at_most_repeated(expected, arrived, repeats):
    """Everything, in order; a repeat (in flight when all died) stands anywhere after its first."""
    assert set(range(expected)) == set(arrived)
    firsts = list(dict.fromkeys(arrived))
    assert list(range(expected)) == firsts
    assert len(arrived) - expected <= repeats


SECOND = """
    broadcaster.start_event_watcher(handler, name="w")
    record(1000, 1010)
    report = broadcaster.shutdown(30)
    print(report)
    assert report.complete
"""


def test_the_next_start_delivers_what_lay_in_lanes_and_rings_when_everything_was_killed(tmp_path):
    out = tmp_path / "seen"
    first = """
        broadcaster.start_event_watcher(handler, name="w")
        record(0, 500)
        broadcaster.flush(0.2)
        os.kill(every_process()[1], signal.SIGSTOP)  # the distributor: what follows stays in the lane
        record(500, 1000)
        kill_all()
    """
    done = run(first, tmp_path, out, pause=0.01)
    assert -signal.SIGKILL == done.returncode, done.stderr
    assert len(numbers(out)) < 500
    file = tmp_path / "app.mpbroadcast"
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    done = run(SECOND, tmp_path, out)
    assert 0 == done.returncode, done.stderr
    assert f"{file} is taken over from a program that has died: " in done.stderr
    in_order_at_most_repeated(1010, numbers(out), 1)
    assert not list(tmp_path.glob("*.mpbroadcast*"))  # a clean end leaves no file


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare(1) here")
def test_a_whole_pid_namespace_is_killed_as_a_container_is(tmp_path):
    """Process 1 of the namespace dies, and the kernel kills everything in it: helpers, spares, workers."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if os.geteuid() != 0:
        unshare.insert(1, "--map-root-user")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no pid namespaces")
    out, ready = tmp_path / "seen", tmp_path / "ready"
    first = """
        assert os.getpid() == 1
        broadcaster.start_event_watcher(handler, name="w")
        every_process()
        record(0, 500)
        if os.fork() == 0:
            record(500, 1000)
            open(sys.argv[3], "w").close()
            signal.pause()
        while True:
            signal.pause()
    """
    command = [*unshare, sys.executable, "-c", program(first, 0.005), *map(str, (tmp_path, out, ready))]
    outer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        eventually(ready.exists)
    finally:
        outer.kill()
        outer.wait()
    eventually(lambda: _nobody_has(tmp_path / "app.mpbroadcast"))
    assert len(numbers(out)) < 1000
    done = run(SECOND, tmp_path, out, before=unshare)  # as the restarted container: again a namespace of its own
    assert 0 == done.returncode, done.stderr
    arrived = numbers(out)
    assert set(range(1010)) == set(arrived)
    assert len(arrived) <= 1011


def _nobody_has(file):
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if str(file) in (process / "maps").read_text():
                    return False
    return True


def test_sinks_take_up_exactly_where_they_were(tmp_path):
    """The store keeps its ring position with its events and the event log knows its last lines: nothing twice."""
    import orjson

    from mpbroadcast.store.sqlite import Store

    sinks = """
        from mpbroadcast.sinks import JSONLinesSink, SQLiteSink
        broadcaster.start_recording_to_sink(SQLiteSink(DIRECTORY + "/events.db"))
        broadcaster.start_recording_to_sink(JSONLinesSink(DIRECTORY + "/events.jsonl"))
    """
    for round_ in range(3):
        code = (
            sinks
            + f"""
        every_process()
        record({round_ * 300}, {round_ * 300 + 300})
        time.sleep({round_ * 0.02})
        kill_all()
        """
        )
        run(code, tmp_path, tmp_path / "seen")
    done = run(sinks + "\n        assert broadcaster.shutdown(30).complete\n", tmp_path, tmp_path / "seen")
    assert 0 == done.returncode, done.stderr
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [str(n) for n in range(900)] == [orjson.loads(line)["message"] for line in lines]
    with contextlib.closing(Store.open(str(tmp_path / "events.db"), read_only=True)) as store:
        events = store.list(limit=2000).events
        assert [str(n) for n in range(900)] == [event.message for event in events]
        assert {1} == {event.count for event in events}


def test_a_file_that_a_living_program_uses_is_refused_plainly(make, tmp_path):
    make(directory=tmp_path, name="app", **SMALL)
    with pytest.raises(SegmentError, match=r"app\.mpbroadcast is used by another program that runs; stop it"):
        make(directory=tmp_path, name="app", **SMALL)
    make(directory=tmp_path, name="another app", **SMALL)


def test_helpers_that_still_deliver_are_waited_for_and_then_named(tmp_path, make, monkeypatch):
    """The application alone was killed: its helpers go on, and the file is theirs until they have finished."""
    out = tmp_path / "seen"
    first = """
        broadcaster.start_event_watcher(handler, name="w")
        record(0, 30)
        every_process()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", program(first, 0.1), str(tmp_path), str(out)]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    monkeypatch.setattr(files, "HELPERS_SECONDS", 0.2)
    with pytest.raises(SegmentError, match="helpers of a program that has ended still deliver what is in it"):
        make(directory=tmp_path, name="app", **SMALL)
    monkeypatch.setattr(files, "HELPERS_SECONDS", 40.0)
    make(directory=tmp_path, name="app", **SMALL)  # they finish, and remove their file; this one is new
    assert list(range(30)) == numbers(out)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda file: file.write_bytes(b"garbage"), "it is too short"),
        (lambda file: file.write_bytes(bytes(8192)), "it is no segment"),
        (lambda file: os.truncate(file, file.stat().st_size - 4096), "its size is wrong"),
        (lambda file: _poke(file, 8, 99), "it was made by another version of mpbroadcast (layout 99)"),
        (lambda file: _poke(file, 12, 0), "its header makes no sense"),
    ],
    ids=["short", "zeros", "cut off", "version", "sizes"],
)
def test_a_damaged_file_is_set_aside_with_one_line(tmp_path, damage, complaint):
    run("kill_all()", tmp_path, tmp_path / "seen")
    file = tmp_path / "app.mpbroadcast"
    damage(file)
    broken = file.read_bytes()[:64]
    done = run(SECOND, tmp_path, tmp_path / "seen")
    assert 0 == done.returncode, done.stderr
    aside = f"{file}.damaged"
    assert f"{file} cannot be taken over: {complaint}; it is set aside as {aside}\n" == done.stderr
    assert broken == Path(aside).read_bytes()[:64]
    assert list(range(1000, 1010)) == numbers(tmp_path / "seen")


def _poke(file, at, value):
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(value.to_bytes(4, "little"))


def test_damage_inside_a_lane_stays_in_it(tmp_path):
    """Scribbled records are skipped and counted; the next program records and delivers."""
    out = tmp_path / "seen"
    first = """
        broadcaster.start_event_watcher(handler, name="w")
        os.kill(every_process()[1], signal.SIGSTOP)
        record(0, 100)
        kill_all()
    """
    run(first, tmp_path, out)
    file = tmp_path / "app.mpbroadcast"
    data = bytearray(file.read_bytes())
    at = data.index(b'"50"') if b'"50"' in data else data.index(b"Counted", data.index(b"Counted") + 4000)
    data[at - 600 : at] = b"\xff" * 600
    file.write_bytes(data)
    done = run(SECOND, tmp_path, out)
    assert 0 == done.returncode, done.stderr
    arrived = numbers(out)
    assert list(range(1000, 1010)) == arrived[-10:]
    assert arrived == sorted(set(arrived))


def test_a_new_boot_moves_old_stamps_into_the_past(tmp_path):
    """The clock starts anew: what was recorded by the old one comes first, in order, and new watches see none of it."""
    out = tmp_path / "seen"
    first = """
        broadcaster.start_event_watcher(handler, name="w")
        os.kill(every_process()[1], signal.SIGSTOP)
        record(0, 100)
        kill_all()
    """
    run(first, tmp_path, out)
    file = tmp_path / "app.mpbroadcast"
    _pretend_old_clock(file, 10**17)  # three years of uptime
    second = """
        from mpbroadcast import WatchEvent
        watch = broadcaster.watch()
        broadcaster.start_event_watcher(handler, name="w")
        record(100, 110)
        assert broadcaster.flush(20)
        first = watch.get(10).object.message
        assert first == "100", first
        lanes = broadcaster._ring.snapshot()["lanes"]
        assert all(lane["clock"] == 0 for lane in lanes), lanes
        assert max(lane["last_ts"] for lane in lanes) < time.monotonic_ns()
        assert broadcaster.shutdown(30).complete
    """
    done = run(second, tmp_path, out)
    assert 0 == done.returncode, done.stderr
    assert list(range(110)) == numbers(out)


def _pretend_old_clock(file, offset):
    """Moves every stamp and forgets the boot, as if the file came from a machine that had been up for long."""
    data = bytearray(file.read_bytes())
    now = time.monotonic_ns()
    for at in range(0, len(data), 8):
        value = int.from_bytes(data[at : at + 8], "little")
        if now - 120_000_000_000 < value <= now:
            data[at : at + 8] = (value + offset).to_bytes(8, "little")
    boot = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    at = data.index(boot)
    data[at : at + 16] = bytes(16)
    file.write_bytes(data)


def test_a_shutdown_that_could_not_deliver_everything_leaves_the_rest_for_the_next_start(tmp_path):
    out = tmp_path / "seen"
    first = """
        broadcaster.start_event_watcher(handler, name="w")
        record(0, 1000)
        report = broadcaster.shutdown(0.5)
        assert not report.complete
    """
    done = run(first, tmp_path, out, pause=0.05)
    assert 0 == done.returncode, done.stderr
    assert "not everything was delivered; the rest stays in" in done.stderr
    done = run(SECOND, tmp_path, out)
    assert 0 == done.returncode, done.stderr
    in_order_at_most_repeated(1010, numbers(out), 1)


def test_what_a_watcher_that_is_not_started_again_had_is_kept_and_holds_nobody_up(tmp_path):
    first = """
        wait = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
        broadcaster.start_event_watcher(handler, name="w", full_channel_behavior=wait)
        record(0, 1000)
        every_process()
        kill_all()
    """
    run(first, tmp_path, tmp_path / "first", pause=1000)
    second = """
        import mpbroadcast.distributor
        broadcaster.start_event_watcher(handler, name="other")
        record(1000, 1010)
        report = broadcaster.shutdown(20)
        assert report.drained
    """
    began = time.monotonic()
    done = run(second, tmp_path, tmp_path / "second")
    assert 0 == done.returncode, done.stderr
    assert time.monotonic() - began < 15  # it was not waited for
    assert (tmp_path / "app.mpbroadcast").exists()
    third = """
        broadcaster.start_event_watcher(handler, name="w")
        assert broadcaster.shutdown(30).complete
    """
    done = run(third, tmp_path, tmp_path / "first")
    assert 0 == done.returncode, done.stderr
    assert set(range(1010)) == set(numbers(tmp_path / "first"))
    assert set(range(1000, 1010)) <= set(numbers(tmp_path / "second"))


def test_a_start_that_is_killed_while_it_takes_over_is_followed_by_another(tmp_path):
    """Whatever instruction it was killed at: the takeover is done again, and nothing is lost."""
    out = tmp_path / "seen"
    first = """
        broadcaster.start_event_watcher(handler, name="w")
        os.kill(every_process()[1], signal.SIGSTOP)
        record(0, 1000)
        kill_all()
    """
    run(first, tmp_path, out)
    for delay in (0.001, 0.005, 0.02, 0.05, 0.08):
        process = subprocess.Popen(
            [sys.executable, "-c", program("time.sleep(100)", 0), str(tmp_path), str(out)],
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        time.sleep(0.15 + delay)
        process.kill()
        process.wait()
    monkey_deadline = time.monotonic() + 30
    while (done := run(SECOND, tmp_path, out)).returncode and time.monotonic() < monkey_deadline:
        assert "still deliver" in done.stderr, done.stderr
    assert 0 == done.returncode, done.stderr
    in_order_at_most_repeated(1010, numbers(out), 1)


def test_the_file_is_removed_when_the_application_dies_and_its_helpers_deliver_everything(tmp_path):
    code = """
        broadcaster.start_event_watcher(handler, name="w")
        record(0, 100)
        every_process()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run(code, tmp_path, tmp_path / "seen")
    eventually(lambda: not (tmp_path / "app.mpbroadcast").exists())
    assert list(range(100)) == numbers(tmp_path / "seen")


def test_two_starts_at_once_make_one_broadcaster_and_one_refusal(tmp_path, make):
    answers = []

    def start():
        try:
            answers.append(make(directory=tmp_path, name="app", **SMALL))
        except SegmentError as error:
            answers.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refusals = [answer for answer in answers if isinstance(answer, str)]
    assert (4, 3) == (len(answers), len(refusals))
    assert all("is used by another program" in text for text in refusals)


def test_a_directory_that_cannot_be_used_is_said_in_one_line(make, tmp_path):
    with pytest.raises(SegmentError, match=r"app\.mpbroadcast cannot be used: No such file or directory"):
        make(directory=tmp_path / "nowhere", name="app", **SMALL)
    (tmp_path / "app.mpbroadcast").symlink_to("/etc/passwd")
    with pytest.raises(SegmentError, match="cannot be used: Too many levels of symbolic links"):
        make(directory=tmp_path, name="app", **SMALL)


def test_names_of_every_sort_become_file_names_and_processes_join_by_pid(make, tmp_path, seen):
    from mpbroadcast.event_broadcaster import attach

    broadcaster = make(directory=tmp_path, name="a/b c", **SMALL)
    broadcaster.start_event_watcher(seen, name="seen")
    assert ["a%2Fb%20c.mpbroadcast"] == [path.name for path in tmp_path.glob("*.mpbroadcast")]
    pid = eventually(lambda: (found := helpers_of(broadcaster)) and all(found.values()) and found["distributor"])
    joined = attach(pid)
    assert "a/b c" == joined.stats().name
    assert joined.new_recorder("tests").event(POD, "Normal", "Counted", "joined")
    assert broadcaster.flush(20)
    assert ["joined"] == seen.lines


def test_adopting_what_is_no_segment_is_refused_and_a_living_user_is_named(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(8192))
    with path.open("r+b") as file, pytest.raises(SegmentError, match="this is not a segment of mpbroadcast"):
        _ring.adopt_segment(file.fileno(), bytes(16))
    with path.open("r+b") as file, pytest.raises(ValueError, match="a boot id has 16 bytes"):
        _ring.adopt_segment(file.fileno(), b"short")
    segment, _ = files.open_in(tmp_path, "x", files.Sizes(2, 1 << 16, 2, 1 << 16, None))
    segment.ring.set("owner_start", _ring.start_ticks(os.getpid()))
    segment.ring.set("owner_pid", os.getpid())
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    assert os.getpid() == _ring.adopt_segment(segment.fd, bytes.fromhex(boot))
    segment.close()
