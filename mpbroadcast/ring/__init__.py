"""The shared-memory ring: bytes, positions and doorbells; it knows nothing of events or of Python objects.

``layout.h`` is the picture of the bytes, ``ring.h`` the algorithm of one ring, ``distribute.h`` the merge of all lanes.
``segment.py`` makes and finds the memory file that holds them.
"""

from __future__ import annotations

import sys

__all__: list[str] = []

if "t" in sys.abiflags:  # the extension is built for the limited API, which such a Python cannot load
    raise ImportError("mpbroadcast needs an ordinary CPython; this one is built without the GIL (free-threaded)")
