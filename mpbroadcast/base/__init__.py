"""What every other part stands on: the clock, process identities, Go's way of writing values, and klog's log lines.

Runs in: every process. Standard library only; nothing here does input or output except `identity` (which reads
``/proc``) and the stream that the caller gives to `klog`.
"""

from __future__ import annotations

__all__: list[str] = []
