"""What becomes of an event on its way into a sink: written anew, added to an earlier one, or held back.

============================  ====================================================================
`correlator`                  `EventCorrelator`, for core/v1: the three stages in their order
`aggregate`                   stage 1: many similar events become one
`repeats`                     stage 2: equal events are counted
`spam`                        stage 3: a budget for each source and object
`series`                      `SeriesCorrelator`, for events.k8s.io/v1: repeats become a series
`decision`                    the answers: `Create`, `Patch`, `Skip`
`keys`, `patch`, `options`    what is equal or similar; exact bytes of patches; numbers and functions
`lru`                         the bounded memory of each stage
============================  ====================================================================

Runs in: the process of a sink. No input, no output, no thread, no lock: the time comes from a clock that is given.
"""

from __future__ import annotations

from mpbroadcast.correlator.correlator import EventCorrelator
from mpbroadcast.correlator.decision import IN_SERIES, SPAM, Correlator, Create, Decision, Patch, Skip
from mpbroadcast.correlator.options import CorrelatorOptions
from mpbroadcast.correlator.series import SeriesCorrelator

__all__ = [
    "IN_SERIES",
    "SPAM",
    "Correlator",
    "CorrelatorOptions",
    "Create",
    "Decision",
    "EventCorrelator",
    "Patch",
    "SeriesCorrelator",
    "Skip",
]
