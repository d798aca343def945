"""Breaks each promise on purpose, in a scratch copy of the tree, and runs the test that must notice.

``python -m bench.chaos.mutations [WORD...]``: all of them, or those whose promise holds a word. Prints a Markdown table
for ``docs/explanation/faults.md``; exit code 1 when a broken promise went unnoticed, or a line is not there any more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

__all__ = ["MUTATIONS", "Mutation"]

ROOT = Path(__file__).parents[2]
TIMEOUT = 280
DISTRIBUTE, CLAIM, RING = (f"mpbroadcast/ring/{name}" for name in ("distribute.c", "claim.c", "ring.c"))
MODULE, ADOPT, CONSUME = (f"mpbroadcast/ring/{name}" for name in ("_ringmodule.c", "adopt.c", "consume.c"))


class Mutation(NamedTuple):
    """A promise, the line that keeps it, what stands there instead, and the test that fails then."""

    promise: str
    file: str
    line: str
    instead: str
    test: str


MUTATIONS = (
    Mutation(
        "`recorder.event` waits for no process",
        MODULE,
        "        if (answer == MPB_OK) {\n            mpb_ring_bell(&seg->header->bell);",
        "        if (answer == MPB_FULL) mpb_nap(600000000);\n        if (answer == MPB_OK) {\n"
        "            mpb_ring_bell(&seg->header->bell);",
        "tests/path/test_stopped.py::test_a_stopped_distributor_fills_lanes_which_then_refuse_and_count",
    ),
    Mutation(
        "an accepted event reaches every watcher, whatever is killed: the rings are committed before the lanes' heads",
        DISTRIBUTE,
        '    STOP_POINT("dist.decided");\n',
        '    move_heads(d);\n    STOP_POINT("dist.decided");\n',
        "tests/ring/test_stop_points.py::test_a_distributor_killed_at_any_point_loses_repeats_and_revises_nothing",
    ),
    Mutation(
        "an accepted event reaches every watcher: a worker that is killed behind its publication has recorded",
        CLAIM,
        "    mpb_producer_open(&mine->lane, &lane->ring, seg->lane_data",
        "    STORE(&lane->ring.head.word, mpb_pos(LOAD(&lane->ring.tail.word, acquire)), seq_cst);\n"
        "    mpb_producer_open(&mine->lane, &lane->ring, seg->lane_data",
        "tests/ring/test_processes.py::"
        "test_the_next_claimer_takes_a_dead_owners_lane_and_what_it_published_goes_out_first",
    ),
    Mutation(
        "every loss is counted: events dropped for a full watcher",
        DISTRIBUTE,
        "            s->out.num[ST_DROPPED]++; /*",
        "            /*",
        "tests/path/test_workers.py::test_four_flooding_workers_are_accounted_for_at_every_watcher",
    ),
    Mutation(
        "every loss is counted: events refused by a full lane",
        MODULE,
        "    if (answer != MPB_FULL || count_full) mpb_refuse(seg, answer, NULL, 0);\n    if (answer == MPB_STOPPED)",
        "    if (answer != MPB_FULL) mpb_refuse(seg, answer, NULL, 0);\n    if (answer == MPB_STOPPED)",
        "tests/path/test_stopped.py::test_a_stopped_distributor_fills_lanes_which_then_refuse_and_count",
    ),
    Mutation(
        "no duplicate and no revised decision after a distributor's death",
        DISTRIBUTE,
        "        if (r->pos < *decided) continue; /* this",
        "        /* this",
        "tests/ring/test_stop_points.py::test_a_distributor_killed_at_any_point_loses_repeats_and_revises_nothing",
    ),
    Mutation(
        "a restarted watcher repeats only what was in flight",
        "mpbroadcast/sinks/handling.py",
        "tell = settle if flush is None else",
        "flush = list; tell =",
        "tests/path/test_restart.py::test_a_watcher_killed_in_the_middle_repeats_only_what_was_in_flight",
    ),
    Mutation(
        "SQLiteSink keeps its ring position in the same transaction",
        "mpbroadcast/sinks/bulk.py",
        "            self._sink.set_position(self._source, new[-1].sequence)\n            self._sink.commit()",
        "            self._sink.commit()",
        "tests/sinks/test_handler.py::test_gaps_between_sequence_numbers_are_fine",
    ),
    Mutation(
        "an event that crashes its handler is given up after three times",
        "mpbroadcast/watcher.py",
        "GIVE_UP_AFTER_CRASHES: Final = 3",
        "GIVE_UP_AFTER_CRASHES: Final = 3_000_000",
        "tests/path/test_helpers.py::test_an_event_that_crashes_its_handler_three_times_is_given_up",
    ),
    Mutation(
        "shutdown delivers: the answer of a put that meets the seal is exact",
        DISTRIBUTE,
        "    if (d->sealed) return mpb_pos(atomic_fetch_or_explicit(tail, MPB_SEAL, memory_order_seq_cst));\n",
        "",
        "tests/ring/test_stop_points.py::test_a_put_that_was_not_published_before_the_seal_answers_false",
    ),
    Mutation(
        "shutdown delivers: watchers finish first",
        "mpbroadcast/broadcaster.py",
        "return self._report is not None or not self._managed()",
        "return True or not self._managed()",
        "tests/path/test_shutdown.py::test_shutdowns_of_many_threads_at_once_all_return_the_whole_report",
    ),
    Mutation(
        "shutdown keeps its time-out beside a stuck handler, and kills it",
        "mpbroadcast/broadcaster.py",
        "        if not self._wait(self._watchers_ended, deadline):\n            self._abandon()",
        "        self._wait(self._watchers_ended, deadline)",
        "tests/path/test_shutdown.py::"
        "test_what_a_stuck_handler_did_not_handle_is_in_the_report_and_the_others_get_everything",
    ),
    Mutation(
        "a forked child does not shut its parent's broadcaster down",
        "mpbroadcast/broadcaster.py",
        "        return os.getpid() == self._owner_pid",
        "        return True",
        "tests/path/test_shutdown.py::test_a_forked_child_does_not_shut_its_parents_broadcaster_down",
    ),
    Mutation(
        "the application dies: helpers notice within two seconds",
        "mpbroadcast/distributor.py",
        "        now = time.monotonic()\n        if self._owner_gone_at is None:",
        "        return\n        if self._owner_gone_at is None:",
        "tests/path/test_death.py::test_what_was_accepted_arrives_and_every_helper_is_gone_soon_after",
    ),
    Mutation(
        "the application dies: workers that live go on",
        "mpbroadcast/distributor.py",
        "        if alone or now",
        "        if True or now",
        "tests/path/test_death.py::test_living_workers_go_on_and_theirs_arrives_too",
    ),
    Mutation(
        "the application dies: no helper stays, however stuck",
        "mpbroadcast/distributor.py",
        "            self._see_watchers_off()\n",
        "",
        "tests/path/test_death.py::test_a_handler_that_hangs_is_ended_when_the_grace_time_is_over",
    ),
    Mutation(
        "a spare takes over within 100 ms",
        "mpbroadcast/helper.py",
        "        self._fork_spare(lambda: _run_helper(job, self._said))\n        _set_title(job, spare=False)",
        "        _set_title(job, spare=False)",
        "tests/path/test_restart.py::test_the_spare_takes_over_in_milliseconds",
    ),
    Mutation(
        "takeover at once, however often a helper is killed",
        "mpbroadcast/helper.py",
        "if job.progress() != before and not job.crashed():",
        "if False:",
        "tests/path/test_restart.py::"
        "test_a_helper_that_is_killed_again_and_again_is_followed_at_once_as_long_as_it_gets_something_done",
    ),
    Mutation(
        "a crash-looping helper does not spin",
        "mpbroadcast/helper.py",
        "        self._rest(pause)\n        job.count_start()",
        "        job.count_start()",
        "tests/path/test_restart.py::test_a_handler_that_crashes_at_every_event_does_not_spin",
    ),
    Mutation(
        "worker and spare of the distributor killed at once: a watcher's helper starts another",
        "mpbroadcast/helper.py",
        "        self._look_after_partner()\n",
        "",
        "tests/path/test_restart.py::"
        "test_worker_and_spare_of_the_distributor_killed_at_once_are_replaced_without_the_application",
    ),
    Mutation(
        "worker and spare of a watcher killed at once: started by the next call",
        "mpbroadcast/broadcaster.py",
        "            if job.gone() and job.needed():",
        "            if False:",
        "tests/path/test_restart.py::"
        "test_worker_and_spare_of_a_watcher_killed_at_once_are_counted_said_and_started_by_the_next_call",
    ),
    Mutation(
        "nobody is presumed dead: a stopped distributor keeps its place",
        "mpbroadcast/helper.py",
        "    job.segment.ring.lock(job.lock, True)\n    if job.needed():",
        "    for _ in range(5):\n        if job.segment.ring.lock(job.lock, False):\n            break\n"
        "        time.sleep(0.1)\n    if job.needed():",
        "tests/path/test_stopped.py::test_a_stopped_distributor_is_not_presumed_dead",
    ),
    Mutation(
        "`directory=`: lanes are open again for the next program",
        ADOPT,
        "atomic_fetch_and_explicit(&lane->ring.tail.word, ~MPB_SEAL, memory_order_seq_cst) & ~MPB_SEAL;",
        "LOAD(&lane->ring.tail.word, acquire) & ~MPB_SEAL;",
        "tests/path/test_directory.py::"
        "test_a_shutdown_that_could_not_deliver_everything_leaves_the_rest_for_the_next_start",
    ),
    Mutation(
        "`directory=`: a watcher goes on in the ring it left",
        "mpbroadcast/broadcaster.py",
        "        if managed and (left := Slot.take_over(",
        "        if False and (left := Slot.take_over(",
        "tests/path/test_directory.py::"
        "test_the_next_start_delivers_what_lay_in_lanes_and_rings_when_everything_was_killed",
    ),
    Mutation(
        "`directory=`: stamps of another boot are moved into the past",
        ADOPT,
        "    if (changed) restamp(&seg);\n",
        "",
        "tests/path/test_directory.py::test_a_new_boot_moves_old_stamps_into_the_past",
    ),
    Mutation(
        "`directory=`: a file that a living program uses is refused",
        "mpbroadcast/ring/directory.py",
        "        if not _is_free(fd, _ring.LOCK_OWNER):",
        "        if False:",
        "tests/path/test_directory.py::test_a_file_that_a_living_program_uses_is_refused_plainly",
    ),
    Mutation(
        "no descriptor, process, mapping or file stays",
        "mpbroadcast/ring/segment.py",
        "            _close(self.fd)  # looked at before",
        "            pass  # looked at before",
        "tests/path/test_leaks.py::test_broadcasters_that_come_and_go_leave_nothing",
    ),
    Mutation(
        "names are unique and ascend",
        "mpbroadcast/ring/record.c",
        "    if (t <= seg->mine->last_time)",
        "    t &= ~UINT64_C(0xffff);\n    if (0)",
        "tests/path/test_record.py::test_names_are_unique_and_ascend_within_a_process",
    ),
)


def _copy(folder: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "results", ".venv", "*.egg-info")
    for name in ("mpbroadcast", "tests", "bench", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)


def _rebuild(folder: Path) -> str:
    ring = folder / "mpbroadcast" / "ring"
    command = [
        "gcc", "-std=c11", "-O2", "-fPIC", "-shared", "-DPy_LIMITED_API=0x030B0000", "-D_GNU_SOURCE=1",
        f"-I{sysconfig.get_paths()['include']}", "-o", str(ring / "_ring.abi3.so"), *map(str, sorted(ring.glob("*.c"))),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr[-300:] if done.returncode else ""


def _end_what_is_left(folder: Path) -> None:
    """Helpers that the broken code left behind; they work in the scratch copy."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and os.readlink(process / "cwd") == str(folder):
                os.kill(int(process.name), signal.SIGKILL)


