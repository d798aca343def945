"""The application under torment. Runs in: a process of its own, on the extension with stop points; itself left alone.

``python -m bench.chaos.ours FOLDER WORKERS SEED``: prints its broadcaster's name, later its report as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

from bench.chaos.control import Control, Life, lives_file
from bench.chaos.worker import parse, work
from mpbroadcast.broadcaster import FullChannelBehavior
from mpbroadcast.event.parts import ObjectReference
from mpbroadcast.event_broadcaster import EventBroadcaster
from mpbroadcast.sinks import JSONLinesSink, SQLiteSink

SHUTDOWN_SECONDS = 180.0
PAUSE = 0.12  # seconds between two bursts, at the most


class Appending:
    """A handler that writes each message down, one line in one write."""

    def __init__(self, path: Path) -> None:
        self.path, self.fd = path, -1

    def __call__(self, event) -> None:
        if self.fd < 0:
            self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self.fd, event.message.encode() + b"\n")


class Application:
    def __init__(self, folder: Path, workers: int, seed: int) -> None:
        self.control = Control(folder / "control")
        self.control.make_immune(os.getpid())
        self.pages = lives_file(folder / "lives")
        self.workers, self.seed, self.lives = workers, seed, 0
        self.children: dict[int, str] = {}
        wait = FullChannelBehavior.WAIT_IF_CHANNEL_FULL  # so that accepted means: reaches all of them
        self.broadcaster = EventBroadcaster(name=f"chaos-{os.getpid()}", full_channel_behavior=wait)
        self.broadcaster.start_event_watcher(Appending(folder / "handler"), name="handler")
        self.broadcaster.start_recording_to_sink(SQLiteSink(folder / "store.db"), name="sqlite")
        self.broadcaster.start_recording_to_sink(JSONLinesSink(folder / "lines", max_bytes=None), name="jsonlines")
        self.recorder = self.broadcaster.new_recorder("chaos")

    def run(self) -> None:
        print(self.broadcaster.stats().name, flush=True)
        while not self.control.finishing:
            self._reap()
            while sum(kind == "worker" for kind in self.children.values()) < self.workers:
                self._fork("worker")
            if "churn" not in self.children.values():
                self._fork("churn")
            self.broadcaster.stats()  # an application's call now and then, which revives what died with its spare
            time.sleep(0.05)
        deadline = time.monotonic() + 20
        while self.children and time.monotonic() < deadline:
            self._reap()
            self.broadcaster.stats()
            time.sleep(0.02)
        began = time.monotonic()
        report = self.broadcaster.shutdown(SHUTDOWN_SECONDS)
        took = time.monotonic() - began
        stuck = [f"{kind} {pid}" for pid, kind in self.children.items()]
        print(json.dumps({"complete": report.complete, "seconds": took, "stuck": stuck, "report": str(report)}))

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self.children.pop(pid, None)

    def _fork(self, kind: str) -> None:
        number = self.lives
        self.lives += kind == "worker"
        pid = os.fork()
        if pid:
            self.children[pid] = kind
            return
        code = 1
        try:
            if kind == "worker":
                self._work(Life(self.pages, number))
            else:
                self._churn()
            code = 0
        finally:
            os._exit(code)

    def _work(self, life: Life) -> None:
        pod, event = ObjectReference("Pod", "default", f"web-{life.number % 50}", "u-1", "v1"), self.recorder.event
        finishing = lambda: self.control.finishing  # noqa: E731
        work(
            life,
            lambda text: event(pod, "Normal", "Counted", text),
            finishing,
            pause=PAUSE,
            seed=self.seed + life.number,
        )

    def _churn(self) -> None:
        """Watches come and go: registration and stop are killed in the middle, too."""
        while not self.control.finishing:
            watch = self.broadcaster.watch(full_channel_behavior=FullChannelBehavior.DROP_IF_CHANNEL_FULL)
            for _ in range(20):
                with contextlib.suppress(TimeoutError):
                    event = watch.get(0.05)
                    if event is not None and parse(event.object.message) is None:
                        raise SystemExit("garbage in an iterator")
            watch.stop()
            for _ in watch:
                pass


if __name__ == "__main__":
    Application(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])).run()
