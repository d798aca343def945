"""``mpbroadcast record``: one event from a shell script."""

from __future__ import annotations

import subprocess
import time

import pytest

from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.store.sqlite import Store

from .conftest import PROGRAM, clean_environment

SCRIPT = ["--reason", "BackupFailed", "--message", "no space left", "--type", "warning"]


@pytest.fixture
def stored(tmp_path):
    def read():
        with Store.open(tmp_path / "events.db", read_only=True) as store:
            return store.list().events

    return read


def test_an_event_is_created_with_all_that_was_said(cli, stored):
    before = time.time_ns() // 1_000_000_000
    done = cli(
        "record", "pod/web-1", *SCRIPT, "-n", "shop", "--action", "Copy", "--component", "nightly", "--uid", "u-1",
        "--annotation", "a=b", "--annotation", "c=d=e",
    )  # fmt: skip
    [event] = stored()
    assert f"event/{event.name} created\n" == done.stdout
    assert ObjectReference("Pod", "shop", "web-1", "u-1", "v1") == event.involved_object
    assert ("shop", "Warning", "BackupFailed", "no space left") == (
        event.namespace, event.type, event.reason, event.message,
    )  # fmt: skip
    assert ("Copy", ("nightly", ""), "nightly") == (event.action, event.source, event.reporting_controller)
    assert {"a": "b", "c": "d=e"} == dict(event.annotations)
    assert (1, event.first_timestamp) == (event.count, event.last_timestamp)
    assert before <= event.first_timestamp // 1_000_000_000 <= time.time()
    assert event.name.startswith("web-1.")


def test_the_same_event_again_is_counted(cli, stored):
    first = cli("record", "pod/web-1", *SCRIPT).stdout
    second = cli("record", "Pod/web-1", *SCRIPT).stdout
    assert first.replace("created", "counted") == second
    [event] = stored()
    assert 2 == event.count
    assert event.last_timestamp >= event.first_timestamp


@pytest.mark.parametrize(
    "other",
    [
        ["pod/web-2", *SCRIPT],
        ["service/web-1", *SCRIPT],
        ["pod/web-1", *SCRIPT, "--component", "other"],
        ["pod/web-1", *SCRIPT, "-n", "shop"],
        ["pod/web-1", *SCRIPT, "--uid", "u-2"],
        ["pod/web-1", *SCRIPT[:-1], "normal"],
        ["pod/web-1", "--reason", "Other", *SCRIPT[2:]],
        ["pod/web-1", *SCRIPT[:2], "--message", "other", *SCRIPT[4:]],
    ],
)
def test_what_differs_in_one_thing_is_another_event(cli, stored, other):
    cli("record", "pod/web-1", *SCRIPT)
    assert "created" in cli("record", *other).stdout
    assert [1, 1] == [event.count for event in stored()]


def test_ten_scripts_at_once_count_to_ten(cli, stored):
    """Looking up and counting is one transaction: no count is lost between two processes."""
    command = [*PROGRAM, "record", "pod/web-1", *SCRIPT]
    several = [
        subprocess.Popen(command, cwd=cli.directory, env=clean_environment(), stdout=subprocess.DEVNULL)
        for _ in range(10)
    ]
    assert [0] * 10 == [process.wait(timeout=50) for process in several]
    [event] = stored()
    assert 10 == event.count


@pytest.mark.parametrize(
    ("typed", "kind", "api_version", "namespace"),
    [
        ("pod/x", "Pod", "v1", "default"),
        ("po/x", "Pod", "v1", "default"),
        ("deployments/x", "Deployment", "apps/v1", "default"),
        ("deploy/x", "Deployment", "apps/v1", "default"),
        ("DEPLOYMENT.apps/x", "Deployment", "apps/v1", "default"),
        ("ingresses/x", "Ingress", "networking.k8s.io/v1", "default"),
        ("networkpolicies/x", "NetworkPolicy", "networking.k8s.io/v1", "default"),
        ("job/x", "Job", "batch/v1", "default"),
        ("hpa/x", "HorizontalPodAutoscaler", "autoscaling/v2", "default"),
        ("node/x", "Node", "v1", ""),
        ("pv/x", "PersistentVolume", "v1", ""),
        ("Backup/x", "Backup", "v1", "default"),
        ("Backup.v1beta1.example.com/x", "Backup", "example.com/v1beta1", "default"),
        ("Backup.example.com/x", "Backup", "example.com/v1", "default"),
        ("Deployment.example.com/x", "Deployment", "example.com/v1", "default"),
    ],
)
def test_kinds_are_written_as_kubernetes_writes_them(cli, stored, typed, kind, api_version, namespace):
    cli("record", typed, "--reason", "R", "--message", "m")
    [event] = stored()
    assert ObjectReference(kind, namespace, "x", api_version=api_version) == event.involved_object
    assert "default" == event.namespace


def test_a_given_api_version_is_taken(cli, stored):
    cli("record", "Backup/x", "--reason", "R", "--message", "m", "--api-version", "example.com/v1beta2")
    assert "example.com/v1beta2" == stored()[0].involved_object.api_version


def test_an_object_whose_name_no_event_can_have_gets_one_all_the_same(cli, stored):
    cli("record", "pod/UPPER:case", "--reason", "R", "--message", "m")
    [event] = stored()
    assert "UPPER:case" == event.involved_object.name
    assert "UPPER" not in event.name
