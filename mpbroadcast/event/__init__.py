"""The event itself: its value, its two Kubernetes shapes, its bytes in a ring, its name, and what it is about.

======================  ==============================================================================
`model`                 `Event`, one immutable value for core/v1 and events.k8s.io/v1
`parts`                 the small values inside it: `ObjectReference`, `EventSource`, `EventSeries`
`shapes`                both JSON shapes, written and read
`codec`                 the bytes of an event in a ring
`times`                 RFC 3339 for Unix nanoseconds
`names`                 the name of a new event
`limits`                the API server's length limits
`reference`, `scheme`   any API object to an `ObjectReference`
`goformat`              the format strings of ``eventf``
`table`                 the columns that kubectl shows of an event
======================  ==============================================================================

Runs in: every process. No input, no output, no thread, no lock.
"""

from __future__ import annotations

__all__: list[str] = []
