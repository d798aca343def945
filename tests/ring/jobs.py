"""What spawned and pooled processes run; at module level, so that it can be pickled."""

from __future__ import annotations

import threading


def record(segment, number):
    assert segment.ring.put(b"%d" % number)
    return segment.ring.lane_index(), threading.active_count()


def record_many(segments, number):
    """The same segment, pickled twice: one mapping, one lane."""
    assert segments[0] is segments[1]
    return record(segments[0], number)
