"""``mpbroadcast demo``: a controller with forked workers that record events, end to end, with the accounting.

Runs in: its own process, which is the application; besides it the workers, and the helpers of the broadcaster.
"""

from __future__ import annotations

import logging
import mmap
import multiprocessing
import os
import queue
import shlex
import shutil
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer

from mpbroadcast.cli.options import KubeconfigOption, store_path
from mpbroadcast.errors import BroadcastError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from mpbroadcast.cli.demo_report import Accounting, Counted
    from mpbroadcast.cli.demo_tasks import Task
    from mpbroadcast.cli.demo_worker import Tally
    from mpbroadcast.event.model import Event
    from mpbroadcast.event_broadcaster import EventBroadcaster
    from mpbroadcast.stats import Stats

__all__ = ["demo"]

_DIRECTORY: Final = ".demo"
_LOG_ON_SCREEN: Final = 50  # events; with more of them the log would drown the table
_LOG_SHOWN: Final = 3  # lines, of a log that goes to a file
_EVENT_BYTES: Final = 512  # of one event in a ring; the demo's have about 400
_ROWS: Final = 20  # of the table
_SHUTDOWN_SECONDS: Final = 120.0
_BAR_AFTER_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.05  # between two looks at how far the workers are


def demo(
    workers: Annotated[int, typer.Option(min=1, max=500, metavar="N", help="How many worker processes to fork.")] = 4,
    events: Annotated[
        int, typer.Option(min=1, max=10_000_000, metavar="N", help="How many events they record in all.")
    ] = 200,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="FILE",
            help="Record to this store. Default: a new one, .demo/events.db.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same one gives the same objects and tasks.")] = 1,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No log lines: the table and the accounting only.")
    ] = False,
    kubeconfig: KubeconfigOption = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Afterwards serve the store, for kubectl, until Ctrl-C.")
    ] = False,
    torment: Annotated[
        bool,
        typer.Option(
            "--torment", help="Instead, for twenty seconds: kill and stop processes, beside a multiprocessing.Queue."
        ),
    ] = False,
) -> None:
    """Let forked workers record events, print the table and an accounting of every event."""
    if torment:
        from mpbroadcast.cli.demo_torment import torment as play_torment  # noqa: PLC0415 - only when it runs

        if not play_torment():
            raise typer.Exit(1)
        return
    run = _Demo(workers, events, _fresh_store() if store is None else store_path(store), seed, quiet, kubeconfig)
    accounting = run.play()
    run.print_log()
    run.print_table()
    right = run.print_accounting(accounting)
    if not right or run.killed:
        raise typer.Exit(1)
    if serve:
        from mpbroadcast.cli.serve import serve as serve_store  # noqa: PLC0415 - it needs another extra

        serve_store(store=run.store)


def _fresh_store() -> str:
    """The demo's own place, without what the last demo left there."""
    directory = Path(_DIRECTORY)
    directory.mkdir(mode=0o700, exist_ok=True)
    for name in ("events.db", "events.db-wal", "events.db-shm", "events.log"):
        (directory / name).unlink(missing_ok=True)
    return str(directory / "events.db")


def _log_beside(store: str) -> str:
    """Where log lines go that would drown the table: beside the store, under a name that is nobody else's."""
    path = Path(store)
    return str(path.with_suffix(".log" if path.parent == Path(_DIRECTORY) else ".demo.log"))


@dataclass(slots=True)
class _Started:
    """What runs while the demo plays."""

    broadcaster: EventBroadcaster
    tally: Tally
    alerts: memoryview
    processes: list[BaseProcess]
    tasks: Any


