"""What holds for every sequence of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.correlator import CorrelatorOptions, Create, EventCorrelator, Patch, Skip
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.sinks.delivery import Delivery
from mpbroadcast.sinks.retry import RetryPolicy
from mpbroadcast.testing.clocks import SteppingClock
from mpbroadcast.testing.fakes import FakeSink

SECOND = 1_000_000_000

STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "advance_ns": st.sampled_from([1, 7, 1000, SECOND, 31 * SECOND, 301 * SECOND, 601 * SECOND]),
            "object": st.sampled_from(["pod-a", "pod-b", "pod-c"]),
            "reason": st.sampled_from(["Started", "Failed"]),
            "message": st.sampled_from(["", *(f"m{i}" for i in range(12)), '<b>&\N{LINE SEPARATOR}é😀\x07"']),
            "type": st.sampled_from(["Normal", "Warning"]),
        }
    ),
    max_size=80,
)
OPTIONS = st.builds(
    CorrelatorOptions,
    lru_cache_size=st.sampled_from([1, 2, 5, 4096]),
    burst_size=st.sampled_from([1, 3, 25, None]),
    qps=st.sampled_from([1 / 300, 0.5]),
    max_events=st.sampled_from([1, 2, 5, 10, None]),
    aggregates_keep_annotations=st.booleans(),
    aggregates_keep_reporting=st.booleans(),
    spam_budget_per_reason=st.booleans(),
)


def events_of(steps, clock):
    for step in steps:
        clock.step(step["advance_ns"])
        now_ns = clock.now_ns()
        reference = ObjectReference("Pod", "default", step["object"], "uid", "v1")
        yield Event(
            name=f"{reference.name}.{now_ns:x}",
            namespace="default",
            involved_object=reference,
            type=step["type"],
            reason=step["reason"],
            message=step["message"],
            source=EventSource("kubelet", "node"),
            reporting_controller="kubelet",
            reporting_instance="node",
            count=1,
            first_timestamp=now_ns,
            last_timestamp=now_ns,
        )


def decisions_of(steps, options):
    clock = SteppingClock()
    correlator = EventCorrelator(options, clock)
    return [correlator.correlate(event) for event in events_of(steps, clock)]


@given(steps=STEPS, options=OPTIONS)
def test_counts_never_decrease(steps, options):
    """Every decision about an event of one name says one more than the one before it."""
    counts = {}
    for decision in decisions_of(steps, options):
        event = decision.event
        assert event.count == counts.get(event.name, 0) + 1
        counts[event.name] = event.count


@given(steps=STEPS, options=OPTIONS)
def test_the_patch_brings_the_created_object_to_the_events_state(steps, options):
    clock = SteppingClock()
    sink, correlator = FakeSink(), EventCorrelator(options, clock)
    delivery = Delivery(sink, correlator, RetryPolicy.client_go(), sleep=clock.sleep)
    for event in events_of(steps, clock):
        sink.calls.clear()
        delivery.deliver(event)
        for call in sink.calls[-1:]:
            stored = sink.get(call.event.namespace, call.event.name)
            wanted, actual = call.event.to_core_v1(), stored.to_core_v1()
            wanted["metadata"]["resourceVersion"] = actual["metadata"]["resourceVersion"]
            assert wanted == actual


@given(steps=STEPS)
def test_a_stage_that_is_off_changes_nothing(steps):
    """Off is the same as a limit that is never reached."""
    off = decisions_of(steps, CorrelatorOptions(max_events=None, burst_size=None))
    assert off == decisions_of(steps, CorrelatorOptions(max_events=10**9, burst_size=10**9))
    assert not any(isinstance(decision, Skip) for decision in off)
    seen = set()
    for decision, event in zip(off, events_of(steps, SteppingClock()), strict=True):
        key = (event.involved_object, event.type, event.reason, event.message)
        assert isinstance(decision, Patch if key in seen else Create)
        changed = {"name", "count", "first_timestamp"} if key in seen else set()
        assert event == decision.event.replace(**{name: getattr(event, name) for name in changed})
        seen.add(key)


@given(steps=STEPS, options=OPTIONS)
def test_the_same_inputs_give_the_same_answers(steps, options):
    assert decisions_of(steps, options) == decisions_of(steps, options)
