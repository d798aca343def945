# ruff: noqa: PYI021  # the extension carries no docstrings; they are kept here, where editors find them
"""The C extension: a segment as this process sees it, the consuming end of a watcher ring, the distributor's loop.

Said once for all of it:

- Times called ``*_ts`` and deadlines are nanoseconds of CLOCK_MONOTONIC, time-outs are seconds, sizes are bytes.
- "Never blocks" means: no lock, no sleep, no waiting for another process; page faults are the kernel's.
- Every call holds the GIL unless it says that it sleeps; that is what makes the calls thread-safe. The extension does
  not declare ``Py_MOD_GIL_NOT_USED``, so a free-threaded interpreter switches its GIL on when it is imported.
- Objects survive a fork: a child has no lane and no kernel lock of its parent, and its parent's readers and
  distributors refuse to work in it.
- ``SegmentError`` is raised by any method of a closed segment, and by any that writes when the mapping is read-only.
"""

from typing import Any, Final, final

from _typeshed import ReadableBuffer

LAYOUT_VERSION: Final[int]
MAX_LANES: Final[int]
MAX_SLOTS: Final[int]
MIN_RING_BYTES: Final[int]
MAX_RING_BYTES: Final[int]
RECORD_HEADER: Final[int]
"""Bytes in front of each payload, which is padded to 8. The largest record is half a ring less 32 bytes."""

# why a put was refused; also the index into the tuples called "refused"
OK: Final[int]
FULL: Final[int]
TOO_LARGE: Final[int]
STOPPED: Final[int]
NO_LANE: Final[int]
INVALID: Final[int]

POLICY_WAIT: Final[int]
POLICY_DROP: Final[int]

SLOT_FREE: Final[int]
SLOT_CLAIMED: Final[int]
SLOT_REGISTERED: Final[int]
SLOT_ACTIVE: Final[int]
SLOT_STOPPING: Final[int]
SLOT_CLOSED: Final[int]
SLOT_ENDED: Final[int]
SLOT_ABANDONED: Final[int]

RUNNING: Final[int]
DRAINING: Final[int]
DRAINED: Final[int]

# bytes of the file that Segment.lock() locks; LOCK_LANE + i and LOCK_SLOT + j are one byte each
LOCK_OWNER: Final[int]
LOCK_DIST: Final[int]
LOCK_LANE: Final[int]
LOCK_SLOT: Final[int]
LOCK_START: Final[int]
"""Of a segment in a file: held by the one program that looks whether it may have it."""
LOCK_RESCUE: Final[int]
"""Held by the one helper that starts a distributor whose spare died with it."""

MANAGED_LEFT: Final[int]
"""The field ``managed`` of a slot whose watcher belonged to a program that has died."""

MARK_EXIT: Final[int]
"""The crash mark of a process that ended by ``exit()``; above every signal's number."""

# outcomes for Reader.settle()
HANDLED: Final[int]
FAILED: Final[int]
GIVEN_UP: Final[int]
FILTERED: Final[int]

def total_bytes(lanes: int, lane_bytes: int, slots: int, slot_bytes: int, /) -> int:
    """The size of the file that such a segment needs. ValueError when a number is out of range."""

def format_segment(
    fd: int,
    lanes: int,
    lane_bytes: int,
    slots: int,
    slot_bytes: int,
    lane_limit: int,
    token: bytes,
    name: bytes,
    /,
) -> None:
    """Writes the header of a fresh file of ``total_bytes``, all zeros so far.

    Args:
        fd: the file, open for reading and writing.
        lanes: how many, 1 to ``MAX_LANES``.
        lane_bytes: of each lane's data, a power of two.
        slots: how many watchers, 1 to ``MAX_SLOTS``.
        slot_bytes: of each watcher ring's data, a power of two.
        lane_limit: records that a lane holds at the most; 0: bytes alone bound it.
        token: 16 random bytes by which the segment is known.
        name: of the broadcaster, up to 63 bytes without NUL.

    Raises:
        ValueError: a number is out of range.
        OSError: the file cannot be mapped.
    """

def adopt_segment(fd: int, boot_id: bytes, /) -> int:
    """Makes a segment in a file ready for a new owner; everything unread stays, nothing of it is lost or repeated.

    The caller holds ``LOCK_START`` and has seen that the locks of owner, distributor and slots are free. Never blocks.

    Args:
        fd: of the file.
        boot_id: 16 bytes; another one than before says that the clock has started anew.

    Returns:
        0, or a living process that still uses the segment.

    Raises:
        SegmentError: the file cannot be mapped, or is no segment.
    """

