"""What a user would take instead, each behind the same small face: a channel of bytes between processes.

A channel is made in the parent, before any fork. ``put(message)`` waits for room, ``get_some()`` waits for messages.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

__all__ = ["NAMES", "Channel", "make"]

NAMES = ("mp_queue", "simple_queue", "os_pipe", "zmq", "faster_fifo")


class Channel(Protocol):
    """Bytes from any number of producers to one consumer."""

    def producer(self) -> None:
        """Runs in a producer process before its first put."""

    def consumer(self) -> None:
        """Runs in the consumer process before its first get."""

    def put_all(self, message: bytes, count: int) -> None:
        """Sends a message so often, waiting for room, and returns when all of it is on its way."""

    def get_some(self) -> int:
        """Waits for messages, takes what is there, and says how many it were."""


def make(name: str) -> Channel:
    """A fresh channel.

    Raises:
        Missing: it is not installed.
    """
    return import_module(f"bench.rivals.{name}").make()
