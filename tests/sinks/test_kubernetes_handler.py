"""Many requests at a time: everything arrives, in order for each object, whatever the server does."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections import Counter

import pytest

from mpbroadcast.base.outcome import Settled
from mpbroadcast.correlator import CorrelatorOptions
from mpbroadcast.event.wire import KIND_RECORD
from mpbroadcast.sinks.retry import RetryPolicy
from tests.kube.fake_api import (
    CLOSE_EARLY,
    DONE_THEN_RESET,
    GARBAGE,
    HALF,
    NO_HTTP,
    RESET,
    FakeApi,
    Reply,
    status,
)  # fmt: skip
from tests.sinks.kubernetes_engine import Run, record

FORBIDDEN = (
    'events is forbidden: User "system:serviceaccount:p:w" cannot create resource "events" '
    'in API group "" in the namespace "default"'
)


@pytest.fixture
def api():
    with FakeApi() as api:
        yield api


def messages_by_object(api):
    """What was created, in its order, for each object."""
    found = {}
    for method, _, _, body in api.log:
        if method == "POST":
            found.setdefault(body["involvedObject"]["name"], []).append(body["message"])
    return found


def everything(correlator=None, **options):
    """Options without which many events about one object are aggregated, and then taken for spam."""
    return {"correlator": CorrelatorOptions(max_events=None, burst_size=None), **options}


def test_two_thousand_distinct_events_all_arrive(api):
    """client-go delivers about half of them."""
    with Run(api.url) as run:
        for start in range(1, 2001, 500):
            run.give(*[record(n, f"pod-{n}") for n in range(start, start + 500)])
    assert 2000 == len(api.events)
    assert {Settled.HANDLED: 2000} == Counter(run.settled.values())
    assert {"created": 2000} == run.counts
    assert 2 < api.most_at_once <= 16


def test_the_events_of_one_object_stay_in_order(api):
    with Run(api.url, **everything()) as run:
        run.give(*[record(n, f"pod-{n % 10}", str(n)) for n in range(1, 501)])
    for number, messages in messages_by_object(api).items():
        assert [str(n) for n in range(1, 501) if f"pod-{n % 10}" == number] == messages


def test_one_object_never_has_two_requests_under_way(api):
    with Run(api.url, **everything()) as run:
        run.give(*[record(n, message=str(n)) for n in range(1, 101)])
    assert 1 == api.most_at_once


@pytest.mark.client_go("REC-06", "REC-08")
def test_a_repeat_is_counted_on_what_the_server_returned(api):
    """Each write is fed back before the next equal event is correlated (S5)."""
    with Run(api.url) as run:
        run.give(*[record(n) for n in range(1, 11)])
    (body,) = api.events.values()
    assert 10 == body["count"]
    assert ["POST"] + ["PATCH"] * 9 == [method for method, *_ in api.log]
    assert {"created": 1, "patched": 9} == run.counts


@pytest.mark.client_go("DER-05")
def test_an_event_that_has_expired_is_created_again_with_its_count(api):
    with Run(api.url) as run:
        run.give(record(1))
        run.wait(lambda: run.settled)
        api.events.clear()
        run.give(record(2))
    (body,) = api.events.values()
    assert (2, "web." + f"{1_767_323_045_000_000_001:x}") == (body["count"], body["metadata"]["name"])


def test_a_name_that_is_taken_is_met_with_a_new_one(api):
    """Another program's event of the same nanosecond (W23): both are kept, and repeats go to ours."""
    name = "web." + f"{1_767_323_045_000_000_001:x}"
    api.events["default", name] = {"kind": "Event", "metadata": {"name": name, "resourceVersion": "1"}}
    with Run(api.url) as run:
        run.give(record(1), record(2))
    assert 2 == len(api.events)
    assert [2] == [body["count"] for (_, other), body in api.events.items() if other != name]


