"""The scheme: the official client's kinds, a program's own, several versions, and what it does not know."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from mpbroadcast.errors import NotRegistered
from mpbroadcast.event.scheme import DEFAULT_SCHEME, Scheme, TypeMeta


@pytest.fixture
def client():
    return pytest.importorskip("kubernetes.client", reason="the official client is not installed")


class CronTab:
    pass


class Fancy(CronTab):
    pass


def test_several_versions_of_a_kind_and_the_first_wins():
    scheme = Scheme()
    scheme.register(CronTab, "stable.example.com/v1")
    scheme.register(CronTab, "stable.example.com/v2", "CronTable")
    scheme.register(CronTab, "stable.example.com/v1")
    first, second = TypeMeta("stable.example.com/v1", "CronTab"), TypeMeta("stable.example.com/v2", "CronTable")
    assert (first, second) == scheme.kinds(CronTab)


def test_a_subclass_stands_for_what_its_base_does_until_it_is_registered():
    scheme = Scheme()
    scheme.register(CronTab, "v1")
    assert (TypeMeta("v1", "CronTab"),) == scheme.kinds(Fancy)
    scheme.register(Fancy, "v2")
    assert (TypeMeta("v2", "Fancy"),) == scheme.kinds(Fancy)


def test_an_unknown_class_is_not_registered():
    with pytest.raises(NotRegistered, match=r"no kind is registered for the type .*CronTab"):
        DEFAULT_SCHEME.kinds(CronTab)
    assert CronTab not in DEFAULT_SCHEME


def test_models_of_the_client_are_known(client):
    assert (TypeMeta("v1", "Pod"),) == DEFAULT_SCHEME.kinds(client.V1Pod)
    assert (TypeMeta("apps/v1", "Deployment"),) == DEFAULT_SCHEME.kinds(client.V1Deployment)
    assert (TypeMeta("autoscaling/v2", "HorizontalPodAutoscaler"),) == DEFAULT_SCHEME.kinds(
        client.V2HorizontalPodAutoscaler
    )
    assert (TypeMeta("v1", "Event"),) == DEFAULT_SCHEME.kinds(client.CoreV1Event)
    assert (TypeMeta("events.k8s.io/v1", "Event"),) == DEFAULT_SCHEME.kinds(client.EventsV1Event)
    assert (TypeMeta("policy/v1", "Eviction"),) == DEFAULT_SCHEME.kinds(client.V1Eviction)
    assert client.V1Pod in DEFAULT_SCHEME
    assert client.V1PodSpec not in DEFAULT_SCHEME


def test_a_model_may_stand_for_another_version_too(client):
    scheme = Scheme()
    scheme.register(client.V1Pod, "example.com/v1", "Pod")
    assert (TypeMeta("v1", "Pod"), TypeMeta("example.com/v1", "Pod")) == scheme.kinds(client.V1Pod)


def test_a_scheme_without_the_clients_kinds(client):
    scheme = Scheme(client_kinds=False)
    assert client.V1Pod not in scheme
    assert () == scheme.find("Pod")


def test_a_class_of_the_same_name_elsewhere_is_not_the_clients():
    assert type("V1Pod", (), {}) not in DEFAULT_SCHEME


def test_kinds_are_found_by_name_with_the_best_version_first():
    assert (TypeMeta("v1", "Pod"),) == DEFAULT_SCHEME.find("pod")
    assert "v1" == DEFAULT_SCHEME.find("Event")[0].api_version
    versions = [meta.api_version for meta in DEFAULT_SCHEME.find("horizontalpodautoscaler")]
    assert ["autoscaling/v2", "autoscaling/v1"] == versions
    leases = [meta.api_version for meta in DEFAULT_SCHEME.find("LeaseCandidate")]
    assert ["coordination.k8s.io/v1beta1", "coordination.k8s.io/v1alpha2"] == leases
    scheme = Scheme()
    scheme.register(CronTab, "stable.example.com/odd")
    assert (TypeMeta("stable.example.com/odd", "CronTab"),) == scheme.find("CRONTAB")
    assert () == scheme.find("nothing")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("CronTab", "v1"), TypeError),
        ((CronTab, ""), ValueError),
        ((CronTab, "a/b/c"), ValueError),
        ((CronTab, None), ValueError),
        ((CronTab, "v1", ""), ValueError),
        ((CronTab, "v1", "no kind"), ValueError),
    ],
)
def test_nonsense_is_refused_with_one_line(arguments, error):
    with pytest.raises(error) as caught:
        Scheme().register(*arguments)
    assert "\n" not in str(caught.value)


def test_a_scheme_goes_to_another_process_with_what_was_registered():
    scheme = Scheme(client_kinds=False)
    scheme.register(CronTab, "stable.example.com/v1")
    assert (TypeMeta("stable.example.com/v1", "CronTab"),) == pickle.loads(pickle.dumps(scheme)).kinds(CronTab)
    assert "1 registered" in repr(scheme)


def test_classes_made_on_the_fly_are_not_kept_for_ever():
    scheme = Scheme()
    scheme.register(CronTab, "v1")
    for number in range(1100):
        scheme.kinds(type(f"C{number}", (CronTab,), {}))
    assert len(scheme._found) <= 1024


def test_importing_reads_neither_the_table_nor_a_client():
    """`import` of the recording side must stay cheap."""
    code = (
        "import sys; import mpbroadcast.event.reference, mpbroadcast.event.scheme; "
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'kubernetes', 'pydantic'}), "
        "'mpbroadcast.event.kinds' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[] False" == ran.stdout.strip()
