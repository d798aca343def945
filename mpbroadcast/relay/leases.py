"""Who owns which partition: keys of a NATS key-value bucket. Runs in: the relay.

::

    config          {"partitions": 16}                    written once, by the first member of the group
    member.<id>     {"beat": n}                           every second, by that member
    partition.<i>   {"owner": id or "", "position": n}    every second, by its owner; compare-and-set

See `mpbroadcast.relay` for the rules and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from mpbroadcast.errors import SinkError, SinkUnavailable
from mpbroadcast.sinks.jetstream import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nats.aio.client import Client
    from nats.js.client import JetStreamContext
    from nats.js.kv import KeyValue

__all__ = ["BEAT_SECONDS", "Leases"]

BEAT_SECONDS: Final = 1.0
"""Between two writes of a key by its owner."""

_TRUSTED: Final = 0.6  # of the lease time: how long a member believes its own last renewal
_REQUEST_SECONDS: Final = 2.0
_MOST_PARTITIONS: Final = 256

_log: Final = logging.getLogger("mpbroadcast.relay")


class Leases:
    """The partitions of one member. Belongs to one event loop.

    Args:
        client: connected.
        stream: that is relayed.
        group: its members share the stream.
        member: a name that no other member has.
        ttl: seconds for which a key must not have been written before it may be taken.

    Attributes:
        partitions: how many there are.
        mine: those that this member owns, with the position that they had when it took them.
        surplus: those that it should give back, for other members.
    """

    def __init__(self, client: Client, stream: str, group: str, member: str, *, ttl: float) -> None:
        self._client = client
        self._bucket = f"{stream}-relay-{group}"
        self._member = member
        self._ttl = ttl
        self._js: JetStreamContext = client.jetstream(timeout=_REQUEST_SECONDS)
        self.partitions = 0
        self.mine: dict[int, int] = {}
        self.surplus: frozenset[int] = frozenset()
        self._revisions: dict[int, int] = {}
        self._written: dict[int, int] = {}  # positions
        self._observed: dict[str, tuple[int, float]] = {}  # key: its revision, and since when it has that
        self._beat = 0
        self._renewed_at = 0.0

    @property
    def is_valid(self) -> bool:
        """Whether this member may be sure that its partitions are its own. Safe in any thread."""
        return time.monotonic() - self._renewed_at < self._ttl * _TRUSTED

    async def open(self, partitions: int, replicas: int) -> None:
        """Find the bucket, or make it.

        Args:
            partitions: of a new group; an older group keeps the number it has.
            replicas: of a new bucket.

        Raises:
            SinkUnavailable: with one line.
        """
        from nats import errors  # noqa: PLC0415 - loaded by the connection
        from nats.js.api import KeyValueConfig, StorageType  # noqa: PLC0415
        from nats.js.errors import BucketNotFoundError, KeyWrongLastSequenceError  # noqa: PLC0415

        try:
            try:
                self._kv: KeyValue = await self._js.key_value(self._bucket)
            except BucketNotFoundError:
                config = KeyValueConfig(bucket=self._bucket, replicas=replicas, storage=StorageType.FILE, direct=False)
                self._kv = await self._js.create_key_value(config)
            with contextlib.suppress(KeyWrongLastSequenceError):  # there is one
                await self._kv.create("config", orjson.dumps({"partitions": partitions}))
            config_entry = await self._get("config")
        except (errors.Error, OSError, TimeoutError) as error:
            raise SinkUnavailable(f"bucket {self._bucket}: {plain(error)}") from None
        self.partitions = int((config_entry or (0, {}))[1].get("partitions", 0))
        if not 1 <= self.partitions <= _MOST_PARTITIONS:
            raise SinkError(f"bucket {self._bucket} does not belong to a relay: its key 'config' says nothing useful")
        if self.partitions != partitions:
            _log.warning("Group has %d partitions, which stay: bucket=%s", self.partitions, self._bucket)

    async def _get(self, key: str) -> tuple[int, dict[str, Any]] | None:
        """Read a key from the leader of the bucket: its revision and value."""
        from nats.js.errors import NotFoundError  # noqa: PLC0415

        try:
            message = await self._js.get_last_msg(f"KV_{self._bucket}", f"$KV.{self._bucket}.{key}")
        except NotFoundError:
            return None
        try:
            value = orjson.loads(message.data or b"{}")
        except ValueError:
            value = {}
        return message.seq or 0, value if isinstance(value, dict) else {}

    async def beat(self, positions: Mapping[int, int]) -> None:
        """Renew what is mine, look at what others do, take what is free. To be called every second.

        Args:
            positions: how far each partition is.

        Raises:
            SinkUnavailable: the bucket cannot be reached now; nothing is known about the leases of others.
        """
        from nats import errors  # noqa: PLC0415

        try:
            await self._renew(positions)
            await self._look()
        except (errors.Error, OSError, TimeoutError) as error:
            now = time.monotonic()
            # Who could not look does not know for how long a key has stood still.
            self._observed = {key: (revision, now) for key, (revision, _) in self._observed.items()}
            raise SinkUnavailable(f"bucket {self._bucket}: {plain(error) or 'no answer'}") from None

    async def _renew(self, positions: Mapping[int, int]) -> None:
        began = time.monotonic()
        self._beat += 1
        await self._kv.put(f"member.{self._member}", orjson.dumps({"beat": self._beat}))
        writes = [self._write(number, positions.get(number, 0)) for number in list(self.mine)]
        # All of them to their end: one that went on alone could write what is not true any more.
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        self._renewed_at = began

    async def _write(self, number: int, position: int, owner: str | None = None) -> bool:
        """Write a key that is mine; says whether it still was."""
        from nats.js.errors import KeyWrongLastSequenceError  # noqa: PLC0415

        key = f"partition.{number}"
        owner = self._member if owner is None else owner
        position = max(position, self._written[number])  # an older round may not know what others did since
        value = orjson.dumps({"owner": owner, "position": position})
        while True:
            try:
                self._revisions[number] = await self._kv.update(key, value, last=self._revisions.get(number, 0))
            except KeyWrongLastSequenceError:
                entry = await self._get(key)
                if entry is not None and entry[1].get("owner") == self._member and number in self.mine:
                    self._revisions[number] = entry[0]  # an earlier write of this member, whose answer was lost
                    continue
                self._lost(number)
                return False
            self._written[number] = position
            return True

    def _lost(self, number: int) -> None:
        if self.mine.pop(number, None) is not None:
            _log.warning("Partition %d was taken by another member", number)

    async def _look(self) -> None:
        """See who lives, and share the partitions out."""
        info = await self._js.stream_info(f"KV_{self._bucket}", subjects_filter=f"$KV.{self._bucket}.>")
        prefix = len(f"$KV.{self._bucket}.")
        keys = [subject[prefix:] for subject in (info.state.subjects or {})]
        entries = dict(zip(keys, await asyncio.gather(*[self._get(key) for key in keys]), strict=True))
        now = time.monotonic()
        for key, entry in entries.items():
            if entry is not None and self._observed.get(key, (0, 0.0))[0] != entry[0]:
                self._observed[key] = entry[0], now
        members = [key.removeprefix("member.") for key in entries if key.startswith("member.")]
        living = sorted({name for name in members if self._lives(f"member.{name}", now)} | {self._member})
        quota = self._quota(living)
        self.surplus = frozenset(sorted(self.mine)[quota:])
        await self._take(quota - len(self.mine), entries, now)
        for name in set(members) - set(living):
            await self._js.purge_stream(f"KV_{self._bucket}", subject=f"$KV.{self._bucket}.member.{name}")
            self._observed.pop(f"member.{name}", None)

    def _lives(self, key: str, now: float) -> bool:
        return now - self._observed[key][1] < self._ttl if key in self._observed else False

    def _quota(self, living: list[str]) -> int:
        """Return how many partitions are this member's share; the shares of all add up to all of them."""
        share, rest = divmod(self.partitions, len(living))
        return share + (living.index(self._member) < rest)

    async def _take(self, wanted: int, entries: Mapping[str, tuple[int, dict[str, Any]] | None], now: float) -> None:
        from nats.js.errors import KeyWrongLastSequenceError  # noqa: PLC0415

        for number in range(self.partitions):
            if wanted <= 0:
                return
            key = f"partition.{number}"
            revision, value = entries.get(key) or (0, {})
            # One that says it is mine and is not among them: it was taken in a write whose answer was lost.
            owned = value.get("owner") not in {None, "", self._member} and self._lives(key, now)
            if number in self.mine or owned:
                continue
            position = int(value.get("position", 0))
            body = orjson.dumps({"owner": self._member, "position": position})
            try:
                self._revisions[number] = await self._kv.update(key, body, last=revision)
            except KeyWrongLastSequenceError:
                continue  # another member was faster
            self.mine[number] = position
            self._written[number] = position
            wanted -= 1

    async def give_back(self, numbers: Iterable[int], positions: Mapping[int, int]) -> None:
        """Let others have partitions, which are not worked on any more. Never raises: they become free in any case."""
        from nats import errors  # noqa: PLC0415

        for number in list(numbers):
            if number not in self.mine:
                continue
            try:
                await self._write(number, positions.get(number, 0), owner="")
            except (errors.Error, OSError, TimeoutError):
                _log.warning("Partition %d cannot be given back now; its lease ends by itself", number)
            self.mine.pop(number, None)
        self.surplus = frozenset()

    async def leave(self) -> None:
        """Say that this member is gone. Never raises."""
        from nats import errors  # noqa: PLC0415

        try:
            await self._js.purge_stream(f"KV_{self._bucket}", subject=f"$KV.{self._bucket}.member.{self._member}")
        except (errors.Error, OSError, TimeoutError):
            _log.warning("The servers cannot be told that this member leaves")
