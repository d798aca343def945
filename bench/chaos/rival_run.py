"""The same torment for a rival: workers ──▶ queue ──▶ distributor ──▶ three queues ──▶ three watchers with files.

Runs in: the process that is called, which starts what died again at once (a favour that the rival does not do itself),
and makes everything anew when nothing moves any more, which is counted as a hang.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from bench.chaos import account
from bench.chaos.control import Life, lives_file
from bench.chaos.tormentor import Target, Tormentor, start_of
from bench.chaos.worker import work

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RIVALS", "run_rival"]

RIVALS = ("mp_queue", "faster_fifo")
WEIGHTS = {"worker": 44, "distributor": 18, "watcher": 30}
MOVING_SECONDS = 5.0  # without anything arriving: it hangs
WATCHERS = 3
PAUSE = 0.12


class _MpQueue:
    def __init__(self) -> None:
        self.queue = multiprocessing.get_context("fork").Queue(10_000)

    def put(self, text: str) -> bool:
        try:
            self.queue.put(text, timeout=1.0)
        except Exception:  # full
            return False
        return True

    def get(self) -> str | None:
        with contextlib.suppress(Exception):  # empty
            return self.queue.get(timeout=0.2)
        return None

    def close(self) -> None:
        self.queue.close()
        self.queue.join_thread()


class _FasterFifo:
    def __init__(self) -> None:
        import faster_fifo

        self.queue = faster_fifo.Queue(max_size_bytes=8 << 20, dumps=str.encode, loads=lambda raw: bytes(raw).decode())

    def put(self, text: str) -> bool:
        try:
            self.queue.put(text, timeout=1.0)
        except Exception:  # full
            return False
        return True

    def get(self) -> str | None:
        with contextlib.suppress(Exception):  # empty
            return self.queue.get(timeout=0.2)
        return None

    def close(self) -> None:
        pass


class _Run:
    def __init__(self, name: str, folder: Path, workers: int, seed: int, rate: float) -> None:
        self.make = _MpQueue if name == "mp_queue" else _FasterFifo
        self.folder, self.workers, self.seed = folder, workers, seed
        self.pages = lives_file(folder / "lives")
        self.flag = multiprocessing.get_context("fork").RawValue("b", 0)
        self.children: dict[int, Target] = {}
        self.next_life = 0
        self.hangs: list[str] = []
        self.tormentor = Tormentor(self.children.values, WEIGHTS, self.life, rate=rate, seed=seed)
        self._renew()

    def life(self, number: int) -> Life:
        return Life(self.pages, number)

    def _renew(self) -> None:
        self.inbox, self.outboxes = self.make(), [self.make() for _ in range(WATCHERS)]
        self._size, self._moved_at = -1, time.monotonic()

    def _fork(self, kind: str, job, life: int = -1) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                job()
            finally:
                os._exit(0)
        self.children[pid] = Target(kind, pid, start_of(pid), life)

    def _work(self, number: int) -> None:
        finishing = lambda: bool(self.flag.value)  # noqa: E731
        work(self.life(number), self.inbox.put, finishing, pause=PAUSE, seed=self.seed + number)
        self.inbox.close()

    def _distribute(self) -> None:
        while True:
            text = self.inbox.get()
            for outbox in self.outboxes if text is not None else ():
                while not outbox.put(text) and os.getppid() != 1:
                    pass
            if os.getppid() == 1:
                return

    def _watch(self, index: int) -> None:
        fd = os.open(self.folder / f"watcher{index}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        while os.getppid() != 1:
            text = self.outboxes[index].get()
            if text is not None:
                os.write(fd, text.encode() + b"\n")

    def _keep(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self.children.pop(pid, None)
        kinds = [target.kind for target in self.children.values()]
        for _ in range(0 if self.flag.value else self.workers - kinds.count("worker")):
            number, self.next_life = self.next_life, self.next_life + 1
            self._fork("worker", lambda: self._work(number), number)  # noqa: B023 - it runs at once
        if "distributor" not in kinds:
            self._fork("distributor", self._distribute)
        for index in range(WATCHERS):
            if not any(target.life == -2 - index for target in self.children.values()):
                self._fork("watcher", lambda: self._watch(index), -2 - index)  # noqa: B023

    def _moves(self) -> bool:
        paths = [self.folder / f"watcher{index}" for index in range(WATCHERS)]
        sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
        now, size = time.monotonic(), min(sizes)
        if size != self._size:
            self._size, self._moved_at = size, now
        return now - self._moved_at < MOVING_SECONDS

    def _kill_all(self) -> None:
        self.tormentor.wake(float("inf"))
        for pid in list(self.children):
            os.kill(pid, signal.SIGKILL)
        while self.children:
            self.children.pop(os.waitpid(-1, 0)[0], None)

    def torment(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._keep()
            self.tormentor.step()
            if not self._moves():
                self.hangs.append("nothing arrives any more; made anew")
                self._kill_all()
                self._renew()
            time.sleep(0.004)
        self.tormentor.wake(float("inf"))
        self.flag.value = 1
        deadline = time.monotonic() + 20
        while any(t.kind == "worker" for t in self.children.values()) and time.monotonic() < deadline:
            self._keep()
            time.sleep(0.02)
        if stuck := sum(t.kind == "worker" for t in self.children.values()):
            self.hangs.append(f"{stuck} workers did not end")
        self._moved_at = time.monotonic()
        while self._moves():
            self._keep()
            time.sleep(0.05)
        self._kill_all()


def run_rival(name: str, folder: Path, *, seconds: float, workers: int, seed: int, rate: float) -> dict[str, Any]:
    """Torments for so long, and accounts."""
    run = _Run(name, folder, workers, seed, rate)
    began = time.monotonic()
    run.torment(seconds)
    lives = [run.life(number) for number in range(run.next_life)]
    seen = {
        f"watcher{index}": account.check(lives, account.lines_of_handler(folder / f"watcher{index}"))
        for index in range(WATCHERS)
    }
    return {
        "name": name,
        "seconds": time.monotonic() - began,
        "workers": workers,
        "kills": dict(run.tormentor.kills),
        "stops": dict(run.tormentor.stops),
        "lives": len(lives),
        "accepted": account.accepted(lives),
        "refused": sum(life.cells[Life.REFUSED] for life in lives),
        "seen": {watcher: vars(one) for watcher, one in seen.items()},
        "hangs": run.hangs,
        **account.timing(lives),
    }
