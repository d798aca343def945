"""The protocol of the shared memory, model-checked: every state within the bounds, with store buffers and kills.

Runs in: pytest, spin and gcc. README.md has the models, their invariants and their bounds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.model.cases import HOLD, MARKED, MUTANTS, Case, Mutant
from tests.model.checker import HERE, ModelError, missing_tools, verify

if TYPE_CHECKING:
    from pathlib import Path

needs_spin = pytest.mark.skipif(bool(missing_tools()), reason=f"not installed: {missing_tools()}")
slow = [needs_spin, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("case", [pytest.param(case, marks=slow, id=case.sentence) for case in HOLD])
def test_holds_in_every_state(case: Case, tmp_path: Path) -> None:
    """Every invariant of the model holds in all states within its bounds."""
    found = verify(case.model, case.defines, tmp_path)
    assert found.violated == (), f"{case.model} {case.defines}: {found.assertion}"
    assert found.assertion == ""
    assert found.states > 50, "so few states mean that the model is stuck at its beginning"


@pytest.mark.parametrize("mutant", [pytest.param(mutant, marks=slow, id=mutant.sentence) for mutant in MUTANTS])
def test_is_found_when_a_rule_is_left_out(mutant: Mutant, tmp_path: Path) -> None:
    """Spin finds a violation of the invariant that the rule is there for."""
    found = verify(mutant.model, (mutant.rule, *mutant.bounds), tmp_path, optimise=False)
    assert mutant.breaks in found.violated, f"{mutant.model} without the rule of {mutant.rule}: {found}"


@needs_spin
def test_a_model_that_spin_does_not_accept_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not accept"):
        verify("no_such_model", (), tmp_path)


def test_every_rule_marked_in_the_protocol_has_its_mutant() -> None:
    names = {mutant.sentence.split(":")[0] for mutant in MARKED}
    assert {"sepcount", "noseal", "coarse", "twod", "t0late", "lastpos"} == names


def test_every_switch_is_a_case_and_every_case_a_switch_of_its_model() -> None:
    used: dict[str, set[str]] = {}
    for model, define in [(c.model, d) for c in HOLD for d in c.defines] + [
        (m.model, d) for m in MUTANTS for d in (m.rule, *m.bounds)
    ]:
        used.setdefault(model, set()).add(define.split("=")[0])
    for file in HERE.glob("*.pml"):
        text = file.read_text(encoding="utf-8") + (HERE / "memory.h").read_text(encoding="utf-8")
        switches = set(re.findall(r"^#(?:ifdef|ifndef) (\w+)", text, re.MULTILINE)) | set(
            re.findall(r"defined\((\w+)\)", text)
        )
        assert used[file.stem] <= switches, f"{file.name} knows no {used[file.stem] - switches}"


def test_every_invariant_of_a_model_is_written_in_the_readme() -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    for file in HERE.glob("*.pml"):
        for tag in re.findall(r"^ \*   ([A-Z]\d)  ", file.read_text(encoding="utf-8"), re.MULTILINE):
            assert f"| {tag} |" in readme, f"{tag} of {file.name} is missing"
