"""Events for sinks."""

from __future__ import annotations

import pytest

from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference

START_NS = 1_767_323_045_123_456_789

POD_A = ObjectReference(
    kind="Pod", namespace="baz", name="foo", uid="bar", api_version="v1", field_path="spec.containers[2]"
)
"""The reference A of spec part 3."""


@pytest.fixture
def make_event():
    """Makes an event as a recorder would; any field can be given."""

    def make(now_ns=START_NS, **fields):
        reference = fields.pop("involved_object", POD_A)
        defaults = {
            "name": f"{reference.name}.{now_ns:x}",
            "namespace": reference.namespace or "default",
            "involved_object": reference,
            "type": "Normal",
            "reason": "Started",
            "message": "some verbose message: 1",
            "source": EventSource("eventTest"),
            "reporting_controller": "eventTest",
            "count": 1,
            "first_timestamp": now_ns,
            "last_timestamp": now_ns,
        }
        return Event(**(defaults | fields))

    return make
