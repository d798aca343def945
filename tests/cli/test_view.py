"""The drawing: it fits, it names what matters, and colour says nothing that words do not."""

from __future__ import annotations

import pytest

from mpbroadcast.cli.sampling import Use
from mpbroadcast.cli.view import Sizes, render
from mpbroadcast.stats import HelperStats

from .pictures import lane, picture, stats, watcher


def busy():
    def at(n):
        return stats(
            lanes=[
                lane(
                    index=i, pid=100 + i, accepted=1000 * n * (i + 1), refused={"lane_full": n * i}, name=f"worker-{i}"
                )
                for i in range(40)
            ],
            watchers=[
                watcher("log", 0, forwarded=90_000 * n, handled=90_000 * n),
                watcher(
                    "a-name-that-is-far-too-long-for-its-column", 1, forwarded=90_000 * n, handled=10, dropped=5 * n
                ),
                watcher("evil\x1b[2J", 2, forwarded=90_000 * n, filtered=90_000 * n, helper=HelperStats(202, 203, 4)),
            ],
        )

    uses = {pid: Use(0.25, 50 << 20, 3 << 20, "S") for pid in (200, 202, 300, 100, 101)}
    return picture(at(2), at(1), uses=uses, history=((100.0, 0.0), (200.0, 5.0)))


def drawn(seen, **sizes):
    return [line.plain for line in render(seen, Sizes(64, 8 << 20, 16 << 20, **sizes), pid=1, footer="q: quit")]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("height", [0, 12, 24, 50])
def test_it_fits_any_terminal(width, height):
    lines = drawn(busy(), width=width, height=height)
    assert all(len(line) <= width for line in lines)
    assert not height or len(lines) <= height


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_matters_is_there_at_any_width(width):
    text = "\n".join(drawn(busy(), width=width, height=40))
    assert "LOSING" in text
    for heading in ("WATCHER", "WAITING", "DROPPED", "RATE/S", "PROCESS", "ACCEPTED", "REFUSED"):
        assert heading in text


def test_every_column_is_there_where_there_is_room():
    text = "\n".join(drawn(busy(), width=200))
    for heading in (
        "STATE",
        "RING",
        "HANDLED",
        "FAILED",
        "GIVEN UP",
        "FILTERED",
        "RESTARTS",
        "SPARE",
        "CPU",
        "MEM",
        "PID",
    ):
        assert heading in text
    assert "25%" in text
    assert "3.0M" in text


def test_a_row_ends_with_its_mark():
    lines = drawn(busy(), width=200)
    [row] = [line for line in lines if line.startswith("a-name-that-is-far-too-")]
    assert row.endswith("LOSING")
    [row] = [line for line in lines if line.startswith("worker-39")]
    assert row.endswith("LOSING")
    [row] = [line for line in lines if line.startswith("log ")]
    assert not row.endswith(("LOSING", "LOST"))


def test_what_does_not_fit_is_counted():
    lines = drawn(busy(), width=100, height=30)
    [rest] = [line for line in lines if "of them recording" in line]
    shown = sum(line.startswith("worker-") for line in lines)
    assert f" ... and {40 - shown} more, {40 - shown} of them recording" == rest


def test_a_sentence_that_is_too_long_goes_on_in_the_next_line():
    lines = drawn(busy(), width=60)
    [at] = [index for index, line in enumerate(lines) if line.startswith(" LOSING  watcher a-name")]
    assert lines[at + 1].startswith("    ")
    assert "its ring is full" in lines[at] + " " + lines[at + 1].strip()


def test_no_control_character_gets_through():
    for line in drawn(busy(), width=200):
        assert line.isprintable()


def test_a_terminal_without_unicode_gets_ascii():
    for line in drawn(busy(), width=60, height=20, unicode=False):
        assert line.isascii()


def test_nothing_recorded_yet():
    lines = drawn(picture(stats()), width=80)
    assert "no process has recorded anything yet" in lines
    assert any(line.startswith("(distributor)") for line in lines)
