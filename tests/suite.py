"""``make test``: the whole suite, two folders at a time, each in a pytest process of its own.

Runs in: a terminal, CI. Starts: pytest. Most tests wait for processes that they start, so two at a time take about half
as long. They are whole processes because tests fork: the workers of pytest-xdist have threads, and a fork of such a
process is what Python 3.12 warns of. The folder that takes longest is begun first; what it printed is shown at its end.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Final

__all__ = ["main"]

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
SECONDS: Final = {
    "path": 150, "docs": 90, "frameworks": 80, "nats": 70, "ring": 70, "cli": 65, "model": 65, "sinks": 60,
    "packaging": 45, "apiserver": 40, "store": 30, "fuzz": 20,
}  # fmt: skip
"""What a folder takes, roughly; the others take a few seconds. Only the order follows from it."""

PLACES: Final = {"client_go": ["tests", "-k", "test_parity"]}
"""What is not simply the tests of a folder: the parity page is made from the marks of all tests."""

_COUNTED: Final = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed)\b")
_NO_TESTS: Final = 5  # pytest's exit code


@dataclass
class Part:
    """One folder of tests and how it went."""

    name: str
    options: list[str]
    output: IO[str] = field(default_factory=partial(tempfile.TemporaryFile, "w+", errors="replace"))
    began: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    code: int = 0

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def start(self, *more: str) -> Part:
        # A cache of its own: what failed in one folder must not be forgotten by the other.
        cache = f"cache_dir={ROOT}/.pytest_cache/{self.name}"
        place = PLACES.get(self.name, [f"tests/{self.name}"])
        command = [sys.executable, "-m", "pytest", "-q", "-o", cache, *self.options, *more, *place]
        self.output.truncate(self.output.seek(0))
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self.output, stderr=subprocess.STDOUT)
        return self

    def show(self, status: int, cpu: float) -> Counter[str]:
        """Print what it printed, and the seconds it took; returns pytest's own count."""
        self.code = os.waitstatus_to_exitcode(status)
        if self.process:
            self.process.returncode = self.code  # os.wait4, which knows what it has used, has waited for it
        self.output.seek(0)
        text = self.output.read()
        print(f"== tests/{self.name}: {time.monotonic() - self.began:.0f} s, {cpu:.0f} of CPU", flush=True)
        print(text, flush=True)
        last = text.rstrip().rpartition("\n")[2]
        return Counter({what.rstrip("s"): int(count) for count, what in _COUNTED.findall(last)})


def folders() -> list[str]:
    """Every folder with tests in it, the longest first."""
    found = {path.parent.name for path in HERE.glob("*/test_*.py")}
    return sorted(found, key=lambda name: (-SECONDS.get(name, 0), name))


def _run(parts: list[Part], jobs: int) -> tuple[Counter[str], list[Part]]:
    """Runs them, so many at a time; returns the sum of their counts and those that failed."""
    waiting, running = list(parts), list[Part]()
    counts, failed = Counter[str](), list[Part]()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(waiting.pop(0).start())
        pid, status, used = os.wait4(-1, 0)
        for part in [part for part in running if part.pid == pid]:
            running.remove(part)
            counts += part.show(status, used.ru_utime + used.ru_stime)
            if part.code not in {0, _NO_TESTS}:
                failed.append(part)
    return counts, failed


def _again(failed: list[Part]) -> tuple[Counter[str], list[Part]]:
    """Runs what failed once more, alone: thousands of real processes on a shared machine meet in odd moments."""
    counts, still = Counter[str](), list[Part]()
    for part in failed:
        _, status, used = os.wait4(part.start("--last-failed", "--last-failed-no-failures", "none").pid, 0)
        counts += part.show(status, used.ru_utime + used.ru_stime)
        if part.code:  # also when nothing was run: then it was no test that failed
            still.append(part)
    return counts, still


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="folders at a time")
    parser.add_argument("--again", action="store_true", help="run what failed once more, alone, and count that")
    parser.add_argument("--only", nargs="+", metavar="FOLDER", choices=folders(), help="default: all of them")
    asked, options = parser.parse_known_args()
    began = time.monotonic()
    parts = [Part(name, options) for name in asked.only or folders()]
    counts, failed = _run(parts, asked.jobs)
    if failed and asked.again:
        print(f"== once more, alone: {', '.join(part.name for part in failed)}", flush=True)
        again, failed = _again(failed)
        counts += Counter({"passed": again["passed"]})
        counts["failed"], counts["error"] = again["failed"], again["error"]
    wrong = counts["failed"] + counts["error"]
    print(f"== the whole suite on Python {sys.version.split()[0]}: {time.monotonic() - began:.0f} s")
    if failed:
        print(f"not passed: {', '.join(f'tests/{part.name}' for part in failed)}")
    print(f"{counts['passed']} passed, {wrong} failed, {counts['skipped']} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
