"""``mpbroadcast demo --torment``: processes are killed and stopped on the screen, and the accounting still adds up.

Runs in: the demo's process. Beside the broadcaster, a ``multiprocessing.Queue`` in the same place suffers the same.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpbroadcast.cli.demo_torment_sides import BroadcasterSide, QueueSide

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpbroadcast.cli.demo_torment_sides import Account, Side

__all__ = ["torment"]

_SECONDS: Final = 17.0
_LINE_SECONDS: Final = 2.0  # between two lines in a pipe
_LOOK_SECONDS: Final = 0.05
_STUCK_SECONDS: Final = 1.5  # without anything new while there is something to come


class _Fault(NamedTuple):
    at: float  # seconds from the start
    what: str  # shown
    who: str
    signal: signal.Signals


_KILL, _STOP, _CONT = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT
_PLAN: Final = (
    _Fault(2.0, "SIGKILL: a worker", "worker", _KILL),
    _Fault(3.5, "SIGKILL: another worker", "worker", _KILL),
    _Fault(5.0, "SIGSTOP: a worker, for three seconds", "worker", _STOP),
    _Fault(8.0, "SIGCONT: it goes on", "worker", _CONT),
    _Fault(9.0, "SIGKILL: the distributor", "distributor", _KILL),
    _Fault(11.0, "SIGKILL: the watcher", "watcher", _KILL),
    _Fault(13.0, "SIGKILL: the distributor again", "distributor", _KILL),
    _Fault(14.0, "SIGKILL: the watcher again", "watcher", _KILL),
)


class _Show:
    """One side while it is tormented."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._arrived, self._moved = 0, time.monotonic()
        self._stopped = 0
        self._waiting: list[_Fault] = []

    def look(self) -> tuple[Account, float]:
        """How it stands, and for how many seconds nothing has arrived that should have."""
        account, now = self.side.tally.account(), time.monotonic()
        if account.arrived != self._arrived or account.arrived >= account.accepted:
            self._arrived, self._moved = account.arrived, now
        return account, now - self._moved

    def suffer(self, fault: _Fault) -> None:
        """Do it now, or as soon as there is such a process again."""
        self._waiting.append(fault)
        self.keep()

    def keep(self) -> None:
        """Replace what the demo has to replace, and do the faults that are due."""
        self.side.keep()
        while self._waiting:
            fault = self._waiting[0]
            pid = self._stopped if fault.signal == _CONT else self.side.pid_of(fault.who)
            if not pid:
                return
            try:
                os.kill(pid, fault.signal)
            except ProcessLookupError:
                return
            self._stopped = pid if fault.signal == _STOP else self._stopped
            self._waiting.pop(0)


def torment() -> bool:
    """Play for some twenty seconds; True when our accounting adds up. Blocks. Works on a terminal and in a pipe."""
    from rich.console import Console  # noqa: PLC0415 - only when it runs

    console = Console(highlight=False, soft_wrap=True)
    console.print("Workers record; processes are killed and stopped; each side counts for itself what arrives.\n")
    if sys.stdout.isatty():  # what helpers say would tear the picture apart; it shows all of it
        logging.getLogger("mpbroadcast").addHandler(logging.NullHandler())
        logging.getLogger("mpbroadcast").propagate = False
    shows = [_Show(BroadcasterSide()), _Show(QueueSide())]
    for show in shows:
        show.side.start()
    try:
        if sys.stdout.isatty():
            _play_live(shows, console)
        else:
            _play_lines(shows)
    finally:
        for show in shows:
            show.side.end()
    return _verdict(shows, console)


def _play(shows: list[_Show], news: Callable[[float, str], object], tick: Callable[[float], object]) -> None:
    began, plan = time.monotonic(), list(_PLAN)
    while (elapsed := time.monotonic() - began) < _SECONDS:
        if plan and elapsed >= plan[0].at:
            fault = plan.pop(0)
            for show in shows:
                show.suffer(fault)
            news(elapsed, fault.what)
        for show in shows:
            show.keep()
        tick(elapsed)
        time.sleep(_LOOK_SECONDS)


def _state(show: _Show) -> str:
    account, stuck = show.look()
    text = f"{account.accepted:>7,} accepted {account.arrived:>7,} arrived"
    return text + (f"  NOTHING ARRIVES for {stuck:.0f} s" if stuck > _STUCK_SECONDS else "")


def _play_lines(shows: list[_Show]) -> None:
    last = [0.0]

    def line(elapsed: float, what: str) -> None:
        last[0] = elapsed
        sides = "   ".join(f"{show.side.name}: {_state(show)}" for show in shows)
        print(f"{elapsed:5.1f} s  {what:<37}{sides}", flush=True)

    def tick(elapsed: float) -> None:
        if elapsed - last[0] >= _LINE_SECONDS:
            line(elapsed, "")

    _play(shows, line, tick)


def _play_live(shows: list[_Show], console: Any) -> None:
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    said: list[str] = []

    def picture(elapsed: float) -> Group:
        rows = [Text(f"{elapsed:4.1f} s", style="bold")]
        for show in shows:
            state = _state(show)
            rows.append(Text(f"  {show.side.name:<22}{state}", style="bold red" if "NOTHING" in state else "green"))
        return Group(*rows, *(Text(line, style="yellow") for line in said))

    with Live(console=console, refresh_per_second=10) as live:
        _play(
            shows,
            lambda elapsed, what: said.append(f"{elapsed:5.1f} s  {what}"),
            lambda elapsed: live.update(picture(elapsed)),
        )


def _verdict(shows: list[_Show], console: Any) -> bool:
    console.print("\nAt the end, by the counts of the workers and of the watcher:", style="bold")
    right = True
    for show in shows:
        account = show.side.tally.account()
        lost = account.missing
        text = (
            f"  {show.side.name:<22}{account.accepted:>7,} accepted, {account.arrived:>7,} arrived,"
            f" {lost:>6,} lost, {account.repeated} twice, {account.doubt} in doubt"
        )
        console.print(text, style="bold red" if lost else "bold green", markup=False)
        if isinstance(show.side, BroadcasterSide):
            kills = sum(fault.who == "watcher" and fault.signal == _KILL for fault in _PLAN)
            right = not lost and account.repeated <= kills and account.arrived <= account.accepted + account.doubt
    console.print(
        "  (twice: in a watcher's hands when it was killed; in doubt: in the middle of the call when a worker was)",
        style="dim",
        markup=False,
    )
    return right