def start_ticks(pid: int, /) -> int:
    """When a process started, in clock ticks since boot; 0 when it is gone, a zombie or cannot be seen."""

def set_title(title: bytes, /) -> int:
    """Names this process for ``ps`` and ``top``: 0, or an errno when the kernel does not let us."""

@final
class Segment:
    """A mapped segment: puts, slots, locks and counters.

    Args:
        fd: its file; it must stay open as long as lanes or locks are taken, and is not closed by this object.
        writable: False maps it read-only, for onlookers.

    Raises:
        SegmentError: the file is no segment of this version, of another time namespace, or cannot be mapped.
    """

    def __new__(cls, fd: int, writable: bool = True) -> Segment: ...
    @property
    def token(self) -> bytes:
        """The segment's 16 random bytes."""

    @property
    def fd(self) -> int:
        """The number of a descriptor of the file; a new one where this process has closed its own and a helper has it.

        Raises:
            SegmentError: this process has none, and no helper that it may look into has one.
        """
    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Lanes, bytes of each, slots, bytes of each, records per lane (0: bytes alone bound it)."""

    def close(self) -> bool:
        """Unmaps it unless a reader, a distributor or a sleeping call still uses it. True: it is unmapped."""

    # ---- recording
    def put(self, payload: ReadableBuffer, kind: int = 0, /) -> bool:
        """Records ``payload`` in this process's lane, claimed at its first put. Never blocks; False: refused, counted.

        True is a promise: every watcher whose ring has room gets it. ValueError when kind is not within 0 to 65534.
        """

    def record(self, static: bytes, message: object, kind: int, /) -> bool:
        """Puts a recorder's common event: ``static``, its part that is encoded already, with a time and ``message``.

        Everything said of ``put`` holds. ``message`` is anything ``str()`` takes; what that raises is raised.
        ``event/codec.py`` has the picture of the bytes.
        """

    def event_time(self) -> int:
        """Unix nanoseconds for one event, ascending here and unlike any other process's; 0: there is no lane."""

    def offer(self, payload: ReadableBuffer, kind: int, timeout: float | None, /) -> int:
        """Like ``put``, but sleeps for up to ``timeout`` seconds (None: for ever) while the lane is full.

        Sleeps without the GIL, in slices of up to 0.1 s between which Python's signal handlers run. Returns ``OK``,
        ``FULL`` (in vain, counted once), ``TOO_LARGE``, ``STOPPED`` or ``NO_LANE``.
        """

    def refuse(self, why: int, text: bytes | None = None, /) -> None:
        """Counts an event that never came to a put; ``text``, up to 255 bytes, is kept as the lane's latest problem."""

    def lane_index(self) -> int:
        """The lane of this process, -1: none so far."""

    def claim_lane(self) -> int:
        """Claims a lane if there is none yet; -1: each has a living owner. A system call for each lane looked at."""

    def set_lane_name(self, name: bytes, /) -> None:
        """Names the owner of this process's lane, up to 27 bytes, for people."""

    # ---- life signs
    def lock(self, byte: int, wait: bool = False, /) -> bool:
        """Takes a kernel lock for this process, until ``unlock`` or its death. False: another process holds it.

        Sleeps without the GIL when told to wait; signal handlers run. Threads of one process do not exclude each other.
        """

    def unlock(self, byte: int, /) -> None:
        """Gives it back. Nothing happens when this process does not hold it."""

    def lock_is_free(self, byte: int, /) -> bool:
        """Whether no OTHER process holds it. Works on a read-only mapping."""

    # ---- fields by name; AttributeError for an unknown one
    def get(self, field: str, /) -> int:
        """A field of the header: see ``snapshot``. Ordered as sequentially consistent, as all four of these are."""

    def set(self, field: str, value: int, /) -> None:
        """Stores a field of the header, cut to its 32 or 64 bits."""

    def slot_get(self, slot: int, field: str, /) -> int:
        """A field of a watcher slot. IndexError: no such slot."""

    def slot_set(self, slot: int, field: str, value: int, /) -> None:
        """Stores a field of a watcher slot."""

    def slot_count(self, slot: int, cell: int, n: int = 1, /) -> None:
        """Adds to one of the cells of a slot, atomically; any process may. IndexError: no such cell."""

    # ---- watchers
    def claim_slot(self, name: bytes, policy: int, managed: bool, limit: int, /) -> int:
        """A free slot, emptied, in state CLAIMED, its lock held by this process; -1: all are taken. Never blocks.

        Args:
            name: of the watcher, up to 63 bytes.
            policy: ``POLICY_WAIT`` or ``POLICY_DROP``, when its ring is full.
            managed: it has a helper, which shutdown waits for.
            limit: records that its ring holds at the most; 0: bytes alone bound it.
        """

    def prefix(self, slot: int, kind: int, payload: ReadableBuffer, /) -> int:
        """Writes a record into a slot that is still CLAIMED, ahead of all that is broadcast. ``OK`` or why not."""

    def slot_state_change(self, slot: int, old: int, new: int, /) -> bool:
        """Changes a slot's state if it is ``old``, and wakes the distributor and the slot's consumer. Atomic."""

    def slot_stop(self, slot: int, generation: int, /) -> bool:
        """Stops a watch that is registered or active, from now on, and wakes who must know. Atomic; never blocks.

        False: it is not, or the slot is of another generation, that is, another watcher's by now.
        """

    def mark_crashes(self, slot: int, /) -> None:
        """From now on a fatal signal writes its number into the slot's ``crash_mark`` before it kills this process.

        C's ``exit()`` writes ``MARK_EXIT``. Children that this process forks leave the mark alone.
        """

    # ---- the end
    def begin_drain(self, deadline: int, /) -> bool:
        """Nothing is accepted any more. True: this call was the first. Never blocks.

        Args:
            deadline: CLOCK_MONOTONIC nanoseconds after which the distributor waits for no full ring.
        """

    def wake(self) -> None:
        """Rings the distributor's bell."""

    def snapshot(self) -> dict[str, Any]:
        """Every number of the segment, read without asking or disturbing anybody.

        Header fields by name; ``refused``: a tuple by reason, of processes without a lane; ``retired``: 16 numbers of
        slots that were used again (6 of the tail, 6 of the head); ``lanes`` and ``slots``: a dict for each that was
        ever used, its ``index`` in it. Names and problems are bytes as somebody wrote them. ``approximate`` is there,
        and True, when a busy process allowed no consistent look.
        """

