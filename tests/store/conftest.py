"""Stores and events for them."""

from __future__ import annotations

import pytest

from mpbroadcast.event.codec import encode_record, encode_static
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.store.sqlite import Store
from mpbroadcast.testing.clocks import SteppingClock

START_NS = 1_767_323_045_123_456_789
SECOND = 1_000_000_000


@pytest.fixture
def clock():
    return SteppingClock(START_NS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@pytest.fixture
def store(path, clock):
    with Store.open(path, clock=clock) as store:
        yield store


@pytest.fixture
def make_event():
    """Makes the event of a number about an object of that number; any field can be given."""

    def make(number=1, **fields):
        pod = ObjectReference("Pod", "apps", f"web-{number}", f"uid-{number}", "v1")
        reference = fields.pop("involved_object", pod)
        t_ns = START_NS + number
        defaults = {
            "name": f"{reference.name}.{t_ns:x}",
            "namespace": reference.namespace or "default",
            "involved_object": reference,
            "type": "Normal",
            "reason": "Started",
            "message": f"message {number}",
            "source": EventSource("kubelet", "node-1"),
            "reporting_controller": "kubelet",
            "reporting_instance": "node-1",
            "count": 1,
            "first_timestamp": t_ns,
            "last_timestamp": t_ns,
        }
        return Event(**(defaults | fields))

    return make


@pytest.fixture
def make_payload():
    """Makes the ring payload of a number, as a recorder would."""

    def make(number=1, message=None, **extras):
        reference = ObjectReference("Pod", "apps", f"web-{number % 50}", f"uid-{number % 50}", "v1")
        static = encode_static(reference, "Normal", "Started", EventSource("kubelet", "node-1"))
        return encode_record(START_NS + number, static, f"message {number}" if message is None else message, **extras)

    return make
