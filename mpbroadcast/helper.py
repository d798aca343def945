"""Helpers: the processes of the distributor and of each watcher. Runs in: the application, to start them; then in them.

A helper is two processes: the one that works and its spare, a fork taken before the first event, which sleeps in one
kernel call on the worker's lock and takes its place the moment it is free. There is no supervisor to lose, and nothing
polls::

    application --fork--> (setsid, fork, exit) --> worker --fork--> spare
                                                     |                | F_OFD_SETLKW on the same byte
                                                   works            sleeps ... worker dies ... works, forks a spare

The double fork makes a helper no child of the application: no SIGCHLD, nothing for its ``waitpid(-1)``, and allowed in
a daemonic pool worker. This module is the only user of ``os.fork``.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import logging
import os
import pathlib
import pickle
import signal
import socket
import stat
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from mpbroadcast.base.notices import Said
from mpbroadcast.errors import HelperError, SegmentError
from mpbroadcast.ring import _ring
from mpbroadcast.ring.segment import FILE_SUFFIX, MEMFD_PREFIX, inherited_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpbroadcast.ring.segment import Segment

__all__ = ["Job", "check_descriptors", "reap_orphans", "run_spawned", "start_process", "start_thread"]

BACKOFF_FIRST: Final = (
    0.1  # seconds; the first restart is immediate, so that a killed helper is replaced in milliseconds
)
BACKOFF_LAST: Final = 30.0
BACKOFF_KILLED: Final = 0.05  # the longest pause after one that did not crash: within the 100 ms of a takeover
PAUSE_AT_END: Final = 1.0  # the longest pause while everything is being shut down
PAUSE_SLICE: Final = 0.2
BACKOFF_FORGET: Final = (10.0, 1.0)  # lasting so many times its pause, and so many seconds, starts the count anew
SPARE_PAUSE: Final = (1.0, 60.0)  # seconds until a spare that could not be forked is tried again: first, longest
FREE_DESCRIPTORS: Final = 8  # that a helper needs to come up, and then some
SPARE_DESCRIPTORS: Final = 3  # the same for a spare, which is a fork of a helper
RESCUE_SECONDS: Final = 5.0  # for a partner that was started again to announce itself
_BOOT: Final = (  # what an exec'd helper runs: its path first, so that it imports what its parent would
    "import os,pickle,sys;f=os.fdopen(int(sys.argv[1]),'rb');sys.path[:]=pickle.load(f);"
    "from mpbroadcast.helper import run_spawned;run_spawned(f)"
)

_TAKES_OVER, _FAILED, _NO_SPARE = 0, 1, 2  # kinds of lines
_END: Final = os._exit  # as it is before a handler's process marks those who call it

_SPAWNED: Final[list[bytes]] = []  # in an exec'd helper: what it was started from, for its later spares

_log = logging.getLogger("mpbroadcast")


class Job(Protocol):
    """What a helper does; the distributor's and the watcher's work are such jobs."""

    @property
    def segment(self) -> Segment:
        """Whose work it is."""

    @property
    def lock(self) -> int:
        """The byte of the segment that the worker locks and the spare waits for."""

    @property
    def title(self) -> str:
        """Its name in ps."""

    @property
    def partner(self) -> Job | None:
        """A job that this one's workers start again, in a fresh interpreter, when nobody is left who would."""

    def needed(self) -> bool:
        """Whether there is still something to do."""

    def gone(self) -> bool:
        """Whether nobody works here, and worker and spare are both dead. A helper that is on its way is gone, too."""

    def count_gone(self) -> None:
        """Counts a death of worker and spare together."""

    def announce(self, pid: int, start: int, spare_pid: int, spare_start: int) -> None:
        """Tells the segment who works and who would take over; a spare of 0 means there is none now."""

    def begin(self) -> int:
        """Counts this worker; how many there were before it, as far as the back-off goes."""

    def count_start(self) -> None:
        """This worker begins to work: one more for the back-off of the next."""

    def forget_restarts(self) -> None:
        """This worker has lasted: the back-off starts anew."""

    def progress(self) -> int:
        """Something that changes as the work proceeds."""

    def crashed(self) -> bool:
        """Whether the last worker died by a fault of its own; one that was killed from outside did not."""

    def cause(self) -> str:
        """How the last worker ended, in words, as far as it left a mark; else empty."""

    def work(self, tick: Callable[[], None]) -> None:
        """The work itself, to its end; calls ``tick`` about once a second."""