@final
class Reader:
    """The consuming end of a slot's ring. Only for the holder of the slot's lock; this class does not check that.

    Threads of its process may share it: each record is handed out once. A forked child may not (``SegmentError``).
    """

    def __new__(cls, segment: Segment, slot: int, /) -> Reader: ...
    def get_many(
        self, max_records: int, max_bytes: int, timeout: float | None, nap: float = 0.1, /
    ) -> list[tuple[int, int, bytes]] | None:
        """The next records, as (sequence, kind, payload); empty: none came in time; None: the watch has ended.

        They are in flight until settled: a successor of a dead consumer gets them again. Sleeps without the GIL, for
        ``nap`` seconds at a time, between which Python's signal handlers run.

        Args:
            max_records: at the most, 1 or more.
            max_bytes: of payload; the record that reaches it is the last one.
            timeout: seconds; None waits for ever, 0 does not.
            nap: seconds of one sleep, over 0 and up to 3600.
        """

    def settle(self, sequence: int, outcome: int, /) -> bool:
        """Settles one record, in any order; False: it is not in flight. Never blocks.

        Its bytes are the distributor's again once all before it are settled too.
        """

    def settle_through(self, sequence: int, outcome: int, /) -> None:
        """Settles all that are in flight up to and including ``sequence``, in one commit. Never blocks."""

    @property
    def in_flight(self) -> int:
        """Records that were taken and that head has not passed: unsettled, or waiting for one before them."""

    @property
    def seen(self) -> int:
        """Sequence of the last record taken."""

    @property
    def last_ts(self) -> int:
        """When the last record taken was recorded."""

@final
class Distributor:
    """The distributor's loop. Only the holder of ``LOCK_DIST`` may make one; this class does not check that."""

    def __new__(cls, segment: Segment, /) -> Distributor: ...
    def run(self, seconds: float, /) -> bool:
        """Distributes for that long, asleep without the GIL while there is nothing to do. True: drained, for good.

        With 0 it takes one step: it begins a round if none is under way, and either decides and commits one batch or
        ends the round. Signal handlers run when it returns.
        """
