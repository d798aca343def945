"""What is checked: models that must hold, and models with one rule left out that must not. Runs in: tests only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["HOLD", "MARKED", "MUTANTS", "Case", "Mutant"]


@dataclass(frozen=True)
class Case:
    """A model within its bounds. The sentence is the test's name."""

    sentence: str
    model: str
    defines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mutant:
    """A model without one rule.

    Attributes:
        sentence: what is left out, and what becomes of it.
        model: the model's file.
        rule: the switch that leaves the rule out.
        breaks: the invariant that is violated then.
        bounds: further switches; the model holds under these alone.
    """

    sentence: str
    model: str
    rule: str
    breaks: str
    bounds: tuple[str, ...] = ()


BOTH_KILLED: Final = ("KILL_PRODUCER", "KILL_CONSUMER")
ORDER: Final = ("ROOM=4", "KILLS=0")
COARSE: Final = (*ORDER, "COARSE", "PUTS1=1")

HOLD: Final = (
    Case("put and take are exact when both sides are killed at any step", "ring", BOTH_KILLED),
    Case("put and take are exact with stores that overtake each other", "ring",
         ("KILL_PRODUCER", "WEAK", "PUTS=4", "CAP=3")),
    Case("an onlooker who sees a word twice has its numbers", "ring", ("ONLOOKER", "WEAK")),
    Case("the count bound holds when the consumer is killed", "ring", ("KILL_CONSUMER", "LIMIT=1")),
    Case("a release store is enough to publish in a watcher ring", "ring",
         ("KILL_PRODUCER", "WATCHER_RING", "PUBLISH_RELEASE", "WEAK")),
    Case("no ringer that stops takes a wake-up from another", "doorbell"),
    Case("a lane goes from a killed owner to the next", "lanes", ("WEAK",)),
    Case("a lane is not taken from a daemon that closed its descriptors", "lanes", ("DAEMON",)),
    Case("a lane is not taken by a process that cannot see the owner", "lanes", ("BLIND",)),
    Case("a lane is not taken from its owner while that lives", "lanes", ("NO_KILL",)),
    Case("a lane whose only owner was killed is drained", "lanes", ("ALONE",)),
    Case("what happened before comes before, in every ring", "rounds", ORDER),
    Case("what happened before comes before with a coarse clock", "rounds", COARSE),
    Case("order survives a kill of the distributor", "rounds", ("ROOM=4", "PUTS1=1")),
    Case("two kills of the distributor lose, repeat and revise nothing", "rounds", ("READY", "KILLS=2")),
    Case("a watch sees what was put while it was open, with a kill of the distributor", "watch"),
    Case("a watch sees what was put while it was open, with three records", "watch", ("NO_KILL", "PUTS=3")),
    Case("a watch sees what two producers put while it was open", "watch", ("NO_KILL", "PUTS=1", "PRODUCERS=2")),
    Case("a consumer has read everything when it is told the end", "watch", ("NO_KILL", "CONSUMER")),
    Case("a watch registered during shutdown is ended or refused", "shutdown"),
    Case("nobody sleeps for room that is there", "room", ("RECORDS=2",)),
    Case("a stopped watch with policy WAIT holds nobody up", "room", ("RECORDS=2", "STOP")),
    Case("a restart repeats only what was in flight", "settle", ("KILLS=2",)),
    Case("a restart repeats only what was in flight, settled out of order", "settle", ("KILLS=2", "DEFERRED")),
    Case("the poison record is given up after three crashes, and no other", "settle", ("KILLS=2", "POISON=2")),
    Case("the same with records settled later and out of order", "settle", ("KILLS=2", "POISON=2", "DEFERRED")),
    Case("crashes between records blame no record", "settle", ("CRASH_IDLE", "POISON=2")),
    Case("a trim takes nothing that was published", "trim"),
    Case("a trim takes nothing that was published on weak memory", "trim", ("WEAK",)),
)  # fmt: skip

MARKED: Final = (
    Mutant(
        "sepcount: the number is not in the block that the word names", "ring", "SEPCOUNT", "R1", ("KILL_PRODUCER",)
    ),
    Mutant("noseal: shutdown only looks at the tail", "ring", "NOSEAL", "R4"),
    Mutant("coarse: no commit wait where the clock ticks slowly", "rounds", "NO_COMMIT_WAIT", "O1", COARSE),
    Mutant("twod: two distributors at a time", "rounds", "TWOD", "O2", ("READY", "KILLS=0")),
    Mutant("t0late: T0 is read after the tails", "rounds", "T0LATE", "O1", ORDER),
    Mutant("lastpos: only the last copied record says what a ring decided", "rounds", "LASTPOS", "O2", ("READY",)),
)

