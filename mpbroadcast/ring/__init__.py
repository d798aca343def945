"""The shared-memory ring: bytes, positions and doorbells; it knows nothing of events or of Python objects.

``layout.h`` is the picture of the bytes, ``ring.h`` the algorithm of one ring, ``distribute.h`` the merge of all lanes.
``segment.py`` makes and finds the memory file that holds them.
"""

from __future__ import annotations

__all__: list[str] = []
