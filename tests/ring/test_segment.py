"""The memory file: sealed, private, nameless, small, and found again by whoever may."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import gc
import multiprocessing
import os
import pathlib
import pickle
import re
import shutil
import stat
import struct
import subprocess
import sys
import threading

import pytest

from mpbroadcast.errors import SegmentError
from mpbroadcast.ring import _ring
from mpbroadcast.ring.segment import MEMFD_PREFIX, Segment, find_segments
from tests.ring.building import ROOT
from tests.ring.conftest import distribute, lane_numbers, make_segment, watch
from tests.ring.jobs import record, record_many


def mapping(fd):
    """The lines of smaps for the mapping of this descriptor's file."""
    inode = os.fstat(fd).st_ino
    blocks = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", pathlib.Path("/proc/self/smaps").read_text())
    return [block for block in blocks if f" {inode} " in block.split("\n", 1)[0]]


def descriptors():
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


# ---- the file


def test_it_is_sealed_against_resizing(segment):
    seals = fcntl.fcntl(segment.fd, fcntl.F_GET_SEALS)
    wanted = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    assert wanted == seals & wanted
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 0)


def test_only_its_user_may_open_it(segment):
    assert 0o600 == stat.S_IMODE(os.fstat(segment.fd).st_mode)


def test_it_has_no_name_and_is_not_inherited_by_exec():
    before = set(pathlib.Path("/dev/shm").iterdir())
    segment = make_segment()
    assert before == set(pathlib.Path("/dev/shm").iterdir())
    assert not os.get_inheritable(segment.fd)


def test_core_dumps_leave_it_out(segment):
    blocks = mapping(segment.fd)
    assert blocks
    for block in blocks:
        flags = re.search(r"VmFlags:(.*)", block)[1].split()
        assert "dd" in flags


def test_its_memory_follows_the_backlog_and_not_the_traffic():
    """30,000 events, a burst of several MiB among them; with nothing waiting each ring is under 1 MiB."""
    segment = make_segment(lane_bytes=8 << 20, slot_bytes=16 << 20, lanes=2, slots=2)
    ring = segment.ring
    slots = [watch(ring), watch(ring)]
    distributor = _ring.Distributor(ring)
    readers = [_ring.Reader(ring, slot) for slot in slots]
    for start in range(0, 30_000, 10_000):
        for _ in range(start, start + 10_000):
            assert ring.put(b"x" * 600)
        distribute(distributor, 200)
        for reader in readers:
            while reader.get_many(1000, 1 << 30, 0):
                reader.settle_through(reader.seen, _ring.HANDLED)
    peak = os.fstat(segment.fd).st_blocks * 512
    for _ in range(3):
        distributor.run(0.25)  # an idle distributor gives back
    held = os.fstat(segment.fd).st_blocks * 512
    assert peak > 12 << 20
    assert held < (3 << 20), f"{held} bytes for one lane and two rings"
    assert ring.put(b"still there")
    distribute(distributor)
    assert [b"still there"] == [data for _, _, data in readers[0].get_many(9, 1 << 20, 0)]


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ({"lane_bytes": 65537}, "lane_bytes"), ({"lane_bytes": 4096}, "lane_bytes"),
        ({"slot_bytes": 2 << 30}, "watcher_bytes"),
        ({"lanes": 0}, "max_processes"), ({"lanes": 1025}, "max_processes"), ({"slots": 0}, "max_watchers"),
        ({"slots": 257}, "max_watchers"), ({"queue_length": 0}, "queue_length"), ({"lane_bytes": "8M"}, "lane_bytes"),
    ],
)  # fmt: skip
def test_sizes_that_make_no_sense_are_refused_in_one_line(sizes, word):
    with pytest.raises(ValueError, match=word) as caught:
        make_segment(**sizes)
    assert "\n" not in str(caught.value)


# ---- what is no segment


def test_a_garbage_file_is_refused(tmp_path):
    path = tmp_path / "garbage"
    path.write_bytes(os.urandom(1 << 16))
    with path.open("r+b") as file, pytest.raises(SegmentError, match="not a segment"):
        _ring.Segment(file.fileno())


def test_a_short_file_and_a_closed_descriptor_are_refused(tmp_path):
    path = tmp_path / "short"
    path.write_bytes(b"x")
    with path.open("r+b") as file:
        with pytest.raises(SegmentError, match="not a segment"):
            _ring.Segment(file.fileno())
        number = file.fileno()
    with pytest.raises(SegmentError, match="not open"):
        _ring.Segment(number)


def test_another_version_is_refused_by_name(segment):
    os.pwrite(segment.fd, (_ring.LAYOUT_VERSION + 1).to_bytes(4, "little"), 8)
    with pytest.raises(SegmentError, match="another version"):
        _ring.Segment(segment.fd)