def start_process(job: Job, *, context: str, keep_fds: Iterable[int] = ()) -> None:
    """Starts worker and spare. Returns when they are on their way, some milliseconds later; never waits for their work.

    Args:
        job: with ``fork`` anything; with ``spawn`` it is pickled.
        context: ``fork``, or ``spawn`` for a fresh interpreter that imports the main module first, as
            ``multiprocessing`` does, or ``exec`` for a fresh interpreter that does not.
        keep_fds: descriptors that a forked helper keeps even though they are listening sockets.

    Raises:
        HelperError: no process could be started, the job cannot be pickled, or the segment's descriptor is closed.
    """
    check_descriptors(job.segment, job.title)
    if context != "fork" and not sys.executable:  # an interpreter inside of another program
        if context == "spawn":
            raise HelperError(f"{job.title} cannot be spawned: sys.executable is empty; use context='fork'")
        context = "fork"
    if context == "fork":
        _fork_away(lambda: _run_forked(job, frozenset(keep_fds)))
    else:
        _exec_away(_pickled(job, main_module=context == "spawn"), job)


def reap_orphans() -> None:
    """As the first process of a container: reaps helpers that have died. Elsewhere nothing. Never blocks.

    Such a process inherits every orphan, and with them our helpers; a program that does not expect that never waits for
    them. Its own children are not touched: a helper is known by its name, which the kernel keeps for a zombie.
    """
    if os.getpid() != 1:
        return
    with contextlib.suppress(OSError):
        for word in pathlib.Path("/proc/1/task/1/children").read_text().split():
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{word}/comm").read_text().startswith("mpbroadcast:"):
                    os.waitpid(int(word), os.WNOHANG)


