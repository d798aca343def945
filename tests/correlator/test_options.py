"""`CorrelatorOptions`: what is accepted, what is refused, and that it travels to another process."""

from __future__ import annotations

import pickle

import pytest

from mpbroadcast.correlator import CorrelatorOptions, Create, EventCorrelator, Patch, Skip
from mpbroadcast.testing.clocks import SteppingClock


def test_the_defaults_are_client_gos():
    options = CorrelatorOptions()
    assert (4096, 25, 10, 600) == (
        options.lru_cache_size,
        options.burst_size,
        options.max_events,
        options.max_interval_in_seconds,
    )
    assert 0.0033333334140479565 == options.qps


def test_the_rate_is_rounded_to_a_32_bit_float():
    assert 0.10000000149011612 == CorrelatorOptions(qps=0.1).qps


def test_options_survive_pickling():
    options = CorrelatorOptions(burst_size=None, qps=0.5, max_events=3, spam_budget_per_reason=True)
    assert options == pickle.loads(pickle.dumps(options))


def test_options_are_keyword_only_and_frozen():
    with pytest.raises(TypeError):
        CorrelatorOptions(4096)
    with pytest.raises(AttributeError):
        CorrelatorOptions().burst_size = 3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lru_cache_size", 0),
        ("lru_cache_size", None),
        ("lru_cache_size", 1.5),
        ("lru_cache_size", True),
        ("burst_size", 0),
        ("burst_size", "25"),
        ("max_events", 0),
        ("max_events", 2.0),
        ("max_interval_in_seconds", 0),
        ("max_interval_in_seconds", None),
        ("qps", 0),
        ("qps", 1e-60),
        ("qps", float("nan")),
        ("qps", float("inf")),
        ("qps", 1e39),
        ("qps", 10**400),
        ("qps", None),
        ("qps", "1"),
        ("qps", True),
        ("key_func", None),
        ("message_func", "prefix"),
        ("spam_key_func", 3),
        ("aggregates_keep_annotations", 1),
        ("aggregates_keep_reporting", None),
        ("spam_budget_per_reason", "yes"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_one_line_that_names_it(option, value):
    with pytest.raises(ValueError) as caught:
        CorrelatorOptions(**{option: value})
    assert str(caught.value).startswith(option)
    assert "\n" not in str(caught.value)


def test_none_switches_the_spam_filter_off(make_event):
    correlator = EventCorrelator(CorrelatorOptions(burst_size=None), SteppingClock())
    assert not any(isinstance(correlator.correlate(make_event()), Skip) for _ in range(100))


def test_none_switches_aggregation_off(make_event):
    correlator = EventCorrelator(CorrelatorOptions(max_events=None, burst_size=None), SteppingClock())
    events = [make_event(message=f"m{i}") for i in range(100)]
    assert [Create(event) for event in events] == [correlator.correlate(event) for event in events]


def test_a_budget_for_each_reason_lets_a_new_event_through(make_event):
    """kubernetes#67887: a repeated event uses up the budget of every other event about its object."""
    shared = EventCorrelator(CorrelatorOptions(burst_size=3), SteppingClock())
    apart = EventCorrelator(CorrelatorOptions(burst_size=3, spam_budget_per_reason=True), SteppingClock())
    for correlator in (shared, apart):
        for _ in range(10):
            correlator.correlate(make_event(reason="BackOff"))
    assert isinstance(shared.correlate(make_event(reason="Killed")), Skip)
    assert isinstance(apart.correlate(make_event(reason="Killed")), Create)
    assert isinstance(apart.correlate(make_event(reason="BackOff")), Skip)


def test_a_count_ends_where_the_api_ends(make_event):
    """A count is a 32-bit integer; Go would wrap around to a negative one."""
    correlator = EventCorrelator(CorrelatorOptions(burst_size=None), SteppingClock())
    correlator.correlate(make_event(count=2**31 - 2))
    counts = [correlator.correlate(make_event()).event.count for _ in range(3)]
    assert [2**31 - 1] * 3 == counts


def test_an_event_with_a_count_of_its_own_is_an_update(make_event):
    """S3: the count decides, not whether there is a patch; on a repeat its own count is ignored (C13b)."""
    correlator = EventCorrelator(clock=SteppingClock())
    event = make_event(count=7)
    assert Patch(event, b"") == correlator.correlate(event)
    assert 8 == correlator.correlate(make_event(count=3)).event.count


def test_a_stored_count_of_zero_means_never_seen(make_event):
    """C11, as client-go's all-empty test events show (REC-17)."""
    correlator = EventCorrelator(clock=SteppingClock())
    event = make_event(count=0)
    assert [Create(event)] * 3 == [correlator.correlate(event) for _ in range(3)]


def test_renaming_reaches_only_the_event_that_was_not_written(make_event):
    """W23: two events of one name; the one that came too late goes on under another."""
    correlator = EventCorrelator(clock=SteppingClock())
    written = correlator.correlate(make_event(reason="A")).event
    correlator.update_state(written.replace(resource_version="1"))
    collided = correlator.correlate(make_event(reason="B")).event
    assert written.name == collided.name
    correlator.renamed(collided, "another")
    assert written.name == correlator.correlate(make_event(reason="A")).event.name
    assert "another" == correlator.correlate(make_event(reason="B")).event.name
