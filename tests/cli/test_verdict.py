"""What `top` says about a broadcaster: the right word about the right one, the worst first."""

from __future__ import annotations

import pytest

from mpbroadcast.cli.sampling import Use
from mpbroadcast.cli.verdict import Severity, findings
from mpbroadcast.stats import HelperStats

from .pictures import lane, picture, refusals, stats, watcher


def words(seen, **options):
    return [(finding.word, finding.who) for finding in findings(seen, **options)]


def running(**changes):
    return stats(lanes=[lane(accepted=100)], watchers=[watcher(forwarded=100, handled=100)], **changes)


def test_all_is_well():
    [finding] = findings(picture(running(), running()))
    assert (Severity.FINE, "ALL WELL") == (finding.severity, finding.word)


def test_nothing_is_said_about_rates_at_the_first_look():
    assert [("ALL WELL", "")] == words(picture(running(), None))


def test_a_full_ring_is_losing_with_rate_and_reason():
    before = stats(watchers=[watcher(forwarded=100, handled=50, dropped=10)])
    now = stats(watchers=[watcher(forwarded=100, handled=60, dropped=30)])
    first = findings(picture(now, before))[0]
    assert (Severity.BAD, "LOSING", "watcher store", 0) == (first.severity, first.word, first.who, first.watcher)
    assert "10 events/s are dropped: its ring is full, it handles 5/s" == first.text


def test_a_loss_of_earlier_is_told_from_one_of_now():
    then = stats(watchers=[watcher(forwarded=100, handled=97, failed=3, dropped=10)])
    assert [("LOST", "watcher store")] == words(picture(then, then))
    assert "so far: 10 dropped (ring full), 3 failed" == findings(picture(then, then))[0].text


def test_a_watcher_that_moves_nothing_is_stuck_after_three_seconds():
    now = stats(watchers=[watcher(forwarded=100, handled=10)])
    assert ("STUCK", "watcher store") in words(picture(now, now, waiting_since={0: 3.5}))
    assert ("STUCK", "watcher store") not in words(picture(now, now, waiting_since={0: 2.5}))
    idle = stats(watchers=[watcher(forwarded=10, handled=10)])
    assert [("ALL WELL", "")] == words(picture(idle, idle, waiting_since={0: 60}))


@pytest.mark.parametrize(
    ("backlog", "backlog_bytes", "word", "severity"),
    [
        (19, 100, "ALL WELL", Severity.FINE),  # 2 s of work at 10/s is where it begins
        (21, 100, "BEHIND", Severity.NOTE),
        (10, 300, "BEHIND", Severity.NOTE),
        (10, 800, "BEHIND", Severity.BAD),
    ],
)
def test_behind_is_a_matter_of_work_or_of_room(backlog, backlog_bytes, word, severity):
    before = stats(watchers=[watcher(forwarded=0)])
    now = stats(watchers=[watcher(forwarded=20 + backlog, handled=20, backlog_bytes=backlog_bytes)])
    [finding] = findings(picture(now, before), ring_bytes=1000)
    assert (word, severity) == (finding.word, finding.severity)


def test_a_watcher_that_moved_nothing_between_two_looks_is_behind_however_large_its_ring():
    now = stats(watchers=[watcher(forwarded=100, handled=10)])
    [finding] = findings(picture(now, now, seconds=0.5), ring_bytes=1 << 24)
    assert ("BEHIND", "watcher store") == (finding.word, finding.who)
    assert "90 events wait, none was handled for 0.5s; its ring is 0% full" == finding.text


def test_a_sink_that_cannot_write_is_told_from_a_slow_one():
    before = stats(watchers=[watcher(forwarded=100, handled=10, dropped=1, counts={"retries": 4})])
    now = stats(watchers=[watcher(forwarded=100, handled=10, dropped=3, counts={"retries": 10})])
    first = findings(picture(now, before))[0]
    assert "LOSING" == first.word
    assert first.text.endswith("it handles 0/s; its sink cannot write, 3 tries/s fail (the log says why)")
    never = stats(watchers=[watcher(forwarded=100, counts={"retries": 10})])
    first = findings(picture(never, never, waiting_since={0: 4}))[0]
    assert "STUCK" == first.word
    assert first.text.endswith("; its sink could not write yet, 10 tries have failed (the log says why)")


def test_a_full_lane_names_the_watcher_that_the_distributor_waits_for():
    """With the policy to wait nothing is dropped: recorders refuse."""
    before, now = (
        stats(lanes=[lane(refused={"lane_full": n})], watchers=[watcher(forwarded=9, backlog_bytes=990)])
        for n in (0, 8)
    )
    losing = next(finding for finding in findings(picture(now, before), ring_bytes=1000) if finding.word == "LOSING")
    assert "4 events/s are refused: its lane is full, as the distributor waits for watcher store" == losing.text


