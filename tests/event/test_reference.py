"""References to objects: R2, client-go's own rows, each kind of object, and what cannot be referred to."""

from __future__ import annotations

import enum
from collections import ChainMap, UserDict
from types import MappingProxyType, SimpleNamespace
from unittest.mock import MagicMock

import pytest

from mpbroadcast.errors import NilObject, NoReference, NoSchemeError, NotRegistered
from mpbroadcast.event import reference as module
from mpbroadcast.event.build import make_new_event
from mpbroadcast.event.names import is_dns_subdomain
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.event.reference import get_partial_reference, get_reference
from mpbroadcast.event.scheme import DEFAULT_SCHEME, Scheme

META = {"name": "web-1", "namespace": "ns", "uid": "u-1", "resourceVersion": "42"}
POD = ObjectReference("Pod", "ns", "web-1", "u-1", "v1", "42")
POD_BODY = {"apiVersion": "v1", "kind": "Pod", "metadata": META}
NOON_NS = 1_672_574_400_000_000_000  # 2023-01-01T12:00:00Z


class Thing:
    """A program's own class for a custom resource."""

    def __init__(self, metadata=None, **fields):
        self.metadata = metadata
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    "api_version",
    [
        pytest.param("v1", marks=pytest.mark.client_go("REF-01")),
        pytest.param("foo.group/v3", marks=pytest.mark.client_go("REF-02")),
    ],
)
def test_the_scheme_gives_the_version_of_an_object_that_says_nothing(api_version):
    scheme = Scheme()
    scheme.register(Thing, api_version)
    reference = get_reference(Thing(SimpleNamespace(name="a")), scheme)
    assert (api_version, "Thing", "a") == (reference.api_version, reference.kind, reference.name)


@pytest.mark.client_go("REF-03")
@pytest.mark.parametrize("obj", [Thing(META), {"metadata": META}, {}])
def test_without_a_scheme_an_object_that_says_nothing_is_refused(obj):
    with pytest.raises(NoSchemeError) as caught:
        get_reference(obj)
    assert "scheme is required to look up gvk" == str(caught.value)


@pytest.mark.client_go("REF-04")
def test_without_a_scheme_an_object_that_says_its_kind_is_fine():
    obj = Thing({"name": "a-name"}, kind="Bar", api_version="foo.group/v3")
    assert ObjectReference("Bar", name="a-name", api_version="foo.group/v3") == get_reference(obj)


@pytest.mark.client_go("DER-35")
def test_a_partial_reference_leaves_the_given_one_alone():
    """Deliberately better than client-go, which writes into the caller's reference (W42)."""
    before = tuple(POD)
    assert "spec.containers{app}" == get_partial_reference(POD, None, "spec.containers{app}").field_path
    assert before == tuple(POD)
    assert POD._replace(field_path="p") == get_partial_reference(POD_BODY, None, "p")


def test_a_field_path_is_a_string():
    with pytest.raises(NoReference, match="field path is int"):
        get_partial_reference(POD, None, 3)


def test_a_reference_is_given_back_as_it_is():
    for reference in (POD, ObjectReference()):
        assert reference is get_reference(reference)


class Body(UserDict):
    """A mapping that is no dict, as Kopf's body is one."""


@pytest.mark.parametrize("wrap", [dict, MappingProxyType, Body, ChainMap])
def test_any_mapping_is_an_object(wrap):
    assert POD == get_reference(wrap({**POD_BODY, "metadata": wrap(META)}))


def test_what_is_missing_or_null_in_a_mapping_is_empty():
    assert ObjectReference("Node", name="n1", api_version="v1") == get_reference(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "namespace": None}}
    )
    assert ObjectReference("Pod") == get_reference({"kind": "Pod"})
    assert ObjectReference("Pod", api_version="v1") == get_reference({**POD_BODY, "metadata": None})


