"""``python -m mpbroadcast`` and the ``mpbroadcast`` command. Runs in: its own process."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

from mpbroadcast.errors import MissingExtra

__all__ = ["main"]

_LIBRARIES: Final = frozenset({"typer", "rich", "click"})


def main() -> NoReturn:
    """Run the command line and exit with its code; without the extra ``cli``, say so in one line and exit with 1."""
    try:
        from mpbroadcast.cli.main import run  # noqa: PLC0415 - its libraries may be missing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        print(f"mpbroadcast: {MissingExtra('the command line', 'cli')}", file=sys.stderr)  # noqa: T201 - a command's answer
        sys.exit(1)
    sys.exit(run())


if __name__ == "__main__":
    main()
