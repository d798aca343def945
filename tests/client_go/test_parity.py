"""The parity page is true and complete."""

from __future__ import annotations

import pytest

from tests.client_go import parity


@pytest.fixture
def marks(request):
    if any(not str(argument).endswith("tests") and str(argument) for argument in request.config.args):
        pytest.skip("needs the marks of all tests: run without a path")
    return request.config.stash[parity.MARKS]


def test_every_row_has_a_test_or_a_reason(marks):
    assert [] == parity.untested(marks)


def test_every_mark_names_a_row(marks):
    assert set() == set(marks) - set(parity.rows())


def test_every_exception_names_a_row():
    assert set() == set(parity.exceptions()) - set(parity.rows())


def test_the_page_is_current(marks):
    assert parity.render(marks) == parity.PAGE.read_text(encoding="utf-8"), "run `make parity`"
