"""`KubernetesSink` as a sink: one write after another, options, and what it sends in both shapes."""

from __future__ import annotations

import json
import pickle

import pytest
from kubernetes.client import Configuration

from mpbroadcast.correlator import CorrelatorOptions, EventCorrelator, SeriesCorrelator
from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.sinks.delivery import Delivery, Verdict
from mpbroadcast.sinks.kubernetes import KubernetesSink
from mpbroadcast.testing import check_sink
from tests.correlator.conftest import vectors_folder
from tests.kube.fake_api import FakeApi
from tests.kube.kubernetes_rules import invalid

FILE = vectors_folder() / "apiserver-validation.json"
VECTORS = json.loads(FILE.read_text()) if FILE.exists() else []
"""Without the file the tests that have a case for each are skipped."""
APIS = pytest.mark.parametrize("shape", ["v1", "events.k8s.io/v1"])


@pytest.fixture
def api():
    with FakeApi() as api:
        yield api


@pytest.fixture
def open_sink(api):
    sinks = []

    def make(**options):
        configuration = Configuration(host=api.url)
        configuration.proxy = None
        sinks.append(KubernetesSink(configuration, **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


def test_it_passes_the_checks_of_every_sink(api, open_sink):
    check_sink(open_sink)


@pytest.mark.parametrize("case", [case for case in VECTORS if case["code"] != 404], ids=lambda case: case["name"])
def test_the_tests_own_rules_are_those_of_a_real_server(case):
    """Otherwise the next tests would say nothing."""
    problem = invalid(case["api"], case["namespace_in_url"], case["body"], None)
    assert (case["code"] == 201) is (problem is None)


def refused_in_both_shapes(case):
    """No event of a recorder: its namespace is made from its object's, and it always has a reason."""
    return case["name"] in {"core-ns-mismatch", "core-cluster-scoped-in-other-ns", "cluster-scoped-in-other-ns",
                            "core-missing-namespace", "reason-empty", "core-reason-empty", "controller-bad",
                            "core-component-bad", "core-type-other", "core-type-empty"}  # fmt: skip


@APIS
@pytest.mark.parametrize(
    "case", [case for case in VECTORS if not refused_in_both_shapes(case)], ids=lambda case: case["name"]
)
def test_what_the_server_refused_is_sent_so_that_it_is_taken(api, open_sink, case, shape):
    """Over the limits, without what is required: filled and cut, and stored."""
    read = Event.from_core_v1 if case["api"] == "core" else Event.from_events_v1
    event = read(case["body"])
    if event.first_timestamp is None and event.event_time is None:
        event = event.replace(first_timestamp=1, last_timestamp=1)
    if event.name.startswith(".") and shape != "v1":
        event = event.replace(name="fine")  # names are the recorder's matter
    if event.series is not None:
        event = event.replace(series=None)  # a series is the correlator's matter
    open_sink(api=shape).create(event)
    assert 1 == len(api.events)


@APIS
@pytest.mark.client_go("REC-21")
def test_an_event_about_a_cluster_scoped_object_is_taken(api, open_sink, make_event, shape):
    node = ObjectReference("Node", "", "n1", "u", "v1")
    open_sink(api=shape).create(make_event(involved_object=node, reporting_instance="i"))
    assert [("default", "n1." + f"{1_767_323_045_123_456_789:x}")] == list(api.events)


@APIS
def test_repeats_are_one_event_in_both_shapes(api, open_sink, make_event, shape):
    """client-go's numbers for core/v1, a series for the newer shape."""
    sink = open_sink(api=shape)
    make = sink.default_correlator
    correlator = EventCorrelator(make) if isinstance(make, CorrelatorOptions) else make()
    delivery = Delivery(sink, correlator)
    for n in range(3):
        delivery.deliver(make_event(1_767_323_045_000_000_000 + n, name=f"foo.{n}"))
    delivery.close()
    (body,) = api.events.values()
    assert 3 == (body["count"] if shape == "v1" else body["series"]["count"])


def test_the_counting_correlator_works_with_the_newer_shape(api, open_sink, make_event):
    """Its counts become a series: nothing else of an event may change there."""
    delivery = Delivery(open_sink(api="events.k8s.io/v1"), EventCorrelator())
    for n in range(4):
        assert Verdict.DELIVERED is delivery.deliver(make_event(1_767_323_045_000_000_000 + n, name=f"foo.{n}")).verdict
    ((key, body),) = api.events.items()
    assert (("baz", "foo.0"), 4) == (key, body["series"]["count"])
    assert {"series"} == {name for method, _, _, change in api.log if method == "PATCH" for name in change}


def test_cuts_are_counted(open_sink, make_event):
    sink = open_sink(api="events.k8s.io/v1")
    sink.create(make_event(message="x" * 3000, reason="r" * 300, action="a"))
    assert 2 == sink.cut_texts


def test_a_long_message_is_not_cut_in_core_v1(api, open_sink, make_event):
    open_sink().create(make_event(message="x" * 20_000))
    assert 20_000 == len(next(iter(api.events.values()))["message"])


@pytest.mark.parametrize(
    "options",
    [{"api": "v2"}, {"concurrency": 0}, {"concurrency": True}, {"requests_per_second": 0}, {"timeout": -1},
     {"connect_timeout": "1"}, {"spool_bytes": 10}, {"spool_age": 0}],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        KubernetesSink(**options)


def test_it_is_pickled_with_its_options_only(tmp_path):
    sink = KubernetesSink(
        str(tmp_path / "config"), context="c", api="events.k8s.io/v1", concurrency=3, spool=tmp_path / "s"
    )
    again = pickle.loads(pickle.dumps(sink))
    assert (repr(sink), 3, str(tmp_path / "s")) == (repr(again), again.concurrency, again.spool)
    with pytest.raises(SinkUnavailable, match="no kubeconfig"):
        again.create(Event(name="n", namespace="d", source=EventSource("c")))
    again.close()
    again.close()


def test_a_token_is_not_in_its_repr():
    configuration = Configuration(api_key={"authorization": "Bearer s3cr3t"})
    sink = KubernetesSink(configuration)
    assert "s3cr3t" not in repr(sink) + repr(sink.make_handler(sink, name="k", source="s"))
    assert SeriesCorrelator is KubernetesSink(api="events.k8s.io/v1").default_correlator
