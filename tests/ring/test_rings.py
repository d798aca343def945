"""One suite, two rings: what holds for the plain Python ring holds for the one in C."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpbroadcast.ring import _ring
from tests.ring.conftest import RING_BYTES, make_segment, slot_numbers
from tests.ring.model import FULL, HEADER, OK, TOO_LARGE, ModelRing

LARGEST = RING_BYTES // 2 - 32 - HEADER
OUTCOMES = {"handled": _ring.HANDLED, "failed": _ring.FAILED, "given_up": _ring.GIVEN_UP, "filtered": _ring.FILTERED}


class PlainRing:
    def __init__(self):
        self.model = ModelRing()

    def put(self, payload):
        self.model.look()
        return self.model.put(payload)

    def take(self):
        record = self.model.take()
        return None if record is None else (record.seq, record.payload)

    def settle(self, seq, outcome="handled"):
        return self.model.settle(seq, outcome)

    def settle_through(self, seq, outcome="handled"):
        self.model.settle_through(seq, outcome)

    def reopen(self):
        self.model.reopen()

    def numbers(self):
        return {
            "forwarded": self.model.accepted, "head": self.model.head, "tail": self.model.tail,
            **{name: self.model.counts.get(name, 0) for name in OUTCOMES},
        }  # fmt: skip


class CRing:
    """A watcher ring that is still CLAIMED: the registrant writes into it, a reader reads; nobody else is there."""

    def __init__(self):
        self.segment = make_segment(lanes=1, slots=1)
        self.ring = self.segment.ring
        self.slot = self.ring.claim_slot(b"w", _ring.POLICY_DROP, False, 0)
        self.reader = _ring.Reader(self.ring, self.slot)

    def put(self, payload):
        return {_ring.OK: OK, _ring.FULL: FULL, _ring.TOO_LARGE: TOO_LARGE}[self.ring.prefix(self.slot, 0, payload)]

    def take(self):
        for seq, _, payload in self.reader.get_many(1, 1 << 20, 0):
            return seq, payload
        return None

    def settle(self, seq, outcome="handled"):
        return self.reader.settle(seq, OUTCOMES[outcome])

    def settle_through(self, seq, outcome="handled"):
        self.reader.settle_through(seq, OUTCOMES[outcome])

    def reopen(self):
        self.reader = _ring.Reader(self.ring, self.slot)

    def numbers(self):
        shot = slot_numbers(self.ring, self.slot)
        return {name: shot[name] for name in ("forwarded", "head", "tail", *OUTCOMES)}


@pytest.fixture(params=[PlainRing, CRing])
def one(request):
    return request.param()


def test_an_empty_ring_gives_nothing(one):
    assert one.take() is None


def test_records_come_out_in_order_with_ascending_numbers(one):
    for n in range(5):
        assert one.put(b"%d" % n) == OK
    assert [(n + 1, b"%d" % n) for n in range(5)] == [one.take() for _ in range(5)]


def test_the_largest_record_fits_and_one_byte_more_is_too_large(one):
    assert (OK, TOO_LARGE) == (one.put(bytes(LARGEST)), one.put(bytes(LARGEST + 1)))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000, 9999])
def test_the_largest_record_fits_wherever_the_ring_stands_when_it_is_empty(one, size):
    for _ in range(100):
        assert one.put(bytes(size)) == OK
        one.settle(one.take()[0])
        assert one.put(bytes(LARGEST)) == OK
        one.settle(one.take()[0])


def test_a_full_ring_refuses_until_something_is_settled(one):
    while one.put(b"x" * 1000) == OK:
        pass
    seq, _ = one.take()
    assert one.put(b"x" * 1000) == FULL
    one.settle(seq)
    assert one.put(b"x" * 1000) == OK


def test_every_byte_of_the_ring_is_used(one):
    """Records of 32 bytes with their header: exactly as many as the data holds."""
    accepted = 0
    while one.put(b"12345678") == OK:
        accepted += 1
    assert RING_BYTES // 32 == accepted


def test_payloads_survive_many_turns_of_the_ring(one):
    rng = random.Random(1)
    waiting = []
    for n in range(4000):
        payload = rng.randbytes(rng.choice([0, 1, 100, 600, 5000]))
        if one.put(payload) == OK:
            waiting.append(payload)
        while len(waiting) > rng.randrange(20):
            seq, got = one.take()
            assert (waiting.pop(0), True) == (got, one.settle(seq)), n
    assert one.numbers()["tail"] > 10 * RING_BYTES


def test_head_moves_over_the_settled_prefix_only(one):
    for n in range(4):
        one.put(b"%d" % n)
    taken = [one.take()[0] for _ in range(4)]
    one.settle(taken[2])
    one.settle(taken[1])
    assert one.numbers()["head"] == 0
    one.settle(taken[0])
    assert 3 * 32 == one.numbers()["head"]


def test_each_outcome_is_counted_once(one):
    for outcome in OUTCOMES:
        one.put(b"")
        seq, _ = one.take()
        assert (True, False) == (one.settle(seq, outcome), one.settle(seq, outcome))
    assert dict.fromkeys(OUTCOMES, 1) == {name: one.numbers()[name] for name in OUTCOMES}


def test_what_is_not_in_flight_cannot_be_settled(one):
    one.put(b"")
    assert not one.settle(1)


def test_settle_through_leaves_what_comes_after(one):
    for _ in range(5):
        one.put(b"")
    for _ in range(4):
        one.take()
    one.settle(2, "failed")
    one.settle_through(3)
    assert (2, 1, 3 * 24) == tuple(one.numbers()[name] for name in ("handled", "failed", "head"))


def test_a_new_consumer_gets_what_was_in_flight_and_not_what_was_settled(one):
    for n in range(5):
        one.put(b"%d" % n)
    taken = [one.take()[0] for _ in range(4)]
    one.settle(taken[0])
    one.settle(taken[2])
    one.reopen()
    assert [(2, b"1"), (4, b"3"), (5, b"4"), None] == [one.take() for _ in range(4)]
    one.settle_through(5)
    assert (5, 5) == (one.numbers()["handled"], one.numbers()["forwarded"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, LARGEST + 8) | st.integers(-3, 900), max_size=120))
def test_both_rings_do_the_same_with_any_sequence_of_puts_and_takes(steps):
    plain, c = PlainRing(), CRing()
    for step in steps:
        if step >= 0:
            assert plain.put(bytes(step)) == c.put(bytes(step))
        elif step == -1:
            assert plain.take() == c.take()
        elif step == -2:
            seq = plain.model.accepted - len(plain.model.waiting) + plain.model.in_flight
            assert plain.settle(seq) == c.settle(seq)
        else:
            plain.reopen()
            c.reopen()
        assert plain.numbers() == c.numbers()