def test_a_list_has_kind_version_and_resource_version():
    body = {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": []}
    assert ObjectReference("PodList", api_version="v1", resource_version="7") == get_reference(body)


def test_a_mapping_without_metadata_but_with_a_name_is_a_reference():
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u"}
    assert ObjectReference("ReplicaSet", name="rs", uid="u", api_version="apps/v1") == get_reference(owner)
    involved = {"kind": "Pod", "namespace": "ns", "name": "p", "resourceVersion": "1", "fieldPath": "spec"}
    assert ObjectReference("Pod", "ns", "p", resource_version="1", field_path="spec") == get_reference(involved)


@pytest.mark.parametrize(
    ("given", "taken"),
    [("v1", "v1"), ("apps/v1", "apps/v1"), ("/v1", "v1"), ("a/b/c", ""), ("/", ""), ("apps/", "apps/")],
)
@pytest.mark.parametrize("make", [dict, Thing])
def test_an_api_version_is_read_as_go_reads_it(make, given, taken):
    assert taken == get_reference(make(apiVersion=given, kind="Pod", metadata={"name": "x"})).api_version


def test_kinds_may_be_enum_members():
    word = enum.StrEnum("Word", {"POD": "Pod"})
    assert POD == get_reference({**POD_BODY, "kind": word.POD})


def test_metadata_of_any_make():
    for meta in (META, MappingProxyType(META), SimpleNamespace(**META), SimpleNamespace(**META, resource_version=None)):
        assert POD == get_reference(Thing(meta, kind="Pod", apiVersion="v1"))
    assert POD == get_reference(Thing({**META, "resource_version": "42"}, kind="Pod", api_version="v1"))


# --- models of the official client -----------------------------------------------------------------------------------


def test_a_model_that_carries_its_kind(model, metadata):
    meta = metadata(name="web-1", namespace="ns", uid="u-1", resource_version="42")
    assert POD == get_reference(model("V1Pod", api_version="v1", kind="Pod", metadata=meta))
    deployment = get_reference(model("V1Deployment", api_version="apps/v1", kind="Deployment", metadata=meta))
    assert POD._replace(kind="Deployment", api_version="apps/v1") == deployment


def test_a_model_out_of_a_list_carries_nothing(model, metadata):
    meta = metadata(name="web-1", namespace="ns", uid="u-1", resource_version="42")
    assert POD == get_reference(model("V1Pod", metadata=meta), DEFAULT_SCHEME)
    with pytest.raises(NoSchemeError):
        get_reference(model("V1Pod", metadata=meta))


def test_a_list_model(model):
    listed = model("V1PodList", items=[], metadata=model("V1ListMeta", resource_version="7"))
    assert ObjectReference("PodList", api_version="v1", resource_version="7") == get_reference(listed, DEFAULT_SCHEME)


def test_a_model_without_metadata_yet(model):
    assert ObjectReference("Pod", api_version="v1") == get_reference(model("V1Pod"), DEFAULT_SCHEME)


def test_a_model_whose_metadata_is_a_mapping(model):
    assert POD == get_reference(model("V1Pod", metadata=dict(META)), DEFAULT_SCHEME)


def test_a_subclass_of_a_model(model, metadata):
    class Mine(type(model("V1Pod"))):
        pass

    construct = getattr(Mine, "model_construct", Mine)
    reference = get_reference(construct(metadata=metadata(name="web-1")), DEFAULT_SCHEME)
    assert ("Pod", "v1", "web-1") == (reference.kind, reference.api_version, reference.name)


def test_what_to_dict_gives(model, metadata):
    pod = model("V1Pod", api_version="v1", kind="Pod", metadata=metadata(name="web-1", resource_version="42"))
    assert ObjectReference("Pod", name="web-1", api_version="v1", resource_version="42") == get_reference(pod.to_dict())


def test_models_of_the_asyncio_client():
    client = pytest.importorskip("kubernetes.aio.client", reason="this client has no asyncio part")
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="web-1"))
    assert ObjectReference("Pod", name="web-1", api_version="v1") == get_reference(pod, DEFAULT_SCHEME)


def test_a_part_of_an_object_is_no_object(model):
    with pytest.raises(NoReference, match="a V1Container, has no metadata: give"):
        get_reference(model("V1Container", name="app"), DEFAULT_SCHEME)


# --- what cannot be referred to --------------------------------------------------------------------------------------


@pytest.mark.client_go("DER-17")
def test_none_is_no_object():
    with pytest.raises(NilObject) as caught:
        get_reference(None, DEFAULT_SCHEME)
    assert "can't reference a nil object" == str(caught.value)


@pytest.mark.client_go("DER-17")
def test_an_unregistered_class_says_what_to_do():
    with pytest.raises(NotRegistered, match=r"no kind is registered for the type .*Thing: set kind and apiVersion"):
        get_reference(Thing(META), DEFAULT_SCHEME)


