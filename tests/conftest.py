"""What every test may use: the marks of the client-go checklist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.client_go import parity

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--client-go-parity", action="store_true", help="write docs/reference/client-go-parity.md and stop"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marks = config.stash[parity.MARKS] = parity.marks_of(items)
    if config.getoption("--client-go-parity"):
        parity.PAGE.parent.mkdir(parents=True, exist_ok=True)
        parity.PAGE.write_text(parity.render(marks), encoding="utf-8")
        items.clear()
