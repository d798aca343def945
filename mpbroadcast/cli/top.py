"""``mpbroadcast top``: a running broadcaster, live. Runs in: its own process; asks nobody anything, stops nobody.

Not on a terminal it prints one plain picture and ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.text import Text

    from mpbroadcast.cli.running import Running
    from mpbroadcast.cli.sampling import Picture, Sampler
    from mpbroadcast.cli.view import Sizes

__all__ = ["NameOption", "PidOption", "print_pictures", "top", "two_looks"]

_FIRST_RATE_SECONDS: Final = 0.5  # a single picture has rates too: two looks with this in between
_PLAIN_WIDTH: Final = 200  # of a picture that no terminal limits: every column is there

PidOption = Annotated[
    int | None, typer.Option("--pid", min=1, metavar="PID", help="Of this process.", show_default=False)
]
NameOption = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Called so.", show_default=False)]


def top(
    pid: PidOption = None,
    name: NameOption = None,
    interval: Annotated[float, typer.Option(min=0.1, max=60, metavar="SECONDS", help="Between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end, also on a terminal.")] = False,
) -> None:
    """Show running broadcasters live: who records, which watcher is behind, what is lost and why. q quits."""
    from rich.console import Console  # noqa: PLC0415 - only when it runs

    from mpbroadcast.cli.running import find_running  # noqa: PLC0415
    from mpbroadcast.cli.sampling import Sampler  # noqa: PLC0415

    found = find_running(pid, name)
    console = Console(highlight=False)
    plain = once or not console.is_terminal or not sys.stdin.isatty()
    if plain:
        print_pictures(console, found, two_looks(found))
    else:
        _Live(console, found, [Sampler(running.stats) for running in found], interval).run()


def two_looks(found: list[Running]) -> list[Picture]:
    """Look twice, half a second apart: what is being lost now takes two looks to see."""
    from mpbroadcast.cli.sampling import Sampler  # noqa: PLC0415

    samplers = [Sampler(running.stats, use_seconds=0.0) for running in found]
    for sampler in samplers:
        sampler.take()
    time.sleep(_FIRST_RATE_SECONDS)
    return [sampler.take() for sampler in samplers]


def _sizes(running: Running, console: Console, *, live: bool) -> Sizes:
    from mpbroadcast.cli.view import Sizes  # noqa: PLC0415

    lanes, lane_bytes, _, ring_bytes, _ = running.segment.ring.sizes
    unicode = "utf" in (console.encoding or "").lower()
    width = console.width if console.is_terminal or "COLUMNS" in os.environ else _PLAIN_WIDTH
    return Sizes(lanes, lane_bytes, ring_bytes, width, console.height if live else 0, unicode)


def print_pictures(console: Console, found: list[Running], pictures: list[Picture]) -> None:
    """Print one picture of each broadcaster; as wide as it gets where no terminal limits it."""
    from mpbroadcast.cli.view import render  # noqa: PLC0415

    for number, (running, picture) in enumerate(zip(found, pictures, strict=True)):
        if number:
            console.print()
        for line in render(picture, _sizes(running, console, live=False), pid=running.pid):
            line.rstrip()
            console.print(line, soft_wrap=True)


class _Live:
    """The live view: redrawn after each look and each key."""

    def __init__(self, console: Console, found: list[Running], samplers: list[Sampler], interval: float) -> None:
        self._console = console
        self._found = found
        self._samplers = samplers
        self._interval = interval
        self._chosen = 0

    def run(self) -> None:
        from rich.live import Live  # noqa: PLC0415

        pictures = [sampler.take() for sampler in self._samplers]
        next_look = time.monotonic() + min(self._interval, _FIRST_RATE_SECONDS)
        with _keys() as keys, Live(console=self._console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(self._drawn(pictures[self._chosen]), refresh=True)
                key = keys(max(0.0, next_look - time.monotonic()))
                if key in {"q", "Q", "\x1b", "\x04", None}:
                    return
                if key in {"\t", "n", " "}:
                    self._chosen = (self._chosen + 1) % len(self._found)
                if time.monotonic() >= next_look:
                    pictures = [sampler.take() for sampler in self._samplers]
                    next_look = time.monotonic() + self._interval

    def _drawn(self, picture: Picture) -> Text:
        from rich.text import Text  # noqa: PLC0415

        from mpbroadcast.cli.view import render  # noqa: PLC0415

        running = self._found[self._chosen]
        several = f", tab: the next of {len(self._found)} broadcasters" if len(self._found) > 1 else ""
        title = f"{self._chosen + 1}/{len(self._found)}  q quits" if several else "q quits"
        sizes = _sizes(running, self._console, live=True)
        lines = render(picture, sizes, pid=running.pid, title=title, footer=f"q: quit{several}")
        return Text("\n").join(lines)


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Give a function that waits for one key, for so many seconds: the key, "" for none, None when input has ended."""
    import termios  # noqa: PLC0415
    import tty  # noqa: PLC0415

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def key(seconds: float) -> str | None:
        readable, _, _ = select.select([descriptor], [], [], seconds)
        if not readable:
            return ""
        data = os.read(descriptor, 64)
        if not data:
            return None
        return "" if len(data) > 1 and data[0] == 0x1B else chr(data[-1])  # arrows and the like mean nothing here

    tty.setcbreak(descriptor)
    try:
        yield key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
