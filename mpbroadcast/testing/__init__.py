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

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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

_HOMES: Final = {
    "FakeBatchingSink": "fakes",
    "FakeRecorder": "fakes",
    "FakeSink": "fakes",
    "SelfAdvancingClock": "clocks",
    "SinkCall": "fakes",
    "SteppingClock": "clocks",
    "assert_events": "assertions",
    "check_sink": "sinkcheck",
}


if not TYPE_CHECKING:  # a type checker should see the names above and no others

    def __getattr__(name: str) -> Any:
        """Load a name when it is first used: every run of pytest loads this package through `plugin`."""
        if name not in _HOMES:
            raise AttributeError(f"module 'mpbroadcast.testing' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"mpbroadcast.testing.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