class _Demo:
    """One run of the demo."""

    def __init__(self, workers: int, events: int, store: str, seed: int, quiet: bool, kubeconfig: str | None) -> None:
        from rich.console import Console  # noqa: PLC0415 - only when it runs

        self.store = store
        self.killed: list[str] = []
        self._workers = workers
        self._events = events
        self._seed = seed
        self._quiet = quiet
        self._began = time.monotonic()
        self._kubeconfig = kubeconfig
        self._log = None if quiet or events <= _LOG_ON_SCREEN else _log_beside(store)
        self._console = Console(highlight=False, soft_wrap=True)
        self._stored_before = self._stored = (0, 0)

    # ---- playing

    def play(self) -> Accounting:
        """Record all events and shut down. Blocks."""
        from mpbroadcast.cli.demo_report import Accounting, Counted  # noqa: PLC0415 - only when it runs

        started = self._start()
        try:
            self._feed(started)
        except BaseException:  # Ctrl-C: what was recorded is delivered all the same
            self._end(started)
            started.broadcaster.shutdown(5.0)
            raise
        self._deliver(started.broadcaster)
        stats: Stats = started.broadcaster.stats()
        self._stored = stored, rows = self._count_stored()
        tally = started.tally
        counted: Counted = Counted(
            calls=tally.calls,
            accepted=tally.accepted,
            refused=tally.refused,
            warnings=tally.warnings,
            killed=len(self.killed),
            alerts=started.alerts[0],
            stored=stored - self._stored_before[0],
            rows=rows - self._stored_before[1],
        )
        return Accounting(stats, counted)

    def _start(self) -> _Started:
        """Start broadcaster, watchers and workers, in the order that an application would."""
        from mpbroadcast.base import klog  # noqa: PLC0415
        from mpbroadcast.cli.demo_worker import Tally, work  # noqa: PLC0415
        from mpbroadcast.cli.verdict import amount  # noqa: PLC0415 - it loads the ring
        from mpbroadcast.event_broadcaster import EventBroadcaster  # noqa: PLC0415
        from mpbroadcast.sinks.sqlite import SQLiteSink  # noqa: PLC0415

        sink = SQLiteSink(self.store)
        sink.check()  # before anything is started
        self._stored_before = self._count_stored()
        workers = amount(self._workers, "worker records", "workers record")
        self._say(f"{workers} {amount(self._events, 'event')}. Store: {self.store}")
        self._set_up_logging(klog)
        # The broadcaster first: its helpers are forks of a small process. Then the official client, 60 MiB that only
        # the workers need; then the workers, which inherit both.
        broadcaster = EventBroadcaster(
            name="demo",
            max_processes=max(64, self._workers + 8),
            # Room for all of it, should a watcher be slow; that is virtual, memory follows the backlog.
            watcher_bytes=_room(self._events),
        )
        alerts = memoryview(mmap.mmap(-1, 8)).cast("Q")
        try:
            if not self._quiet:
                broadcaster.start_structured_logging(name="log")
            broadcaster.start_recording_to_sink(sink, name="store")
            broadcaster.start_event_watcher(_counting(alerts), name="alerts", filter=_is_warning)
            if self._kubeconfig is not None:
                from mpbroadcast.sinks.kubernetes import KubernetesSink  # noqa: PLC0415

                broadcaster.start_recording_to_sink(KubernetesSink(self._kubeconfig), name="kubernetes")
            from mpbroadcast.cli.demo_tasks import make_objects  # noqa: PLC0415

            objects = make_objects(self._events, self._seed)
            recorder = broadcaster.new_recorder("demo-controller")
            tally = Tally(self._workers)
            forked = multiprocessing.get_context("fork")
            tasks = forked.Queue(4 * self._workers)
            sizes = {kind: len(several) for kind, several in objects.items()}
            processes: list[BaseProcess] = [
                forked.Process(target=work, name=f"worker-{n}", args=(n, tasks, recorder, objects, tally), daemon=True)
                for n in range(self._workers)
            ]
            for process in processes:
                process.start()
        except BaseException:
            broadcaster.shutdown(1.0)
            raise
        self._sizes = sizes
        return _Started(broadcaster, tally, alerts, processes, tasks)

    def _set_up_logging(self, klog: Any) -> None:
        """As an application would: helpers are forks of this process, so they log as it does."""
        machinery = logging.StreamHandler()
        machinery.setFormatter(klog.KlogFormatter())
        logging.getLogger("mpbroadcast").addHandler(machinery)
        if self._log is not None:
            try:
                events: logging.Handler = logging.FileHandler(self._log, mode="w", encoding="utf-8")
            except OSError as error:
                raise BroadcastError(
                    f"the log {self._log} cannot be written: {(error.strerror or '').lower()}"
                ) from None
            Path(self._log).chmod(0o600)
            events.setFormatter(klog.KlogFormatter())
            logger = logging.getLogger("klog")
            logger.addHandler(events)
            logger.setLevel(logging.INFO)
            logger.propagate = False

    def _feed(self, started: _Started) -> None:
        """Give out the tasks and wait for the workers."""
        from mpbroadcast.cli.demo_tasks import plan  # noqa: PLC0415

        tasks = chain(plan(self._events, self._seed, self._sizes), repeat(None, self._workers))  # a None ends a worker
        next_look = 0.0
        with _Bar(self._events, "recording", self._began, shown=self._log is not None or self._quiet) as bar:
            for task in tasks:
                given = False
                while not given and not self.killed:
                    if time.monotonic() >= next_look:
                        self._look(started, bar)
                        next_look = time.monotonic() + _LOOK_SECONDS
                    given = _give(started.tasks, task)
                if self.killed:
                    break
            while any(process.is_alive() for process in started.processes) and not self._look(started, bar):
                multiprocessing.connection.wait([process.sentinel for process in started.processes], _LOOK_SECONDS)
            self._look(started, bar)
        if self.killed:
            self._end(started)

    def _deliver(self, broadcaster: EventBroadcaster) -> None:
        """Wait until the watchers have handled everything, and shut down."""
        deadline = time.monotonic() + _SHUTDOWN_SECONDS
        with _Bar(self._events, "delivering", self._began, shown=self._log is not None or self._quiet) as bar:
            while not broadcaster.flush(_LOOK_SECONDS) and time.monotonic() < deadline:
                bar.show(min(watcher.settled for watcher in broadcaster.stats().watchers))
            broadcaster.shutdown(max(1.0, deadline - time.monotonic()))

    def _look(self, started: _Started, bar: _Bar) -> bool:
        """Show how far it is; tell whether a worker died, after which the rest is not waited for."""
        bar.show(started.tally.accepted + started.tally.refused)
        self.killed = [
            f"{p.name} ({-p.exitcode})" for p in started.processes if p.exitcode is not None and p.exitcode < 0
        ]
        self.killed += [
            f"{p.name} (exit code {p.exitcode})" for p in started.processes if p.exitcode is not None and p.exitcode > 0
        ]
        return bool(self.killed)

    def _end(self, started: _Started) -> None:
        """End the workers at once."""
        started.tasks.cancel_join_thread()  # nobody takes what is left in there
        for process in started.processes:
            process.kill()
        for process in started.processes:
            process.join()

    # ---- printing

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, markup=False)

    def _cut(self, line: str) -> str:
        """On a terminal no line is longer than the screen is wide."""
        width = self._console.width
        return line if not self._console.is_terminal or len(line) <= width else line[: width - 1] + "…"

    def print_log(self) -> None:
        """Say where the log lines are, and show the last of them."""
        if self._log is None:
            return
        from mpbroadcast.event.table import visible  # noqa: PLC0415

        with open(self._log, "rb") as file:  # noqa: PTH123
            count = sum(1 for _ in file)
            file.seek(max(0, file.tell() - 64 * 1024))
            last = file.read().decode("utf-8", "replace").splitlines()[-_LOG_SHOWN:]
        self._say(f"\nThe log: {count:,} lines in {self._log}, the last ones:", style="bold")
        for line in last:
            print(self._cut(visible(line)))

    def print_table(self) -> None:
        """Print the last events as ``kubectl get events`` would."""
        from mpbroadcast.event.table import GET_COLUMNS, Table  # noqa: PLC0415
        from mpbroadcast.store.sqlite import Store  # noqa: PLC0415

        with closing(Store.open(self.store, read_only=True)) as store:
            version, back = store.resource_version(), _ROWS
            latest: list[Event] = []
            # A row that was written several times counts once, so look further and further back.
            while len(latest) < _ROWS and back < 2 * version:
                changes = store.changes_since(max(0, version - back), deletions=False).changes
                latest = [change.object for change in changes][-_ROWS:]
                back *= 2
        rows_there = self._stored[1]
        shown = "all" if len(latest) == rows_there else f"the {len(latest)} that came last of"
        self._say(f"\nThe events, as kubectl prints them ({shown} {rows_there:,}):", style="bold")
        heading, *rows = Table(GET_COLUMNS).lines(latest, time.time_ns())
        self._say(self._cut(heading))
        for event, row in zip(latest, rows, strict=True):
            self._say(self._cut(row), style="yellow" if event.type == "Warning" else "")
        self._say(f"All of them:  {_command()} get --store {shlex.quote(self.store)}")

    def print_accounting(self, accounting: Accounting) -> bool:
        """Print the accounting; tell whether it adds up."""
        from rich.text import Text  # noqa: PLC0415

        self._say("\nThe accounting, checked against what the workers counted themselves:", style="bold")
        lines = list(accounting.lines())
        for line in lines:
            text = Text(f"  {line.text}")
            if line.right is not None:
                text.append("   ok" if line.right else "   WRONG", style="green" if line.right else "bold red")
            self._console.print(text)
        verdict = accounting.verdict()
        self._say(
            verdict.text,
            style="bold green"
            if verdict.right and not accounting.lost
            else "bold red"
            if not verdict.right
            else "bold yellow",
        )
        if self.killed:
            self._say(
                f"A worker was killed, so not everything was recorded: {', '.join(self.killed)}", style="bold red"
            )
        return bool(verdict.right)

    def _count_stored(self) -> tuple[int, int]:
        """Events and rows of the store, asked from the store itself."""
        from mpbroadcast.store.sqlite import Store  # noqa: PLC0415

        events = rows = 0
        with closing(Store.open(self.store, read_only=True)) as store:
            following = ""
            while True:
                page = store.list(limit=5000, continue_=following)
                rows += len(page.events)
                events += sum(event.count for event in page.events)
                following = page.continue_
                if not following:
                    return events, rows


