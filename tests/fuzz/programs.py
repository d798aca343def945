"""Compiles the ring's fuzz targets: with libFuzzer where clang has it, else with a driver that needs only a compiler.

Runs in: tests and ``make fuzz``. Starts: the compiler.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.ring.building import COMMON, RING

__all__ = ["ALGORITHM", "TARGETS", "build", "libfuzzer"]

HERE: Final = Path(__file__).parent
TARGETS: Final = ("ring", "distribute", "adopt")
ALGORITHM: Final = ("ring.c", "wait.c", "claim.c", "consume.c", "distribute.c", "adopt.c")
_SANITIZERS: Final = "address,undefined"


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def libfuzzer(directory: Path) -> str | None:
    """The clang that can build a fuzzer, if there is one."""
    clang = shutil.which("clang")
    if clang is None:
        return None
    probe = directory / "probe.c"
    probe.write_text("#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *d, size_t n) { return !d && n; }\n")
    command = [clang, f"-fsanitize=fuzzer,{_SANITIZERS}", str(probe), "-o", str(directory / "probe")]
    return clang if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


def build(target: str, directory: Path, *, compiler: str, guided: bool) -> Path:
    """The program of one target; the algorithm, which all of them share, is compiled once for a directory.

    Args:
        target: one of `TARGETS`.
        directory: where it is put.
        compiler: a command; for ``guided`` what `libfuzzer` gave.
        guided: with libFuzzer; else with ``driver.c``.
    """
    kind = "guided" if guided else "driven"
    instrument = f"-fsanitize={'fuzzer-no-link,' if guided else ''}{_SANITIZERS}"
    flags = [*COMMON, f"-I{HERE}", "-O1", instrument, "-fno-sanitize-recover=all"]
    objects = []
    for source in (*(RING / name for name in ALGORITHM), *(() if guided else (HERE / "driver.c",))):
        objects.append(directory / f"{kind}-{source.stem}.o")
        if not objects[-1].exists():
            _compile([compiler, *flags, "-c", str(source), "-o", str(objects[-1])])
    out = directory / f"{kind}-{target}"
    link = [f"-fsanitize={'fuzzer,' if guided else ''}{_SANITIZERS}", "-lpthread"]
    _compile([compiler, *flags, str(HERE / f"fuzz_{target}.c"), *map(str, objects), *link, "-o", str(out)])
    return out
