"""Compiles the C of the ring: test programs with sanitizers, and the extension with stop points."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sysconfig

import pytest

ROOT = pathlib.Path(__file__).parents[2]
RING = ROOT / "mpbroadcast" / "ring"
TEST_C = pathlib.Path(__file__).parent / "c"
ALGORITHM = ("ring.c", "wait.c", "claim.c", "consume.c", "distribute.c")
EXTENSION = (*ALGORITHM, "adopt.c", "process.c", "record.c", "_ringmodule.c")
COMMON = ("-std=c11", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{RING}", f"-I{TEST_C}")


def compiler() -> str:
    found = shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc")
    if found is None:
        pytest.skip("no C compiler here")
    return found


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


def build_program(name: str, sanitizers: str, directory: pathlib.Path) -> pathlib.Path:
    """A program of ``tests/ring/c`` with the ring's algorithm; skips the test where the sanitizer is missing."""
    flag = f"-fsanitize={sanitizers}"
    probe = directory / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    tried = subprocess.run(
        [compiler(), flag, str(probe), "-o", str(directory / "probe")], capture_output=True, text=True, check=False
    )
    if tried.returncode or subprocess.run([directory / "probe"], capture_output=True, check=False).returncode:
        pytest.skip(f"this compiler has no working {flag}")
    out = directory / name
    sources = [str(TEST_C / f"{name}.c"), *(str(RING / source) for source in ALGORITHM)]
    _compile([compiler(), *COMMON, "-O1", flag, "-fno-sanitize-recover=all", *sources, "-o", str(out), "-lpthread"])
    return out


def build_extension(directory: pathlib.Path, stop_point: pathlib.Path = TEST_C / "stop_point.c") -> pathlib.Path:
    """The extension with ``MPB_STOP_POINTS``; tests load it in a child interpreter in place of the normal one."""
    out = directory / "_ring.abi3.so"
    sources = [str(RING / name) for name in EXTENSION]
    _compile(
        [
            compiler(), *COMMON, "-O1", "-fPIC", "-shared", "-DMPB_STOP_POINTS", "-DPy_LIMITED_API=0x030B0000",
            f"-I{sysconfig.get_paths()['include']}", *sources, str(stop_point), "-o", str(out),
        ]
    )  # fmt: skip
    return out
