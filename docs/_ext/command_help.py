"""The directive ``command-help``: what ``mpbroadcast COMMAND --help`` prints, by running it."""  # noqa: INP001 - sphinx loads it by its path

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive

__all__ = ["CommandHelp", "setup"]


class CommandHelp(Directive):
    """Shows the help of a command; without an argument that of the program."""

    optional_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Run the command and show what it prints."""
        result = subprocess.run(
            [sys.executable, "-m", "mpbroadcast", *self.arguments, "--help"],
            env=os.environ | {"COLUMNS": "96", "NO_COLOR": "1", "TERM": "dumb"},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise self.error(f"mpbroadcast {' '.join(self.arguments)} --help: {result.stderr.strip()}")
        text = "\n".join(line.rstrip() for line in result.stdout.strip("\n").splitlines())
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        return [block]


def setup(app: Any) -> dict[str, bool]:
    """Called by sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
