"""Processes are killed at every named point of the C, and a successor goes on; the accounting is exact each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.ring.building import RING, ROOT, build_extension

PRODUCER = ["put.before_copy", "put.before_publish", "put.after_publish", "claim.locked", "claim.before_bit"]
DISTRIBUTOR = [
    "ring.before_publish", "ring.after_publish", "commit.before_publish", "commit.after_publish", "dist.decided",
    "dist.between_commits", "dist.registered", "dist.before_active", "dist.before_close", "dist.before_drained",
    "dist.looked_at_tail",
]  # fmt: skip
CONSUMER = ["settle.before_mark", "commit.before_publish", "commit.after_publish"]
REGISTRANT = ["slot.claimed"]
SLEEPERS = ["sleep.before_look", "bell.before_wake", "bell.after_wake"]
TRIMMER = ["dist.trimming"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    return build_extension(tmp_path_factory.mktemp("stops"))


def run(extension, *args):
    done = subprocess.run(
        [sys.executable, "-m", "tests.ring.stop_points", extension, *map(str, args)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert (0, "ok") == (done.returncode, done.stdout[:2]), f"{args}\n{done.stdout}\n{done.stderr[-4000:]}"
    return int(done.stdout.split()[1])


def run_each(extension, scenario, points, times):
    with ThreadPoolExecutor(2) as pool:
        jobs = [(point, n, pool.submit(run, extension, scenario, point, n)) for point in points for n in times]
        killed = {}
        for point, _, job in jobs:
            killed[point] = killed.get(point, 0) + job.result()
    assert all(killed[point] for point in points), f"never reached: {killed}"


def test_every_stop_point_of_the_c_is_in_this_file():
    found = {name for source in RING.glob("*.c") for name in re.findall(r'STOP_POINT\("([^"]+)"\)', source.read_text())}
    assert found == {*PRODUCER, *DISTRIBUTOR, *CONSUMER, *REGISTRANT, *SLEEPERS, *TRIMMER}


def test_a_producer_killed_at_any_point_loses_nothing_it_was_promised(extension):
    run_each(extension, "kill_producer", PRODUCER, [1])
    run_each(extension, "kill_producer", PRODUCER[:3], [23])


def test_a_distributor_killed_at_any_point_loses_repeats_and_revises_nothing(extension):
    run_each(extension, "kill_distributor", DISTRIBUTOR, [1])


def test_a_consumer_killed_at_any_point_gets_again_only_what_was_in_flight(extension):
    run_each(extension, "kill_consumer", CONSUMER, [1])


def test_a_slot_whose_registrant_was_killed_is_claimed_again(extension):
    run_each(extension, "kill_registrant", REGISTRANT, [1])


def test_a_sleeper_or_its_ringer_killed_around_a_sleep_delays_a_record_by_a_slice_at_most(extension):
    run_each(extension, "kill_sleeper", SLEEPERS, [1])


def test_a_producer_stopped_in_the_middle_of_ringing_costs_no_other_producer_its_wake_up(extension):
    assert run(extension, "stop_while_ringing")


def test_a_distributor_killed_while_it_gives_memory_back_stops_nobody(extension):
    assert run(extension, "kill_trimmer")


def test_a_producer_that_sleeps_through_a_whole_trim_publishes_no_hole(extension):
    run(extension, "sleep_through_a_trim")


def test_what_was_put_first_is_seen_first_even_when_the_distributor_looks_in_between(extension):
    run(extension, "scan_between_two_puts")


def test_a_put_that_was_not_published_before_the_seal_answers_false(extension):
    run(extension, "seal_between_look_and_publish")
