"""The ring's C under sanitizers: threads as producers, distributor and consumers; and scribbled-on segments."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.ring.building import build_program

ROUNDS_EVERY_TIME = 400
RANDOM_SECONDS = 3


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    return build_program("race", "thread", tmp_path_factory.mktemp("race"))


@pytest.fixture(scope="module")
def corrupt(tmp_path_factory):
    return build_program("corrupt", "address,undefined", tmp_path_factory.mktemp("corrupt"))


def run(program, *args):
    done = subprocess.run(
        [program, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env=os.environ | {"VERBOSE": "1"},
    )
    assert (0, "ok") == (done.returncode, done.stdout[:2]), f"{args}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_threads_race_without_a_data_race_and_nothing_is_lost_or_out_of_order(race, seed):
    run(race, seed, 6000)


@pytest.mark.slow
def test_no_scribbled_byte_crashes_hangs_or_reaches_beyond_its_lane(corrupt):
    run(corrupt, 1, ROUNDS_EVERY_TIME, 25)


@pytest.mark.slow
def test_no_random_scribbling_does_either(corrupt):
    """The failing seed is the last one on standard error; ``corrupt SEED 1 10`` repeats it."""
    run(corrupt, time.time_ns() % (1 << 40), 1 << 30, RANDOM_SECONDS)
