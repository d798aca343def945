"""A sink's process that is killed again and again. Runs in: a process of its own, started by the tests.

Arguments: URL, folder, number of records, kills, spool or "". The records are those of `records_of`. The sequence
numbers that were settled stand in the file ``settled``, those that were handed out in ``handed``. As with a real
helper, all workers are forks of one process that made the handler and did nothing else.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

from mpbroadcast.correlator import CorrelatorOptions
from mpbroadcast.sinks.kubernetes import KubernetesSink
from tests.sinks.kubernetes_engine import FAST, configuration_for, record

U64 = struct.Struct("<Q")


def records_of(count):
    """Every fourth one is a repeat of one of five events."""
    return [record(n, *about(n)) for n in range(1, count + 1)]


def about(n):
    """Object and message of a record."""
    return (f"hot-{n % 20}", "again") if n % 4 == 0 else (f"pod-{n % 97}", f"m-{n}")


def numbers(path):
    data = path.read_bytes() if path.exists() else b""
    return [number for (number,) in U64.iter_unpack(data[: len(data) // 8 * 8])]


def work(handler, folder, records):
    settled = set(numbers(folder / "settled"))
    until = max(numbers(folder / "handed"), default=0)
    out = os.open(folder / "settled", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    handed = os.open(folder / "handed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    handler.open(repeated_until=until)
    left = [entry for entry in records if entry[0] not in settled]
    for start in range(0, len(left), 64):
        batch = left[start : start + 64]
        os.write(handed, U64.pack(batch[-1][0]))
        handler.handle(batch, lambda sequence, _: os.write(out, U64.pack(sequence)))
        time.sleep(0.005)
    handler.close()


def main():
    url, folder, count, kills, spool = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    sink = KubernetesSink(configuration_for(url), spool=spool or None)
    handler = sink.make_handler(
        sink, correlator=CorrelatorOptions(max_events=None, burst_size=None), retry=FAST, name="k", source="r"
    )
    records = records_of(count)
    rng = random.Random(1)
    for number in range(kills + 1):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work(handler, folder, records)
                code = 0
            finally:
                os._exit(code)
        if number < kills:
            before = len(numbers(folder / "settled"))
            end = time.monotonic() + 20
            while (
                len(numbers(folder / "settled")) < before + rng.randrange(1, count // kills) and time.monotonic() < end
            ):
                time.sleep(rng.random() * 0.01)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        else:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
