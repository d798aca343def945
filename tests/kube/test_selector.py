"""client-go's ``GetFieldSelector`` (spec 3.7)."""

import pytest

from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.kube.selector import field_selector

DEPLOYMENT = ObjectReference("Deployment", "ignored", "test-deployment", "u-1", "apps/v1")


@pytest.mark.client_go("SEL-01")
@pytest.mark.client_go("SEL-03")
@pytest.mark.client_go("SEL-05")
@pytest.mark.parametrize("api", ["events.k8s.io/v1beta1", "events.k8s.io/v1", "v1"])
def test_nothing_given_matches_everything(api):
    assert "" == field_selector(api, ObjectReference())


@pytest.mark.client_go("SEL-02")
@pytest.mark.client_go("SEL-04")
@pytest.mark.client_go("SEL-06")
@pytest.mark.parametrize(
    ("api", "prefix"),
    [("events.k8s.io/v1beta1", "regarding"), ("events.k8s.io/v1", "regarding"), ("v1", "involvedObject")],
)
def test_each_given_part_is_a_term(api, prefix):
    expected = f"{prefix}.apiVersion=apps/v1,{prefix}.kind=Deployment,{prefix}.name=test-deployment,{prefix}.uid=u-1"
    assert expected == field_selector(api, DEPLOYMENT)


@pytest.mark.client_go("SEL-07")
def test_an_unknown_api_is_refused():
    with pytest.raises(ValueError, match="v1alpha1"):
        field_selector("v1alpha1", DEPLOYMENT)
