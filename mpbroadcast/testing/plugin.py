"""A pytest plugin: the fixtures ``event_recorder`` and ``event_sink``. pytest loads it by its entry point.

Every run of pytest loads it, also for projects that do not use it: so it imports nothing before a fixture is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mpbroadcast.testing.fakes import FakeRecorder, FakeSink

__all__ = ["event_recorder", "event_sink"]


@pytest.fixture
def event_recorder() -> FakeRecorder:
    """A strict recorder that keeps what is recorded; give it to the code under test, then use ``assert_events``."""
    from mpbroadcast.testing.fakes import FakeRecorder  # noqa: PLC0415 - see the module's docstring

    return FakeRecorder()


@pytest.fixture
def event_sink() -> FakeSink:
    """A sink in memory that writes down every call and fails when told to."""
    from mpbroadcast.testing.fakes import FakeSink  # noqa: PLC0415 - see the module's docstring

    return FakeSink()
