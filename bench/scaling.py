"""What an event costs with many busy lanes, and with many watchers (target 14).

CPU time per event over all processes, the distributor among them, from the start of the flood to its end: wall time on
two cores says little about 64 lanes. One process writes into all lanes in turn, and all lanes together are as large as
the one they are compared to, so that lanes are measured and not memory. ``64 processes`` have a lane of 1 MiB each, and
pay for 64 interpreters that push each other out of two caches.
"""

from __future__ import annotations

from bench.flooding import bounded, flood_ours
from bench.harness import scenario_main


def cost(run):
    return run | {"cpu_us": run["cpu_seconds"] / run["received"] * 1e6}


def lanes(number, count):
    sizes = bounded(1)
    return cost(flood_ours(1, count, lanes=number, rings=sizes | {"lane_bytes": sizes["lane_bytes"] // number}))


def processes(number, count):
    return cost(flood_ours(number, count, rings=bounded(1) | {"lane_bytes": 1 << 20}))


CONTENDERS = (
    {f"{n} lanes": lambda count, n=n: lanes(n, count) for n in (1, 4, 16, 64)}
    | {f"{n} processes": lambda count, n=n: processes(n, count) for n in (4, 16, 64)}
    | {f"{n} watchers": lambda count, n=n: cost(flood_ours(1, count, watchers=n)) for n in (1, 4, 16)}
)

if __name__ == "__main__":
    scenario_main(CONTENDERS, count=960_000)
