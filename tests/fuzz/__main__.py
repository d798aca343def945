"""``make fuzz SECONDS=60``: every fuzz target for so many seconds. Ends with 1 when one of them has found something.

Runs in: a terminal. Starts: a process per target. Writes: ``build/fuzz/TARGET/``, where the corpus grows from run to
run and what was found stays. The ring's targets need clang with libFuzzer, or else any compiler with AddressSanitizer;
those in Python are guided by atheris where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.fuzz import programs, seeds, targets
from tests.fuzz.mutate import mutations

ROOT: Final = Path(__file__).parents[2]


def _c_target(target: str, work: Path, seconds: int) -> int:
    seeds.write(target, work / "seeds")
    (work / "corpus").mkdir(exist_ok=True)
    clang = programs.libfuzzer(work)
    for stale in work.glob("*.o"):
        stale.unlink()
    program = programs.build(target, work, compiler=clang or "cc", guided=clang is not None)
    if clang is None:
        print(f"{target}: no clang with libFuzzer here, so nothing sees what an input reaches")
        return subprocess.run(
            [program, "seeds", str(int(time.time())), str(1 << 60), str(seconds)], cwd=work, check=False
        ).returncode
    options = [f"-max_total_time={seconds}", "-timeout=15", "-max_len=2048", "-print_final_stats=1", "-verbosity=0"]
    return subprocess.run(
        [program, *options, "-artifact_prefix=found-", "corpus", "seeds"], cwd=work, check=False
    ).returncode


def _python_target(target: str, work: Path, seconds: int) -> int:
    directory = work / "corpus"
    directory.mkdir(exist_ok=True)
    for number, text in enumerate(targets.SEEDS[target]()):
        (directory / f"seed-{number}").write_bytes(text)
    if importlib.util.find_spec("atheris") is None:
        print(f"{target}: atheris is not installed, so nothing sees what an input reaches")
        return _driven(target, work, seconds)
    options = [
        f"-max_total_time={seconds}",
        "-timeout=30",
        "-max_len=8192",
        "-print_final_stats=1",
        "-artifact_prefix=found-",
    ]
    command = [sys.executable, "-m", "tests.fuzz.guided", target, *options, "corpus"]
    return subprocess.run(
        command, cwd=work, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, check=False
    ).returncode


def _driven(target: str, work: Path, seconds: int) -> int:
    end, inputs = time.monotonic() + seconds, 0
    for text in mutations(targets.SEEDS[target](), int(time.time())):
        try:
            targets.TARGETS[target](text)
        except Exception as error:
            (work / "found").write_bytes(text)
            print(f"{target}: {type(error).__name__}: {error}")
            return 1
        inputs += 1
        if time.monotonic() > end:
            break
    print(f"{target}: {inputs} inputs")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description="fuzz the ring, the event codec and the API server")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", help="default: all of them")
    asked = parser.parse_args()
    known = (*programs.TARGETS, *targets.TARGETS)
    if wrong := set(asked.targets) - set(known):
        parser.error(f"no such target: {', '.join(sorted(wrong))}; there are {', '.join(known)}")
    found = []
    for target in asked.targets or known:
        print(f"== {target}", flush=True)
        work = ROOT / "build" / "fuzz" / target
        work.mkdir(parents=True, exist_ok=True)
        run = _c_target if target in programs.TARGETS else _python_target
        if run(target, work, asked.seconds):
            print(f"{target}: found something; the input lies in {work}")
            found.append(target)
    targets.close()
    print(f"found something: {', '.join(found)}" if found else "nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
