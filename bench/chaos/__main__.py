"""``python -m bench.chaos --seconds 600 --seed 1 --rivals``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.chaos.report import broken, table
from bench.chaos.rival_run import RIVALS, run_rival
from bench.chaos.run import run_ours
from bench.harness import machine

RESULTS = Path(__file__).parents[1] / "results" / "chaos.json"


def _rival(name: str, folder: Path, options: argparse.Namespace, out: Any) -> None:
    out.send(
        run_rival(
            name,
            folder,
            seconds=options.rival_seconds or options.seconds / 5,
            workers=options.workers,
            seed=options.seed,
            rate=options.rate,
        )
    )


def _run_rival(name: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """In a process of its own: none of it can hold this one up."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="mpbroadcast-chaos-") as folder:
        process = context.Process(target=_rival, args=(name, Path(folder), options, there))
        process.start()
        there.close()
        try:
            found: dict[str, Any] = here.recv()
        except EOFError:
            print(f"{name}: gave no result (is it installed?)", file=sys.stderr)
            return None
        finally:
            process.join()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=6.0, help="faults a second, beside those at named points")
    parser.add_argument("--rivals", action="store_true", help="the same for multiprocessing.Queue and faster-fifo")
    parser.add_argument("--rival-seconds", type=float, default=0.0, help="for each; default: a fifth")
    parser.add_argument(
        "--no-stop-points", action="store_true", help="faults at random moments only, no C compiler needed"
    )
    parser.add_argument("--keep", action="store_true", help="keep the run's folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mpbroadcast-chaos-"))
    try:
        ours = run_ours(
            folder,
            seconds=options.seconds,
            workers=options.workers,
            seed=options.seed,
            rate=options.rate,
            stop_points=not options.no_stop_points,
        )
    finally:
        if options.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    runs = [ours]
    if options.rivals:
        runs += [run for name in RIVALS if (run := _run_rival(name, options)) is not None]
    where = machine()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": where, "seed": options.seed, "runs": runs}, indent=1) + "\n")
    print(
        f"{where['cpu']}, {where['cores']} cores, Python {where['python']}, load {where['load']:.1f}, {where['when']}\n"
    )
    if ours["without_stop_points"]:
        print(f"No faults at named points: {ours['without_stop_points']}\n")
    print(table(runs))
    for run in runs[1:]:
        print(f"\n{run['name']}: {'; '.join(sorted(set(run['hangs']))) or 'no hang'}")
    found = broken(ours)
    print("\n" + ("\n".join(["A promise was broken:", *found]) if found else "Every promise held."))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
