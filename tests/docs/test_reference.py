"""The reference leaves nothing out: every public name, command and error of the package is on one of its pages."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Final

import pytest

from mpbroadcast.metrics import families
from mpbroadcast.ring.counters import CELLS
from mpbroadcast.stats import REFUSALS
from tests.docs.blocks import REPOSITORY, blocks_of

DOCS: Final = REPOSITORY / "docs"
REFERENCE: Final = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")}
DOCUMENTED: Final = {
    name.rpartition(".")[2]
    for text in REFERENCE.values()
    for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)$", text, flags=re.MULTILINE)
}
PACKAGES: Final = ("", ".sinks", ".correlator", ".testing", ".errors", ".workqueue")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package):
    assert set() == set(import_module(f"mpbroadcast{package}").__all__) - DOCUMENTED


def test_every_command_is_in_the_reference():
    typer = pytest.importorskip("typer")
    from mpbroadcast.cli.main import app

    commands = set(typer.main.get_command(app).commands)
    assert commands == set(re.findall(r"^```\{command-help\} (\w+)$", REFERENCE["command-line.md"], flags=re.MULTILINE))


def test_every_counter_of_a_sink_and_every_reason_of_a_refusal_is_in_the_reference():
    for name in (*CELLS, *REFUSALS):
        assert f"`{name}`" in REFERENCE["counters.md"], name


def test_every_metric_is_in_the_reference():
    for family in families([]):
        name = family.name + ("_total" if family.kind == "counter" else "")
        assert f"`{name}`" in REFERENCE["metrics.md"], name


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: "/".join(page.parts[-2:]))
def test_one_sentence_stands_on_each_line(page):
    """A sentence that ends in the middle of a line; tables and lists of steps are let alone."""
    inside = {
        number
        for block in blocks_of(page)
        for number in range(block.line, block.line + len(block.text.splitlines()) + 2)
    }
    if page.name == "client-go-parity.md":
        pytest.skip("made from the marks of the tests")
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if number not in inside and not re.match(r"\s*(\||[-*:] |\d+\. |<!--|```)", line):
            assert not re.search(r"(?<!e\.g)(?<!i\.e)[.!?] [A-Z]", re.sub(r"`[^`]*`", "x", line)), f"{page}:{number}"
