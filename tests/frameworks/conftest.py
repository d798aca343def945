"""Runs the programs of the how-to pages, word by word as they stand there, under the real frameworks."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.docs.blocks import blocks_of
from tests.path.conftest import alive, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
MARK: Final = "MPBROADCAST_TEST_DIRECTORY"


class Program:
    """A directory with the files of a page, and everything that was started in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{directory}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            MARK: str(directory),
        }
        self.environment.pop("PYTHONWARNINGS", None)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *command: str | Path, **options) -> subprocess.Popen[str]:
        """Starts a command; its output goes to the file ``log``."""
        with (self.directory / "log").open("a") as log:
            options = {"stdout": log, "stderr": subprocess.STDOUT} | options
            started = subprocess.Popen(
                [str(word) for word in command], cwd=self.directory, env=self.environment, text=True, **options
            )
        self._started.append(started)
        return started

    def python(self, *arguments: str | Path, **options) -> subprocess.Popen[str]:
        return self.start(sys.executable, *arguments, **options)

    def run(self, *command: str | Path, timeout: float = 50, **options) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, its output caught."""
        return subprocess.run(
            [str(word) for word in command], cwd=self.directory, env=self.environment, text=True, timeout=timeout,
            capture_output=True, check=False, **options,
        )  # fmt: skip

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def messages(self, name: str = "events.jsonl") -> list[str]:
        path = self.directory / name
        return [json.loads(line)["message"] for line in path.read_text().splitlines()] if path.exists() else []

    def processes(self) -> dict[int, str]:
        """Every living process that was started here, whoever its parent is, with its title."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if f"{MARK}={self.directory}\0" in (entry / "environ").read_text() and alive(int(entry.name)):
                        found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
        return found

    def helpers(self) -> dict[int, str]:
        return {pid: title for pid, title in self.processes().items() if title.startswith("mpbroadcast: ")}

    def left(self) -> dict[int, str]:
        """What is still there when everything should be gone: waits for it to go."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self.processes(), timeout=20)
        return self.processes()

    def close(self) -> None:
        for started in self._started:
            if started.poll() is None:
                started.kill()
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for started in self._started:
            started.wait()
            for stream in (started.stdin, started.stdout, started.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def program(tmp_path) -> Iterator[Program]:
    one = Program(tmp_path)
    yield one
    one.close()


@pytest.fixture
def page(program, request) -> Program:
    """The files of the page that the test module is about: ``PAGE = "gunicorn"``."""
    for block in blocks_of(ROOT / "docs" / "howto" / f"{request.module.PAGE}.md"):
        if "file" in block.marks:
            program.write(block.marks["file"], block.text)
    return program


def needs(package: str) -> None:
    """Skips a module whose framework is not installed; nothing is imported here."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)
