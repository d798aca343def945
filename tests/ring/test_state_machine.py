"""Hypothesis drives the C path and its model in plain Python, and compares every number after every step.

Three lanes as three processes would own them, three watcher slots, rings of 64 KiB so that they wrap, the distributor
stepped by hand and killed between any two of its steps.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from mpbroadcast.ring import _ring
from tests.ring.conftest import RING_BYTES, make_segment
from tests.ring.model import FULL, HEADER, OK, STOPPED, TOO_LARGE, ModelRing
from tests.ring.path_model import ACTIVE, CLOSED, ENDED, REGISTERED, STOPPING, ModelPath, ModelSlot

LANES, SLOTS = 3, 3
REASONS = {FULL: _ring.FULL, TOO_LARGE: _ring.TOO_LARGE, STOPPED: _ring.STOPPED}
OUTCOMES = {"handled": _ring.HANDLED, "failed": _ring.FAILED, "given_up": _ring.GIVEN_UP, "filtered": _ring.FILTERED}
STATES = {
    REGISTERED: _ring.SLOT_REGISTERED, ACTIVE: _ring.SLOT_ACTIVE, STOPPING: _ring.SLOT_STOPPING,
    CLOSED: _ring.SLOT_CLOSED, ENDED: _ring.SLOT_ENDED,
}  # fmt: skip
LARGEST = RING_BYTES // 2 - 32 - HEADER
sizes = st.integers(0, 700) | st.integers(0, LARGEST + 8) | st.sampled_from([0, 8, LARGEST, LARGEST + 1])


class RingsAgree(RuleBasedStateMachine):
    slots = Bundle("slots")

    @initialize(lane_limit=st.sampled_from([0, 0, 5, 100]))
    def begin(self, lane_limit):
        self.segment = make_segment(lanes=LANES, slots=SLOTS, queue_length=lane_limit or None)
        self.ring = self.segment.ring
        self.producers = {}
        for _ in range(LANES):  # each its own description of locks, as a process of its own would have
            self._claim()
        self.model = ModelPath(LANES, RING_BYTES, lane_limit)
        self.refused = {(lane, reason): 0 for lane in range(LANES) for reason in REASONS}
        self.readers = {}
        self.distributor = _ring.Distributor(self.ring)
        self.number = 0
        self.reusable = []

    def _claim(self):
        producer = _ring.Segment(self.segment.fd)
        self.producers[producer.claim_lane()] = producer
        assert len(self.producers) == len({p.lane_index() for p in self.producers.values()})

    # ---- producers

    @rule(lane=st.integers(0, LANES - 1), size=sizes, burst=st.integers(1, 3) | st.just(70))
    def put(self, lane, size, burst):
        for _ in range(burst):
            self.number += 1
            payload = (b"%d " % self.number).ljust(size, b"x")[:size]
            expected = self.model.put(lane, payload)
            assert (expected == OK) == self.producers[lane].put(payload, 5), expected
            if expected != OK:
                self.refused[lane, expected] += 1

    @rule(lane=st.integers(0, LANES - 1))
    @precondition(lambda self: not self.model.draining)
    def producer_dies_and_another_takes_its_lane(self, lane):
        assert self.producers.pop(lane).close()
        self._claim()
        assert lane in self.producers
        self.model.lanes[lane].look()

    # ---- watches

    @rule(target=slots, waits=st.booleans(), limit=st.sampled_from([0, 0, 3, 50]), prefix=st.lists(sizes, max_size=3))
    def watch(self, waits, limit, prefix):
        policy = _ring.POLICY_WAIT if waits else _ring.POLICY_DROP
        slot = self.ring.claim_slot(b"w", policy, False, limit)
        free = [j for j in range(SLOTS) if j not in self.model.slots]
        if not free or self.model.draining:
            if slot >= 0:
                self.ring.slot_set(slot, "consumer_pid", 0)  # as if its registrant had died here: claimed again
            return None
        assert slot == free[0]
        fresh = ModelRing(RING_BYTES)
        for size in prefix:
            expected = fresh.put(bytes(size))
            fresh.look()
            assert (expected == OK) == (self.ring.prefix(slot, 1, bytes(size)) == _ring.OK)
        fresh.limit = limit
        self.model.slots[slot] = ModelSlot(fresh, waits, next(self.model.clock))
        self.ring.slot_set(slot, "start_ts", time.monotonic_ns())
        assert self.ring.slot_state_change(slot, _ring.SLOT_CLAIMED, _ring.SLOT_REGISTERED)
        self.readers[slot] = _ring.Reader(self.ring, slot)
        return slot

    @rule(slot=slots)
    def stop(self, slot):
        model = self.model.slots.get(slot)
        if model is None:
            return
        if model.state in (REGISTERED, ACTIVE):
            self.ring.slot_set(slot, "stop_ts", time.monotonic_ns())
        for state in (REGISTERED, ACTIVE):
            changed = self.ring.slot_state_change(slot, STATES[state], _ring.SLOT_STOPPING)
            assert changed == (model.state == state)
            if changed:
                model.state, model.stop = STOPPING, next(self.model.clock)

    @rule(slot=consumes(slots))
    def free(self, slot):
        """The consumer of an ended watch gives its slot back, if everything was read."""
        model = self.model.slots.get(slot)
        if model is not None and model.state == CLOSED and not model.ring.waiting:
            assert self.readers.pop(slot).get_many(1, 1, 0) is None
            assert self.ring.slot_state_change(slot, _ring.SLOT_CLOSED, _ring.SLOT_FREE)
            del self.model.slots[slot]

    # ---- consumers

    @rule(slot=slots, most=st.integers(1, 40) | st.just(1000))
    def take(self, slot, most):
        model = self.model.slots.get(slot)
        if model is None:
            return
        expected = [record for _ in range(most) if (record := model.ring.take())]
        got = self.readers[slot].get_many(most, 1 << 30, 0)
        if not expected and model.state in (CLOSED, ENDED):
            assert got is None
        else:
            assert [(r.seq, r.payload) for r in expected] == [(seq, payload) for seq, _, payload in got]

    @rule(slot=slots, which=st.integers(0, 100), outcome=st.sampled_from(sorted(OUTCOMES)))
    def settle_one(self, slot, which, outcome):
        model = self.model.slots.get(slot)
        if model is not None:
            seq = model.ring.accepted - len(model.ring.waiting) + which
            assert model.ring.settle(seq, outcome) == self.readers[slot].settle(seq, OUTCOMES[outcome])

    @rule(slot=slots, back=st.integers(0, 5), outcome=st.sampled_from(sorted(OUTCOMES)))
    def settle_many(self, slot, back, outcome):
        model = self.model.slots.get(slot)
        if model is not None:
            seq = max(0, model.ring.accepted - len(model.ring.waiting) + model.ring.in_flight - back)
            model.ring.settle_through(seq, outcome)
            self.readers[slot].settle_through(seq, OUTCOMES[outcome])

    @rule(slot=slots)
    def consumer_dies_and_another_goes_on(self, slot):
        model = self.model.slots.get(slot)
        if model is not None:
            model.ring.reopen()
            self.readers[slot] = _ring.Reader(self.ring, slot)

    # ---- the distributor

    @rule(steps=st.integers(1, 4) | st.just(30))
    @precondition(lambda self: not self.model.drained)
    def distribute(self, steps):
        for _ in range(steps):
            done = self.model.step()
            assert done == self.distributor.run(0)
            if done:
                break

    @rule()
    def distributor_dies_and_another_goes_on(self):
        self.distributor = _ring.Distributor(self.ring)
        self.model.restart()
        for slot in self.model.slots.values():
            slot.ring.look()

    @rule()
    @precondition(lambda self: self.number > 60)
    def drain(self):
        assert self.ring.begin_drain(0) == (not self.model.draining)
        self.model.draining = self.model.impatient = True

    # ---- what must hold after each step

    @invariant()
    def every_number_is_the_same(self):
        if not hasattr(self, "model"):
            return
        whole = self.ring.snapshot()
        lanes, slots = ({one["index"]: one for one in whole[name]} for name in ("lanes", "slots"))
        for i, lane in enumerate(self.model.lanes):
            shot = lanes[i]
            forwarded = lane.accepted - len(lane.waiting)
            assert (lane.accepted, forwarded, lane.head, lane.tail, 0, 0) == tuple(
                shot[name] for name in ("accepted", "forwarded", "head", "tail", "corrupt", "lost")
            )
            assert [self.refused[i, reason] for reason in (FULL, TOO_LARGE)] == [
                shot["refused"][REASONS[reason]] for reason in (FULL, TOO_LARGE)
            ]
        for j, slot in self.model.slots.items():
            shot = slots[j]
            assert (
                STATES[slot.state],
                slot.ring.accepted,
                slot.dropped,
                slot.outside,
                slot.ring.head,
                slot.ring.tail,
            ) == tuple(shot[name] for name in ("state", "forwarded", "dropped", "outside", "head", "tail"))
            assert [slot.ring.counts.get(name, 0) for name in OUTCOMES] == [shot[name] for name in OUTCOMES]

    def teardown(self):
        if hasattr(self, "segment"):
            self.readers.clear()
            self.distributor = None
            for producer in self.producers.values():
                producer.close()
            self.segment.close()


TestRingsAgree = RingsAgree.TestCase
TestRingsAgree.settings = settings(
    max_examples=int(os.environ.get("RING_EXAMPLES", "40")),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
pytestmark = pytest.mark.slow
