"""Objects of other clients, with the real packages where they are installed."""

from __future__ import annotations

import pytest

from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event.reference import get_reference
from mpbroadcast.event.scheme import DEFAULT_SCHEME

META = {"name": "web-1", "namespace": "ns", "uid": "u-1", "resourceVersion": "42"}
POD = ObjectReference("Pod", "ns", "web-1", "u-1", "v1", "42")
CRON = POD._replace(kind="CronTab", api_version="stable.example.com/v1")
# Other clients warn of what they use themselves; that is not ours to judge.
pytestmark = pytest.mark.filterwarnings("ignore")


def imported(name):
    return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


def test_a_kopf_body_and_its_views():
    kopf = imported("kopf")
    assert POD == get_reference(kopf.Body({"apiVersion": "v1", "kind": "Pod", "metadata": META}))


def test_resources_of_the_dynamic_client():
    resource = imported("kubernetes.dynamic.resource")
    body = {"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": dict(META)}
    instance = resource.ResourceInstance(None, body)
    assert CRON == get_reference(instance)
    assert CRON == get_reference(instance.attributes)


def test_lists_of_the_dynamic_client():
    resource = imported("kubernetes.dynamic.resource")
    body = {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "9"}, "items": [{"metadata": META}]}
    listed = resource.ResourceInstance(None, body)
    assert ObjectReference("PodList", api_version="v1", resource_version="9") == get_reference(listed)
    assert POD == get_reference(listed.items[0])


def test_kr8s_objects_carry_the_kind_of_their_class():
    objects = imported("kr8s.asyncio.objects")
    assert POD == get_reference(objects.Pod({"metadata": dict(META)}))
    custom = objects.new_class("CronTab", "stable.example.com/v1", namespaced=True)
    assert CRON == get_reference(custom({"metadata": dict(META)}))


def test_lightkube_resources_carry_the_kind_of_their_class():
    core = imported("lightkube.resources.core_v1")
    meta = imported("lightkube.models.meta_v1")
    assert POD == get_reference(core.Pod(metadata=meta.ObjectMeta(**META)))
    assert POD == get_reference(core.Pod.from_dict({"metadata": META}))
    assert ObjectReference("Pod", api_version="v1") == get_reference(core.Pod())
    apps = imported("lightkube.resources.apps_v1")
    body = {"metadata": META, "spec": {"selector": {}, "template": {}}}
    assert "apps/v1" == get_reference(apps.Deployment.from_dict(body)).api_version


def test_generic_resources_of_lightkube():
    generic = imported("lightkube.generic_resource")
    meta = imported("lightkube.models.meta_v1")
    cls = generic.create_namespaced_resource("stable.example.com", "v1", "CronTab", "crontabs")
    assert CRON == get_reference(cls({"metadata": META}))
    assert CRON == get_reference(cls(metadata=meta.ObjectMeta(**META)), DEFAULT_SCHEME)