FAULTS = [RESET, HALF, GARBAGE, NO_HTTP, DONE_THEN_RESET, CLOSE_EARLY, status(500, "InternalError", "no"),
          status(503, "ServiceUnavailable", "no"), status(429, "TooManyRequests", "no"), status(504, "Timeout", "no"),
          Reply(502, {}, b"<html>"), Reply(429, {"Retry-After": "0"})]  # fmt: skip


@pytest.mark.client_go("REC-16", "REC-20", "DER-04")
@pytest.mark.parametrize("fault", FAULTS, ids=[str(getattr(fault, "code", fault)) for fault in FAULTS])
def test_what_may_pass_loses_nothing_and_doubles_nothing(api, fault):
    """Each of the first hundred requests fails; distinct events, and repeats beside them."""
    api.faults.extend([fault] * 100)
    with Run(api.url) as run:
        run.give(*[record(n, f"pod-{n}") for n in range(1, 61)], *[record(n, "again") for n in range(61, 71)])
    assert 61 == len(api.events)
    assert 10 == next(body["count"] for body in api.events.values() if body["involvedObject"]["name"] == "again")
    assert {Settled.HANDLED: 70} == Counter(run.settled.values())
    assert 0 < run.counts["retries"]


def test_retry_after_is_waited_for_and_meant_for_all(api):
    api.faults.append(Reply(429, {"Retry-After": "1"}))
    with Run(api.url, concurrency=1) as run:
        begin = time.monotonic()
        run.give(record(1, "a"), record(2, "b"))
    assert 1.0 <= time.monotonic() - begin < 5
    assert 3 == len(api.seen)


@pytest.mark.client_go("REC-14")
def test_an_event_that_never_succeeds_is_given_up_while_others_succeed(api):
    """Its object waits meanwhile, no other one does."""
    serve = api._serve

    def refuse(request, writer):
        return Reply(500) if b'"poison"' in request.body else serve(request, writer)

    api._serve = refuse
    with Run(api.url, retry=RetryPolicy(base_seconds=0.001, cap_seconds=0.002)) as run:
        run.give(record(1, "bad", "poison"), record(2, "bad", "behind it"))
        for n in range(3, 400):
            run.give(record(n, f"pod-{n}"))
            time.sleep(0.001)
            if 1 in run.settled:
                break
    assert Settled.GIVEN_UP == run.settled.pop(1)
    assert {Settled.HANDLED} == set(run.settled.values())
    assert 1 == run.counts["gave_up"]
    assert 12 <= sum(b'"poison"' in seen.body for seen in api.seen)


def test_more_hopeless_events_than_may_wait_do_not_stop_the_others(api):
    """200 objects whose events the server cannot take, and one that it can."""
    serve = api._serve
    api._serve = lambda request, writer: Reply(500) if b"poison" in request.body else serve(request, writer)
    with Run(api.url, retry=RetryPolicy(base_seconds=0.001, cap_seconds=0.002)) as run:
        run.give(*[record(n, f"pod-{n}", "poison") for n in range(1, 201)], record(201, "good"))
        run.wait(lambda: 201 in run.settled)
        for n in range(202, 4000):
            run.give(record(n, f"pod-{n}"))
            time.sleep(0.005)
            if len(run.settled) >= n:
                break
    assert {Settled.HANDLED: n - 200, Settled.GIVEN_UP: 200} == Counter(run.settled.values())


def test_nobody_is_given_up_while_nothing_succeeds(api):
    api.always = Reply(503)
    with Run(api.url, retry=RetryPolicy(base_seconds=0.001, cap_seconds=0.002)) as run:
        run.give(*[record(n, f"pod-{n}") for n in range(1, 21)])
        run.wait(lambda: len(api.seen) > 20 * 20)
        assert {} == run.settled
        api.always = None
    assert {Settled.HANDLED: 20} == Counter(run.settled.values())


