"""The numbers of broadcasters for Prometheus. Runs in: any process that has the segment. Asks no process anything.

Counters live in shared memory, so they are right in every process model: each process of a pre-forking server shows the
same, whole numbers, and no multiprocess directory is needed. In an application::

    from prometheus_client import REGISTRY
    REGISTRY.register(metrics.BroadcasterCollector(broadcaster))

A program that serves no metrics yet calls `start_exporter`. ``docs/metrics/`` has alert rules for Prometheus and a
dashboard for Grafana.

`render` writes the same as text without the library; ``mpbroadcast stats --format prometheus`` uses it.

What is never reset by a running broadcaster is a counter. A watcher's counters begin at 0 when a new watcher gets its
name; ``rate()`` copes with that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from mpbroadcast.errors import BroadcastError, MissingExtra
from mpbroadcast.ring.counters import BUCKETS

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator
    from socketserver import BaseServer

    from mpbroadcast.stats import HelperStats, Stats, WatcherStats

__all__ = ["BroadcasterCollector", "Exporter", "Family", "Sample", "families", "labelled", "render", "start_exporter"]

Labels = tuple[tuple[str, str], ...]


class HasStats(Protocol):
    """A broadcaster, or whatever else gives the numbers of one."""

    def stats(self) -> Stats:
        """The numbers now; does not block."""
        ...  # pragma: no cover


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. ``suffix`` is what the family's name gets behind it: ``_total``, ``_bucket``, ``_sum``, ``_count``."""

    suffix: str
    labels: Labels
    value: float


@dataclass(slots=True)
class Family:
    """A metric: its name without suffix, its type, one sentence about it, and its samples."""

    name: str
    kind: str
    help: str
    samples: list[Sample] = field(default_factory=list)


_FAMILIES: Final = (
    ("events_accepted", "counter", "Events that recorders accepted."),
    ("events_forwarded", "counter", "Accepted events that the distributor has passed on."),
    ("events_lost", "counter", "Events that were lost, by reason and by whom they were lost: a lane or a watcher."),
    ("lane_backlog_events", "gauge", "Accepted events that wait for the distributor."),
    ("lane_backlog_bytes", "gauge", "Their bytes."),
    ("recording_processes", "gauge", "Living processes that own a lane."),
    ("watcher_events_forwarded", "counter", "Events put into a watcher's ring."),
    ("watcher_events_settled", "counter", "Events that a watcher is done with, by outcome."),
    ("watcher_sink_events", "counter", "What a watcher's sink did with events."),
    ("backlog_events", "gauge", "Events that wait in a watcher's ring."),
    ("backlog_bytes", "gauge", "Their bytes."),
    ("handling_seconds", "histogram", "Time from taking an event to having handled it, as the mean of its batch."),
    ("helper_restarts", "counter", "How often a spare took the place of a helper that died."),
    ("helper_up", "gauge", "Whether a helper's process lives."),
    ("helper_spares", "gauge", "Whether a helper has a spare process that lives."),
    ("up", "gauge", "Whether the broadcaster takes events."),
    ("created_timestamp_seconds", "gauge", "When the broadcaster was made, Unix time."),
)
_OUTCOMES: Final = ("handled", "failed", "given_up", "filtered")


def families(all_stats: Iterable[tuple[Stats, Labels]]) -> list[Family]:
    """Return every metric of some broadcasters. Does not block.

    Args:
        all_stats: of each broadcaster its numbers, and the labels that tell it from the others.
    """
    found = {name: Family(f"mpbroadcast_{name}", kind, text) for name, kind, text in _FAMILIES}

    def add(name: str, value: float, labels: Labels, suffix: str | None = None) -> None:
        family = found[name]
        if suffix is None:
            suffix = "_total" if family.kind == "counter" else ""
        family.samples.append(Sample(suffix, labels, value))

    for stats, labels in all_stats:
        add("up", float(stats.state == "running" and stats.owner_alive), labels)
        add("created_timestamp_seconds", stats.created_ns / 1e9, labels)
        add("events_accepted", stats.accepted, labels)
        add("events_forwarded", stats.forwarded, labels)
        add("lane_backlog_events", stats.backlog, labels)
        add("lane_backlog_bytes", sum(lane.backlog_bytes for lane in stats.lanes), labels)
        add("recording_processes", sum(lane.alive for lane in stats.lanes), labels)
        for (reason, owner), count in stats.losses_by_place().items():
            add("events_lost", count, (*labels, ("owner", owner), ("reason", reason)))
        for helper_labels, helper in _helpers(stats, labels):
            add("helper_restarts", helper.restarts, helper_labels)
            if stats.state == "drained":
                continue  # they are not there any more, and rightly so
            add("helper_up", float(bool(helper.pid) and helper.alive), helper_labels)
            if helper.pid != stats.owner_pid:  # a thread has no spare
                add("helper_spares", float(bool(helper.spare_pid) and helper.spare_alive), helper_labels)
        for name, watchers in _by_name(stats).items():
            _add_watcher(add, (*labels, ("watcher", name)), watchers)
    return list(found.values())


def labelled(all_stats: Iterable[Stats]) -> list[tuple[Stats, Labels]]:
    """Label each broadcaster with its name; with its process, too, and then a number, where that tells none apart."""
    found = sorted(all_stats, key=lambda stats: stats.created_ns)
    names = Counter(stats.name for stats in found)
    owners = Counter((stats.name, stats.owner_pid) for stats in found)
    numbers: Counter[tuple[str, int]] = Counter()
    result = []
    for stats in found:
        labels: Labels = (("broadcaster", stats.name),)
        owner = (stats.name, stats.owner_pid)
        numbers[owner] += 1
        if names[stats.name] > 1:
            labels += (("pid", str(stats.owner_pid)),)
        if owners[owner] > 1:
            labels += (("number", str(numbers[owner])),)
        result.append((stats, labels))
    return result


