"""Events as Kubernetes objects in one SQLite file. Runs in: any process; one writes, any number read meanwhile.

==============  ========================================================================
`sqlite`        `Store`: create, patch, get, list, delete, what changed since a version
`selection`     which events are meant, and the pages and changes that a store answers
`reading`       how those are read
`opening`       files, permissions, schema versions; every failure as one plain line
`migration`     from an older schema to the present one
`row`           events to rows and back
`records`       many rows at once, straight from ring payloads
`merge`         JSON merge patches
`retention`     what is deleted because of its age or the size of the file
`refusal`       how a write is refused: an API server's errors
``schema.sql``  the tables
==============  ========================================================================
"""

from __future__ import annotations

__all__: list[str] = []
