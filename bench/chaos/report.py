"""The table of a run, and what of the promises it broke."""

from __future__ import annotations

from typing import Any

__all__ = ["broken", "table"]


def broken(run: dict[str, Any]) -> list[str]:
    """The promises of our own run that did not hold, in words."""
    found = [f"hang: {hang}" for hang in run["hangs"]]
    for watcher, seen in run["seen"].items():
        found += [f"{watcher}: {seen[what]} {what}" for what in ("lost", "garbage", "disorder") if seen[what]]
        if seen["repeated"] > run["allowed_repeats"][watcher]:
            found.append(f"{watcher}: {seen['repeated']} repeated, {run['allowed_repeats'][watcher]} may be")
        found += seen["examples"]
    if run["left_over"]:
        found.append(f"{run['left_over']} processes were left over")
    if run["gave_up_cpu"] > run["calls"]["calls"] / 100_000:  # one to three in a million were seen; why is not known
        found.append(f"recorder.event gave up the processor by itself in {run['gave_up_cpu']} calls")
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _time(us: float) -> str:
    return f"{us / 1000:,.1f} ms" if us >= 1000 else f"{us:,.1f} µs"


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _killed(run: dict[str, Any], *kinds: str) -> int:
    return sum(count for kind, count in run["kills"].items() if any(kind == k or kind.startswith(k) for k in kinds))


def _ours_only(run: dict[str, Any], key: str) -> str:
    return _number(sum(run[key].values())) if key in run else "none"


def _worst(run: dict[str, Any], what: str) -> int:
    return max(seen[what] for seen in run["seen"].values())


def _watchers(run: dict[str, Any]) -> int:
    return sum(count for kind, count in run["kills"].items() if not kind.startswith(("worker", "churn", "distributor")))


def _takeover(run: dict[str, Any], key: str = "takeover_ms") -> str:
    times = run.get(key)
    return f"{_at(times, 0.5):.1f} / {_at(times, 0.99):.0f} ms" if times else "-"


ROWS = (
    ("seconds of torment", lambda r: _number(r["seconds"])),
    ("SIGKILL of workers", lambda r: _number(_killed(r, "worker", "churn"))),
    ("SIGKILL of the distributor or its spare", lambda r: _number(_killed(r, "distributor"))),
    ("SIGKILL of watchers or their spares", lambda r: _number(_watchers(r))),
    ("SIGKILL at a named point inside the C", lambda r: _ours_only(r, "point_kills")),
    ("SIGSTOP, SIGCONT later", lambda r: _number(sum(r["stops"].values()))),
    ("SIGSTOP at a named point inside the C", lambda r: _ours_only(r, "point_stops")),
    ("worker processes", lambda r: _number(r["lives"])),
    ("events accepted", lambda r: _number(r["accepted"])),
    ("events refused (False, counted)", lambda r: _number(r["refused"])),
    ("**accepted events lost**, at the watcher with most", lambda r: _number(_worst(r, "lost"))),
    ("repeated, at the watcher with most", lambda r: _number(_worst(r, "repeated"))),
    ("out of a worker's order", lambda r: _number(_worst(r, "disorder"))),
    ("garbage", lambda r: _number(_worst(r, "garbage"))),
    ("**hangs**", lambda r: _number(len(r["hangs"]))),
    ("processes left behind", lambda r: _number(r["left_over"]) if "left_over" in r else "-"),
    ("takeover of a killed distributor, p50 / p99", _takeover),
    ("the same where its spare ran", lambda r: _takeover(r, "plain_takeover_ms")),
    ("a call, p50", lambda r: _time(r["calls"]["p50"])),
    ("a call, p99.9", lambda r: _time(r["calls"]["p999"])),
    ("longest call", lambda r: _time(r["calls"]["longest"])),
    ("calls in which it waited (gave up its core by itself)", lambda r: _number(r["gave_up_cpu"])),
    ("calls in which the kernel gave its core away", lambda r: _number(r["lost_cpu"])),
    ("p99.9 of calls that kept their core", lambda r: _time(r["on_cpu"]["p999"])),
    ("longest of those", lambda r: _time(r["on_cpu"]["longest"])),
    ("doing nothing instead, longest", lambda r: _time(r["idle"]["longest"])),
    (
        "first call of a worker, p50 / longest",
        lambda r: f"{_time(_at(r['first_us'], 0.5))} / {_time(_at(r['first_us'], 1))}",
    ),
)


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown, one column for each run."""
    heads = ["", *(run["name"] for run in runs)]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * len(runs)]
    lines += [f"| {what} | " + " | ".join(show(run) for run in runs) + " |" for what, show in ROWS]
    return "\n".join(lines)