def _by_name(stats: Stats) -> dict[str, list[WatcherStats]]:
    """Watchers by name. Two of one name are one series; iterators that ended are none, each has its own name."""
    found: dict[str, list[WatcherStats]] = {}
    for watcher in stats.watchers:
        if watcher.managed or watcher.state != "ended":
            found.setdefault(watcher.name, []).append(watcher)
    return found


def _add_watcher(add: Any, labels: Labels, watchers: list[WatcherStats]) -> None:
    add("watcher_events_forwarded", sum(watcher.forwarded for watcher in watchers), labels)
    for outcome in _OUTCOMES:
        count = sum(getattr(watcher, outcome) for watcher in watchers)
        add("watcher_events_settled", count, (*labels, ("outcome", outcome)))
    counts: dict[str, int] = {}
    for watcher in watchers:
        for what, count in watcher.counts.items():
            counts[what] = counts.get(what, 0) + count
    for what, count in counts.items():
        add("watcher_sink_events", count, (*labels, ("what", what)))
    living = [watcher for watcher in watchers if watcher.state != "ended"]
    add("backlog_events", sum(watcher.backlog for watcher in living), labels)
    add("backlog_bytes", sum(watcher.backlog_bytes for watcher in living), labels)
    bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
    totals = [sum(column) for column in zip(*(watcher.histogram for watcher in watchers), strict=True)]
    for bound, total in zip(bounds, totals, strict=True):
        add("handling_seconds", total, (*labels, ("le", bound)), "_bucket")
    add("handling_seconds", totals[-1], labels, "_count")
    add("handling_seconds", sum(watcher.handling_seconds for watcher in watchers), labels, "_sum")


def _helpers(stats: Stats, labels: Labels) -> Iterator[tuple[Labels, HelperStats]]:
    yield (*labels, ("helper", "distributor")), stats.distributor
    seen = set()
    for watcher in reversed(stats.watchers):  # the newest of a name
        if watcher.managed and watcher.state != "ended" and watcher.name not in seen:
            seen.add(watcher.name)
            yield (*labels, ("helper", f"watcher {watcher.name}")), watcher.helper


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def render(all_stats: Iterable[tuple[Stats, Labels]]) -> str:
    """Write the metrics of some broadcasters in Prometheus' text format; needs no library. Does not block."""
    lines = []
    for family in families(all_stats):
        if not family.samples:
            continue
        name = family.name + ("_total" if family.kind == "counter" else "")
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
        for sample in family.samples:
            labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels)
            lines.append(f"{family.name}{sample.suffix}{{{labels}}} {_number(sample.value)}")
    return "\n".join(lines) + "\n"


class BroadcasterCollector:
    """A collector for the application's own registry of ``prometheus_client``. Safe in any thread and forked child.

    Args:
        broadcasters: whose numbers; each is labelled with its name, see `labelled`.

    Raises:
        MissingExtra: ``prometheus_client`` is not installed.
    """

    def __init__(self, *broadcasters: HasStats) -> None:
        try:
            from prometheus_client import core  # noqa: PLC0415 - the extra `prometheus`
        except ImportError as error:
            raise MissingExtra("the Prometheus collector", "prometheus") from error
        self._core = core
        self._broadcasters = broadcasters

    def describe(self) -> Iterator[Any]:
        """Give the metrics without samples, so that registering reads nothing."""
        for name, kind, text in _FAMILIES:
            yield self._core.Metric(f"mpbroadcast_{name}", text, kind)

    def collect(self) -> Iterator[Any]:
        """Give the metrics now; does not block."""
        for family in families(labelled(broadcaster.stats() for broadcaster in self._broadcasters)):
            metric = self._core.Metric(family.name, family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(family.name + sample.suffix, dict(sample.labels), sample.value)
            yield metric


class Exporter:
    """A running exporter; a context manager. Made by `start_exporter`.

    Attributes:
        port: where it listens.
    """

    def __init__(self, server: BaseServer, thread: threading.Thread, port: int) -> None:
        self._server = server
        self._thread = thread
        self.port = port

    def close(self) -> None:
        """Stop listening. Blocks until the request under way is answered. May be called more than once."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_exporter(*broadcasters: HasStats, port: int, addr: str = "127.0.0.1") -> Exporter:
    """Serve the metrics of some broadcasters, and of nothing else, at ``http://addr:port/metrics``.

    It starts a thread in this process: call it when all workers have been forked, or in a process of its own that has
    found the broadcaster by `mpbroadcast.attach`. A forked child has no exporter. Whoever can reach the port can read
    the names of broadcasters and watchers, and all numbers; nothing of any event.

    Args:
        broadcasters: whose numbers.
        port: where to listen; 0 for any free one, which the result tells.
        addr: of the interface to listen on; by default this machine alone can ask.

    Raises:
        MissingExtra: ``prometheus_client`` is not installed.
        BroadcastError: the port is taken, or is none of this machine's.
    """
    collector = BroadcasterCollector(*broadcasters)
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - the extra `prometheus`

    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, addr, registry)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BroadcastError(f"metrics cannot be served at {addr}:{port}: {why[:1].lower()}{why[1:]}") from error
    return Exporter(server, thread, server.server_address[1])
