"""The fuzz targets for a moment: their seeds, and each time the same changed copies. ``make fuzz`` takes longer."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from tests.fuzz import mutate, programs, seeds, targets
from tests.ring.building import compiler

RUNS = {"ring": 4000, "distribute": 1500, "adopt": 1500}
INPUTS = {"record": 6000, "shapes": 2500, "request": 1500}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.slow
@pytest.mark.parametrize("target", programs.TARGETS)
def test_no_damage_crashes_hangs_reaches_out_of_bounds_or_spreads(target, built, tmp_path):
    """What fails lies in ``current-input``; the program with that file as its argument runs it again."""
    program = programs.build(target, built, compiler=compiler(), guided=False)
    made = seeds.write(target, tmp_path / "seeds")
    command = [program, "seeds", "1", str(RUNS[target]), "40"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50)
    assert (0, f"ok seeds={made} runs={RUNS[target]}\n") == (done.returncode, done.stdout), done.stderr


@pytest.fixture
def target(request):
    yield targets.TARGETS[request.param]
    targets.close()


@pytest.mark.slow
@pytest.mark.parametrize(("target", "name"), [(name, name) for name in targets.TARGETS], indirect=["target"])
def test_any_bytes_are_answered_or_refused_in_one_line(target, name):
    for text in itertools.islice(mutate.mutations(targets.SEEDS[name](), 1), INPUTS[name]):
        try:
            target(text)
        except Exception as error:
            error.add_note(f"the input: {text!r}")
            raise


def test_the_same_number_makes_the_same_inputs():
    one, other = (list(itertools.islice(mutate.mutations([b"abc", b"{}"], 7), 50)) for _ in range(2))
    assert one == other
    assert list(itertools.islice(mutate.mutations([b"abc", b"{}"], 8), 50)) != one