def _room(events: int) -> int:
    """Return a power of two of bytes that so many events fit into, at least the default, at most what is possible."""
    return min(max(16 << 20, 1 << (events * _EVENT_BYTES - 1).bit_length()), 1 << 30)


def _give(tasks: Any, task: Task | None) -> bool:
    """Put a task into the queue; False when there was no room for a moment."""
    try:
        tasks.put(task, timeout=_LOOK_SECONDS)
    except queue.Full:
        return False
    return True


def _is_warning(event: Event) -> bool:
    return event.type == "Warning"


def _counting(cell: memoryview) -> Any:
    """A handler that only counts, in memory that the controller sees; a real one would page somebody."""

    def alert(event: Event) -> None:  # noqa: ARG001
        cell[0] += 1

    return alert


def _command() -> str:
    """How the user called this program."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{Path(sys.executable).name} -m mpbroadcast"
    found = shutil.which(called.name)
    if found is not None and os.path.realpath(found) == os.path.realpath(called):
        return called.name
    near = os.path.relpath(called)
    return shlex.quote(str(called) if near.startswith("..") else near)


class _Bar:
    """A progress bar, for what takes longer than a second on a terminal."""

    def __init__(self, total: int, what: str, began: float, *, shown: bool) -> None:
        self._total = total
        self._what = what
        self._shown = shown and sys.stdout.isatty()
        self._began = began
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def show(self, done: int) -> None:
        """Show how many are done."""
        if not self._shown or time.monotonic() - self._began < _BAR_AFTER_SECONDS:
            return
        if self._progress is None:
            from rich.progress import (  # noqa: PLC0415
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, transient=True)
            self._task = self._progress.add_task(self._what, total=self._total)
            self._progress.start()
        self._progress.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