def test_many_processes_that_lose_for_one_reason_share_a_line():
    before, now = (stats(lanes=[lane(n, 100 + n, refused={"lane_full": 8 * k}) for n in range(4)]) for k in (0, 1))
    [finding] = findings(picture(now, before))
    assert ("LOSING", "4 processes", frozenset(range(4))) == (finding.word, finding.who, finding.lanes)
    assert finding.text.startswith("16 events/s are refused: its lane is full")


def test_a_failing_handler():
    before, now = (stats(watchers=[watcher(forwarded=100, failed=n, handled=100 - n)]) for n in (10, 20))
    assert [("FAILING", "watcher store")] == words(picture(now, before))


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("lane_full", "the distributor does not keep up"),
        ("too_large", "larger than half a lane"),
        ("invalid", "invalid"),
        ("stopped", "after shutdown"),
    ],
)
def test_refused_events_name_process_and_reason(reason, says):
    before, now = (stats(lanes=[lane(refused={reason: n})]) for n in (0, 8))
    first = findings(picture(now, before))[0]
    assert ("LOSING", "process worker-0") == (first.word, first.who)
    assert first.text.startswith("4 events/s are refused")
    assert says in first.text


def test_processes_that_get_no_lane():
    before, now = (stats(refused_without_lane=refusals(no_lane=n)) for n in (0, 8))
    [first, *_] = findings(picture(now, before))
    assert ("LOSING", "processes without a lane") == (first.word, first.who)
    assert "max_processes" in first.text


def test_a_helper_that_is_gone_stopped_or_was_replaced():
    one = running()
    assert [("DOWN", "watcher store")] == words(picture(one, one, dead=frozenset({200})))
    assert [("DOWN", "the distributor")] == words(picture(one, one, dead=frozenset({300})))
    assert [("STOPPED", "watcher store")] == words(picture(one, one, uses={200: Use(0.0, 1, 1, "T")}))
    assert [("RESTARTED", "watcher store")] == words(picture(one, one, events={("watcher restarted", 0): 4.0}))
    assert [("RESTARTED", "the distributor")] == words(picture(one, one, events={("distributor restarted", 0): 4.0}))
    assert [("ALL WELL", "")] == words(picture(one, one, events={("watcher restarted", 0): 60.0}))


def test_a_helper_without_a_spare_but_not_a_thread():
    alone = stats(watchers=[watcher(helper=HelperStats(200, 0, 0))])
    assert [("NO SPARE", "watcher store")] == words(picture(alone, alone))
    thread = stats(watchers=[watcher(helper=HelperStats(50, 0, 0))], distributor=HelperStats(50, 0, 0))
    assert [("ALL WELL", "")] == words(picture(thread, thread))


def test_an_iterator_has_no_helper():
    iterator = stats(watchers=[watcher("watch of 1", managed=False, helper=HelperStats(1, 0, 0))])
    assert [("ALL WELL", "")] == words(picture(iterator, iterator, dead=frozenset({1})))


def test_a_process_that_died_is_news_for_a_while():
    gone = stats(lanes=[lane(alive=False, accepted=5)])
    assert [("GONE", "process worker-0 (100)")] == words(picture(gone, gone, events={("process gone", 0): 4.0}))
    assert [("ALL WELL", "")] == words(picture(gone, gone))
    waiting = stats(lanes=[lane(alive=False, accepted=5, forwarded=3)])
    assert "ended; 2 of its events still wait" == findings(picture(waiting, waiting))[0].text


def test_a_pool_that_was_closed_is_one_line():
    gone = stats(lanes=[lane(index=n, alive=False) for n in range(8)])
    events = {("process gone", n): 1.0 for n in range(8)}
    assert [("GONE", "8 processes")] == words(picture(gone, gone, events=events))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"state": "drained"}, "ENDED"),
        ({"state": "draining"}, "DRAINING"),
        ({"owner_alive": False}, "GONE"),
    ],
)
def test_the_state_of_the_application(changes, word):
    one = running(**changes)
    assert word == findings(picture(one, one))[0].word


def test_the_worst_comes_first():
    before = stats(
        lanes=[lane(alive=False, accepted=5)],
        watchers=[watcher(forwarded=100, handled=100), watcher("log", 1, dropped=1)],
    )
    now = stats(
        lanes=[lane(alive=False, accepted=5)],
        watchers=[watcher(forwarded=100, handled=100), watcher("log", 1, dropped=9)],
    )
    seen = picture(now, before, events={("process gone", 0): 1.0})
    assert [Severity.BAD, Severity.NOTE] == [finding.severity for finding in findings(seen)]


def test_names_of_others_cannot_write_to_the_terminal():
    before, now = (
        stats(watchers=[watcher("evil\x1b[2J", dropped=n)], lanes=[lane(name="\x1b]0;x\x07", refused={"invalid": n})])
        for n in (0, 9)
    )
    for finding in findings(picture(now, before)):
        assert (finding.who + finding.text).isprintable()