def start_thread(job: Job) -> threading.Thread:
    """Runs a job as a daemon thread of this process: ``processes=False``, ``where="thread"``. Does not block.

    Raises:
        HelperError: there is no descriptor for the job's lock, or no thread can be started.
    """
    try:
        held = job.segment.ring.lock(job.lock)  # here, where its failure is heard
    except SegmentError as error:
        raise HelperError(f"{job.title} cannot be started: {error}") from error

    def run() -> None:
        if not held:
            job.segment.ring.lock(job.lock, True)
        job.begin()
        job.count_start()
        job.announce(os.getpid(), _ring.start_ticks(os.getpid()), 0, 0)
        try:
            job.work(lambda: None)
        except BaseException:  # noqa: BLE001 - a thread that ends says why; the application goes on
            _log.exception("%s failed", job.title)

    thread = threading.Thread(target=run, name=job.title, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        job.segment.ring.unlock(job.lock)
        raise HelperError(f"{job.title} cannot be started: {error}") from error
    return thread


def check_descriptors(segment: Segment, title: str) -> None:
    """Whether a helper could come up: as a fork of this process it has what descriptors this process has.

    Want of them would end it where nobody hears of it.

    Raises:
        HelperError: there are too few, or the segment's own is closed.
    """
    try:
        _take_descriptors(segment, FREE_DESCRIPTORS)
    except SegmentError as error:  # a helper without it could do nothing
        raise HelperError(f"{title} cannot be started: {error}") from error
    except OSError as error:
        raise HelperError(
            f"{title} cannot be started: fewer than {FREE_DESCRIPTORS} file descriptors are free"
            f" ({os.strerror(error.errno or 0)}); close some, or raise ulimit -n"
        ) from error


def _take_descriptors(segment: Segment, n: int) -> None:
    """Takes some descriptors and gives them back; OSError: there are not so many."""
    tried: list[int] = []
    try:
        while len(tried) < n:
            tried.append(os.dup(segment.fd))
    finally:
        for fd in tried:
            os.close(fd)


def _fork_away(run: Callable[[], None]) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()  # what is buffered now must not be written twice
    # Blocked across the fork, so that no handler of the application runs in the child before its handlers are reset.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        try:
            pid = os.fork()
        except OSError as error:
            raise HelperError(f"no process for a helper: {os.strerror(error.errno or 0)}") from error
        if pid == 0:
            _second_fork(run)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    code = 0
    with contextlib.suppress(ChildProcessError):  # the application ignores SIGCHLD, or reaped it first
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code > 0:
        raise HelperError(f"no process for a helper: {os.strerror(code)}")


def _second_fork(run: Callable[[], None]) -> NoReturn:
    """Exits with the error number when there is no second process."""
    try:
        os.setsid()
        try:
            pid = os.fork()
        except OSError as error:
            _END(error.errno or errno.EAGAIN)
        if pid == 0:
            run()
    except BaseException:  # noqa: BLE001 - a helper ends here, whatever it was
        traceback.print_exc()
    finally:
        _END(0)


def _pickled(job: Job, *, main_module: bool) -> bytes:
    prepare: dict[str, Any] | None = None
    if main_module:
        from multiprocessing import spawn  # noqa: PLC0415  # only this context needs it

        try:
            prepare = spawn.get_preparation_data(job.title)
        except OSError as error:  # it asks for the working directory
            raise HelperError(f"{job.title} cannot be spawned: working directory: {error.strerror}") from error
        prepare.pop(
            "authkey", None
        )  # only multiprocessing's own connections need it, and it refuses to be pickled here
    out = io.BytesIO()
    pickle.dump(sys.path, out)
    try:
        with inherited_descriptors():
            pickle.dump(prepare, out)
            pickle.dump(job, out)
    except Exception as error:  # whatever a __reduce__ raises
        raise HelperError(
            f"{job.title}: its handler cannot be pickled, which a spawned helper needs ({error});"
            " use a function at module level, or context='fork'"
        ) from error
    return out.getvalue()


def _exec_away(payload: bytes, job: Job) -> None:
    fd = _job_file(payload)
    try:
        _fork_away(lambda: _exec_python(fd, job))
    finally:
        os.close(fd)


def _job_file(payload: bytes) -> int:
    fd = os.memfd_create("mpbroadcast-job", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(payload)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _exec_python(fd: int, job: Job) -> NoReturn:
    """In a fork: becomes a fresh interpreter that runs the job in ``fd``."""
    _reset_signals()
    flags = [f"-X{name}" for name in ("dev", "utf8") if name in sys._xoptions]  # noqa: SLF001
    for link in list(pathlib.Path("/proc/self/fd").iterdir()):  # a server marks its listening sockets as inheritable
        if int(link.name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(link.name), False)
    os.set_inheritable(fd, True)
    os.set_inheritable(job.segment.fd, True)
    os.execv(sys.executable, [sys.executable, *flags, "-c", _BOOT, str(fd)])  # noqa: S606 - our own interpreter


def run_spawned(file: io.BufferedReader) -> NoReturn:
    """Where an exec'd helper begins: reads its job from ``file`` and runs it."""
    try:
        prepare = pickle.load(file)  # noqa: S301  # written by our own parent into a memory file of its own
        if prepare is not None:
            from multiprocessing import spawn  # noqa: PLC0415

            spawn.prepare(prepare)
        job: Job = pickle.load(file)  # noqa: S301
        file.seek(0)
        _SPAWNED[:] = [file.read()]
        file.close()
        _leave_terminal()
        _run_helper(job)
    except BaseException:  # noqa: BLE001 - a helper ends here, whatever it was
        traceback.print_exc()
    finally:
        _exit()


def _run_forked(job: Job, keep_fds: frozenset[int]) -> None:
    gc.freeze()  # first of all: a later collection would copy the application's pages, object by object
    _reset_signals()
    _leave_terminal()
    _let_go_of_files(job.segment, keep_fds)
    try:
        _run_helper(job)
    except BaseException:  # noqa: BLE001 - a helper ends here, whatever it was
        traceback.print_exc()
    finally:
        _exit()


def _exit() -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    _END(0)


def _reset_signals() -> None:
    """The application's handlers are not ours; Ctrl-C, hang-up and a service manager's SIGTERM are meant for it.

    A helper ends when the application has ended and everything is delivered, not when the terminal says so.
    """
    with contextlib.suppress(ValueError):  # only the main thread may; after a fork in another thread we are that thread
        signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        ignored = number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE)
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _leave_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != 0:  # 0 where the application had no stdin
        os.dup2(null, 0)
        os.close(null)


def _let_go_of_files(segment: Segment, keep: frozenset[int]) -> None:
    """Lets go of listening sockets, of locked files (such as the application's pid file) and of foreign segments.

    They would keep ports busy, locks taken and memory in use after the application's end.

    Each is replaced by /dev/null under the same number, so that no object that still holds the number can reach a
    stranger's file.
    """
    own = os.fstat(segment.fd).st_ino
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for link in list(pathlib.Path("/proc/self/fd").iterdir()):
        fd = int(link.name)
        if fd <= 2 or fd == null or fd in keep:
            continue
        with contextlib.suppress(OSError):
            info = os.fstat(fd)
            target = str(link.readlink())
            foreign = info.st_ino != own and (
                target.startswith("/memfd:" + MEMFD_PREFIX) or target.endswith(FILE_SUFFIX)
            )
            if foreign or (stat.S_ISSOCK(info.st_mode) and _listens(fd)) or _is_locked(fd):
                os.dup2(null, fd, inheritable=False)
    os.close(null)


def _is_locked(fd: int) -> bool:
    """Whether an flock or an open-file-description lock hangs on this descriptor, which a fork shares."""
    info = pathlib.Path(f"/proc/self/fdinfo/{fd}").read_text()
    return any(line.startswith("lock:") and "POSIX" not in line for line in info.splitlines())


def _listens(fd: int) -> bool:
    sock = socket.socket(fileno=fd)
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    finally:
        sock.detach()


def _run_helper(job: Job, said: Said | None = None) -> None:
    """The life of a worker or a spare: sleep on the lock, and work once it is ours.

    Args:
        job: its work.
        said: what the workers before this one have said of `_TAKES_OVER`, `_FAILED` and `_NO_SPARE`.
    """
    _set_title(job, spare=True)
    before = job.progress()
    job.segment.ring.lock(job.lock, True)
    if job.needed():
        # A worker that got something done and was killed from outside is followed at once, however often that happens.
        if job.progress() != before and not job.crashed():
            job.forget_restarts()
        _Worker(job, said).run()


def _since_last(n: int) -> str:
    return f" ({n} times since the last line)" if n > 1 else ""


def _set_title(job: Job, *, spare: bool) -> None:
    _ring.set_title((job.title + (" (spare)" if spare else "")).encode("utf-8", "replace"))


class _Worker:
    """The process that holds the lock: forks its spare while it is still untouched, then works."""

    def __init__(self, job: Job, said: Said | None) -> None:
        self._job = job
        self._cause = job.cause()
        self._follows = said is not None  # a worker that forked this process
        self._said = said or Said(3)
        self._spare = 0
        self._spare_pause = SPARE_PAUSE[0]
        self._spare_at = float("-inf")  # when the next try for one is due
        self._lasting_at = float("inf")
        self._rescued_at = float("-inf")

    def run(self) -> None:
        """Takes the worker's place and does the job to its end."""
        job = self._job
        # A wake-up then never takes the core away from the worker that rings, which is in the middle of recording. (A
        # batch process waits for a free core, or for the next tick; it gets the same share.)
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        self._fork_spare(lambda: _run_helper(job, self._said))
        _set_title(job, spare=False)
        before = job.begin()
        self._announce()
        if before or self._follows:
            self._said.add(_TAKES_OVER)
            self._say_restarts()
        longest = BACKOFF_LAST if job.crashed() else BACKOFF_KILLED
        pause = min(BACKOFF_FIRST * 2.0 ** min(before - 2, 20), longest) if before > 1 else 0.0
        self._rest(pause)
        job.count_start()  # only now: one that is killed in its pause has not failed at the work
        self._lasting_at = time.monotonic() + max(BACKOFF_FORGET[0] * pause, BACKOFF_FORGET[1])
        try:
            job.work(self._tick)
            self._say_restarts(final=True)
        except BaseException:  # noqa: BLE001 - a worker that fails has said so, and ends; its spare goes on
            self._said.add(_FAILED)
            if n := self._said.due(_FAILED):
                _log.exception("%s failed; its spare takes over%s", job.title, _since_last(n))

    def _rest(self, pause: float) -> None:
        """A pause before the work; a shutdown that waits for this helper has no half minute for it."""
        ring, began = self._job.segment.ring, time.monotonic()
        while (left := began + pause - time.monotonic()) > 0:
            if time.monotonic() - began >= PAUSE_AT_END and ring.get("state") != _ring.RUNNING:
                return
            time.sleep(min(left, PAUSE_SLICE))

    def _say_restarts(self, *, final: bool = False) -> None:
        if n := self._said.due(_TAKES_OVER, final=final):
            cause = f"; the last one {self._cause}" if self._cause else ""
            _log.warning("%s: process %d takes over%s%s", self._job.title, os.getpid(), cause, _since_last(n))

    def _announce(self) -> None:
        start, spare_start = _ring.start_ticks(os.getpid()), _ring.start_ticks(self._spare) if self._spare else 0
        self._job.announce(os.getpid(), start, self._spare, spare_start)

    def _tick(self) -> None:
        """Once a second: the back-off, the log, and the spare, which is replaced while there is only one thread."""
        if time.monotonic() > self._lasting_at:
            self._lasting_at = float("inf")
            self._job.forget_restarts()
        self._say_restarts()
        self._look_after_partner()
        self._look_after_spare()

    def _look_after_spare(self) -> None:
        """A spare that died is reaped and replaced; one that could not be forked is tried again, ever more seldom."""
        if self._spare:
            with contextlib.suppress(ChildProcessError):
                pid, _ = os.waitpid(self._spare, os.WNOHANG)
                if pid == 0:
                    return
            self._spare = 0
            self._announce()
        if time.monotonic() < self._spare_at:
            return
        if _SPAWNED:  # a fork would take along what the handler has opened since; a fresh interpreter does not
            self._fork_spare(lambda: _exec_python(_job_file(_SPAWNED[0]), self._job))
        elif _has_one_thread():
            self._fork_spare(lambda: _run_helper(self._job, self._said))
        if self._spare:
            self._announce()

    def _look_after_partner(self) -> None:
        """Worker and spare of the distributor died at once, and the application says nothing, or has died, too."""
        partner, ring = self._job.partner, self._job.segment.ring
        if partner is None or time.monotonic() - self._rescued_at < RESCUE_SECONDS:
            return
        if self._rescued_at > float("-inf"):
            ring.unlock(_ring.LOCK_RESCUE)
            self._rescued_at = float("-inf")
        if partner.gone() and partner.needed() and ring.lock(_ring.LOCK_RESCUE):
            _log.warning("%s: worker and spare are both gone; started again", partner.title)
            self._rescued_at = time.monotonic()
            start_process(partner, context="exec")

    def _fork_spare(self, run: Callable[[], None]) -> None:
        try:
            _take_descriptors(self._job.segment, SPARE_DESCRIPTORS)
            pid = os.fork()
        except OSError as error:
            self._spare_at = time.monotonic() + self._spare_pause
            self._spare_pause = min(self._spare_pause * 2, SPARE_PAUSE[1])
            self._said.add(_NO_SPARE)
            if n := self._said.due(_NO_SPARE):
                why = os.strerror(error.errno or 0)
                _log.warning("%s has no spare: %s; tried again%s", self._job.title, why, _since_last(n))
            return
        if pid == 0:
            try:
                run()
            except BaseException:  # noqa: BLE001 - a spare ends here, whatever it was
                traceback.print_exc()
            finally:
                _exit()
        self._spare = pid
        self._spare_pause = SPARE_PAUSE[0]
        self._spare_at = time.monotonic() + self._spare_pause  # one that dies at once is not followed at once


def _has_one_thread() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - its iterdir() costs more
    except OSError:  # no descriptor is free: it is asked again
        return False
