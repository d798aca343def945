"""1 producer ──▶ 1 consumer: a flood of 600-byte messages, bytes in, bytes out (target 3)."""

from bench import rivals
from bench.flooding import flood_ours, flood_rival
from bench.harness import scenario_main

CONTENDERS = {
    "mpbroadcast": lambda count: flood_ours(1, count),
    "default rings": lambda count: flood_ours(1, count, rings={}),
} | {name: lambda count, name=name: flood_rival(name, 1, count) for name in rivals.NAMES}

if __name__ == "__main__":
    scenario_main(CONTENDERS, count=3_000_000)
