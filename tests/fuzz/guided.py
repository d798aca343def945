"""One fuzz target in Python under atheris, which sees what an input reaches. Runs in: a process of ``make fuzz``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["mpbroadcast", "starlette"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()
