"""Small segments, and watches on them without any helper process."""

from __future__ import annotations

import contextlib
import time

import pytest

from mpbroadcast.ring import _ring
from mpbroadcast.ring.segment import Segment

RING_BYTES = 64 << 10


def make_segment(**sizes):
    options = {"lanes": 4, "lane_bytes": RING_BYTES, "slots": 4, "slot_bytes": RING_BYTES, "queue_length": None}
    return Segment.create(name="test", **options | sizes)


def watch(ring, policy=_ring.POLICY_DROP, *, limit=0, name=b"w", managed=False):
    """Claims and registers a slot; its index."""
    slot = ring.claim_slot(name, policy, managed, limit)
    assert slot >= 0
    ring.slot_set(slot, "start_ts", time.monotonic_ns())
    assert ring.slot_state_change(slot, _ring.SLOT_CLAIMED, _ring.SLOT_REGISTERED)
    return slot


def stop(ring, slot):
    ring.slot_set(slot, "stop_ts", time.monotonic_ns())
    for state in (_ring.SLOT_REGISTERED, _ring.SLOT_ACTIVE):
        ring.slot_state_change(slot, state, _ring.SLOT_STOPPING)


def distribute(distributor, steps=12):
    """Enough steps for all that a small segment holds."""
    return any(distributor.run(0) for _ in range(steps))


def slot_numbers(ring, slot):
    return next(one for one in ring.snapshot()["slots"] if one["index"] == slot)


def lane_numbers(ring, lane=None):
    lane = ring.lane_index() if lane is None else lane
    return next(one for one in ring.snapshot()["lanes"] if one["index"] == lane)


@pytest.fixture
def segment():
    made = make_segment()
    yield made
    with contextlib.suppress(Exception):
        made.close()


@pytest.fixture
def ring(segment):
    return segment.ring