def test_a_header_that_contradicts_the_file_is_refused(segment):
    os.pwrite(segment.fd, (999).to_bytes(4, "little"), 12)
    with pytest.raises(SegmentError, match="makes no sense"):
        _ring.Segment(segment.fd)


def test_another_time_namespace_is_refused(segment):
    unshare = shutil.which("unshare")
    probe = unshare and subprocess.run([unshare, "-T", "true"], capture_output=True, check=False)
    if not unshare or probe.returncode:
        pytest.skip("this kernel or user may not make a time namespace")
    code = (
        "import sys; from mpbroadcast.ring import _ring; from mpbroadcast.errors import SegmentError\n"
        "try: _ring.Segment(int(sys.argv[1]))\nexcept SegmentError as e: print(e)"
    )
    done = subprocess.run(
        [unshare, "-T", "--fork", sys.executable, "-c", code, str(segment.fd)],
        pass_fds=[segment.fd], cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "another time namespace" in done.stdout, done


# ---- other processes


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_comes_along_to_processes_of_every_kind_without_a_thread(segment, method):
    """In a pool it is pickled at the start (as an argument of the initializer would be) and again with each task."""
    context = multiprocessing.get_context(method)
    before = threading.active_count()
    process = context.Process(target=record_many, args=([segment, segment], 1))
    process.start()
    assert before == threading.active_count()
    process.join()
    assert process.exitcode == 0
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        lane, threads = pool.submit(record, segment, 2).result()
    assert lane >= 0
    assert 1 == threads
    assert 2 == sum(one["accepted"] for one in segment.ring.snapshot()["lanes"])


def test_unpickling_in_the_same_process_gives_the_same_object(segment):
    assert segment is pickle.loads(pickle.dumps(segment))


def test_it_is_found_and_opened_by_pid_and_an_onlooker_may_only_read(segment):
    assert segment.ring.put(b"x")
    assert segment.fd in find_segments(os.getpid())
    onlooker = Segment.open_of(os.getpid(), segment.fd, token=segment.ring.token, writable=False)
    assert 1 == sum(one["accepted"] for one in onlooker.ring.snapshot()["lanes"])
    assert "r--s" in "".join(block.split("\n", 1)[0] for block in mapping(onlooker.fd))
    assert onlooker.ring.lock_is_free(_ring.LOCK_DIST)
    slot = onlooker.ring.sizes[2] - 1
    for change in (
        lambda: onlooker.ring.put(b"x"), lambda: onlooker.ring.offer(b"x", 0, 0), lambda: onlooker.ring.set("state", 2),
        lambda: onlooker.ring.slot_set(slot, "state", 2), onlooker.ring.claim_lane,
        lambda: onlooker.ring.claim_slot(b"w", 0, False, 0), lambda: onlooker.ring.begin_drain(0),
        lambda: onlooker.ring.lock(0), lambda: onlooker.ring.slot_count(slot, 0),
        lambda: onlooker.ring.record(b"1", "m", 1),
        onlooker.ring.event_time, onlooker.ring.wake, lambda: onlooker.ring.refuse(_ring.INVALID),
        lambda: _ring.Reader(onlooker.ring, slot), lambda: _ring.Distributor(onlooker.ring),
    ):  # fmt: skip
        with pytest.raises(SegmentError, match="read-only"):
            change()
    assert pickle.loads(pickle.dumps(segment)) is segment, "the onlooker is not what a recorder would find"


def test_a_wrong_token_or_process_is_refused_and_leaves_no_descriptor(segment):
    gc.collect()  # what earlier tests have left
    before = descriptors()
    with pytest.raises(SegmentError, match="no longer has the segment"):
        Segment.open_of(os.getpid(), segment.fd, token=bytes(16))
    with pytest.raises(SegmentError, match="cannot be opened"):
        Segment.open_of(2**22, 3)
    with pytest.raises(SegmentError, match="not a segment"), pathlib.Path("/dev/null").open("rb") as file:
        Segment.open_of(os.getpid(), file.fileno(), writable=False)
    gc.collect()
    assert before == descriptors()


def test_a_failed_creation_leaves_no_descriptor(monkeypatch):
    def no_memory(*_):
        raise OSError(errno.ENOMEM, "no")

    before = descriptors()
    monkeypatch.setattr(os, "ftruncate", no_memory)
    with pytest.raises(SegmentError, match="no shared memory"):
        make_segment()
    assert before == descriptors()


def test_its_name_shows_in_proc(segment):
    assert f"/memfd:{MEMFD_PREFIX}test" in str(pathlib.Path(f"/proc/self/fd/{segment.fd}").readlink())


# ---- closing


def test_it_stays_mapped_while_somebody_reads_from_it(segment):
    reader = _ring.Reader(segment.ring, watch(segment.ring))
    assert not segment.ring.close()
    del reader
    assert segment.ring.close()
    assert segment.ring.close()
    with pytest.raises(SegmentError, match="closed"):
        segment.ring.put(b"x")


def test_code_that_runs_while_arguments_are_converted_may_close_it(segment):
    """A str subclass, an __index__ or a buffer of the caller runs Python; what it closes must not be touched."""
    ring = segment.ring

    class Closes:
        def __index__(self):
            return int(not ring.close())

        def __str__(self):
            return str(ring.close())

    with pytest.raises(SegmentError, match="closed"):
        ring.put(b"x", Closes())
    other = make_segment().ring

    class ClosesOther:
        def __str__(self):
            return str(other.close())

    with pytest.raises(SegmentError, match="closed"):
        other.record(b"1", ClosesOther(), 1)


def open_numbers():
    """Without that of the look itself."""
    numbers = [int(link.name) for link in pathlib.Path("/proc/self/fd").iterdir()]
    return {number for number in numbers if pathlib.Path(f"/proc/self/fd/{number}").exists()}


def test_a_descriptor_that_became_another_file_is_never_locked_and_recording_goes_on(segment, tmp_path):
    """A daemon that closes all descriptors may get the number again for something else; that must not be touched."""
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    number, kept = segment.fd, os.dup(segment.fd)
    os.dup2(other, number)
    try:
        with pytest.raises(SegmentError, match="closed the broadcaster's descriptor"):
            segment.ring.lock(_ring.LOCK_OWNER)
        with pytest.raises(SegmentError, match="start watchers before that"):
            segment.ring.claim_slot(b"w", _ring.POLICY_DROP, False, 0)
        assert segment.ring.put(b"x")  # claimed by pid and start time alone
        assert segment.ring.lock_is_free(_ring.LOCK_OWNER)  # unknown: the pid decides
        assert "lock:" not in pathlib.Path(f"/proc/self/fdinfo/{number}").read_text()
    finally:
        os.dup2(kept, number)
        os.close(kept)
        os.close(other)
    assert lane_numbers(segment.ring)["owner_pid"] == os.getpid()
    assert segment.ring.lock(_ring.LOCK_OWNER)


def test_a_lock_descriptor_that_became_another_file_is_neither_used_nor_closed(tmp_path):
    """The number of the description that carries the locks may be a stranger's, too: its lock must survive ours."""
    segment = make_segment()
    before = open_numbers()
    assert segment.ring.lock(_ring.LOCK_OWNER)
    (number,) = open_numbers() - before
    with (tmp_path / "stranger").open("w") as stranger:
        fcntl.fcntl(stranger, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0))
        os.dup2(stranger.fileno(), number)
        try:
            segment.ring.unlock(_ring.LOCK_OWNER)  # byte 0, as is the stranger's
            segment.close()
            assert os.fstat(number).st_ino == os.fstat(stranger.fileno()).st_ino
            assert "OFDLCK" in pathlib.Path(f"/proc/self/fdinfo/{number}").read_text()
        finally:
            os.close(number)