def test_an_outage_is_not_answered_with_a_flood(api):
    """4,000 events wait; only as many objects are tried as can tell that it is over."""
    api.always = RESET
    with Run(api.url) as run:
        run.give(*[record(n, f"pod-{n}") for n in range(1, 4001)])
        run.wait(lambda: run.handler._engine._is_out)
        tried = {seen.body[:200] for seen in api.seen}
        assert 100 > len(tried)
        api.always = None
        begin = time.monotonic()
        run.wait(lambda: len(run.settled) == 4000, 60)
        assert 30 > time.monotonic() - begin
    assert 4000 == len(api.events)


REFUSED = [
    (status(403, "Forbidden", FORBIDDEN), Settled.FAILED),
    (status(404, "NotFound", 'namespaces "x" not found'), Settled.FAILED),
    (status(422, "Invalid", "no"), Settled.FAILED),
    (status(403, "Forbidden", "being terminated", ["NamespaceTerminating"]), Settled.FAILED),
    (Reply(302, {"Location": "/"}), Settled.FAILED),
]


@pytest.mark.client_go("REC-12", "REC-13", "DER-01")
@pytest.mark.parametrize(("reply", "settled"), REFUSED, ids=["403", "404", "422", "terminating", "302"])
def test_a_refusal_is_final_and_counted(api, reply, settled):
    api.faults.append(reply)
    with Run(api.url) as run:
        run.give(record(1))
    assert {1: settled} == run.settled
    assert ({"rejected": 1}, 1) == (run.counts, len(api.seen))


def test_the_missing_rule_is_said_once(api, caplog):
    api.always = status(403, "Forbidden", FORBIDDEN)
    with Run(api.url) as run:
        run.give(*[record(n, f"pod-{n}") for n in range(1, 101)])
    lines = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert 1 == len(lines)
    assert "service account p/w may not create events" in lines[0]
    assert 100 == run.counts["rejected"]


def test_an_outage_is_one_line_in_a_second(api, caplog):
    api.always = RESET
    with Run(api.url) as run:
        run.give(*[record(n, f"pod-{n}") for n in range(1, 1001)])
        run.wait(lambda: len(api.seen) > 100)
        api.always = None
    assert 4 > sum("may retry" in entry.getMessage() for entry in caplog.records)


@pytest.mark.client_go("DER-07")
def test_client_go_s_own_table_is_an_option(api):
    """There every answer is final."""
    api.faults.append(Reply(503))
    with Run(api.url, retry=RetryPolicy.client_go(0.001)) as run:
        run.give(record(1))
    assert {1: Settled.FAILED} == run.settled


@pytest.mark.client_go("DER-08")
def test_spam_is_skipped_and_counted(api):
    with Run(api.url) as run:
        run.give(*[record(n) for n in range(1, 41)])
    assert (25, 15) == (len(api.log), run.counts["skipped"])


def test_records_that_are_no_events_and_filtered_ones(api):
    with Run(api.url) as run:
        run.handler._keep = lambda event: event.reason != "No"
        run.give((1, KIND_RECORD, b"garbage"), record(2, reason="No"), record(3))
    assert {1: Settled.FAILED, 2: Settled.FILTERED, 3: Settled.HANDLED} == run.settled


def test_an_aggregate_over_several_objects_is_patched_in_order(api):
    """A key function may put all objects into one group: their writes go to one stored event."""
    with Run(api.url, correlator=CorrelatorOptions(key_func=one_group, burst_size=None)) as run:
        run.give(*[record(n, f"pod-{n}", str(n)) for n in range(1, 61)])
    (body,) = [body for body in api.events.values() if body["message"].startswith("(combined")]
    assert 51 == body["count"]
    counts = [change["count"] for method, _, _, change in api.log if method == "PATCH"]
    assert sorted(counts) == counts


def one_group(event):
    return ("all",), event.message


def test_requests_per_second(api):
    with Run(api.url, requests_per_second=50) as run:
        begin = time.monotonic()
        run.give(*[record(n, f"pod-{n}") for n in range(1, 26)])
        run.wait(lambda: len(run.settled) == 25)
        assert 0.4 < time.monotonic() - begin < 3