class Broken:
    kind = "Pod"
    api_version = "v1"

    @property
    def metadata(self):
        raise RuntimeError("not\nloaded")


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        ("pod/web-1", "a str, has no metadata"),
        (b"{}", "a bytes, has no metadata"),
        (3, "a int, has no metadata"),
        ([POD_BODY], "a list, has no metadata"),
        (object(), "a object, has no metadata"),
        (Thing, "the class Thing itself"),
        (ObjectReference, "the class ObjectReference itself"),
        (MagicMock(), "kind is MagicMock, not a string"),
        ({"metadata": META}, "neither kind nor apiVersion"),
        ({**POD_BODY, "metadata": {"name": 1}}, "metadata.name is int, not a string"),
        ({**POD_BODY, "metadata": {**META, "uid": b"u"}}, "metadata.uid is bytes, not a string"),
        ({**POD_BODY, "metadata": {**META, "namespace": ["a"]}}, "metadata.namespace is list, not a string"),
        ({**POD_BODY, "metadata": {**META, "resourceVersion": 42}}, "resourceVersion is int, not a string"),
        ({**POD_BODY, "apiVersion": 1}, "apiVersion is int, not a string"),
        ({**POD_BODY, "kind": 1}, "kind is int, not a string"),
        ({**POD_BODY, "metadata": "web-1"}, "metadata is str, not a mapping"),
        ({**POD_BODY, "metadata": [META]}, "metadata is list, not a mapping"),
        ({"kind": "Pod", "name": "x", "fieldPath": 3}, "fieldPath is int, not a string"),
        (Broken(), "a Broken, cannot be read: RuntimeError: not loaded"),
        (Thing({"name": object()}, kind="Pod"), "metadata.name is object, not a string"),
    ],
)
def test_wrong_objects_get_one_clear_line(obj, text):
    with pytest.raises(NoReference) as caught:
        get_reference(obj, DEFAULT_SCHEME)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert NoReference is type(caught.value)


def test_classes_made_on_the_fly_are_not_kept_for_ever():
    for number in range(1100):
        get_reference(type(f"T{number}", (Thing,), {})({"name": "x"}, kind="K"))
    assert len(module._READERS) <= 1024


# --- client-go's rows for the new recorder, as far as they are about references and names ----------------------------


@pytest.mark.parametrize(
    ("reference", "namespace", "plain"),
    [
        pytest.param(
            ObjectReference("Pod", "ns1", "pod1", "12345", "v1"), "ns1", True, marks=pytest.mark.client_go("EVR-01")
        ),
        pytest.param(
            ObjectReference("IPAddress", "", "2001:db8::123", "", "networking.k8s.io/v1"),
            "default",
            False,
            marks=pytest.mark.client_go("EVR-03"),
        ),
        pytest.param(
            ObjectReference("Pod", "ns1", ("a" * 253) * 4, "12345", "v1"),
            "ns1",
            False,
            marks=pytest.mark.client_go("EVR-04"),
        ),
    ],
)
def test_the_new_recorders_events(reference, namespace, plain):
    source = EventSource("c1", "i1")
    event = make_new_event(reference, "Normal", "Started", "Pod started", NOON_NS, source=source, action="starting")
    assert (namespace, reference, None) == (event.namespace, event.involved_object, event.related)
    assert plain == (event.name == f"{reference.name}.{NOON_NS:x}")
    assert is_dns_subdomain(event.name)
    assert ("Normal", "Started", "starting", "Pod started") == (event.type, event.reason, event.action, event.message)
    assert ("c1", "c1-i1", NOON_NS) == (event.reporting_controller, event.reporting_instance, event.event_time)
    assert (0, None, None, None) == (event.count, event.first_timestamp, event.last_timestamp, event.series)


@pytest.mark.client_go("EVR-02")
def test_the_new_recorders_event_with_a_related_object():
    pod, node = (
        ObjectReference("Pod", "ns1", "pod1", "12345", "v1"),
        ObjectReference("Node", "", "node1", "67890", "v1"),
    )
    note = "Pod failed to schedule on node1: not enough resources"
    event = make_new_event(
        pod, "Warning", "FailedScheduling", note, NOON_NS, source=EventSource("c1"), action="scheduling", related=node
    )
    assert (pod, node, note) == (event.involved_object, event.related, event.message)
