"""The recorded answers of kube-apiserver v1.36.2: the same code, the same words, the same stored object."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.apiserver.running import CORE, NEW, Client, serving

_FOLDER = Path(os.environ.get("MPBROADCAST_VECTORS") or Path(__file__).parents[2].parent / "shared" / "vectors")
_FILE = _FOLDER / "apiserver-validation.json"
_CASES = json.loads(_FILE.read_text()) if _FILE.exists() else []

pytestmark = pytest.mark.skipif(not _CASES, reason=f"no {_FILE.name} here; MPBROADCAST_VECTORS names its folder")


@pytest.fixture(scope="module")
def call():
    """A server that has the recorded namespace and no other."""
    with serving(namespaces=["val"]) as running:
        client = Client(running.url)
        yield client
        client.close()


def _same_object(recorded, answered):
    """Compare, key by key in order, but for what the server makes up."""
    recorded, answered = json.loads(json.dumps(recorded)), json.loads(json.dumps(answered))
    for key, pattern in (
        ("uid", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ("resourceVersion", r"[1-9][0-9]*"),
        ("creationTimestamp", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    ):
        assert re.fullmatch(pattern, answered["metadata"].pop(key))
        del recorded["metadata"][key]
    assert list(recorded.items()) == list(answered.items())


@pytest.mark.parametrize("case", _CASES, ids=[case["name"] for case in _CASES])
def test_a_create_is_answered_as_the_real_server_answered_it(call, case):
    path = f"{CORE if case['api'] == 'core' else NEW}/namespaces/{case['namespace_in_url']}/events"
    answer = call("POST", path, case["body"])
    assert case["code"] == answer.code, answer.body
    if answer.code == 201:
        _same_object(case["stored"], answer.json)
    else:
        assert (case["reason"], case["message"]) == (answer.json["reason"], answer.json["message"])
        assert case["code"] == answer.json["code"]
    version = 0
    for step in case["patches"]:
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        answer = call("PATCH", f"{path}/{case['body']['metadata']['name']}", step["patch"], headers)
        assert step["code"] == answer.code, answer.body
        assert int(answer.json["metadata"]["resourceVersion"]) > version
        version = int(answer.json["metadata"]["resourceVersion"])
        _same_object(step["stored"], answer.json)


def test_a_refusal_names_every_field_as_a_cause(call):
    path = f"{NEW}/namespaces/val/events"
    body = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "bad"}, "type": "Odd"}
    answer = call("POST", path, body | {"deprecatedCount": 3, "deprecatedSource": {"component": "x"}})
    assert 422 == answer.code
    causes = {(cause["field"], cause["reason"]) for cause in answer.json["details"]["causes"]}
    expected = {
        ("involvedObject.namespace", "FieldValueInvalid"),
        ("eventTime", "FieldValueRequired"),
        ("type", "FieldValueInvalid"),
        ("count", "FieldValueInvalid"),
        ("source", "FieldValueInvalid"),
    }
    assert expected == causes
    assert ("bad", "Event") == (answer.json["details"]["name"], answer.json["details"]["kind"])
