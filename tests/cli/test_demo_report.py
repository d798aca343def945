"""The accounting notices what does not add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpbroadcast.cli.demo_report import Accounting, Counted

from .pictures import lane, stats, watcher


def numbers(**changes):
    watchers = [
        watcher("store", index=0, forwarded=10, handled=10),
        watcher("alerts", index=1, forwarded=10, handled=3, filtered=7),
    ]
    return stats(lanes=[lane(accepted=10, forwarded=10)], watchers=watchers, **changes)


RIGHT = Counted(calls=10, accepted=10, refused=0, warnings=3, alerts=3, stored=10, rows=8)


def checked(read, counted=RIGHT):
    found = Accounting(read, counted)
    lines = list(found.lines())
    return found, lines


def test_what_adds_up_is_said_to_add_up():
    found, lines = checked(numbers())
    assert [] == found.wrong
    assert {True, None} == {line.right for line in lines}
    assert ("Everything adds up, and nothing was lost.", True) == found.verdict()


@pytest.mark.parametrize(
    ("read", "counted", "says"),
    [
        (numbers(), replace(RIGHT, calls=11, accepted=11), "the workers counted 11 accepted"),
        (numbers(), replace(RIGHT, calls=11, refused=1), "and 1 refused"),
        (numbers(), replace(RIGHT, calls=11), "the workers counted 10 accepted"),
        (numbers(), replace(RIGHT, calls=9, accepted=9), "the workers counted 9 accepted"),
        (numbers(), replace(RIGHT, stored=9), "the sink handled 10 events, the store has 9"),
        (numbers(), replace(RIGHT, warnings=4), "the workers recorded 4 warnings, alerts handled 3"),
        (numbers(), replace(RIGHT, alerts=2), "its handler saw 2"),
        (stats(lanes=[lane(accepted=10, forwarded=9, backlog=0)]), RIGHT, "10 events were accepted, 9 forwarded"),
        (
            stats(
                lanes=[lane(accepted=10, forwarded=10)],
                watchers=[watcher("store", forwarded=9, handled=10, backlog=-1)],
            ),
            RIGHT,
            "of 10 events 9 went to store",
        ),
        (
            stats(
                lanes=[lane(accepted=10, forwarded=10)],
                watchers=[watcher("store", forwarded=10, handled=11, backlog=-1)],
            ),
            replace(RIGHT, stored=11),
            "store is done with more events than it was given",
        ),
    ],
)
def test_what_does_not_add_up_is_said(read, counted, says):
    found, lines = checked(read, counted)
    assert [line for line in lines if line.right is False]
    assert says in found.verdict().text
    assert found.verdict().right is False


def test_a_worker_killed_within_a_call_leaves_one_answer_open():
    killed = replace(RIGHT, calls=11, killed=1)
    assert [] == checked(numbers(), killed)[0].wrong
    assert [] == checked(numbers(), replace(killed, accepted=9, calls=10))[0].wrong  # it was accepted, not counted
    assert [] != checked(numbers(), replace(killed, calls=12))[0].wrong


def test_losses_are_named_and_do_add_up():
    lost = stats(
        lanes=[lane(accepted=10, forwarded=10, refused={"lane_full": 2})],
        watchers=[watcher("store", forwarded=8, handled=6, failed=1, backlog=1, dropped=2)],
    )
    found, _ = checked(lost, replace(RIGHT, calls=12, refused=2, stored=6))
    assert [] == found.wrong
    text, right = found.verdict()
    assert right is True
    for part in (
        "2 lane_full (worker-0[100])",
        "2 watcher_full (store)",
        "1 failed (store)",
        "1 not handled in time (store)",
    ):
        assert part in text
