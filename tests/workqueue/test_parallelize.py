"""`parallelize_until` (Q17)."""

from __future__ import annotations

import threading

import pytest

from mpbroadcast.workqueue import parallelize_until

pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize(
    ("pieces", "workers", "chunk_size"),
    [
        pytest.param(1000, 10, 1, marks=pytest.mark.client_go("PAR-01")),
        pytest.param(1000, 10, 10, marks=pytest.mark.client_go("PAR-02")),
        pytest.param(1000, 10, 100, marks=pytest.mark.client_go("PAR-03")),
        pytest.param(999, 10, 13, marks=pytest.mark.client_go("PAR-04")),
        (1, 10, 1),
        (3, 10, 100),
        (10, 1, 3),
    ],
)
@pytest.mark.client_go("PAR-05")
def test_every_piece_is_done_exactly_once(pieces, workers, chunk_size):
    done = []
    parallelize_until(None, workers, pieces, done.append, chunk_size=chunk_size)
    assert list(range(pieces)) == sorted(done)


@pytest.mark.parametrize("pieces", [0, -1])
def test_without_pieces_there_is_nothing_to_do(pieces):
    parallelize_until(None, 1, pieces, lambda _piece: pytest.fail("called"))


@pytest.mark.parametrize(
    ("pieces", "workers", "chunk_size", "threads"), [(4, 4, 1, 4), (4, 9, 1, 4), (4, 9, 2, 2), (3, 9, 2, 2)]
)
def test_there_are_no_more_workers_than_chunks(monkeypatch, pieces, workers, chunk_size, threads):
    started = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread), start(thread)))
    parallelize_until(None, workers, pieces, lambda _piece: None, chunk_size=chunk_size)
    assert threads == len(started)


def test_the_workers_work_at_the_same_time():
    together = threading.Barrier(4)
    parallelize_until(None, 4, 4, lambda _piece: together.wait(20))


def test_once_stopped_no_further_piece_is_begun():
    """Also within a chunk."""
    stop, done = threading.Event(), []

    def work(piece):
        done.append(piece)
        if piece == 5:
            stop.set()

    parallelize_until(stop, 1, 100, work, chunk_size=50)
    assert list(range(6)) == done


def test_what_a_piece_raises_reaches_the_caller_and_ends_the_others():
    done = []

    def work(piece):
        done.append(piece)
        if piece == 3:
            raise LookupError("piece three")

    with pytest.raises(LookupError, match="piece three"):
        parallelize_until(None, 1, 100, work)
    assert [0, 1, 2, 3] == done


def test_after_a_failure_the_other_workers_begin_no_further_piece():
    together, done, failing = threading.Barrier(2), [], []

    def work(piece):
        done.append(piece)
        if piece == 0:
            failing.append(threading.current_thread())
        if piece < 2:
            together.wait(20)
        if piece == 0:
            raise LookupError
        failing[0].join(20)

    with pytest.raises(LookupError):
        parallelize_until(None, 2, 100, work)
    assert [0, 1] == sorted(done)


def test_of_several_failures_one_is_raised_and_the_others_are_noted():
    together = threading.Barrier(3)

    def work(piece):
        together.wait(20)
        raise LookupError(f"piece {piece}")

    with pytest.raises(LookupError) as caught:
        parallelize_until(None, 3, 3, work)
    assert 2 == len(caught.value.__notes__)
    assert {0, 1, 2} == {int(text[-1]) for text in (str(caught.value), *caught.value.__notes__)}


@pytest.mark.parametrize(("workers", "chunk_size"), [(0, 1), (1, 0), (-1, 1)])
def test_numbers_that_make_no_sense_are_refused(workers, chunk_size):
    with pytest.raises(ValueError, match="must be at least 1"):
        parallelize_until(None, workers, 10, print, chunk_size=chunk_size)
