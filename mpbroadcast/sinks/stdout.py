"""`StdoutSink`: events to standard output, one JSON object a line. Runs in: the process of the sink.

For containers: what a process prints is what the cluster's log collector gets.
"""

from __future__ import annotations

import errno
import os
import re
import select
from typing import TYPE_CHECKING, Final

import orjson

from mpbroadcast.errors import SinkRejected, SinkUnavailable

if TYPE_CHECKING:
    from mpbroadcast.event.model import Event

__all__ = ["StdoutSink"]

_STDOUT: Final = 1
_BATCH: Final = 512
_WAIT_SECONDS: Final = 5.0  # for a reader that does not read, before the try counts as failed

# What JSON lets through and a terminal, or a reader of lines, takes for a command: DEL, C1, line separators, and the
# marks that turn text around.
_COMMANDS: Final = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


class StdoutSink:
    """Writes each event, as core/v1 JSON, in one line to standard output. Picklable; one thread at a time may use it.

    A line goes out whole, by the time its event counts as handled; where others write to the same pipe, lines of less
    than 4 KiB are not mixed. No event can command a terminal or break a line. Blocks while the reader is slow; when
    it is gone, every write raises `SinkUnavailable`. After ``kill -9`` what was being written may come twice.

    Args:
        descriptor: where to write; 1 is standard output.
    """

    label = "stdout"
    batch = _BATCH
    default_correlator = None
    """Every event is written, repeats too."""

    def __init__(self, descriptor: int = _STDOUT) -> None:
        self._descriptor = descriptor
        self._rest = b""  # of a line that went out in part

    def __repr__(self) -> str:
        return "StdoutSink()" if self._descriptor == _STDOUT else f"StdoutSink({self._descriptor})"

    def create(self, event: Event) -> Event:
        """Write an event.

        Raises:
            SinkRejected: it is no JSON.
            SinkUnavailable: standard output cannot be written.
        """
        try:
            line = orjson.dumps(event.to_core_v1(), option=orjson.OPT_APPEND_NEWLINE)
        except (ValueError, TypeError) as error:
            raise SinkRejected(f'Event "{event.name}" is invalid: {error}', code=422, reason="Invalid") from error
        self._write(_COMMANDS.sub(_escaped, line))
        return event

    def patch(self, event: Event, patch: bytes) -> Event:  # noqa: ARG002 - the event says all
        """Write the event as it is now."""
        return self.create(event)

    def close(self) -> None:
        """Do nothing: standard output belongs to everybody."""

    def _write(self, line: bytes) -> None:
        # A line that went out in part is finished first: it is tried again, and begins a new line then.
        data = memoryview(self._rest + line)
        self._rest = b""
        written = 0
        try:
            while written < len(data):
                try:
                    written += os.write(self._descriptor, data[written:])
                except BlockingIOError:  # somebody has made the pipe non-blocking
                    if not select.select([], [self._descriptor], [], _WAIT_SECONDS)[1]:
                        raise
        except OSError as error:
            if 0 < written < len(data):
                self._rest = b"\n"
            why = "its reader is gone" if error.errno == errno.EPIPE else (error.strerror or str(error)).lower()
            raise SinkUnavailable(f"standard output: {why}") from None


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())
