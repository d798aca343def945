"""Makes docs/reference/client-go-parity.md: which row of client-go's test checklist is held by which test.

Run as ``python -m pytest --client-go-parity`` (``make parity``): the marks are collected from the tests themselves.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MARKS", "PAGE", "marks_of", "render", "untested"]

HERE: Final = Path(__file__).parent
REPOSITORY: Final = HERE.parent.parent
PAGE: Final = REPOSITORY / "docs" / "reference" / "client-go-parity.md"
MARKS: Final = pytest.StashKey[dict[str, set[str]]]()
"""Where a run of pytest keeps what `marks_of` found."""


def _toml(path: Path) -> dict[str, dict[str, str]]:
    with path.open("rb") as file:
        return tomllib.load(file)


def rows() -> dict[str, dict[str, str]]:
    return _toml(HERE / "rows.toml")


def exceptions() -> dict[str, dict[str, str]]:
    found = _toml(HERE / "exceptions.toml")
    for extra in sorted((REPOSITORY / "tests").glob("*/not_applicable.toml")):
        found |= _toml(extra)
    return found


def marks_of(items: Iterable) -> dict[str, set[str]]:
    """The tests that carry each id, as ``file::function``."""
    found: dict[str, set[str]] = {}
    for item in items:
        for mark in item.iter_markers("client_go"):
            where = item.path.relative_to(REPOSITORY).as_posix()
            for row in mark.args:
                found.setdefault(row, set()).add(f"{where}::{item.originalname}")
    return found


def untested(marks: dict[str, set[str]]) -> list[str]:
    """Rows with neither a test nor a reason."""
    return sorted(set(rows()) - set(marks) - set(exceptions()))


def _state(row: str, marks: dict[str, set[str]], reasons: dict[str, dict[str, str]]) -> str:
    tests = ", ".join(f"`{name}`" for name in sorted(marks.get(row, ())))
    reason = reasons.get(row, {})
    if "better" in reason:
        return f"**better**: {reason['better']}" + (f" ({tests})" if tests else "")
    if tests:
        return f"held: {tests}"
    return f"not applicable: {reason['why']}" if reason else "**open**"


def render(marks: dict[str, set[str]]) -> str:
    reasons, all_rows = exceptions(), rows()
    better = sum("better" in reasons.get(row, {}) for row in all_rows)
    held = sum(row in marks and "better" not in reasons.get(row, {}) for row in all_rows)
    apart = sum(row not in marks and "why" in reasons.get(row, {}) for row in all_rows)
    lines = [
        "# Parity with client-go",
        "",
        "Every row of client-go's test checklist (its own tests, and rules that they leave out: `DER`),",
        "and the test that holds it here.",
        "Made by `make parity` from the marks in `tests/`; do not edit.",
        "",
        f"{len(all_rows)} rows: {held} held, {better} deliberately better, {apart} not applicable.",
    ]
    section = ""
    for row, text in all_rows.items():
        if text["file"] != section:
            section = text["file"]
            lines += ["", f"## {section}", "", "| Id | Requires | Here |", "|---|---|---|"]
        requires = f"{text['source']}: {text['requires']}".replace("|", "\\|").replace("<", "\\<")
        lines.append(f"| {row} | {requires} | {_state(row, marks, reasons)} |".replace("\n", " "))
    return "\n".join(lines) + "\n"
