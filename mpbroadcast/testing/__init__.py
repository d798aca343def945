"""For tests of programs that record events, and of sinks: fakes, clocks, checks, and a pytest plugin.

=============  =========================================================================================
`fakes`        `FakeRecorder`, `FakeSink`: keep what they are given; the sink fails when told to
`clocks`       `SteppingClock`, `SelfAdvancingClock`
`assertions`   `assert_events`: what was recorded, with a readable difference
`sinkcheck`    `check_sink`: what every sink must do
`plugin`       the fixtures ``event_recorder`` and ``event_sink``, there as soon as this package is installed
=============  =========================================================================================
"""

from __future__ import annotations

from mpbroadcast.testing.assertions import assert_events
from mpbroadcast.testing.clocks import SelfAdvancingClock, SteppingClock
from mpbroadcast.testing.fakes import FakeBatchingSink, FakeRecorder, FakeSink, SinkCall
from mpbroadcast.testing.sinkcheck import check_sink

__all__ = [
    "FakeBatchingSink",
    "FakeRecorder",
    "FakeSink",
    "SelfAdvancingClock",
    "SinkCall",
    "SteppingClock",
    "assert_events",
    "check_sink",
]
