"""Recorded answers of client-go: a module that names files in ``VECTOR_FILES`` gets each of their cases as ``case``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference


def vectors_folder() -> Path:
    default = Path(__file__).parents[2].parent / "shared" / "vectors"
    return Path(os.environ.get("MPBROADCAST_VECTORS") or default)


def load(name):
    """The cases of one file; None where the recorded answers are not at hand."""
    path = vectors_folder() / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def absent(name):
    return f"no {name}.json here; MPBROADCAST_VECTORS names its folder"


def pytest_generate_tests(metafunc):
    files = getattr(metafunc.module, "VECTOR_FILES", ())
    elsewhere = getattr(metafunc.module, "VECTOR_CASES_ELSEWHERE", ())
    if not files or "case" not in metafunc.fixturenames:
        return
    cases = []
    for name in files:
        recorded = load(name)
        if recorded is None:
            cases.append(pytest.param(None, id=name, marks=pytest.mark.skip(reason=absent(name))))
            continue
        cases += [pytest.param(case, id=f"{name}:{case['name']}") for case in recorded if case["name"] not in elsewhere]
    metafunc.parametrize("case", cases)


@pytest.fixture
def recorded_case():
    """One recorded case by its file and name."""

    def find(file, name):
        recorded = load(file)
        if recorded is None:
            pytest.skip(absent(file))
        return next(case for case in recorded if case["name"] == name)

    return find


START_NS = 1_767_323_045_123_456_789

POD = ObjectReference(
    kind="Pod",
    namespace="test",
    name="foobar",
    uid="C934D34AFB20242",
    api_version="version",
    field_path="spec.containers{mycontainer}",
)
"""The object of client-go's correlator tests (spec 3.2)."""


@pytest.fixture
def make_event():
    """Makes an event as a recorder would, with client-go's common test data; any field can be given."""

    def make(now_ns=START_NS, **fields):
        reference = fields.pop("involved_object", POD)
        source = fields.pop("source", EventSource("kubelet", "kublet.node1"))
        defaults = {
            "name": f"{reference.name}.{now_ns:x}",
            "namespace": reference.namespace or "default",
            "involved_object": reference,
            "type": "Normal",
            "reason": "Reason",
            "message": "message",
            "source": source,
            "reporting_controller": source.component,
            "reporting_instance": source.host,
            "count": 1,
            "first_timestamp": now_ns,
            "last_timestamp": now_ns,
        }
        return Event(**(defaults | fields))

    return make
