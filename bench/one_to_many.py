"""1 producer ──▶ distributor ──▶ 3 watchers: a flood of 600-byte messages, bytes in, bytes out (target 4)."""

from bench.flooding import fan_out_rival, flood_ours
from bench.harness import scenario_main

CONTENDERS = {
    "mpbroadcast": lambda count: flood_ours(1, count, watchers=3),
    "default rings": lambda count: flood_ours(1, count, watchers=3, rings={}),
} | {name: lambda count, name=name: fan_out_rival(name, 1, count, 3) for name in ("faster_fifo", "mp_queue")}

if __name__ == "__main__":
    scenario_main(CONTENDERS, count=2_000_000)
