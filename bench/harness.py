"""Runs contenders in fresh processes, in turn, and puts their figures side by side.

A scenario is a module with ``CONTENDERS`` (name to function), ``UNIT`` and ``main``; see `scenario_main`. The machine
is shared and noisy: what counts is the ratio of two runs that were made one right after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Missing", "Question", "Table", "ask", "cpu_of_helpers", "machine", "percentiles", "result", "scenario_main"]

TIMEOUT = 300  # seconds for one run; a rival that hangs is reported as such


class Missing(Exception):
    """A rival that is not installed here."""


@dataclass(slots=True)
class Question:
    """One thing to measure.

    Attributes:
        name: short, for files and tables.
        module: where its contenders are.
        ours: the name of our contender.
        rivals: the names of the others.
        arguments: passed to each run.
        own_arguments: passed instead to the runs of some contenders: a slow one needs no long run for a steady rate.
        unit: of the figure; with ``higher`` better.
        figure: which key of a run's result counts.
        target: what the ratio ours/rival (or our figure, with ``absolute``) should be, as text.
    """

    name: str
    module: str
    ours: str
    rivals: Sequence[str]
    arguments: Sequence[str] = ()
    own_arguments: dict[str, Sequence[str]] = field(default_factory=dict)
    unit: str = "events/s"
    higher: bool = True
    figure: str = "rate"
    target: str = ""


@dataclass(slots=True)
class Table:
    """The figures of one question: for each contender every run, and the ratios to ours pair by pair."""

    question: Question
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def figures(self, contender: str) -> list[float]:
        return [run[self.question.figure] for run in self.runs.get(contender, ()) if not run.get("void")]

    def ratios(self, rival: str) -> list[float]:
        """Ours over the rival's, of runs that followed each other."""
        ours, theirs = self.runs[self.question.ours], self.runs.get(rival, [])
        key = self.question.figure
        return [
            one[key] / other[key]
            for one, other in zip(ours, theirs, strict=False)
            if not one.get("void") and not other.get("void") and other[key]
        ]


def run_once(module: str, contender: str, arguments: Iterable[str]) -> dict[str, Any]:
    """One run in a fresh process; ``{"missing": why}`` or ``{"void": why}`` when it gives no figure."""
    command = [sys.executable, "-m", module, "--contender", contender, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return {"void": f"did not end within {TIMEOUT} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"void": f"exit {done.returncode}: {last[:200]}"}
    run: dict[str, Any] = json.loads(lines[-1])
    if "sent" in run and run["sent"] != run["received"] + run.get("lost", 0):
        run["void"] = f"sent {run['sent']}, received {run['received']}, counted as lost {run.get('lost', 0)}"
    return run


def ask(question: Question, *, repeats: int, say: Callable[[str], object] = lambda line: None) -> Table:
    """Warms every contender up once, then runs them in turn: ours, rival, ours, rival..."""
    table = Table(question)
    contenders = [question.ours, *question.rivals]

    def once(contender: str) -> dict[str, Any]:
        return run_once(question.module, contender, question.own_arguments.get(contender, question.arguments))

    for contender in list(contenders):
        run = once(contender)
        if "missing" in run:
            table.missing[contender] = run["missing"]
            contenders.remove(contender)
    for number in range(repeats):
        for contender in contenders:
            run = once(contender)
            table.runs.setdefault(contender, []).append(run)
            shown = run.get("void") or f"{run.get(question.figure):,.4g} {question.unit}"
            say(f"{question.name} {number + 1}/{repeats} {contender}: {shown}")
    return table


def cpu_of_helpers(broadcaster: Any) -> float:
    """Seconds of CPU of a broadcaster's helpers so far. They are nobody's children, so no ``wait`` tells it."""
    shot = broadcaster._ring.snapshot()
    pids = {shot["dist_pid"], shot["dist_spare_pid"]}
    pids |= {slot[who] for slot in shot["slots"] if slot["managed"] for who in ("consumer_pid", "spare_pid")}
    seconds = 0.0
    for pid in pids - {0, os.getpid()}:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            seconds += int(file.read().split()[0]) / 1e9
    return seconds


def result(
    *, sent: int, received: int, seconds: float, lost: int = 0, helpers: float = 0.0, **more: Any
) -> dict[str, Any]:
    """What a run prints: a rate, the accounting, and the CPU time of this process, its children and ``helpers``."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime + helpers
    return {
        "sent": sent,
        "received": received,
        "lost": lost,
        "seconds": seconds,
        "rate": received / seconds if seconds else 0.0,
        "cpu_seconds": cpu,
        **more,
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99, p99.9 and the largest."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]

    return {"p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "max": ordered[-1]}


def scenario_main(contenders: dict[str, Callable[..., dict[str, Any]]], **defaults: Any) -> None:
    """The ``main`` of a scenario: runs one contender and prints its line of JSON.

    Args:
        contenders: by name; called with the options.
        defaults: the options, each an integer, a float or a string.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--contender", choices=sorted(contenders), default=next(iter(contenders)))
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    chosen = contenders[options.pop("contender")]
    try:
        print(json.dumps(chosen(**options)), flush=True)
    except Missing as missing:
        print(json.dumps({"missing": str(missing)}), flush=True)


def machine() -> dict[str, Any]:
    """Where a run was made."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "CPU part"))]
    model = models[0] if models else platform.machine()
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan
