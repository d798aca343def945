"""The bounded memory of a stage."""

from __future__ import annotations

from mpbroadcast.correlator.lru import LRU


def test_finding_and_adding_make_an_entry_recent():
    lru = LRU(3)
    for key in "abc":
        lru.add(key, key.upper())
    assert "A" == lru.find("a")
    lru.add("b", "BB")
    assert "C" == lru.add("d", "D")
    assert [("a", "A"), ("b", "BB"), ("d", "D")] == lru.items()


def test_peeking_does_not():
    lru = LRU(2)
    lru.add("a", 1)
    lru.add("b", 2)
    assert 1 == lru.peek("a")
    lru.add("c", 3)
    assert lru.find("a") is None


def test_a_negative_size_remembers_nothing():
    lru = LRU(-1)
    lru.add("a", 1)
    assert lru.find("a") is None
    assert 0 == len(lru)


def test_discarding_what_is_not_there_is_fine():
    lru = LRU(2)
    lru.add("a", 1)
    lru.discard("a")
    lru.discard("a")
    assert lru.peek("a") is None
    lru.add("b", 2)
    lru.clear()
    assert [] == lru.items()
