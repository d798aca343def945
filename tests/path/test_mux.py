"""apimachinery's ``watch.Broadcaster`` rules (spec 2.1 and 3.8) over real processes and over threads."""

from __future__ import annotations

import threading
import time

import pytest

from mpbroadcast.broadcaster import Broadcaster, FullChannelBehavior
from mpbroadcast.errors import BroadcasterStopped, NoFreeSlot
from mpbroadcast.event.wire import ADDED, DELETED, MODIFIED, WatchEvent

from .conftest import eventually

WAIT = FullChannelBehavior.WAIT_IF_CHANNEL_FULL
DROP = FullChannelBehavior.DROP_IF_CHANNEL_FULL
TABLE = [
    WatchEvent(ADDED, {"name": "foo"}),
    WatchEvent(ADDED, {"name": "bar"}),
    WatchEvent(MODIFIED, {"name": "foo"}),
    WatchEvent(DELETED, {"name": "bar"}),
]


@pytest.fixture(params=[True, False], ids=["processes", "threads"])
def broadcaster_of(request, make):
    return lambda **options: make(Broadcaster, processes=request.param, **options)


@pytest.mark.client_go("MUX-01")
def test_each_watcher_gets_every_event_in_order_and_then_the_end(broadcaster_of):
    broadcaster = broadcaster_of(full_channel_behavior=WAIT)
    watches = [broadcaster.watch(), broadcaster.watch()]
    for event in TABLE:
        broadcaster.action(*event)
    broadcaster.shutdown()
    assert [TABLE, TABLE] == [list(watch) for watch in watches]


@pytest.mark.client_go("MUX-02")
def test_stopping_a_watch_ends_it_and_may_be_repeated_after_shutdown(broadcaster_of):
    broadcaster = broadcaster_of()
    one, other = broadcaster.watch(), broadcaster.watch()
    one.stop()
    broadcaster.shutdown()
    assert [[], []] == [list(one), list(other)]
    for watch in (one, other, one):
        watch.stop()


@pytest.mark.client_go("MUX-03")
@pytest.mark.client_go("DER-22")
def test_stopping_another_watch_frees_a_distribution_that_waits_for_it(broadcaster_of):
    broadcaster = broadcaster_of(queue_length=1, full_channel_behavior=WAIT)
    reading, stuck = broadcaster.watch(), broadcaster.watch()
    for number in range(2):
        assert broadcaster.action(ADDED, number, timeout=20)
    assert [0, 1] == [reading.get(20).object, reading.get(20).object]
    assert not broadcaster.action(ADDED, "held up", timeout=0.01)
    stuck.stop()
    assert broadcaster.action(ADDED, 2, timeout=20)
    assert 2 == reading.get(20).object
    assert broadcaster.shutdown().drained
    assert [0] == [event.object for event in stuck]


@pytest.mark.client_go("MUX-04")
def test_a_full_watch_drops_and_counts_in_drop_mode(broadcaster_of):
    broadcaster = broadcaster_of(queue_length=1, full_channel_behavior=DROP)
    watches = [broadcaster.watch(), broadcaster.watch()]
    for event in TABLE[:2]:
        broadcaster.action(*event)  # waits for the lane, which holds one
    report = broadcaster.shutdown()
    assert [TABLE[:1], TABLE[:1]] == [list(watch) for watch in watches]
    assert [1, 1] == [watcher.dropped for watcher in report.watchers]


@pytest.mark.client_go("MUX-05")
@pytest.mark.client_go("MUX-06")
@pytest.mark.client_go("MUX-07")
@pytest.mark.client_go("MUX-08")
def test_after_shutdown_every_call_says_stopped(broadcaster_of):
    broadcaster = broadcaster_of()
    broadcaster.watch()
    broadcaster.shutdown()
    for call in (
        broadcaster.watch,
        lambda: broadcaster.watch_with_prefix(TABLE[:2]),
        lambda: broadcaster.action(ADDED, 1),
        lambda: broadcaster.action_or_drop(ADDED, 1),
    ):
        with pytest.raises(BroadcasterStopped, match=r"^broadcaster already stopped$"):
            call()


@pytest.mark.client_go("MUX-09")
def test_watches_stopped_while_shutdown_runs_all_end(broadcaster_of):
    for _ in range(20):
        broadcaster = broadcaster_of(queue_length=1, full_channel_behavior=WAIT)
        watches = [broadcaster.watch(), broadcaster.watch()]
        threads = [threading.Thread(target=watch.stop) for watch in watches]
        threads.append(threading.Thread(target=broadcaster.shutdown))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
        assert [[], []] == [list(watch) for watch in watches]