MUTANTS: Final = (
    *MARKED,
    Mutant("one block beside a word instead of two", "ring", "ONE_BLOCK", "R1", ("KILL_PRODUCER",)),
    Mutant("rewind while a record is unread", "ring", "REWIND_UNREAD", "R2"),
    Mutant("base is read before tail", "ring", "BASE_FIRST", "R2"),
    Mutant("head is committed before the record was read", "ring", "HEAD_EARLY", "R2"),
    Mutant("the mirror of records taken is written after head", "ring", "TAKEN_LATE", "R6", ("KILL_CONSUMER",)),
    Mutant("the word is published without release", "ring", "PUBLISH_RELAXED", "R1", ("WATCHER_RING", "WEAK")),
    Mutant("an onlooker looks at the word once", "ring", "LOOK_ONCE", "R1", ("ONLOOKER",)),
    Mutant("the bell is cleared, then the sleeper woken", "doorbell", "CLEAR_THEN_WAKE", "D1"),
    Mutant("the sleeper is woken, then the bell cleared", "doorbell", "WAKE_THEN_CLEAR", "D1"),
    Mutant("a sleep makes no new sequence", "doorbell", "NO_NEW_SEQUENCE", "D1"),
    Mutant("news are published by a store that may wait in the buffer", "doorbell", "PUBLISH_RELAXED", "D1"),
    Mutant("the sleeping bit may wait in the buffer", "doorbell", "SLEEP_RELAXED", "D1"),
    Mutant("the sleeper looks only before it sets its bit", "doorbell", "LOOK_FIRST", "D1"),
    Mutant("two sleepers share one word", "doorbell", "TWO_SLEEPERS", "D1"),
    Mutant("only the pid says who lives", "lanes", "ONLY_PID", "L1", ("BLIND", "NO_KILL")),
    Mutant("only the kernel lock says who lives", "lanes", "ONLY_LOCK", "L1", ("DAEMON", "NO_KILL")),
    Mutant("a forked child inherits the lane", "lanes", "CHILD_INHERITS", "L2", ("NO_KILL",)),
    Mutant("the claimed bit is set after the first put", "lanes", "CLAIM_BIT_LATE", "L3", ("ALONE",)),
    Mutant("an equal stamp counts as before T0", "rounds", "NOT_STRICT", "O1", COARSE),
    Mutant("lanes are forwarded one after the other", "rounds", "NO_MERGE", "O1", ORDER),
    Mutant("heads are committed before the rings", "rounds", "HEAD_FIRST", "O3", ("READY",)),
    Mutant("heads are committed after the first ring", "rounds", "HEAD_BETWEEN", "O3", ("READY",)),
    Mutant("the consumer reads tail before state", "watch", "TAIL_BEFORE_STATE", "W2", ("NO_KILL", "CONSUMER")),
    Mutant("slots are looked at before T0", "watch", "SLOTS_BEFORE_T0", "W3", ("NO_KILL",)),
    Mutant("a watch is closed before T0 has passed its end", "watch", "CLOSE_EARLY", "W2", ("NO_KILL",)),
    Mutant("a watch is closed before its last commit", "watch", "CLOSE_BEFORE_COMMIT", "W2", ("NO_KILL",)),
    Mutant("the time of the start is written after REGISTERED", "watch", "START_LATE", "W1", ("NO_KILL",)),
    Mutant("the time of the stop is written after STOPPING", "watch", "STOP_TS_LATE", "W2", ("NO_KILL",)),
    Mutant("ACTIVE is stored without looking", "watch", "ACTIVE_BY_STORE", "W3", ("NO_KILL",)),
    Mutant("records are not filtered by the time of the start", "watch", "NO_START_FILTER", "W1", ("NO_KILL",)),
    Mutant("register() looks at the header before it registers", "shutdown", "LOOK_BEFORE", "E1"),
    Mutant("REGISTERED may wait in the store buffer", "shutdown", "REGISTER_RELAXED", "E1"),
    Mutant("want_room is set after the look at head", "room", "WANT_AFTER_LOOK", "M2", ("RECORDS=2",)),
    Mutant("want_room and the bell may wait in the buffer", "room", "WANT_RELAXED", "M2", ("RECORDS=2",)),
    Mutant("head may wait in the buffer while want_room is read", "room", "HEAD_RELAXED", "M2", ("RECORDS=2",)),
    Mutant("going to sleep, the state is read by an acquire load", "room", "STATE_ACQUIRE", "M1",
           ("RECORDS=2", "STOP")),
    Mutant("whoever stops a watch rings nobody", "room", "STOP_WITHOUT_BELL", "M1", ("RECORDS=2", "STOP")),
    Mutant("a record settled out of order is not marked", "settle", "NO_MARK", "S1", ("DEFERRED",)),
    Mutant("head moves over what is not settled", "settle", "HEAD_OVER_ALL", "S3", ("DEFERRED",)),
    Mutant("several records at a time after a crash", "settle", "CARELESS", "S4", ("DEFERRED", "POISON=2")),
    Mutant("a kill ends the suspicion against a record", "settle", "FORGET_CARE", "S4",
           ("DEFERRED", "POISON=2", "KILLS=2")),
    Mutant("crashes are counted whatever record they hit", "settle", "COUNT_ANY", "S4", ("DEFERRED", "POISON=3")),
    Mutant("a record that was not handed out is blamed", "settle", "BLAME_UNHANDED", "S4", ("CRASH_IDLE",)),
    Mutant("a kill counts as a crash", "settle", "KILL_COUNTS", "S4", ("KILLS=3",)),
    Mutant("TRIM is set without comparing", "trim", "TRIM_NO_CAS", "T1"),
    Mutant("trims are not counted in the word", "trim", "NO_TRIMS", "T1"),
    Mutant("the chunk is punched before TRIM is set", "trim", "PUNCH_FIRST", "T1"),
    Mutant("a new distributor leaves TRIM as its predecessor left it", "trim", "NO_CLEAR", "T3"),
    Mutant("the producer writes into the chunk all the same", "trim", "IGNORE_CHUNK", "T1"),
)  # fmt: skip
