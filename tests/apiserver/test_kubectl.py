"""The real kubectl against the server. ``KUBECTL`` names another one than that on the path."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime

import pytest
import yaml

from mpbroadcast.event.model import Event
from mpbroadcast.event.table import EVENTS_COLUMNS, GET_COLUMNS, NAMESPACE, WIDE_COLUMNS, Table
from tests.apiserver.running import core_event, new_event, serving

KUBECTL = os.environ.get("KUBECTL") or shutil.which("kubectl")

pytestmark = [pytest.mark.skipif(KUBECTL is None, reason="no kubectl here"), pytest.mark.slow]


@pytest.fixture(scope="module")
def environment(server, tmp_path_factory):
    """A home for these tests: the cache of kubectl lives there."""
    return os.environ | {"KUBECONFIG": str(server.folder / "config"), "HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.fixture
def kubectl(environment, namespace):
    def kubectl(*arguments, stdin=None, fails=False):
        command = [KUBECTL, "--namespace", namespace, *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=50, env=environment, check=False
        )
        assert fails == (done.returncode != 0), done.stderr
        return done.stderr if fails else done.stdout

    return kubectl


@pytest.fixture(scope="module")
def has_events_command(environment):
    done = subprocess.run([KUBECTL, "events", "--help"], capture_output=True, env=environment, check=False)
    return done.returncode == 0


def _ago(seconds):
    """A time that long ago; ages beyond ten minutes are shown in minutes, so a slow test shows the same."""
    return datetime.fromtimestamp(time.time() - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def two(call, core, new, namespace):
    """One old-style and one new-style event."""
    about = {"kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": "web-1", "uid": "u1"}
    old = core_event(
        "web-1.17a",
        namespace,
        involvedObject=about | {"fieldPath": "spec.containers{app}"},
        message="Successfully pulled image",
        count=3,
        firstTimestamp=_ago(2430),
        lastTimestamp=_ago(1230),
    )
    young = new_event("web-2.17b", namespace, eventTime=_ago(930).replace("Z", ".000001Z"))
    assert [201, 201] == [call("POST", core, old).code, call("POST", new, young).code]
    return [Event.from_core_v1(call("GET", f"{core}/{name}").json) for name in ("web-1.17a", "web-2.17b")]


def _table(columns, events):
    return "\n".join([*Table(columns).lines(events, time.time_ns()), ""])


def test_get_shows_the_columns_of_the_specification(kubectl, two):
    """F6, and the same as `mpbroadcast get` prints."""
    assert _table(GET_COLUMNS, two) == kubectl("get", "events")
    assert _table(GET_COLUMNS, two) == kubectl("get", "events.events.k8s.io")
    assert _table(WIDE_COLUMNS, two) == kubectl("get", "events", "-o", "wide")
    header = kubectl("get", "events").splitlines()[0]
    assert "LAST SEEN   TYPE      REASON             OBJECT      MESSAGE" == header


def test_get_of_all_namespaces_has_theirs_first(kubectl, two, namespace):
    lines = kubectl("get", "events", "-A", "--no-headers").splitlines()
    mine = [re.split(r" {2,}", line) for line in lines if line.startswith(f"{namespace} ")]
    assert ["20m", "15m"] == [line[1] for line in mine]
    only = kubectl("get", "events", "-A", "--field-selector", f"metadata.namespace={namespace}")
    assert _table((NAMESPACE, *GET_COLUMNS), two) == only


def test_get_in_other_forms(kubectl, two):
    listed = json.loads(kubectl("get", "events", "-o", "json"))
    assert [("Event", "v1")] * 2 == [(item["kind"], item["apiVersion"]) for item in listed["items"]]
    assert two == [Event.from_core_v1(item) for item in listed["items"]]
    listed = yaml.safe_load(kubectl("get", "events.events.k8s.io", "-o", "yaml"))
    assert two == [Event.from_events_v1(item) for item in listed["items"]]
    assert "event/web-1.17a\nevent/web-2.17b\n" == kubectl("get", "events", "-o", "name")
    assert "web-1.17a" == kubectl("get", "event", "web-1.17a", "-o", "jsonpath={.metadata.name}")


def test_get_selects_and_sorts(kubectl, two, call, core):
    assert "event/web-2.17b\n" == kubectl("get", "events", "--field-selector", "type=Warning", "-o", "name")
    call(
        "PATCH",
        f"{core}/web-1.17a",
        {"metadata": {"labels": {"a": "b"}}},
        {"Content-Type": "application/merge-patch+json"},
    )
    assert "event/web-1.17a\n" == kubectl("get", "events", "-l", "a in (b)", "-o", "name")
    # New-style events have no last time, so they come first.
    assert _table(GET_COLUMNS, two[::-1]) == kubectl("get", "events", "--sort-by=.lastTimestamp")
    assert "event/web-1.17a\nevent/web-2.17b\n" == kubectl("get", "events", "--chunk-size=1", "-o", "name")


def test_get_of_nothing_says_so(kubectl, namespace):
    assert "" == kubectl("get", "events")
    assert 'events "nobody" not found' in kubectl("get", "event", "nobody", "-n", "default", fails=True)
    assert "the server could not find the requested resource" in kubectl("get", "pods", fails=True)
    assert "the server doesn't have a resource type" in kubectl("get", "gadgets", fails=True)


def test_get_watches(environment, namespace, call, core, two):
    """Rows appear as they happen, changed and deleted ones too."""
    command = [KUBECTL, "--namespace", namespace, "get", "events", "-w"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        assert _table(GET_COLUMNS, two) == "".join(lines)
        call("POST", core, core_event("late", namespace, reason="Late"))
        assert re.search(r" Late +pod/web-1 ", process.stdout.readline())
        call("PATCH", f"{core}/late", {"reason": "Later"}, {"Content-Type": "application/merge-patch+json"})
        assert re.search(r" Later +pod/web-1 ", process.stdout.readline())
        call("DELETE", f"{core}/late")
        assert re.search(r" Later +pod/web-1 ", process.stdout.readline())
        process.terminate()


def test_the_events_command(kubectl, two, has_events_command):
    """F7."""
    if not has_events_command:
        pytest.skip("this kubectl has no 'events' command")
    assert _table(EVENTS_COLUMNS, two) == kubectl("events")
    assert _table(EVENTS_COLUMNS, two[1:]) == kubectl("events", "--types=Warning")


@pytest.mark.parametrize("name", ["pod/web-1", "pods/web-1", "po/web-1"])
def test_the_events_command_for_one_object(kubectl, two, has_events_command, name):
    """Discovery is asked what a pod is, though there are none here."""
    if not has_events_command:
        pytest.skip("this kubectl has no 'events' command")
    assert _table(EVENTS_COLUMNS, two[:1]) == kubectl("events", "--for", name)


def test_the_events_command_for_an_object_of_another_group(kubectl, call, core, namespace, has_events_command):
    if not has_events_command:
        pytest.skip("this kubectl has no 'events' command")
    about = {"kind": "Deployment", "apiVersion": "apps/v1", "namespace": namespace, "name": "web"}
    call("POST", core, core_event("web.1", namespace, involvedObject=about, reason="ScalingReplicaSet"))
    assert "ScalingReplicaSet" in kubectl("events", "--for", "deployment/web")
    assert "ScalingReplicaSet" in kubectl("events", "--for", "deploy/web")
    assert "ScalingReplicaSet" not in kubectl("events", "--for", "pod/web")


def test_describe_shows_every_field(kubectl, two):
    described = kubectl("describe", "event", "web-1.17a")
    for line in ("Name: +web-1.17a", "Count: +3", "Reason: +Pulled", "  Field Path: +spec.containers{app}"):
        assert re.search(f"^{line}$", described, re.MULTILINE)
    assert re.search(
        r"^Reporting Controller: +example.com/scheduler$",
        kubectl("describe", "events.events.k8s.io", "web-2.17b"),
        re.MULTILINE,
    )


@pytest.mark.parametrize("make", [core_event, new_event])
def test_create_apply_replace_and_delete(kubectl, namespace, make):
    body = make("web-1.17a", namespace)
    resource = "event" if make is core_event else "event.events.k8s.io"
    name = f"{resource}/web-1.17a"
    text = yaml.safe_dump(body)
    assert f"{name} created (server dry run)\n" == kubectl("create", "-f", "-", "--dry-run=server", stdin=text)
    assert f"{name} created\n" == kubectl("create", "-f", "-", stdin=text)
    assert "(AlreadyExists)" in kubectl("create", "-f", "-", stdin=text, fails=True)
    assert f"{name} configured\n" == kubectl("apply", "-f", "-", stdin=text)
    assert f"{name} unchanged\n" == kubectl("apply", "-f", "-", stdin=text)
    assert f"{name} replaced\n" == kubectl("replace", "-f", "-", stdin=text)
    assert f"{name} labeled\n" == kubectl("label", name, "a=b")
    assert kubectl("delete", name).startswith(f'{resource} "web-1.17a" deleted')
    assert "(NotFound)" in kubectl("delete", name, fails=True)


def test_delete_of_all(kubectl, two):
    assert ["web-1.17a", "web-2.17b"] == re.findall(r'event "(.*?)" deleted', kubectl("delete", "events", "--all"))
    assert "" == kubectl("get", "events")


def test_an_invalid_event_is_refused_with_its_cause(kubectl, namespace):
    text = yaml.safe_dump(new_event("e", namespace, reason=""))
    expected = 'The Event "e" is invalid: reason: Required value'
    assert expected in kubectl("create", "-f", "-", "--validate=false", stdin=text, fails=True)
    text = yaml.safe_dump(core_event("e", namespace, mesage="oops"))
    assert 'unknown field "mesage"' in kubectl("create", "-f", "-", stdin=text, fails=True)


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("strategic", {"count": 9}),
        ("merge", {"count": 9}),
        ("json", [{"op": "replace", "path": "/count", "value": 9}]),
    ],
)
def test_every_kind_of_patch(kubectl, two, call, core, kind, patch):
    assert "event/web-1.17a patched\n" == kubectl(
        "patch", "event", "web-1.17a", f"--type={kind}", "-p", json.dumps(patch)
    )
    assert 9 == call("GET", f"{core}/web-1.17a").json["count"]
    again = kubectl("patch", "event", "web-1.17a", f"--type={kind}", "-p", json.dumps(patch))
    assert "event/web-1.17a patched (no change)\n" == again


def test_discovery_is_understood(kubectl):
    resources = kubectl("api-resources", "--no-headers")
    assert [["events", "ev"], ["namespaces", "ns"], ["events", "ev"]] == [
        line.split()[:2] for line in resources.splitlines()
    ]
    assert {"events.k8s.io/v1", "v1", "apps/v1"} <= set(kubectl("api-versions").split())
    assert "v1.36.2+mpbroadcast" in kubectl("version")
    assert "such as `spec.containers{app}`" in " ".join(kubectl("explain", "event.involvedObject").split())
    assert "default" in kubectl("get", "namespaces", "-o", "name")


@pytest.mark.parametrize("tls", [True, False])
def test_a_token_reaches_the_server_over_https_only(tmp_path, tls):
    """In a kubeconfig for http, kubectl leaves the token out; so `serve` says."""
    if tls and shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    config = tmp_path / "config"
    with serving(tls=tls, token="s3cret", kubeconfig=str(config)) as server:
        environment = os.environ | {"KUBECONFIG": str(config), "HOME": str(tmp_path)}
        command = [KUBECTL, "get", "events", "-A", "-o", "name"]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=50, stdin=subprocess.DEVNULL
        )
        assert tls == (done.returncode == 0), done.stderr
    assert tls != any("kubectl sends a token over https only" in line for line in server.lines)
