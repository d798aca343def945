"""Runs the blocks of a page as a reader would: files are written, programs and commands run, in one directory."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final, Self

from tests.docs.blocks import Block, same_output

__all__ = ["Reader"]

DEADLINE: Final = 50.0  # seconds for one command
_SAID: Final = "mpbroadcast-docs-said"


class Shell:
    """A bash that keeps its variables and background jobs from block to block, in a process group of its own."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._bash.stdout:
            self._lines.put(line)

    def run(self, command: str) -> tuple[str, int]:
        """What a command printed, and its exit code."""
        self._bash.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n{_SAID} %d\\n' $?\n")
        self._bash.stdin.flush()
        printed: list[str] = []
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"still running after {DEADLINE:.0f} s: {command}\n{''.join(printed)}") from None
            if line.startswith(_SAID):
                return "".join(printed).removesuffix("\n"), int(line.split()[1])
            printed.append(line)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGTERM)
        self._bash.stdin.close()
        try:
            self._bash.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._bash.pid, signal.SIGKILL)
            self._bash.wait()
        self._thread.join(10)
        self._bash.stdout.close()


class Reader:
    """Somebody who follows a page word by word, in an empty directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for name in ("MPBROADCAST_STORE", "KUBECONFIG", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTHONPATH"):
            self._environment.pop(name, None)
        self._shell = Shell(directory, self._environment)
        self._program: list[Block] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.close()

    def follow(self, block: Block) -> None:
        """Do what a block says; raises `AssertionError` when it does not turn out as written."""
        if "file" in block.marks:
            path = self._directory / block.marks["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if block.language == "python":
                compile(block.text, str(block), "exec")
        elif block.language == "python":
            self._python(block)
        else:
            self._console(block)

    def _python(self, block: Block) -> None:
        """Run a block; one that continues gets those before it first, so that each failure is that of its block."""
        self._program = [*self._program, block] if "continues" in block.marks else [block]
        last = self._program[-1]
        text = "".join(part.text + "\n" for part in self._program)
        name = f"block_{last.page.stem}_{last.line}.py"
        (self._directory / name).write_text(text, encoding="utf-8")
        printed, code = self._shell.run(f"python -W error::SyntaxWarning {name}")
        assert code == 0, f"{block}: exit code {code}\n{printed}"

    def _console(self, block: Block) -> None:
        commands = list(block.commands())
        for index, (command, expected) in enumerate(commands):
            printed, code = self._shell.run(command)
            fails = "fails" in block.marks and index == len(commands) - 1
            assert fails == bool(code), f"{block}: $ {command}\nexit code {code}\n{printed}"
            output = block.marks.get("output", "")
            if output != "varies":
                assert same_output(expected, printed, any_order=output == "any order"), (
                    f"{block}: $ {command}\nthe page says:\n{expected}\nit printed:\n{printed}"
                )
