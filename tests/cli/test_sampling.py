"""Rates, history, deaths: what several looks say that one does not."""

from __future__ import annotations

import os

import pytest

from mpbroadcast.cli.sampling import Sampler
from mpbroadcast.stats import HelperStats, ProcessUse

from .pictures import lane, refusals, stats, watcher


class Looks:
    """Hands out prepared numbers, one look a second."""

    def __init__(self, *several, **options):
        self.now = 1000.0
        self._several = list(several)
        self.cpu = 0.0
        self._sampler = Sampler(self._read, clock=lambda: self.now, use=self._use, **options)

    def _read(self):
        return self._several.pop(0) if len(self._several) > 1 else self._several[0]

    def _use(self, pid):
        self.cpu += 0.5
        return ProcessUse(pid, self.cpu, 1 << 20, 1 << 19)

    def take(self):
        found = self._sampler.take()
        self.now += 1.0
        return found


def accepted(count, **fields):
    return stats(lanes=[lane(accepted=count)], **fields)


def test_rates_are_measured_over_two_seconds():
    looks = Looks(accepted(0), accepted(10), accepted(30), accepted(60), accepted(60))
    rates = []
    for _ in range(5):
        seen = looks.take()
        rates.append(seen.rate(seen.stats.accepted, None if seen.before is None else seen.before.accepted))
    assert [None, 10.0, 15.0, 25.0, 15.0] == rates


def test_a_counter_that_went_back_is_no_negative_rate():
    seen = [looks.take() for looks in [Looks(accepted(10), accepted(3))] for _ in range(2)][-1]
    assert 0.0 == seen.rate(seen.stats.accepted, seen.before.accepted)


def test_the_last_minute_is_kept_and_no_more():
    looks = Looks(*(accepted(100 * n) for n in range(100)))
    for _ in range(90):
        seen = looks.take()
    assert 59 <= len(seen.history) <= 61
    assert {(100.0, 0.0)} == set(seen.history)


def test_every_kind_of_loss_is_in_the_sum():
    everything = stats(
        lanes=[lane(refused={"lane_full": 1, "invalid": 2}, lost=4)],
        watchers=[watcher(dropped=8, failed=16, given_up=32, lost=64, counts={"spool_lost": 2048, "created": 7})],
        refused_without_lane=refusals(no_lane=128, stopped=256),
        retired={"dropped": 512, "handled": 7, "failed": 1024},
    )
    assert 4095 == everything.lost == sum(events for _, _, events in everything.losses())


def test_deaths_are_dated():
    looks = Looks(
        stats(lanes=[lane()], watchers=[watcher(helper=HelperStats(1, 2, 0))], distributor=HelperStats(3, 4, 0)),
        stats(
            lanes=[lane(alive=False)], watchers=[watcher(helper=HelperStats(2, 5, 1))], distributor=HelperStats(4, 6, 1)
        ),
    )
    assert {} == looks.take().events
    looks.take()
    assert {
        ("process gone", 0): 1.0,
        ("watcher restarted", 0): 1.0,
        ("distributor restarted", 0): 1.0,
    } == looks.take().events


def test_a_lane_that_got_a_new_owner_is_not_gone():
    looks = Looks(stats(lanes=[lane()]), stats(lanes=[lane(alive=False)]), stats(lanes=[lane(pid=101)]))
    looks.take()
    assert looks.take().events
    assert {} == looks.take().events


def test_a_slot_that_another_watcher_took_is_no_restart():
    looks = Looks(stats(watchers=[watcher("a")]), stats(watchers=[watcher("b", helper=HelperStats(9, 8, 3))]))
    looks.take()
    assert {} == looks.take().events


def test_waiting_counts_from_when_nothing_moved():
    stuck = stats(lanes=[lane(accepted=5)], watchers=[watcher(forwarded=5, handled=2)])
    looks = Looks(stats(lanes=[lane(accepted=5)], watchers=[watcher(forwarded=5, handled=1)]), stuck)
    assert [0.0, 0.0, 1.0, 2.0] == [looks.take().waiting_since[0] for _ in range(4)]
    assert 0.0 == looks.take().waiting_since[-1]  # the lanes are empty


def test_cpu_is_a_part_of_a_core_and_unknown_at_first():
    looks = Looks(stats(watchers=[watcher(helper=HelperStats(200, 0, 0))]), use_seconds=0)
    assert looks.take().uses[200].cpu is None
    assert pytest.approx(1.5) == looks.take().uses[200].cpu  # three processes share the clock of `_use`


def test_dead_helpers_are_noticed():
    alive = HelperStats(os.getpid(), 0, 0)
    seen = Looks(stats(watchers=[watcher(helper=HelperStats(2**22 + 1, 0, 0))], distributor=alive)).take()
    assert {2**22 + 1} == seen.dead
