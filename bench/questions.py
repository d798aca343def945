"""Every question that ``make bench`` asks, with its target.

The targets are for a machine with two cores and 600-byte events. A target that is not reached stays in the table, with
its figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.harness import Question, median
from bench.rivals import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness import Table

__all__ = ["ASKED", "Asked"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and how its target is judged.

    Attributes:
        title: for people.
        question: what to run.
        target: in words.
        judge: the figures and whether they reach the target, as (text, reached); None: there is no target.
        quick: arguments of a quick run.
    """

    title: str
    question: Question
    target: str = ""
    judge: Callable[[Table], tuple[str, bool]] | None = None
    quick: tuple[str, ...] = ()


OWN = ("default rings",)  # ours in another way, shown among the rivals


def _best_rival(table: Table) -> str:
    rivals = [name for name in table.question.rivals if table.figures(name) and name not in OWN]
    pick = max if table.question.higher else min
    return pick(rivals, key=lambda name: median(table.figures(name)))


def times_best(factor: float) -> Callable[[Table], tuple[str, bool]]:
    """At least so many times the best rival."""

    def judge(table: Table) -> tuple[str, bool]:
        best = _best_rival(table)
        ratio = median(table.ratios(best))
        return f"{ratio:.1f} x {best}", ratio >= factor

    return judge


def times_each(**factors: float) -> Callable[[Table], tuple[str, bool]]:
    """At least so many times each of these."""

    def judge(table: Table) -> tuple[str, bool]:
        ratios = {name: median(table.ratios(name)) for name in factors}
        text = ", ".join(f"{ratio:.1f} x {name}" for name, ratio in ratios.items())
        return text, all(ratios[name] >= factor for name, factor in factors.items())

    return judge


def at_most(figure: str, limit: float, unit: str) -> Callable[[Table], tuple[str, bool]]:
    """Our own figure, whatever the rivals do."""

    def judge(table: Table) -> tuple[str, bool]:
        values = [run[figure] for run in table.runs[table.question.ours] if not run.get("void")]
        return f"{median(values):.3g} {unit}", median(values) <= limit

    return judge


def at_least(figure: str, limit: float, unit: str) -> Callable[[Table], tuple[str, bool]]:
    """Our own figure, whatever the rivals do."""

    def judge(table: Table) -> tuple[str, bool]:
        values = [run[figure] for run in table.runs[table.question.ours] if not run.get("void")]
        return f"{median(values):,.0f} {unit}", median(values) >= limit

    return judge


def both(*judges: Callable[[Table], tuple[str, bool]]) -> Callable[[Table], tuple[str, bool]]:
    """All of these."""

    def judge(table: Table) -> tuple[str, bool]:
        answers = [one(table) for one in judges]
        return ", ".join(text for text, _ in answers), all(reached for _, reached in answers)

    return judge


OURS = "mpbroadcast"
SLOW = ("--count", "300000")  # of a rival that takes seconds for that
FANNED_OUT = {
    "faster_fifo": ("--count", "600000"),
    "mp_queue": ("--count", "150000"),
    "zmq_pub_sub": ("--count", "600000"),
}
QUICK_COUNT = ("--count", "60000")


def _call(name: str, contender: str, limit: float) -> Asked:
    return Asked(
        f"1. `recorder.event` for {name}: share of building the same Event as a dict and dumping it",
        Question(f"event-{contender}", "bench.recorder", contender, (), unit="ns", higher=False, figure="ns"),
        f"at most {limit} of the dict",
        at_most("ratio", limit, "of the dict"),
        ("--rounds", "8"),
    )