@pytest.mark.client_go("MUX-10")
def test_many_threads_may_send_without_a_watcher(broadcaster_of):
    broadcaster = broadcaster_of()

    def send():
        for number in range(500):
            assert broadcaster.action(ADDED, number)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 2000 == broadcaster.shutdown().accepted


@pytest.mark.client_go("DER-21")
def test_a_prefix_longer_than_the_queue_comes_first_and_to_this_watch_alone(broadcaster_of):
    broadcaster = broadcaster_of(queue_length=1)
    other = broadcaster.watch()
    prefix = [WatchEvent(ADDED, number) for number in range(5)]
    watch = broadcaster.watch_with_prefix(prefix)
    broadcaster.action(MODIFIED, "live")
    broadcaster.shutdown()
    live = WatchEvent(MODIFIED, "live")
    assert [[*prefix, live], [live]] == [list(watch), list(other)]


@pytest.mark.client_go("DER-23")
def test_a_full_lane_answers_false_at_once(broadcaster_of):
    broadcaster = broadcaster_of(queue_length=2, full_channel_behavior=WAIT)
    watch = broadcaster.watch()
    accepted = 0
    eventually(lambda: broadcaster.stats().watchers[0].state == "active")
    while broadcaster.action_or_drop(ADDED, accepted):
        accepted += 1
        wanted = min(accepted, 2)
        eventually(lambda wanted=wanted: broadcaster.stats().watchers[0].forwarded >= wanted)
    assert not broadcaster.action(ADDED, "too late", timeout=0.01)
    assert {"lane_full": 2} == {reason: n for reason, n in broadcaster.stats().refused.items() if n}
    watch.stop()
    assert accepted == broadcaster.shutdown().accepted


@pytest.mark.client_go("DER-24")
def test_concurrent_shutdowns_all_return_the_same(broadcaster_of):
    broadcaster = broadcaster_of()
    watch = broadcaster.watch()
    broadcaster.action(ADDED, 1)
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(broadcaster.shutdown())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [1] * 4 == [report.accepted for report in reports]
    assert [1] == [event.object for event in watch]


def test_a_watch_sees_nothing_from_before_it_and_everything_from_after_it(broadcaster_of):
    broadcaster = broadcaster_of()
    for number in range(100):
        broadcaster.action(ADDED, number)
    watch = broadcaster.watch()
    for number in range(100, 200):
        broadcaster.action(ADDED, number)
    broadcaster.shutdown()
    assert list(range(100, 200)) == [event.object for event in watch]


def test_a_stopped_watch_keeps_what_was_sent_before_and_gets_nothing_after(broadcaster_of):
    broadcaster = broadcaster_of()
    watch = broadcaster.watch()
    for number in range(50):
        broadcaster.action(ADDED, number)
    watch.stop()
    for number in range(50, 100):
        broadcaster.action(ADDED, number)
    broadcaster.shutdown()
    assert list(range(50)) == [event.object for event in watch]


def test_a_type_of_the_callers_own_arrives_as_it_is(broadcaster_of):
    """Even apimachinery's marker, which would crash its loop (B22)."""
    broadcaster = broadcaster_of()
    watch = broadcaster.watch()
    broadcaster.action("internal-do-function", [1, None, "é"])
    broadcaster.shutdown()
    assert [WatchEvent("internal-do-function", [1, None, "é"])] == list(watch)


def test_what_orjson_cannot_encode_is_refused_in_one_line(broadcaster_of):
    broadcaster = broadcaster_of()
    with pytest.raises(TypeError, match="orjson cannot encode this object"):
        broadcaster.action(ADDED, object())


def test_watch_slots_are_used_again_and_run_out_with_a_hint(broadcaster_of):
    broadcaster = broadcaster_of(max_watchers=2)
    for _ in range(10):
        watch = broadcaster.watch()
        watch.stop()
        assert [] == list(watch)
    first, second = broadcaster.watch(), broadcaster.watch()
    with pytest.raises(NoFreeSlot, match="max_watchers"):
        broadcaster.watch()
    del first
    eventually(lambda: _can_watch(broadcaster))
    second.stop()


def _can_watch(broadcaster):
    try:
        return broadcaster.watch()
    except NoFreeSlot:
        return None


def test_a_filter_keeps_what_it_likes_and_counts_the_rest(broadcaster_of):
    broadcaster = broadcaster_of()
    watch = broadcaster.watch(filter=lambda event: event.object % 2)
    for number in range(10):
        broadcaster.action(ADDED, number)
    broadcaster.shutdown()
    assert [1, 3, 5, 7, 9] == [event.object for event in watch]
    assert (5, 5) == (broadcaster.stats().watchers[0].handled, broadcaster.stats().watchers[0].filtered)


def test_get_gives_up_in_time(broadcaster_of):
    watch = broadcaster_of().watch()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        watch.get(0.05)
    assert 0.05 <= time.monotonic() - began < 10