def _try(mutation: Mutation, folder: Path) -> str:
    """What came of it: ``failed`` is what is wanted."""
    path = folder / mutation.file
    text = path.read_text()
    if text.count(mutation.line) != 1:
        return f"the line is there {text.count(mutation.line)} times"
    path.write_text(text.replace(mutation.line, mutation.instead))
    try:
        if mutation.file.endswith(".c") and (error := _rebuild(folder)):
            return f"does not compile: {error}"
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.test]
        try:
            done = subprocess.run(  # no pipe: a helper that the broken code leaves behind would hold it open
                command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return "failed"  # it hangs
        return {0: "went unnoticed", 1: "failed"}.get(done.returncode, f"pytest ended with {done.returncode}")
    finally:
        path.write_text(text)
        _end_what_is_left(folder)
        if mutation.file.endswith(".c"):
            _rebuild(folder)


def main() -> None:
    wanted = [m for m in MUTATIONS if not sys.argv[1:] or any(word in m.promise for word in sys.argv[1:])]
    bad = 0
    print("| Promise | Broken in | Test that fails |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="mpbroadcast-mutations-") as name:
        folder = Path(name)
        _copy(folder)
        for mutation in wanted:
            came = _try(mutation, folder)
            bad += came != "failed"
            line = mutation.line.strip().splitlines()[0].strip()
            note = "" if came == "failed" else f" **{came}**"
            file, test = mutation.file.removeprefix("mpbroadcast/"), mutation.test.removeprefix("tests/").split("::")
            print(
                f"| {mutation.promise} | `{file}`: `{line[:70]}` | `{test[0]}`: {test[1].replace('_', ' ')}{note} |",
                flush=True,
            )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
