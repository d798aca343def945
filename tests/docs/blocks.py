"""The code blocks of a page of the documentation, and the marks that say how they are run.

A mark is an HTML comment on the line before a block:

``<!-- file: NAME -->``
    the block is written to this file; blocks that are not marked run.
``<!-- output: varies -->``
    the commands run and must succeed, but what they print is not compared.
``<!-- output: any order -->``
    the lines that they print may come in another order.
``<!-- continues -->``
    a Python block goes on in the interpreter of the one before it.
``<!-- fails -->``
    the last command of the block must fail.
``<!-- needs: PROGRAM -->``
    the block is skipped where that program is not installed.
``<!-- skip: WHY -->``
    the block is not run. The reason is shown by pytest; Python is compiled all the same.

In expected output ``...`` stands for any text, and what differs from run to run is compared by its form: ages, names
made of a time, process ids, numbers marked so by a word behind them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RUN", "Block", "blocks_of", "pages", "same_output"]

REPOSITORY: Final = Path(__file__).parents[2]
RUN: Final = ("python", "console")
"""Languages that are run."""

_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>[\w+-]*)\s*$")
_MARK: Final = re.compile(r"^\s*<!-- (?P<key>file|output|skip|needs|fails|continues)(?:: (?P<value>.*?))? -->\s*$")
_FORMS: Final = (
    (re.compile(r"\.1[0-9a-f]{15}\b"), ".NAME"),  # the time in an event's name
    (re.compile(r"\b\d{1,3}(?:ms|s|m)\b"), "AGE"),
    (re.compile(r"\b(process|pid|Process) \d+"), r"\1 PID"),
    (re.compile(r"\[\d{2,}\]"), "[PID]"),
    (re.compile(r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.]+:\d+\]"), "KLOG"),
    (re.compile(r"[ \t]+"), " "),  # columns are as wide as what varies
    (re.compile(r"─+"), "─"),
)


@dataclass
class Block:
    """A fenced block: where it is, what it says, how it is to be run."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    @property
    def why_not(self) -> str:
        """Why the block is not run; empty when it is."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        missing = [name for name in self.marks.get("needs", "").split() if not shutil.which(name, path=path)]
        return self.marks.get("skip", "") or (f"{missing[0]} is not installed" if missing else "")

    def commands(self) -> Iterator[tuple[str, str]]:
        """The commands of a console block, each with what it prints."""
        command: list[str] = []
        output: list[str] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                if command:
                    yield "\n".join(command), "\n".join(output)
                command, output = [line[2:]], []
            elif line.startswith("> ") and not output:
                command.append(line[2:])
            else:
                assert command, f"{self}: a console block begins with '$ '"
                output.append(line)
        if command:
            yield "\n".join(command), "\n".join(output)


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if mark := _MARK.match(line):
            marks[mark["key"]] = mark["value"] or ""
        elif fence := _FENCE.match(line):
            body = []
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                body.append(inner.removeprefix(fence["indent"]))
            found.append(Block(page, number, fence["language"], "\n".join(body) + "\n", marks))
            marks = {}
        elif line.strip():
            assert not marks, f"{page}:{number}: a mark belongs right before a block"
    return found


def pages() -> list[Path]:
    """Every page that has blocks to run."""
    every = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    every = [page for page in every if "_build" not in page.parts]
    return [page for page in every if any(block.language in RUN for block in blocks_of(page))]


def same_output(expected: str, actual: str, *, any_order: bool = False) -> bool:
    """Whether a command printed what the page says."""
    for pattern, form in _FORMS:
        expected, actual = pattern.sub(form, expected), pattern.sub(form, actual)
    expected_lines = [line.strip() for line in expected.strip().splitlines()]
    actual_lines = [line.strip() for line in actual.strip().splitlines()]
    if any_order:
        return sorted(expected_lines) == sorted(actual_lines)
    pattern_text = r"[\s\S]*?".join(re.escape(part) for part in "\n".join(expected_lines).split("..."))
    return re.fullmatch(pattern_text, "\n".join(actual_lines)) is not None
