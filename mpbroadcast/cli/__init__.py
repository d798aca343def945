"""The command line: ``mpbroadcast get`` and its sisters. Runs in: its own process.

`main` holds the program and runs it; each command is one module that `main` registers. Needs the extra ``cli``.
"""

from __future__ import annotations

__all__: list[str] = []
