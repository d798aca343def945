"""One run of torment against our own broadcaster. Runs in: the process that is called; it touches only its own run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.chaos import account
from bench.chaos.control import Control, Life, lives_file
from bench.chaos.tormentor import STALL_SECONDS, Target, Tormentor, start_of, state_of
from mpbroadcast.ring.segment import Segment, find_segments

__all__ = ["run_ours"]

ROOT = Path(__file__).parents[2]
WEIGHTS = {
    "worker": 40, "churn": 4, "distributor": 12, "distributor spare": 5, "handler": 7, "sqlite": 6, "jsonlines": 6,
    "handler spare": 3, "sqlite spare": 3, "jsonlines spare": 3, "distributor+distributor spare": 1,
    "handler+handler spare": 1, "sqlite+sqlite spare": 1, "jsonlines+jsonlines spare": 1,
}  # fmt: skip
WATCHERS = ("handler", "sqlite", "jsonlines")
ARM_SECONDS = 0.25  # an order that nobody takes for so long is withdrawn
STARTING_SECONDS = 20
ENDING_SECONDS = 260
_SLOT_PIDS = (("", "consumer_pid", "consumer_start"), (" spare", "spare_pid", "spare_start"))


def build(folder: Path, *, stop_points: bool) -> tuple[Path, str]:
    """A copy of the package with the extension that has stop points; and why it has none, if so."""
    tree = folder / "tree"
    shutil.copytree(ROOT / "mpbroadcast", tree / "mpbroadcast", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "bench", tree / "bench", ignore=shutil.ignore_patterns("__pycache__", "results"))
    if not stop_points:
        return tree, "switched off"
    try:
        from tests.ring.building import build_extension

        built = build_extension(folder, Path(__file__).with_name("stop_point.c"))
    except BaseException as error:
        return tree, f"not built: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    shutil.move(built, tree / "mpbroadcast" / "ring" / "_ring.abi3.so")
    return tree, ""


class _Run:
    def __init__(self, folder: Path, *, workers: int, seed: int, rate: float, stop_points: bool) -> None:
        self.folder = folder
        self.tree, self.without_points = build(folder, stop_points=stop_points)
        self.control = Control(folder / "control")
        self.points = self.control.name_points(self.tree / "mpbroadcast" / "ring")
        self.pages = lives_file(folder / "lives")
        self.application = self._start(workers, seed)
        self.name = self.application.stdout.readline().strip()
        if not self.name:
            raise SystemExit("the application did not start")
        (number,) = find_segments(self.application.pid)
        self.ring = Segment.open_of(self.application.pid, number, writable=False)
        self.tormentor = Tormentor(self.targets, WEIGHTS, self.life, rate=rate, seed=seed)
        self._armed_at = self._looked_at = self._moved_at = time.monotonic()
        self._sizes: tuple[int, ...] = ()
        self._known: dict[int, Target] = {}
        self._first_living = 0

    def _start(self, workers: int, seed: int) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PYTHONPATH": str(self.tree), "MPB_CHAOS": str(self.folder / "control"), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "bench.chaos.ours", str(self.folder), str(workers), str(seed)]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "log").open("w"),
            env=environment,
            text=True,
            cwd=self.tree,
        )

    # ---- who is there

    def life(self, number: int) -> Life:
        return Life(self.pages, number)

    def lives(self) -> list[Life]:
        found = []
        while self.life(len(found)).cells[Life.PID]:
            found.append(self.life(len(found)))
        return found

    def targets(self) -> list[Target]:
        """Read from the segment and the pages; each with its start time, so that no stranger is hit."""
        ring, found = self.ring.ring, []
        for kind, who in (("distributor", "dist"), ("distributor spare", "dist_spare")):
            found.append(Target(kind, ring.get(f"{who}_pid"), ring.get(f"{who}_start")))
        for slot in ring.snapshot()["slots"]:
            name = slot["name"].decode()
            for suffix, pid, start in _SLOT_PIDS:
                if slot["managed"]:
                    found.append(Target(name + suffix, slot[pid], slot[start]))
                elif not suffix and slot["state"]:
                    found.append(Target("churn", slot[pid], slot[start]))
        number = self._first_living
        while pid := self.life(number).cells[Life.PID]:
            start = start_of(pid)
            if start and not self.life(number).cells[Life.DONE]:
                found.append(Target("worker", pid, start, number))
            elif number == self._first_living:
                self._first_living += 1
            number += 1
        living = [target for target in found if target.pid and target.pid != self.application.pid]
        living = [target for target in living if start_of(target.pid) == target.start]
        self._known |= {target.pid: target for target in living}
        return living

    # ---- torment

    def torment(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.application.poll() is None:
            killed = self.tormentor.step()
            if killed and killed.kind == "distributor" and len(self.tormentor.takeovers) < 5000:
                self._time_takeover()
            self._points()
            self._look()
            time.sleep(0.004)
        self.control.disarm()
        self._continue_stopped()
        self.tormentor.wake(float("inf"))

    def _time_takeover(self) -> None:
        """From the kill until a successor has finished a round."""
        began, ring = time.monotonic_ns(), self.ring.ring
        spare = ring.get("dist_spare_pid")
        ran = state_of(spare) in ("R", "S")
        while time.monotonic_ns() - began < 2_000_000_000:
            if ring.get("round_ts") > began:
                took = (time.monotonic_ns() - began) / 1e6
                self.tormentor.takeovers.append(took)
                if ran and ring.get("dist_pid") == spare:
                    self.tormentor.plain_takeovers.append(took)
                return
            time.sleep(0.0005)
            self.tormentor.wake(time.monotonic())

    def _points(self) -> None:
        if self.without_points:
            return
        self._continue_stopped()
        now, chance = time.monotonic(), self.tormentor.chance
        if self.control.armed and now - self._armed_at < ARM_SECONDS:
            return
        self._armed_at = now
        self.control.arm(chance.randrange(len(self.points)), chance.choice([0, 0, 3, 30]), kill=chance.random() < 0.7)

    def _continue_stopped(self) -> None:
        for pid in self.control.stopped():
            known = self._known.get(pid)
            if known is None or known.start != start_of(pid):  # never seen, or a pid that is used again
                known = next((target for target in self.targets() if target.pid == pid), None)
            self.tormentor.found_stopped(pid, known.kind if known else "?", known.life if known else -1)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < 1.0:
            return
        self._looked_at = now
        self.tormentor.look_for_hangs()
        files = [self.folder / name for name in ("handler", "lines", "store.db-wal", "store.db")]
        sizes = tuple(path.stat().st_size if path.exists() else 0 for path in files)
        if any(a != b for a, b in zip(sizes[:2], self._sizes[:2], strict=False)) or not self._sizes:
            self._moved_at = now
        elif now - self._moved_at > STALL_SECONDS:
            self._moved_at = now
            self.tormentor.hangs.append(f"nothing arrives at the watchers any more ({self._where()})")
        self._sizes = sizes

    def _where(self) -> str:
        """Who is there and how far it is; for whoever looks into a hang."""
        shot = self.ring.ring.snapshot()
        there = [f"{t.kind} {t.pid} {state_of(t.pid)}" for t in self.targets() if t.kind != "worker"]
        slots = [f"{s['name'].decode()} {s['state']} {s['tail'] - s['head']}" for s in shot["slots"] if s["state"]]
        waiting = sum(lane["accepted"] - lane["forwarded"] for lane in shot["lanes"])
        streaks = [shot["dist_streak"], *(s["streak"] for s in shot["slots"] if s["managed"])]
        return f"{there}; {waiting} in lanes; {slots}; {streaks}"

    # ---- the end

    def end(self) -> dict[str, Any]:
        self.control.finish()
        out, deadline = "", time.monotonic() + ENDING_SECONDS
        while self.application.poll() is None:
            self._continue_stopped()  # who took the last order only now
            self.tormentor.wake(time.monotonic())
            if time.monotonic() > deadline:
                self.tormentor.hangs.append("the application did not end")
                self.application.kill()
            time.sleep(0.05)
        out = self.application.stdout.read()
        lines = [line for line in out.splitlines() if line.startswith("{")]
        report = (
            json.loads(lines[-1]) if lines else {"complete": False, "seconds": 0.0, "stuck": [], "report": out[-500:]}
        )
        if report["stuck"]:
            self.tormentor.hangs.append(f"did not end: {', '.join(report['stuck'])}")
        if not report["complete"]:
            self.tormentor.hangs.append("shutdown did not deliver everything in time")
        return report

    def left_over(self) -> list[int]:
        """Processes of this run that still exist two seconds later; they are ended."""
        deadline = time.monotonic() + 2
        while (left := self._having_segment()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left

    def _having_segment(self) -> list[int]:
        wanted, found = f"/memfd:mpbroadcast:{self.name} (deleted)", []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            try:
                if any(os.readlink(link) == wanted for link in (process / "fd").iterdir()):
                    found.append(int(process.name))
            except OSError:
                continue
        return found


def run_ours(
    folder: Path, *, seconds: float, workers: int, seed: int, rate: float, stop_points: bool
) -> dict[str, Any]:
    """Torments for so long, and accounts."""
    run = _Run(folder, workers=workers, seed=seed, rate=rate, stop_points=stop_points)
    began = time.monotonic()
    try:
        run.torment(seconds)
        took = time.monotonic() - began
        report = run.end()
    finally:
        if run.application.poll() is None:
            run.application.kill()
        left = run.left_over()
    lives, tormentor = run.lives(), run.tormentor
    seen = {
        "handler": account.check(lives, account.lines_of_handler(folder / "handler")),
        "sqlite": account.check(lives, account.rows_of_store(folder / "store.db")),
        "jsonlines": account.check(lives, account.lines_of_json(folder / "lines")),
    }
    points = run.control.counts(run.points)
    consumers = ("settle.", "commit.", "bell.", "sleep.", "ring.")
    at_points = sum(kills for name, (kills, _) in points.items() if name.startswith(consumers))
    killed = {
        name: sum(n for kind, n in tormentor.kills.items() if kind in (name, f"{name}+{name} spare")) + at_points
        for name in WATCHERS
    }
    # What may come twice: a handler settles each event as it returns; the store keeps its position with the events; a
    # file's batch may be in flight, although the sink looks at its last lines and finds it.
    allowed = {"handler": killed["handler"], "sqlite": 0, "jsonlines": 512 * killed["jsonlines"]}
    return {
        "name": "mpbroadcast",
        "seconds": took,
        "workers": workers,
        "without_stop_points": run.without_points,
        "kills": dict(tormentor.kills),
        "stops": dict(tormentor.stops),
        "point_kills": {name: kills for name, (kills, _) in points.items()},
        "point_stops": {name: stops for name, (_, stops) in points.items()},
        "lives": len(lives),
        "accepted": account.accepted(lives),
        "refused": sum(life.cells[Life.REFUSED] for life in lives),
        "seen": {name: vars(one) for name, one in seen.items()},
        "allowed_repeats": allowed,
        "hangs": tormentor.hangs,
        "left_over": len(left),
        "takeover_ms": sorted(tormentor.takeovers),
        "plain_takeover_ms": sorted(tormentor.plain_takeovers),
        "shutdown_seconds": report["seconds"],
        "report": report["report"],
        **account.timing(lives),
    }
