"""What an event costs with many busy lanes, and with many watchers (target 14).

CPU time per event over all processes, the distributor among them, from the start of the flood to its end: wall time on
two cores says little about 64 producers, and what it takes to fork them is another matter.
"""

from __future__ import annotations

from bench.flooding import flood_ours
from bench.harness import scenario_main


def lanes(producers, count):
    run = flood_ours(producers, count)
    return run | {"cpu_us": run["cpu_seconds"] / run["received"] * 1e6}


def watchers(number, count):
    run = flood_ours(1, count, watchers=number)
    return run | {"cpu_us": run["cpu_seconds"] / run["received"] * 1e6}


CONTENDERS = {f"{n} lanes": lambda count, n=n: lanes(n, count) for n in (1, 4, 16, 64)} | {
    f"{n} watchers": lambda count, n=n: watchers(n, count) for n in (1, 4, 16)
}

if __name__ == "__main__":
    scenario_main(CONTENDERS, count=960_000)