def test_what_is_pending_is_bounded(api):
    """A ring that is read faster than the server takes would fill the memory of this process instead."""
    api.always = "slow"
    run = Run(api.url)
    with run:
        giving = threading.Thread(
            target=lambda: [run.give(*[record(n, f"p-{n}") for n in range(s, s + 512)]) for s in range(1, 20_000, 512)]
        )
        giving.start()
        run.wait(lambda: run.handler._engine._turns.pending >= 4096)
        giving.join(0.3)
        assert giving.is_alive()
        assert 4096 + 2 * 512 >= run.handler._engine._turns.pending
        run.stop = True
        giving.join(5)


def test_a_shutdown_that_cannot_wait_leaves_the_rest_in_the_ring(api, caplog):
    api.always = RESET
    with Run(api.url) as run:
        run.give(*[record(n, f"pod-{n}") for n in range(1, 11)])
        run.stop = True
    assert {} == run.settled
    assert "10 events could not be delivered; they stay in the ring" in caplog.text


def test_a_shutdown_delivers_what_is_pending(api):
    with Run(api.url) as run:
        run.give(*[record(n, f"pod-{n}") for n in range(1, 1001)])
    assert 1000 == len(api.events)


def test_series_are_written_at_the_end(api):
    """Repeats from the third on are counted only, and written when everything ends (W11, W27)."""
    with Run(api.url, api="events.k8s.io/v1") as run:
        run.give(*[record(n) for n in range(1, 8)])
    (body,) = api.events.values()
    assert 7 == body["series"]["count"]
    assert {"created": 1, "patched": 2, "skipped": 5} == run.counts


@pytest.mark.client_go("SER-06")
def test_series_are_refreshed_by_rounds(api, monkeypatch):
    monkeypatch.setattr("mpbroadcast.sinks.engine.REFRESH_SECONDS", 0.1)
    with Run(api.url, api="events.k8s.io/v1") as run:
        run.give(*[record(n) for n in range(1, 8)])
        run.wait(lambda: [body for body in api.events.values() if body.get("series", {}).get("count") == 7])


def test_a_repeat_of_a_record_meets_itself(api):
    """A process died after its create was done and before it was settled."""
    with Run(api.url) as run:
        run.give(record(1))
    with Run(api.url, repeated_until=1) as again:
        again.give(record(1), record(2))
    (body,) = api.events.values()
    assert 2 == body["count"]
    assert {"repeated": 1, "patched": 1} == again.counts
    assert {1: Settled.HANDLED} == run.settled


def test_a_repeated_patch_is_the_same_patch(api):
    """What a successor correlates anew would be another event; the journal says what was decided."""
    api.faults.extend([None, None])
    api.always = DONE_THEN_RESET
    first = Run(api.url)
    with first:
        first.give(*[record(n) for n in (1, 2, 3)])
        first.wait(lambda: len(api.log) >= 3)
        first.stop = True
    api.always = None
    unsettled = [n for n in (1, 2, 3) if n not in first.settled]
    assert unsettled
    with Run(api.url, handler=first.handler, repeated_until=3) as again:
        again.give(*[record(n) for n in unsettled], record(4))
    (body,) = api.events.values()
    assert 4 == body["count"]


def test_it_is_made_anew_in_a_spawned_process(api):
    run = Run(api.url)
    handler = pickle.loads(pickle.dumps(run.handler)) if pickles(run.handler) else run.handler
    with Run(api.url, handler=handler) as again:
        again.give(record(1))
    assert 1 == len(api.events)


def pickles(handler):
    try:
        pickle.dumps(handler)
    except (TypeError, AttributeError, pickle.PicklingError):
        return False
    return True


def test_a_bug_in_the_loop_s_thread_is_not_silent(api, monkeypatch):
    run = Run(api.url)
    run.__enter__()
    monkeypatch.setattr(run.handler._engine._turns, "take", lambda: 1 / 0)
    run.handler._engine._call(run.handler._engine._turns.wake, 1)
    with pytest.raises(ZeroDivisionError):
        run.wait(lambda: False, 5)
    with pytest.raises(ZeroDivisionError):
        run.handler.close()
