"""One member of a relay: its life, from its first beat to its leaving. Runs in: the relay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import orjson

from mpbroadcast.base.goquote import go_quote
from mpbroadcast.base.notices import Notices
from mpbroadcast.base.text import counted
from mpbroadcast.errors import SinkUnavailable
from mpbroadcast.relay.leases import BEAT_SECONDS, Leases
from mpbroadcast.relay.outlet import make_outlet
from mpbroadcast.relay.reader import StreamReader, stream_state
from mpbroadcast.sinks.jetstream import DEFAULT_STREAM, Access, check_stream, hash_of_id, object_hash, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.client import Client

    from mpbroadcast.relay.outlet import Outlet, Record
    from mpbroadcast.relay.reader import Message
    from mpbroadcast.sinks.base import EventSink

__all__ = ["DEFAULT_PARTITIONS", "DEFAULT_TTL", "Member"]

DEFAULT_PARTITIONS: Final = 16
"""As many members can share the work at the most."""

DEFAULT_TTL: Final = 15.0
"""Seconds after which the partitions of a killed member are taken; longer than the servers need for a new leader."""

_LEAST_TTL: Final = 3 * BEAT_SECONDS
_DRAIN_SECONDS: Final = 5.0  # for what is under way at the end of a round

_log: Final = logging.getLogger("mpbroadcast.relay")


class Member:
    """Relays the partitions that fall to it. `run` belongs to one event loop; the sink to a thread of its own.

    Args:
        access: of NATS.
        sink: where events go.
        stream: where they come from.
        group: members of one group share the events; another group gets all of them as well.
        partitions: of a new group; at most 256.
        ttl: seconds after which the partitions of a member that does not renew them are taken by others.
        name: of this member; it must be unique.
        options: ``correlator`` and ``retry``, as for `mpbroadcast.relay.outlet.Outlet`.

    Attributes:
        counts: what became of events, under the names of `mpbroadcast.sinks.handler.COUNTERS`.

    Raises:
        ValueError: an option makes no sense; with one line that names it.
    """

    def __init__(
        self,
        access: Access,
        sink: EventSink,
        *,
        stream: str = DEFAULT_STREAM,
        group: str = "relay",
        partitions: int = DEFAULT_PARTITIONS,
        ttl: float = DEFAULT_TTL,
        name: str | None = None,
        **options: Any,
    ) -> None:
        if not 1 <= partitions <= 256:
            raise ValueError(f"partitions must be from 1 to 256, not {partitions}")
        if not ttl >= _LEAST_TTL:
            raise ValueError(f"ttl must be at least {_LEAST_TTL:g} seconds, not {ttl:g}")
        self._access = access
        self._sink = sink
        self._stream = check_stream(stream)
        self._group = _name("group", group)
        self._partitions = partitions
        self._ttl = ttl
        host = "".join(letter if letter.isalnum() else "-" for letter in socket.gethostname())[:40]
        self._name = _name("name", name or f"{host}-{os.getpid()}-{uuid4().hex[:6]}")
        self._options = options
        self._outlet: Outlet | None = None
        self._drain_until = float("inf")  # time.monotonic(); then the sink's thread waits for nothing any more
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._notices = Notices(_log)
        self.counts: dict[str, int] = defaultdict(int)

    def stop(self) -> None:
        """Let `run` settle what is under way and return. To be called in its loop."""
        self._stop.set()
        self._end_round(_DRAIN_SECONDS)

    async def run(self) -> None:
        """Relay until `stop` is called.

        Raises:
            SinkUnavailable: NATS cannot be reached at the start, or there is no such stream.
            SinkError: the sink, or the bucket of the group, cannot be used.
        """
        client = await self._access.connect("relay", closed_cb=self._closed)
        executor = ThreadPoolExecutor(1, thread_name_prefix="mpbroadcast: sink")
        try:
            replicas = (await stream_state(client, self._stream)).replicas
            leases = Leases(client, self._stream, self._group, self._name, ttl=self._ttl)
            await leases.open(self._partitions, replicas)
            beats = asyncio.create_task(self._beats(leases))
            beats.add_done_callback(lambda _: self._end_round(0))
            try:
                await self._rounds(client, leases, executor, beats)
            finally:
                beats.cancel()
                await asyncio.gather(beats, return_exceptions=True)
                await leases.leave()
        finally:
            self._notices.flush(final=True)
            executor.shutdown()
            await client.close()

    async def _closed(self) -> None:
        self._end_round(0)

    # Beats

    async def _beats(self, leases: Leases) -> None:
        while True:
            before = frozenset(leases.mine)
            try:
                await leases.beat(self._outlet.positions() if self._outlet else {})
            except SinkUnavailable as error:
                self._say(error)
            self._notices.flush()
            mine = frozenset(leases.mine)
            if before - mine or not leases.is_valid:
                self._end_round(0)  # another one may be working on them already
            elif mine != before or leases.surplus:
                self._end_round(_DRAIN_SECONDS)
            await asyncio.sleep(BEAT_SECONDS)

    def _end_round(self, seconds: float) -> None:
        self._drain_until = min(self._drain_until, time.monotonic() + seconds)
        self._changed.set()

    def _say(self, error: Exception) -> None:
        self._notices.say("no answer", "The servers do not answer (may retry): err=%s", go_quote(str(error)))

    # Rounds

    async def _rounds(
        self, client: Client, leases: Leases, executor: ThreadPoolExecutor, beats: asyncio.Task[None]
    ) -> None:
        while not self._stop.is_set():
            if beats.done():
                beats.result()
            if client.is_closed:  # nats-py has given up, for a reason such as credentials that are not good any more
                raise SinkUnavailable(f"NATS at {self._access.where}: {plain(client.last_error or EOFError('closed'))}")
            self._changed.clear()
            self._drain_until = float("inf")
            if leases.mine and not leases.surplus and leases.is_valid:
                await self._round(client, leases, executor)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), BEAT_SECONDS)
            if leases.surplus:
                await leases.give_back(leases.surplus, self._positions)
        await leases.give_back(list(leases.mine), self._positions)

    @property
    def _positions(self) -> dict[int, int]:
        return self._outlet.positions() if self._outlet else {}

    async def _round(self, client: Client, leases: Leases, executor: ThreadPoolExecutor) -> None:
        """Work on the partitions that are mine now, until they change."""
        loop = asyncio.get_running_loop()
        known = self._positions
        positions = {number: max(at, known.get(number, 0)) for number, at in leases.mine.items()}
        try:
            state = await stream_state(client, self._stream)
        except SinkUnavailable as error:
            self._say(error)
            await asyncio.sleep(BEAT_SECONDS)
            return
        after = min(positions.values())
        if after and state.first > after + 1:
            removed = counted(state.first - after - 1, "event was", "events were")
            _log.error("Up to %s removed from the stream before being relayed", removed)
        outlet = make_outlet(
            self._sink,
            positions,
            source=f"{self._stream}/{self._group}",
            repeated_until=state.last,
            stopping=lambda: time.monotonic() > self._drain_until,
            may_write=lambda: leases.is_valid,
            **self._options,
        )
        self._outlet = outlet
        _log.info("Round: partitions=%s after=%d", sorted(positions), after)
        reader = StreamReader(client, self._stream, after=after)
        await loop.run_in_executor(executor, outlet.open)
        try:
            while not self._changed.is_set():
                await self._step(reader, outlet, leases, executor)
        finally:
            await loop.run_in_executor(executor, outlet.close)
            for name, n in outlet.counts.items():
                self.counts[name] += n
            await reader.close()

    async def _step(self, reader: StreamReader, outlet: Outlet, leases: Leases, executor: ThreadPoolExecutor) -> None:
        """Read once, and hand over what is mine."""
        loop = asyncio.get_running_loop()
        messages = await reader.read()
        if not leases.is_valid:
            self._end_round(0)  # also if it is valid again at once: what was read now must not be passed by
        if self._changed.is_set():
            return  # what was read is read again by whoever owns it then
        work: Callable[[], object] = outlet.idle
        if messages:
            shares = self._shares(messages, leases.partitions, outlet)

            def work() -> None:
                for number, records in shares.items():
                    outlet.give(number, records)

        await loop.run_in_executor(executor, work)
        if not self._changed.is_set():
            outlet.pass_by(reader.seen)

    def _shares(self, messages: Sequence[Message], partitions: int, outlet: Outlet) -> dict[int, list[Record]]:
        """Sort messages by partition, and drop those that are not mine."""
        shares: dict[int, list[Record]] = {}
        for message in messages:
            number = _hash(message) % partitions
            if number in outlet.progress:
                shares.setdefault(number, []).append((message.sequence, message.data))
        return shares


def _hash(message: Message) -> int:
    """Return the hash of the object that a message is about; of its subject, if it is no event."""
    found = hash_of_id(message.id)
    if found is not None:
        return found
    try:
        body = orjson.loads(message.data)
        about = body["involvedObject"]
        namespace = body["metadata"].get("namespace") or ""
        return object_hash(str(namespace), str(about.get("kind") or ""), str(about.get("name") or ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return zlib.crc32(message.subject.encode())


def _name(what: str, name: str) -> str:
    if not name or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name):
        raise ValueError(f"{what} must have letters, digits, '-' and '_' only, not {name!r}")
    return name
