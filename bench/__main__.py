"""``python -m bench``: asks every question, or those named; writes ``bench/results/<date>.json``, a table, plots."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from bench.harness import ask, machine
from bench.questions import ASKED
from bench.report import write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="names of questions: " + ", ".join(_names()))
    parser.add_argument("--repeats", type=int, default=5, help="runs of each contender, after one for warming up")
    parser.add_argument("--quick", action="store_true", help="small numbers, two repeats: under two minutes")
    options = parser.parse_args()
    unknown = set(options.only) - set(_names())
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    where, tables = machine(), []
    print(
        f"{where['cpu']}, {where['cores']} cores, Python {where['python']}, load {where['load']:.1f}", file=sys.stderr
    )
    for asked in ASKED:
        if options.only and asked.question.name not in options.only:
            continue
        question = asked.question
        if options.quick:
            question = dataclasses.replace(question, arguments=asked.quick or question.arguments, own_arguments={})
        tables.append((asked, ask(question, repeats=2 if options.quick else options.repeats, say=_say)))
    write(where, tables)
    voids = [run["void"] for _, table in tables for runs in table.runs.values() for run in runs if "void" in run]
    if voids:
        sys.exit(f"{len(voids)} runs are void; the first: {voids[0]}")


def _names() -> list[str]:
    return [asked.question.name for asked in ASKED]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