def test_a_segment_whose_descriptor_is_a_strangers_closes_nothing(tmp_path):
    segment = make_segment()
    number = segment.fd
    with (tmp_path / "stranger").open("w") as stranger:
        os.dup2(stranger.fileno(), number)
    try:
        segment.close()
        del segment
        assert os.fstat(number).st_ino == (tmp_path / "stranger").stat().st_ino
    finally:
        os.close(number)


def test_a_process_without_the_descriptor_takes_fresh_lanes_first_and_those_of_the_dead_last():
    """Without a lock it would not see an owner that lives in another pid namespace, so it is the more careful."""
    segment = make_segment(lanes=3)
    claimed = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            os.closerange(3, 4096)
            os._exit(segment.ring.claim_lane() + 1)
        claimed.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) - 1)
    assert [0, 1, 2] == sorted(claimed[:3])
    assert set(claimed[3:]) <= {0, 1, 2}


def test_lanes_of_living_owners_without_descriptors_are_not_taken_by_others_without():
    segment = make_segment(lanes=2)
    read, write = os.pipe()
    hold_read, hold_write = os.pipe()
    pids = []
    for _ in range(2):
        pids.append(os.fork())
        if pids[-1] == 0:
            for number in open_numbers() - {write, hold_read}:
                with contextlib.suppress(OSError):
                    os.close(number)
            os.write(write, bytes([segment.ring.claim_lane()]))
            os.read(hold_read, 1)
            os._exit(0)
    assert {0, 1} == set(os.read(read, 1) + os.read(read, 1))
    pid = os.fork()
    if pid == 0:
        os.closerange(3, 4096)
        os._exit(segment.ring.claim_lane() + 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert -1 == segment.ring.claim_lane()  # nor by one with the lock
    os.write(hold_write, b"..")
    for pid in pids:
        os.waitpid(pid, 0)
    assert segment.ring.claim_lane() >= 0
    for fd in (read, write, hold_read, hold_write):
        os.close(fd)
