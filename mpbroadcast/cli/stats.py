"""``mpbroadcast stats``: the numbers of running broadcasters, once. Runs in: its own process; asks nobody anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mpbroadcast.cli.top import NameOption, PidOption  # noqa: TC001 - typer reads them when it runs

if TYPE_CHECKING:
    from mpbroadcast.cli.running import Running
    from mpbroadcast.stats import Stats

__all__ = ["as_json", "stats"]

_FORMATS: Final = ("table", "json", "prometheus")


def stats(
    format_: Annotated[
        str, typer.Option("--format", "-f", metavar="table|json|prometheus", help="How to print them.")
    ] = "table",
    pid: PidOption = None,
    name: NameOption = None,
) -> None:
    """Print the numbers of running broadcasters once; a table takes half a second, to see what is being lost now."""
    from mpbroadcast.cli.running import find_running  # noqa: PLC0415 - only when it runs

    if format_ not in _FORMATS:
        raise typer.BadParameter(f"unknown format {format_!r}; there are: {', '.join(_FORMATS)}")
    found = find_running(pid, name)
    if format_ == "table":
        _print_table(found)
    elif format_ == "json":
        import orjson  # noqa: PLC0415

        body = [as_json(running.stats()) for running in found]
        print(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
    else:
        from mpbroadcast.metrics import labelled, render  # noqa: PLC0415

        print(render(labelled(running.stats() for running in found)), end="")


def as_json(numbers: Stats) -> dict[str, Any]:
    """Return everything that is known, with the sums that people would make of it."""
    body = asdict(numbers)
    body["accepted"], body["forwarded"], body["backlog"] = numbers.accepted, numbers.forwarded, numbers.backlog
    body["refused"] = numbers.refused
    body["losses"] = [
        {"reason": reason, "owner": owner, "events": events} for reason, owner, events in numbers.losses()
    ]
    return body


def _print_table(found: list[Running]) -> None:
    from rich.console import Console  # noqa: PLC0415

    from mpbroadcast.cli.top import print_pictures, two_looks  # noqa: PLC0415

    print_pictures(Console(highlight=False), found, two_looks(found))
