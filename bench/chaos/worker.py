"""A worker under torment: records numbered events and keeps its own account. Runs in: children of the application."""

from __future__ import annotations

import os
import random
import resource
import time

from bench.chaos.control import Life

__all__ = ["message", "parse", "work"]

_PAD = "." * 400


def message(life: int, number: int) -> str:
    """A message that tells by itself whether it is whole."""
    return f"{life}:{number}:{_check(life, number)}:{_PAD[: number % 300]}"


def _check(life: int, number: int) -> int:
    return (life * 1_000_003 + number * 7919) % 99_991


def parse(text: str) -> tuple[int, int] | None:
    """Life and number of a message; None: garbage."""
    parts = text.split(":")
    if len(parts) != 4 or not all(part.isdecimal() for part in parts[:3]):
        return None
    life, number = int(parts[0]), int(parts[1])
    return (life, number) if message(life, number) == text else None


def work(life: Life, send, finishing, *, pause: float, seed: int) -> None:
    """Sends until the end, in bursts; ``send(text)`` answers whether it was accepted."""
    cells, clock, usage = life.cells, time.perf_counter_ns, resource.getrusage
    chance = random.Random(seed)
    cells[Life.START] = time.monotonic_ns()
    cells[Life.PID] = os.getpid()
    number = 0
    while not finishing():
        for _ in range(chance.randrange(1, 60)):
            text = message(life.number, number)
            cells[Life.ATTEMPTED] = number + 1
            stops, before = cells[Life.STOPS], usage(resource.RUSAGE_THREAD)
            began = clock()
            accepted = send(text)
            took = clock() - began
            after = usage(resource.RUSAGE_THREAD)
            if accepted:
                number += 1
                cells[Life.ACCEPTED] = number
            else:
                cells[Life.REFUSED] += 1
            if not cells[Life.FIRST]:
                cells[Life.FIRST] = (
                    took if cells[Life.STOPS] == stops else 1
                )  # claims a lane: system calls, once in a worker's life
            elif cells[Life.STOPS] != stops:
                cells[Life.OWN_STOPS] += 1  # this very process was stopped in the call: that says nothing of others
            else:
                _time_call(cells, took, before, after)
            cells[Life.BEAT] = time.monotonic_ns()
            if not accepted:
                break
        _time_idle(cells, clock)
        time.sleep(chance.random() * pause)
    cells[Life.DONE] = 1


def _time_call(cells, took, before, after):
    bucket = Life.bucket(took)
    cells[Life.CALLS_AT + bucket] += 1
    cells[Life.LONGEST] = max(cells[Life.LONGEST], took)
    if after.ru_nvcsw != before.ru_nvcsw:
        cells[Life.GAVE_UP_CPU] += 1  # it waited for something
    elif after.ru_nivcsw != before.ru_nivcsw:
        cells[Life.LOST_CPU] += 1  # the kernel gave the core to another process
    else:
        cells[Life.ON_CPU_AT + bucket] += 1
        cells[Life.LONGEST_ON_CPU] = max(cells[Life.LONGEST_ON_CPU], took)


def _time_idle(cells, clock):
    """The same measurement around nothing: how much of the figures is the machine's doing. As often as the calls."""
    for _ in range(30):
        stops, began = cells[Life.STOPS], clock()
        for _ in range(20):
            pass
        took = clock() - began
        if cells[Life.STOPS] == stops:
            cells[Life.IDLE_AT + Life.bucket(took)] += 1
            cells[Life.IDLE_LONGEST] = max(cells[Life.IDLE_LONGEST], took)
