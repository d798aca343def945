"""The ring's C for musl and for aarch64, as far as one x86-64 machine goes: compiled strictly, and its programs run.

The extension itself is only looked over: its Python is that of this machine. qemu keeps the stricter memory order of
x86-64, so what runs there says nothing about barriers; ``docs/explanation/ordering-and-loss.md`` reasons about them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from typing import Final

import pytest

from tests.ring.building import ALGORITHM, COMMON, EXTENSION, RING, TEST_C

COMPILERS: Final = {"musl": ("musl-gcc", "musl-tools"), "aarch64": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")}
RUN_BY: Final = {"musl": (), "aarch64": ("qemu-aarch64-static",)}


@pytest.fixture(params=sorted(COMPILERS))
def target(request):
    return request.param


@pytest.fixture
def compiler(target, tmp_path):
    """The command of a compiler for the target, with the kernel's headers."""
    command, package = COMPILERS[target]
    if shutil.which(command) is None:
        pytest.skip(f"no {command} here; Debian's package {package} has it")
    if target == "aarch64":
        return [command]
    kernel = tmp_path / "kernel"  # musl-gcc knows no header but musl's; those of the kernel are the same for all
    kernel.mkdir()
    for name in ("linux", "asm-generic"):
        (kernel / name).symlink_to(f"/usr/include/{name}")
    (kernel / "asm").symlink_to(f"/usr/include/{sysconfig.get_config_var('MULTIARCH') or 'x86_64-linux-gnu'}/asm")
    return [command, f"-I{kernel}"]


def compiled(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=50)
    assert (0, "") == (done.returncode, done.stderr), done.stderr


def test_the_ring_compiles_without_a_warning(compiler, tmp_path):
    for source in EXTENSION:
        if source != "_ringmodule.c":
            compiled([*compiler, *COMMON, "-O2", "-c", RING / source, "-o", tmp_path / f"{source}.o"])


def test_the_extension_makes_sense_to_the_compiler(compiler):
    """Only looked over: every call, type and static assertion."""
    include = sysconfig.get_paths()["include"]
    flags = ["-DPy_LIMITED_API=0x030B0000", f"-I{include}", "-fsyntax-only"]
    compiled([*compiler, *COMMON, *flags, RING / "_ringmodule.c"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_producers_distributor_and_consumers_race_and_lose_nothing(compiler, target, tmp_path, seed):
    runner = RUN_BY[target]
    for command in runner:
        if shutil.which(command) is None:
            pytest.skip(f"no {command} here to run it; Debian's package qemu-user-static has it")
    program = tmp_path / "race"
    sources = [TEST_C / "race.c", *(RING / name for name in ALGORITHM)]
    compiled([*compiler, *COMMON, "-O2", "-static", *sources, "-o", program, "-lpthread"])
    done = subprocess.run([*runner, program, str(seed)], capture_output=True, text=True, check=False, timeout=100)
    assert (0, "ok") == (done.returncode, done.stdout[:2]), done.stdout + done.stderr


def test_every_source_of_the_extension_is_compiled_above():
    """A new file must not be left out of the tests above."""
    assert {path.name for path in RING.glob("*.c")} == set(EXTENSION)


def test_a_python_without_the_gil_is_told_so_in_one_line():
    """As such a build calls itself; the extension of the limited API would only say that it is not initialized."""
    program = "import sys; sys.abiflags = 't'; from mpbroadcast import EventBroadcaster"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert (
        "ImportError: mpbroadcast needs an ordinary CPython; this one is built without the GIL (free-threaded)"
        == done.stderr.splitlines()[-1]
    )
