"""A sink's process that is killed again and again. Runs in: a process of its own, started by the tests.

Arguments: URL, folder, number of records, kills. What was settled stands in the file ``settled``. As with a real
helper, all workers are forks of one process that made the handler and did nothing else.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from mpbroadcast.sinks.nats import NATSSink
from tests.nats.servers import FAST, records_of
from tests.sinks.kubernetes_killed import U64, numbers, work


def main():
    url, folder, count, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    sink = NATSSink(url)
    handler = sink.make_handler(sink, correlator=None, retry=FAST, name="nats", source="r")
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
        if number == kills:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        path = folder / "settled"
        before = path.stat().st_size if path.exists() else 0
        wanted = before + U64.size * rng.randrange(1, count // kills)
        end = time.monotonic() + 10
        while (not path.exists() or path.stat().st_size < wanted) and time.monotonic() < end:
            time.sleep(rng.random() * 0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert numbers(folder / "settled")


if __name__ == "__main__":
    main()
