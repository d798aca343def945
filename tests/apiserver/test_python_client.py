"""The official Python client against the server: CoreV1Api, EventsV1Api, watch.Watch."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

from tests.apiserver.running import core_event

WHEN = datetime(2026, 11, 25, 3, 0, 0, tzinfo=UTC)


@pytest.fixture
def api_client(server):
    with config.new_client_from_config(config_file=str(server.folder / "config")) as api_client:
        yield api_client


@pytest.fixture
def core_api(api_client):
    return client.CoreV1Api(api_client)


@pytest.fixture
def events_api(api_client):
    return client.EventsV1Api(api_client)


def _core_event(name, namespace, **fields):
    return client.CoreV1Event(
        metadata=client.V1ObjectMeta(name=name, namespace=namespace),
        involved_object=client.V1ObjectReference(kind="Pod", api_version="v1", name="web-1", namespace=namespace),
        reason="Pulled",
        message="Pulled the image",
        type="Normal",
        count=1,
        first_timestamp=WHEN,
        last_timestamp=WHEN,
        source=client.V1EventSource(component="kubelet"),
        **fields,
    )


def test_core_events_live_their_life(core_api, namespace):
    created = core_api.create_namespaced_event(namespace, _core_event("a", namespace))
    assert ("a", WHEN) == (created.metadata.name, created.first_timestamp)
    patched = core_api.patch_namespaced_event("a", namespace, {"count": 2})
    assert 2 == patched.count
    patched.message = "other"
    assert "other" == core_api.replace_namespaced_event("a", namespace, patched).message
    listed = core_api.list_namespaced_event(namespace, field_selector="involvedObject.name=web-1", limit=10)
    assert ["a"] == [event.metadata.name for event in listed.items]
    assert "a" in [event.metadata.name for event in core_api.list_event_for_all_namespaces().items]
    assert namespace in [found.metadata.name for found in core_api.list_namespace().items]
    deleted = core_api.delete_namespaced_event("a", namespace)  # what it is depends on the client's release
    assert "Success" == (deleted["status"] if isinstance(deleted, dict) else deleted.status)
    with pytest.raises(ApiException) as refused:
        core_api.read_namespaced_event("a", namespace)
    assert 404 == refused.value.status


def test_new_events_live_their_life(events_api, core_api, namespace):
    event = client.EventsV1Event(
        metadata=client.V1ObjectMeta(name="e", namespace=namespace),
        regarding=client.V1ObjectReference(kind="Pod", api_version="v1", name="web-2", namespace=namespace),
        event_time=WHEN,
        action="Binding",
        reason="Scheduled",
        note="Assigned",
        type="Normal",
        reporting_controller="example.com/scheduler",
        reporting_instance="scheduler-1",
    )
    events_api.create_namespaced_event(namespace, event)
    series = {"series": {"count": 2, "lastObservedTime": "2026-11-25T03:00:01.000001Z"}}
    assert 2 == events_api.patch_namespaced_event("e", namespace, series).series.count
    assert "Assigned" == core_api.read_namespaced_event("e", namespace).message
    events_api.delete_collection_namespaced_event(namespace)
    assert [] == events_api.list_namespaced_event(namespace).items
    assert [] == core_api.list_namespaced_event(namespace).items


def test_a_watch_yields_objects_and_stops(core_api, namespace):
    core_api.create_namespaced_event(namespace, _core_event("a", namespace))
    watching = watch.Watch()
    heard = []
    for change in watching.stream(core_api.list_namespaced_event, namespace, timeout_seconds=20):
        heard.append((change["type"], change["object"].metadata.name))
        if change["object"].metadata.name == "b":
            watching.stop()
        else:
            thread = threading.Thread(
                target=core_api.create_namespaced_event, args=(namespace, _core_event("b", namespace))
            )
            thread.start()
    thread.join()
    assert [("ADDED", "a"), ("ADDED", "b")] == heard


def test_a_refusal_carries_its_status(core_api, namespace):
    core_api.create_namespaced_event(namespace, _core_event("a", namespace))
    with pytest.raises(ApiException) as refused:
        core_api.create_namespaced_event(namespace, core_event("a", namespace))
    assert (409, True) == (refused.value.status, "AlreadyExists" in refused.value.body)


def test_the_server_is_known_by_its_version_and_groups(api_client):
    assert "36" == client.VersionApi(api_client).get_code().minor
    groups = client.ApisApi(api_client).get_api_versions().groups
    assert ["events.k8s.io", "apps"] == [group.name for group in groups][:2]
    assert {"events", "namespaces"} == {
        found.name for found in client.CoreV1Api(api_client).get_api_resources().resources if found.verbs
    }
