"""The store behind the event loop: one thread that writes, one that reads, and the news that something changed.

Runs in: the server. SQLite blocks, so the loop itself never touches it. A `Store` is used by one thread at a time; a
long list therefore holds up other reads, never a write.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self, TypeVar

from mpbroadcast.errors import StoreError
from mpbroadcast.store.sqlite import Store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from mpbroadcast.base.clock import Clock

__all__ = ["Backend", "Listener"]

_log: Final = logging.getLogger(__name__)

_T = TypeVar("_T")

_POLL: Final = 0.08  # seconds between looks for what other processes wrote, while somebody waits for it
_PRUNE_EVERY: Final = 30.0  # seconds; a TTL is kept that exactly, as etcd's is
_PRUNE_STEP: Final = 500  # events deleted at a time, so that requests come in between


class _StoreThread:
    """One open store and the thread that uses it."""

    def __init__(self, path: str | os.PathLike[str], clock: Clock, name: str) -> None:
        self._store = Store.open(path, clock=clock)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[Store], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._store)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._store.close()


class Listener:
    """One who waits for changes. Use on the event loop."""

    def __init__(self) -> None:
        self.closing = False
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Tell that there may be something to do."""
        self._news.set()

    async def wait(self, seconds: float) -> None:
        """Wait for the next news, at most so many seconds. News that came since the last wait end it at once."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()


class Backend:
    """A store for an asyncio server. Opens the file at once; `start` and `close` belong to the loop.

    Args:
        path: of the store; created if missing.
        clock: for creation times and ages.
        ttl_ns: nanoseconds after the last write at which an event goes; None for never.

    Raises:
        StoreError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock, ttl_ns: int | None = None) -> None:
        self._writer = _StoreThread(path, clock, "mpbroadcast-write")
        try:
            # Not read-only: a store that is only read may not be able to share the writer's index.
            self._reader = _StoreThread(path, clock, "mpbroadcast-read")
        except StoreError:
            self._writer.close()
            raise
        self._ttl_ns = ttl_ns
        self._version = 0
        self._listeners: set[Listener] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._somebody_listens = asyncio.Event()
        self._closing = False

    async def start(self) -> Self:
        """Begin to look for changes of others, and to delete what is too old."""
        self._tasks.append(asyncio.create_task(self._poll()))
        if self._ttl_ns is not None:
            self._tasks.append(asyncio.create_task(self._prune(self._ttl_ns)))
        return self

    def stop_listeners(self) -> None:
        """Ask everybody who waits to come to an end; new ones are told at once."""
        self._closing = True
        for listener in self._listeners:
            listener.closing = True
            listener.wake()

    async def close(self) -> None:
        """Stop what runs beside the requests. The file stays open until `close_files`."""
        self.stop_listeners()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close_files(self) -> None:
        """Finish the work under way and close the file. Blocks; from any thread, may be called more than once."""
        for thread in (self._writer, self._reader):
            thread.close()

    async def read(self, work: Callable[[Store], _T]) -> _T:
        """Do something that only reads, and return what it returns."""
        return await self._reader.run(work)

    async def write(self, work: Callable[[Store], _T]) -> _T:
        """Do something that writes, tell the listeners, and return what it returned."""

        def write_and_look(store: Store) -> tuple[_T, int]:
            return work(store), store.resource_version()

        result, version = await self._writer.run(write_and_look)
        self._announce(version)
        return result

    def listen(self) -> Listener:
        """Return a new listener; give it to `forget` at the end."""
        listener = Listener()
        listener.closing = self._closing
        self._listeners.add(listener)
        self._somebody_listens.set()
        return listener

    def forget(self, listener: Listener) -> None:
        """Have one listener less."""
        self._listeners.discard(listener)
        if not self._listeners:
            self._somebody_listens.clear()

    @property
    def listeners(self) -> int:
        """How many are waiting."""
        return len(self._listeners)

    def _announce(self, version: int) -> None:
        if version != self._version:
            self._version = version
            for listener in self._listeners:
                listener.wake()

    async def _poll(self) -> None:
        """Look for what other processes wrote to the file: one small query, and only while somebody waits."""
        while True:
            await self._somebody_listens.wait()
            try:
                self._announce(await self._reader.run(Store.resource_version))
            except StoreError as error:
                _log.error("%s", error)
                await asyncio.sleep(1)
            await asyncio.sleep(_POLL)

    async def _prune(self, ttl_ns: int) -> None:
        while True:
            try:
                deleted = _PRUNE_STEP
                while deleted == _PRUNE_STEP:
                    deleted = await self.write(lambda store: store.prune(ttl_ns=ttl_ns, limit=_PRUNE_STEP))
            except StoreError as error:
                _log.error("%s", error)
            await asyncio.sleep(min(_PRUNE_EVERY, ttl_ns / 10**9 / 4))
