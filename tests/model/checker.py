"""Runs spin on a model of the shared memory protocol. Runs in: tests only. Starts: spin, gcc, the checker.

model.pml --spin -a--> pan.c --cc--> pan --> no error, or a trail --spin -t--> the assertion that fails, and its tag
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Found", "ModelError", "missing_tools", "verify"]

HERE: Final = Path(__file__).parent
SECONDS: Final = 150  # for one model; the largest takes a tenth of it on an idle core
DEPTH: Final = 100_000  # steps; the deepest model has some five hundred
MEMORY_MIB: Final = 3000
FLAGS: Final = (
    "-DSAFETY",  # assertions only; every property here is one
    "-DNOREDUCE",  # no partial order reduction: it is not sound together with `unless`, which models the kills
    "-DVECTORSZ=2048",
    f"-DMEMLIM={MEMORY_MIB}",
)


class ModelError(Exception):
    """The model could not be checked to its end; says what spin, the compiler or the checker printed."""


@dataclass(frozen=True)
class Found:
    """What a check has found.

    Attributes:
        states: how many different states were reached; all of them when nothing is violated.
        violated: the tags of the invariants whose assertion fails, as the models' comments spell them; empty: all hold.
        assertion: the line of the model that holds it.
    """

    states: int
    violated: tuple[str, ...] = ()
    assertion: str = ""


def missing_tools() -> str:
    """What is needed and not installed, in words; empty when all is there."""
    return ", ".join(tool for tool in ("spin", "gcc") if shutil.which(tool) is None)


def verify(model: str, defines: Sequence[str], where: Path, *, optimise: bool = True) -> Found:
    """Explores every state of a model, or stops at the first violation.

    Args:
        model: the name of a ``.pml`` file beside this one.
        defines: switches and bounds, such as ``KILLS=2``.
        where: an empty directory for what spin and the compiler write.
        optimise: off for a search that will soon end with a violation: compiling then takes longer than searching.

    Raises:
        ModelError: the model is not valid, or a limit of time, depth or memory was reached.
    """
    options = [f"-D{define}" for define in defines]
    for file in HERE.glob("*.pml"):
        shutil.copy(file, where)
    shutil.copy(HERE / "memory.h", where)
    source = f"{model}.pml"
    made = _run(["spin", "-a", *options, source], where)
    if not (where / "pan.c").exists():
        raise ModelError(f"spin does not accept {source}: {made}")
    built = _run(["gcc", "-O1" if optimise else "-O0", "-w", *FLAGS, "-o", "pan", "pan.c"], where)
    if not (where / "pan").exists():
        raise ModelError(f"the checker of {source} does not compile: {built}")
    # -E: what ends where it waits is judged by the model's own at_the_end(), not by labels.
    output = _run(["./pan", "-E", f"-m{DEPTH}", "-w20"], where)
    states = re.search(r"(\d+) states, stored", output)
    errors = re.search(r"errors: (\d+)", output)
    complete = errors is not None and (errors[1] != "0" or "Search not completed" not in output)
    if states is None or errors is None or not complete or "max search depth too small" in output:
        raise ModelError(f"{source} was not explored to its end: {output[-2000:]}")
    if errors[1] == "0":
        return Found(int(states[1]))
    return _explain(source, options, int(states[1]), where)


def _explain(source: str, options: Sequence[str], states: int, where: Path) -> Found:
    trail = _run(["spin", "-t", *options, source], where)
    at = re.search(r"spin: (\S+?):(\d+), Error: assertion violated", trail)
    if at is None:
        raise ModelError(f"{source} fails, and not by an assertion: {trail[-2000:]}")
    line = (where / Path(at[1]).name).read_text(encoding="utf-8").splitlines()[int(at[2]) - 1].strip()
    return Found(states, tuple(re.findall(r"\b[A-Z]\d\b", line)), line)


def _run(command: Sequence[str], where: Path) -> str:
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{command[0]} took more than {SECONDS} seconds") from error
    return done.stdout + done.stderr
