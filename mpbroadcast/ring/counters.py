"""The cells beside a watcher slot: counters in shared memory that its process adds to and any onlooker reads.

What takes part in an accounting (handled, failed, dropped...) does not live here but beside the position words, where
it changes in one store with the position. A cell may be one too low after a ``kill -9``; no invariant depends on it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BUCKETS", "CELLS", "HISTOGRAM_AT", "bucket_of"]

CELLS: Final = {
    name: index
    for index, name in enumerate(
        (
            "created",  # events written as new ones
            "patched",  # events written as a change of one that is there
            "repeated",  # events that a process before this one had written
            "skipped",  # events not written: spam, or counted in a series
            "rejected",  # events that the sink refused
            "gave_up",  # events whose tries were used up
            "retries",  # tries that failed and were made again
            "cut_texts",  # texts that were cut to what the other side takes
            "spooled",  # events that waited on disk
            "spool_lost",  # events that found no room on disk, or grew too old there
            "both_gone",  # times that worker and spare of the watcher were both dead, and it was started again
        )
    )
}
"""What a sink counts, by name; the value is the index of its cell. New names go to the end: a segment may be read by
another version."""

HISTOGRAM_AT: Final = 32
"""The first cell of the handling-time histogram; the cells before it are for `CELLS`."""

BUCKETS: Final = (1e-6, 2.5e-6, 1e-5, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 2.5e-3, 1e-2, 2.5e-2, 1e-1, 2.5e-1, 1.0, 2.5, 10.0)
"""Upper bounds of the histogram's buckets in seconds; one more cell follows for what took longer."""


def bucket_of(seconds: float) -> int:
    """The cell that a handling time is counted in."""
    for index, bound in enumerate(BUCKETS):
        if seconds <= bound:
            return HISTOGRAM_AT + index
    return HISTOGRAM_AT + len(BUCKETS)
