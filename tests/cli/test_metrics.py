"""The Prometheus numbers: the text, the collector, and that both say the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mpbroadcast.metrics import families, render
from mpbroadcast.stats import HelperStats

from .pictures import lane, refusals, stats, watcher

prometheus = pytest.importorskip("prometheus_client")
parser = pytest.importorskip("prometheus_client.parser")


def numbers(name="shop"):
    return stats(
        name=name,
        lanes=[
            lane(0, accepted=100, forwarded=90, refused={"lane_full": 3}),
            lane(1, 101, alive=False, accepted=5, lost=1),
        ],
        watchers=[
            watcher(
                "store", 0, forwarded=80, handled=60, failed=5, dropped=10, backlog_bytes=600, counts={"created": 60}
            ),
            watcher('odd"\\\nname', 1, forwarded=90, filtered=90, helper=HelperStats(9, 0, 2)),
            watcher("watch of 5", 2, managed=False, state="ended", forwarded=1, handled=1),
        ],
        refused_without_lane=refusals(no_lane=7),
        retired={"dropped": 4},
    )


def parsed(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def values(name="shop"):
    return parsed(render([(numbers(name), (("broadcaster", name),))]))


def value(metric, **labels):
    return values()[(metric, *sorted({"broadcaster": "shop", **labels}.items()))]


def test_the_numbers_are_those_of_the_broadcaster():
    assert 105 == value("mpbroadcast_events_accepted_total")
    assert 95 == value("mpbroadcast_events_forwarded_total")
    assert 10 == value("mpbroadcast_lane_backlog_events")
    assert 1 == value("mpbroadcast_recording_processes")
    assert 60 == value("mpbroadcast_watcher_events_settled_total", watcher="store", outcome="handled")
    assert 60 == value("mpbroadcast_watcher_sink_events_total", watcher="store", what="created")
    assert (15, 600) == (
        value("mpbroadcast_backlog_events", watcher="store"), value("mpbroadcast_backlog_bytes", watcher="store"),
    )  # fmt: skip
    assert 2 == value("mpbroadcast_helper_restarts_total", helper='watcher odd"\\\nname')
    assert (1, 0) == (
        value("mpbroadcast_helper_spares", helper="distributor"),
        value("mpbroadcast_helper_spares", helper='watcher odd"\\\nname'),
    )
    assert 1 == value("mpbroadcast_up")


@pytest.mark.parametrize(
    ("reason", "owner", "events"),
    [
        ("lane_full", "lane 0", 3),
        ("corrupt", "lane 1", 1),
        ("no_lane", "no lane", 7),
        ("watcher_full", "watcher store", 10),
        ("failed", "watcher store", 5),
        ("given_up", "watcher store", 0),
        ("watcher_full", "ended watchers", 4),
    ],
)
def test_every_loss_has_its_reason_and_owner(reason, owner, events):
    assert events == value("mpbroadcast_events_lost_total", reason=reason, owner=owner)


def test_handling_time_is_a_histogram():
    assert 60 == value("mpbroadcast_handling_seconds_bucket", watcher="store", le="+Inf")
    assert 60 == value("mpbroadcast_handling_seconds_count", watcher="store")
    assert 0.5 == value("mpbroadcast_handling_seconds_sum", watcher="store")


def test_an_iterator_that_ended_leaves_no_series():
    """Each has a name of its own; a server that makes one per request would fill the monitoring."""
    assert not [key for key in values() if ("watcher", "watch of 5") in key]


def test_no_series_is_there_twice_for_two_broadcasters():
    text = render([(numbers("a"), (("broadcaster", "a"),)), (numbers("b"), (("broadcaster", "b"),))])
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))


def test_names_follow_the_conventions():
    """Counters end in _total; nothing that is no counter does; units are seconds and bytes."""
    for family in families([(numbers(), ())]):
        assert family.name.startswith("mpbroadcast_")
        assert not family.name.endswith("_total")
        assert family.kind in {"counter", "gauge", "histogram"}
        assert family.help.endswith(".")


class Fixed:
    def stats(self):
        return numbers()


def test_the_collector_says_the_same_as_the_text():
    from mpbroadcast.metrics import BroadcasterCollector

    registry = prometheus.CollectorRegistry()
    registry.register(BroadcasterCollector(Fixed()))
    assert values() == parsed(prometheus.generate_latest(registry).decode())


def test_registering_reads_nothing():
    from mpbroadcast.metrics import BroadcasterCollector

    class Unread:
        def stats(self):
            raise AssertionError("read")

    prometheus.CollectorRegistry().register(BroadcasterCollector(Unread()))


def test_without_the_library_the_extra_is_named():
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from mpbroadcast.metrics import BroadcasterCollector, render\n"
        "from mpbroadcast.errors import MissingExtra\n"
        "render([])\n"
        "try: BroadcasterCollector()\n"
        "except MissingExtra as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "the Prometheus collector needs the extra 'prometheus': pip install 'mpbroadcast[prometheus]'\n" == out
