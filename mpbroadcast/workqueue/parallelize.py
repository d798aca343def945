"""A number of pieces of work, done by a few threads (Q17). Runs in: the calling thread, which waits, and workers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StopSignal", "parallelize_until"]


class StopSignal(Protocol):
    """Anything that says whether to stop; a `threading.Event` does."""

    def is_set(self) -> bool:
        """Say whether to stop. Called by the workers before each piece."""
        ...  # pragma: no cover


def parallelize_until(
    stop: StopSignal | None, workers: int, pieces: int, do_work_piece: Callable[[int], object], *, chunk_size: int = 1
) -> None:
    """Call a function once for each number below ``pieces``, in several threads. Blocks until all of them ended.

    Args:
        stop: once set, no further piece is begun; None for never.
        workers: how many threads at most; not more than there are chunks are started.
        pieces: how many pieces there are; at or below 0 there is nothing to do.
        do_work_piece: called with the number of a piece.
        chunk_size: how many pieces in a row a worker takes at once.

    Raises:
        Exception: the first one that a piece raised. No further piece is begun then; the others that failed
            meanwhile are named in its notes.
        ValueError: ``workers`` or ``chunk_size`` is below 1.
    """
    if workers < 1 or chunk_size < 1:
        raise ValueError(f"workers and chunk_size must be at least 1, not {workers} and {chunk_size}")
    if pieces <= 0:
        return
    run = _Run(stop, pieces, chunk_size, do_work_piece)
    chunks = -(-pieces // chunk_size)
    threads = [
        threading.Thread(target=run.work, name=f"parallelize {number}") for number in range(min(workers, chunks))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        # Interrupted, or no further thread can be had: the workers end after the piece they are at.
        run.stopped = True
        raise
    run.raise_first_error()


class _Run:
    """What the workers of one call share."""

    def __init__(
        self, stop: StopSignal | None, pieces: int, chunk_size: int, do_work_piece: Callable[[int], object]
    ) -> None:
        self._stop = stop
        self._pieces = pieces
        self._chunk_size = chunk_size
        self._do_work_piece = do_work_piece
        self._lock = threading.Lock()
        self._begun = 0
        self._errors: list[tuple[int, BaseException]] = []
        self.stopped = False

    def work(self) -> None:
        """Do chunks until there are no more; the body of a worker."""
        while chunk := self._next_chunk():
            for piece in chunk:
                try:
                    if self.stopped or (self._stop is not None and self._stop.is_set()):
                        return
                    self._do_work_piece(piece)
                except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
                    self.stopped = True
                    with self._lock:
                        self._errors.append((piece, error))
                    return

    def _next_chunk(self) -> range:
        with self._lock:
            begin = self._begun
            self._begun = min(begin + self._chunk_size, self._pieces)
            return range(begin, self._begun)

    def raise_first_error(self) -> None:
        """Raise what the first failing piece raised, if one did."""
        if not self._errors:
            return
        (_, first), *others = self._errors
        for piece, error in others:
            first.add_note(f"piece {piece} failed as well: {type(error).__name__}: {error}")
        raise first