ASKED = (
    _call("an `ObjectReference`", "reference", 0.35),
    _call("a mapping", "mapping", 0.35),
    _call("an official-client `V1Pod`", "V1Pod", 0.45),
    Asked(
        "2. put of ready bytes, beside pyzmq's `send`",
        Question("put", "bench.recorder", "put", ("zmq",), unit="ns a call", higher=False, figure="ns"),
        "under 200 ns, at most 0.15 of pyzmq",
        both(at_most("ns", 200, "ns"), lambda table: _share(table, "zmq", 0.15)),
        ("--rounds", "8"),
    ),
    Asked(
        "3. flood, 1 producer to 1 consumer",
        Question(
            "one-to-one",
            "bench.one_to_one",
            OURS,
            ("default rings", *NAMES),
            own_arguments={"mp_queue": SLOW, "simple_queue": SLOW},
        ),
        "at least 5 x the best rival",
        times_best(5),
        QUICK_COUNT,
    ),
    Asked(
        "3. flood, 2 producers to 1 consumer",
        Question(
            "many-to-one",
            "bench.many_to_one",
            OURS,
            ("default rings", *NAMES),
            own_arguments={"mp_queue": SLOW, "simple_queue": SLOW},
        ),
        "at least 5 x the best rival",
        times_best(5),
        QUICK_COUNT,
    ),
    Asked(
        "4. flood, 1 producer to 3 watchers",
        Question(
            "one-to-many",
            "bench.one_to_many",
            OURS,
            ("default rings", "faster_fifo", "mp_queue", "zmq_pub_sub"),
            own_arguments=FANNED_OUT,
        ),
        "at least 12 x faster-fifo, 80 x `multiprocessing.Queue`",
        times_each(faster_fifo=12, mp_queue=80),
        QUICK_COUNT,
    ),
    Asked(
        "flood, 4 producers to 3 watchers",
        Question(
            "many-to-many",
            "bench.many_to_many",
            OURS,
            ("default rings", "faster_fifo", "mp_queue"),
            own_arguments=FANNED_OUT,
        ),
        quick=QUICK_COUNT,
    ),
    Asked(
        "5. 1 producer to 3 watchers with Python handlers that read `reason` and `message`",
        Question("handlers", "bench.handlers", OURS, ("mp_queue",)),
        "at least 300,000 events/s",
        at_least("rate", 300_000, "events/s"),
        ("--count", "40000"),
    ),
    Asked(
        "6. one paced event, recorder to handler; rivals: one message of 8 bytes",
        Question("ping-pong", "bench.ping_pong", OURS, NAMES, unit="us", higher=False, figure="p50"),
        "p50 under 25 us, p99 under 120 us",
        both(at_most("p50", 25, "us p50"), at_most("p99", 120, "us p99")),
        ("--count", "500"),
    ),
    Asked(
        "7. `recorder.event` while every watcher is stuck and the lane is full",
        Question("stuck", "bench.recorder", "stuck", (), unit="us", higher=False, figure="p99.9"),
        "p99.9 under 50 us, each loss counted",
        at_most("p99.9", 50, "us p99.9"),
        ("--rounds", "8"),
    ),
    Asked(
        "8. a worker busy computing in Python, recording between: delivered while it runs",
        Question("computing", "bench.computing", OURS, ("mp_queue",), figure="delivered_per_second"),
        "what is accepted, at 100,000 events/s",
        at_least("delivered_per_second", 100_000, "events/s"),
        ("--seconds", "1"),
    ),
    Asked(
        "9. klog lines to a file through `start_logging`",
        Question("logging", "bench.logging_pipeline", OURS, ("through logging", "queue_handler", "loguru")),
        "at least 5 x each",
        times_each(queue_handler=5, loguru=5),
        ("--count", "10000"),
    ),
    Asked(
        "10. SQLiteSink, distinct objects, correlation off",
        Question("sqlite-off", "bench.stores", "sqlite, correlation off", ("jsonlines",)),
        "at least 60,000 events/s",
        at_least("rate", 60_000, "events/s"),
        ("--count", "20000"),
    ),
    Asked(
        "10. SQLiteSink, distinct objects, client-go's correlator on",
        Question("sqlite-on", "bench.stores", "sqlite, client-go's correlator", ("sqlite, repeats counted",)),
        "at least 30,000 events/s",
        at_least("rate", 30_000, "events/s"),
        ("--count", "20000"),
    ),
    Asked(
        "11. KubernetesSink beside a bare aiohttp loop with the same bytes and concurrency",
        Question("kube-sink", "bench.kube_sink", OURS, ("aiohttp",)),
        "at least 95 %",
        times_each(aiohttp=0.95),
    ),
    Asked(
        "12. idle: broadcaster with three watchers, all processes together",
        Question("idle", "bench.footprint", "idle", (), unit="% of a core", higher=False, figure="core_percent"),
        "under 0.5 % of a core, under 25 MiB unshared per helper",
        both(at_most("core_percent", 0.5, "% of a core"), at_most("largest_private_mib", 25, "MiB")),
        ("--seconds", "5"),
    ),
    Asked(
        "13. start: `EventBroadcaster()` and three watchers until the first event is handled",
        Question("start", "bench.footprint", "start", (), unit="ms", higher=False, figure="ms"),
        "under 150 ms",
        at_most("ms", 150, "ms"),
    ),
    Asked(
        "14. CPU per event with 64 busy lanes, beside 1",
        # Long: the first events fault in the memory of lanes and processes.
        Question(
            "lanes",
            "bench.scaling",
            "64 lanes",
            ("1 lanes",),
            ("--count", "4800000"),
            unit="us CPU",
            higher=False,
            figure="cpu_us",
        ),
        "under 1.5 x",
        lambda table: _share(table, "1 lanes", 1.5),
        QUICK_COUNT,
    ),
    Asked(
        "14. CPU per event with 16 watchers, beside 1",
        Question(
            "watchers", "bench.scaling", "16 watchers", ("1 watchers",), unit="us CPU", higher=False, figure="cpu_us"
        ),
        "no faster than the copies: under 16 x",
        lambda table: _share(table, "1 watchers", 16),
        QUICK_COUNT,
    ),
)


def _share(table: Table, rival: str, limit: float) -> tuple[str, bool]:
    """Our cost as a share of the rival's."""
    share = median(table.ratios(rival))
    return f"{share:.2f} x {rival}", share <= limit
