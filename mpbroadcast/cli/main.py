"""The program ``mpbroadcast``: its commands, and how it fails. Runs in: its own process.

Whatever goes wrong is one line on standard error: exit code 1 for what could not be done, 2 for what was asked wrongly,
130 after Ctrl-C, 141 when the reader of a pipe has gone. ``MPBROADCAST_DEBUG=1`` shows tracebacks.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Final

import rich  # noqa: F401 - commands and the help need it: missing, it is to be missed here
import typer

from mpbroadcast.cli.demo import demo
from mpbroadcast.cli.get import get
from mpbroadcast.cli.rbac import rbac
from mpbroadcast.cli.record import record
from mpbroadcast.cli.stats import stats
from mpbroadcast.cli.top import top
from mpbroadcast.errors import BroadcastError
from mpbroadcast.event.table import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "run"]

_INTERRUPTED: Final = 130  # 128 + SIGINT, as a shell says it
_BROKEN_PIPE: Final = 141  # 128 + SIGPIPE
_EVENTS: Final = "Events"
_RUNNING: Final = "A running broadcaster"
_MORE: Final = (("serve", _EVENTS), ("relay", _EVENTS))
"""Commands that other parts of the package bring along: module and function have the name of the command."""

app: Final = typer.Typer(
    name="mpbroadcast",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="'mpbroadcast COMMAND --help' tells more. Events are read from and written to --store FILE,"
    " else $MPBROADCAST_STORE, else ./events.db.",
)

app.command(rich_help_panel=_EVENTS)(demo)
app.command(rich_help_panel=_EVENTS)(get)
app.command(rich_help_panel=_EVENTS)(record)
for _name, _panel in _MORE:
    if find_spec(f"mpbroadcast.cli.{_name}") is not None:
        app.command(rich_help_panel=_panel)(getattr(import_module(f"mpbroadcast.cli.{_name}"), _name))
app.command(rich_help_panel=_EVENTS)(rbac)
app.command(rich_help_panel=_RUNNING)(top)
app.command(rich_help_panel=_RUNNING)(stats)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - 20 ms that only this option needs

        print(f"mpbroadcast {version('mpbroadcast')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Kubernetes-style events for Python programs that run in many processes."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(args: Sequence[str] | None = None) -> int:
    """Run one command. Blocks until it is done.

    Args:
        args: of the command line; None for those of this process.

    Returns:
        The exit code. Every failure has been said, in one line, on standard error.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a character that the terminal lacks is no reason to fail
    try:
        code: Any = typer.main.get_command(app).main(args, prog_name="mpbroadcast", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return _pipe_is_broken()
    except SystemExit as error:  # how typer itself answers a broken pipe
        if isinstance(error.__context__, BrokenPipeError):
            return _pipe_is_broken()
        return error.code if isinstance(error.code, int) else 1
    except Exception as error:  # noqa: BLE001 - a user gets a line, never a traceback
        return _said(error)
    return code if isinstance(code, int) else 0


def _pipe_is_broken() -> int:
    """Let the interpreter flush into nothing at its exit, which would otherwise complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return _BROKEN_PIPE


def _said(error: Exception) -> int:
    """Say what went wrong in one line; return the exit code."""
    if isinstance(error, typer.Abort):  # Ctrl-C, as older releases of typer hand it on
        return _INTERRUPTED
    code = 1
    if hasattr(error, "format_message"):  # an error of usage; which library's class that is differs by release
        code = int(getattr(error, "exit_code", 2))
        context = getattr(error, "ctx", None)
        text = error.format_message().rstrip(".").removeprefix("Invalid value: ")
        text = f"{text} (see '{context.command_path if context else 'mpbroadcast'} --help')"
    elif isinstance(error, BroadcastError):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    else:
        text = f"internal error, please report it: {type(error).__name__}: {error} (MPBROADCAST_DEBUG=1 shows where)"
    if os.environ.get("MPBROADCAST_DEBUG"):
        import traceback  # noqa: PLC0415 - for developers

        traceback.print_exception(error)
    print(f"mpbroadcast: {visible(' '.join(text.split()))}", file=sys.stderr)
    return code
