"""Objects of every make, and the recorded answers of client-go that are about references and events."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

FILE = "reference-makeevent"


def _recorded():
    default = Path(__file__).parents[2].parent / "shared" / "vectors"
    path = Path(os.environ.get("MPBROADCAST_VECTORS") or default) / f"{FILE}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


CASES = {
    "case": lambda _: True,
    "event_case": lambda case: case.get("core_v1_event") is not None,
    "refused_case": lambda case: case.get("core_v1_event") is None,
    "object_case": lambda case: case.get("reference") and case["go_type"] != "*v1.ObjectReference",
    "reference_case": lambda case: case["go_type"] == "*v1.ObjectReference" and case["input"] is not None,
}
"""Which of the recorded cases a test gets, by the name of its argument."""


def pytest_generate_tests(metafunc):
    recorded = _recorded()
    for name in CASES.keys() & set(metafunc.fixturenames):
        if recorded is None:
            reason = f"no {FILE}.json here; MPBROADCAST_VECTORS names its folder"
            metafunc.parametrize(name, [pytest.param(None, id=FILE, marks=pytest.mark.skip(reason=reason))])
            continue
        common = {key: value for key, value in recorded.items() if key != "cases"}
        cases = [case for case in recorded["cases"] if CASES[name](case)]
        metafunc.parametrize(name, [pytest.param(common | case, id=case["name"]) for case in cases])


@pytest.fixture
def model():
    """Makes a model of the installed official client, whichever version it is, without checking what is required."""
    client = pytest.importorskip("kubernetes.client", reason="the official client is not installed")

    def make(cls_name, /, **fields):
        cls = getattr(client, cls_name)
        construct = getattr(cls, "model_construct", None)
        return cls(**fields) if construct is None else construct(**fields)

    return make


@pytest.fixture
def metadata(model):
    """Makes a V1ObjectMeta."""

    def make(**fields):
        return model("V1ObjectMeta", **fields)

    return make
