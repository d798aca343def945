"""Stop 3: the distributor. Runs in: its own process. Reads: lanes. Writes: watcher rings. Never blocks on: a watcher.

(Unless that watcher's policy is to be waited for.) The merging and copying is a C loop without the GIL, in
``ring/distribute.c``; here is what it does once a second besides: notice who died, and say what was lost.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.base import identity
from mpbroadcast.base.notices import Said
from mpbroadcast.base.text import counted
from mpbroadcast.ring import _ring, directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpbroadcast.ring.segment import Segment

__all__ = ["Distributor"]

TICK_SECONDS: Final = 1.0
LEFT_SECONDS: Final = 30.0  # how long a watcher of a program that died is filled before somebody starts it again
EXIT_SECONDS: Final = 0.25  # for a watcher to see that it is abandoned
ALONE_SECONDS: Final = 2.0  # a watcher that has no process for so long is not one that is just being started
_LOSSES: Final = {
    _ring.FULL: ("the lane was full", "lane_bytes or a faster distributor gives more room"),
    _ring.TOO_LARGE: ("larger than half a lane", "lane_bytes raises the limit"),
    _ring.NO_LANE: ("the process has no lane", "max_processes raises the limit"),
    _ring.INVALID: ("invalid", ""),
}
_CORRUPT, _SLOTS = 8, 9  # kinds of lines: the refusals, corrupt stretches, then two for each slot

_log = logging.getLogger("mpbroadcast")


class Distributor:
    """The distributor's work, as a helper process or a thread runs it.

    Args:
        segment: the segment whose lanes are distributed.
        grace: seconds that workers may go on recording after the application has died.

    One at a time works: the kernel lock ``LOCK_DIST`` fences them, see protocol section 3.
    """

    lock: Final = _ring.LOCK_DIST
    partner = None

    def __init__(self, segment: Segment, *, grace: float) -> None:
        self.segment = segment
        self.title = "mpbroadcast: distributor"
        self._grace = grace
        self._owner_gone_at: float | None = None
        self._missed = self._looked = False
        _, _, slots, *_ = segment.ring.sizes
        self._slots = slots
        self._alone_since: dict[int, float] = {}
        self._said = Said(_SLOTS + 2 * slots)  # shared with the spare: what was said is not said again
        self._began = 0.0

    def needed(self) -> bool:
        """Whether something is left to distribute, or a watcher to be seen off in the application's place."""
        ring = self.segment.ring
        return bool(ring.get("state") != _ring.DRAINED or (ring.get("owner_gone") and self._unfinished()))

    def gone(self) -> bool:
        """Whether nobody distributes, and worker and spare are dead or never came so far as to say who they are."""
        ring = self.segment.ring
        spare, spare_start = ring.get("dist_spare_pid"), ring.get("dist_spare_start")
        if spare and _ring.start_ticks(spare) == spare_start:
            return False
        return self._dead(_ring.LOCK_DIST, ring.get("dist_pid"), ring.get("dist_start"))

    def count_gone(self) -> None:
        """A death of worker and spare together shows in ``distributors`` and in the log."""

    def announce(self, pid: int, start: int, spare_pid: int, spare_start: int) -> None:
        """Writes into the segment who distributes and who would take over."""
        ring = self.segment.ring
        ring.set("dist_pid", pid)
        ring.set("dist_start", start)
        ring.set("dist_spare_pid", spare_pid)
        ring.set("dist_spare_start", spare_start)

    def begin(self) -> int:
        """Counts this distributor; how many worked before it."""
        ring = self.segment.ring
        ring.set("distributors", ring.get("distributors") + 1)
        return ring.get("dist_streak")

    def count_start(self) -> None:
        """One more of them has begun to work since the last that lasted."""
        self.segment.ring.set("dist_streak", self.segment.ring.get("dist_streak") + 1)

    def forget_restarts(self) -> None:
        """The next restart is immediate again."""
        self.segment.ring.set("dist_streak", 1)

    def progress(self) -> int:
        """When the last round ended."""
        return self.segment.ring.get("round_ts")

    def crashed(self) -> bool:
        """No code but this package's runs in here."""
        return False

    def cause(self) -> str:
        """Nothing is known: no mark is left here."""
        return ""

    def work(self, tick: Callable[[], None]) -> None:
        """Distributes until everything is drained. Blocks; the caller holds ``LOCK_DIST``.

        Args:
            tick: called about once a second, between rounds.
        """
        self._began = time.monotonic()
        if self.segment.ring.get("state") != _ring.DRAINED:
            self._look_after(self.segment.ring)  # a distributor that is killed every second would never come to it
            loop = _ring.Distributor(self.segment.ring)
            while not loop.run(TICK_SECONDS):
                self._look_after(self.segment.ring)
                tick()
            self._say_losses(final=True)
        if self.segment.ring.get("owner_gone"):
            self._see_watchers_off()
            directory.remove(self.segment)

    def _unfinished(self) -> list[dict[str, Any]]:
        """The slots whose helper still lives and has something to do."""
        return [
            slot
            for slot in self.segment.ring.snapshot()["slots"]
            if slot["managed"] == 1
            and slot["state"] != _ring.SLOT_FREE
            and not slot["finished"]
            and any(
                slot[f"{who}_pid"] and _ring.start_ticks(slot[f"{who}_pid"]) == slot[f"{who}_start"]
                for who in ("consumer", "spare")
            )
        ]

    def _see_watchers_off(self) -> None:
        """What ``shutdown()`` does in an application that lives: no helper stays, however stuck its handler is."""
        ring = self.segment.ring
        while self._unfinished() and time.monotonic_ns() < ring.get("drain_deadline"):
            time.sleep(0.05)
        for slot in self._unfinished():
            ring.slot_state_change(slot["index"], slot["state"], _ring.SLOT_ABANDONED)
        deadline = time.monotonic() + EXIT_SECONDS
        while self._unfinished() and time.monotonic() < deadline:
            time.sleep(0.005)
        for slot in self._unfinished():
            _log.error("watcher %r did not end in time and is killed", slot["name"].decode("utf-8", "replace"))
            for who in ("spare", "consumer"):  # the spare first, or it would take over
                identity.kill_helper(identity.ProcessIdentity(slot[f"{who}_pid"], slot[f"{who}_start"]))
            ring.slot_set(slot["index"], "finished", 1)  # else our spare would see it off again, and again

    def _look_after(self, ring: _ring.Segment) -> None:
        self._look_for_owner(ring)
        for slot in ring.snapshot()["slots"]:
            self._look_after_slot(ring, slot)
            self._look_for_processes(slot)
        self._say_losses(final=False)

    def _dead(self, lock: int, pid: int, start: int) -> bool:
        """Protocol section 0: the lock is free AND no process has that pid and start time. Both must hold."""
        return self.segment.ring.lock_is_free(lock) and not (pid and _ring.start_ticks(pid) == start)

    def _look_for_owner(self, ring: _ring.Segment) -> None:
        first_look, self._looked = not self._looked, True
        if not self._dead(_ring.LOCK_OWNER, ring.get("owner_pid"), ring.get("owner_start")):
            self._missed = False
            if self._owner_gone_at is not None:  # adopted in the end, while workers kept everything going
                self._owner_gone_at = None
                ring.set("owner_gone", 0)
            return
        if ring.get("owner_pid") and not self._missed and not (first_look and ring.get("distributors") > 1):
            # A program that becomes a daemon exits on the way: it has until the next look to adopt. Not a second time
            # when we have taken over: who is killed every second would never come to a second look.
            self._missed = True
            return
        now = time.monotonic()
        if self._owner_gone_at is None:
            self._owner_gone_at = now
            ring.set("owner_gone", 1)
            if ring.get("state") == _ring.RUNNING:
                _log.warning("the application ended without shutdown(); its last events are being delivered")
        shot = ring.snapshot()
        alone = all(
            identity.is_helper(lane["owner_pid"])  # a handler may record, too
            or self._dead(_ring.LOCK_LANE + lane["index"], lane["owner_pid"], lane["owner_start"])
            for lane in shot["lanes"]
        )
        if alone or now - self._owner_gone_at > self._grace:
            ring.begin_drain(time.monotonic_ns() + int(self._grace * 1e9))

    def _look_after_slot(self, ring: _ring.Segment, slot: dict[str, Any]) -> None:
        index, state = slot["index"], slot["state"]
        if slot["managed"] == _ring.MANAGED_LEFT and state in (_ring.SLOT_REGISTERED, _ring.SLOT_ACTIVE):
            self._look_after_left_over(ring, slot)
            return
        gone = slot["finished"] or self._dead(_ring.LOCK_SLOT + index, slot["consumer_pid"], slot["consumer_start"])
        if slot["managed"] or not gone:
            return
        if state in (_ring.SLOT_REGISTERED, _ring.SLOT_ACTIVE):
            ring.slot_stop(index, slot["generation"])
        elif state in (_ring.SLOT_CLOSED, _ring.SLOT_ENDED):
            ring.slot_state_change(index, state, _ring.SLOT_FREE)

    def _look_for_processes(self, slot: dict[str, Any]) -> None:
        """Worker and spare of a watcher died at once. Only who started it has its handler, and may be idle or dead."""
        index, states = slot["index"], (_ring.SLOT_FREE, _ring.SLOT_CLAIMED, _ring.SLOT_ABANDONED)
        alone = (
            slot["managed"] == 1
            and not slot["finished"]
            and slot["state"] not in states
            and self._dead(_ring.LOCK_SLOT + index, slot["consumer_pid"], slot["consumer_start"])
            and not (slot["spare_pid"] and _ring.start_ticks(slot["spare_pid"]) == slot["spare_start"])
        )
        if not alone:
            self._alone_since.pop(index, None)
            return
        if time.monotonic() - self._alone_since.setdefault(index, time.monotonic()) < ALONE_SECONDS:
            return
        kind = _SLOTS + self._slots + index
        self._said.set(kind, slot["workers"] + 1, slot["generation"])
        if self._said.due(kind):
            settled = sum(slot[name] for name in ("handled", "failed", "given_up", "filtered", "lost"))
            _log.error(
                "watcher %r has no process any more, worker and spare are both gone; %d events wait, until the process"
                " that started it calls stats(), flush() or another method", slot["name"].decode("utf-8", "replace"),
                slot["forwarded"] - settled,
            )  # fmt: skip

    def _look_after_left_over(self, ring: _ring.Segment, slot: dict[str, Any]) -> None:
        """A watcher of an earlier program, which nobody has started again: for how long its ring is still filled."""
        if time.monotonic() - self._began < LEFT_SECONDS:
            return
        _log.warning(
            "watcher %r of the program before this one was not started again; it gets nothing new, and what it did not"
            " handle is kept for it", slot["name"].decode("utf-8", "replace"),
        )  # fmt: skip
        ring.slot_stop(slot["index"], slot["generation"])

    def _say_losses(self, *, final: bool) -> None:
        """Says what was lost since it was last said, one line for each kind and minute."""
        shot = self.segment.ring.snapshot()
        for reason, (what, hint) in _LOSSES.items():
            total = shot["refused"][reason] + sum(lane["refused"][reason] for lane in shot["lanes"])
            if reason == _ring.INVALID and total:
                # A process that owns no lane yet has no place for a text.
                last = max(shot["lanes"], key=lambda lane: lane["refused"][_ring.INVALID], default={"problem": b""})
                problem = last["problem"].decode("utf-8", "replace")
                hint = f"the last one: {problem}" if problem else ""  # noqa: PLW2901
            self._say(reason, total, ("event was", "events were"), f"not recorded: {what}{hint and '; '}{hint}", final)
        corrupt = sum(lane["corrupt"] for lane in shot["lanes"])
        self._say(
            _CORRUPT, corrupt, ("corrupt stretch in a lane was", "corrupt stretches in lanes were"), "skipped", final
        )
        for slot in shot["slots"]:
            name = slot["name"].decode("utf-8", "replace")
            text = (
                f"dropped for the watcher {name!r}: its ring was full (watcher_bytes gives more room,"
                " FullChannelBehavior.WAIT_IF_CHANNEL_FULL makes recorders refuse instead)"
            )
            self._say(
                _SLOTS + slot["index"], slot["dropped"], ("event was", "events were"), text, final, slot["generation"]
            )

    def _say(self, kind: int, total: int, words: tuple[str, str], text: str, final: bool, generation: int = 0) -> None:
        self._said.set(kind, total, generation)
        n = self._said.due(kind, final=final)
        if n:
            _log.warning("%s %s", counted(n, *words), text)
