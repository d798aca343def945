"""Numbers of broadcasters that do not exist, for what only reads numbers."""

from __future__ import annotations

from mpbroadcast.cli.sampling import Picture
from mpbroadcast.ring.counters import BUCKETS
from mpbroadcast.stats import REFUSALS, HelperStats, LaneStats, Stats, WatcherStats


def refusals(**some):
    return dict.fromkeys(REFUSALS, 0) | some


def lane(
    index=0, pid=100, *, alive=True, accepted=0, forwarded=None, backlog=None, refused=None, name="worker-0", lost=0
):
    forwarded = accepted if forwarded is None else forwarded
    backlog = accepted - forwarded if backlog is None else backlog
    return LaneStats(
        index, pid, alive, name, 1, accepted, forwarded, backlog, backlog * 400, refusals(**(refused or {})), lost, 0
    )


def watcher(name="store", index=0, *, helper=HelperStats(200, 201, 0), backlog=None, forwarded=0, **fields):  # noqa: B008
    values = {"handled": 0, "failed": 0, "given_up": 0, "filtered": 0, "lost": 0, "dropped": 0, "outside": 0} | fields
    settled = sum(values[key] for key in ("handled", "failed", "given_up", "filtered", "lost"))
    values.setdefault("backlog_bytes", 0)
    return WatcherStats(
        index=index,
        name=name,
        state=values.pop("state", "active"),
        managed=values.pop("managed", True),
        helper=helper,
        forwarded=forwarded,
        backlog=forwarded - settled if backlog is None else backlog,
        handling_seconds=0.5,
        counts=values.pop("counts", {}),
        histogram=tuple([values["handled"]] * (len(BUCKETS) + 1)),
        **values,
    )


def stats(*, lanes=(), watchers=(), state="running", owner_alive=True, distributor=HelperStats(300, 301, 0), **fields):  # noqa: B008
    values = {"refused_without_lane": refusals(), "retired": {}} | fields
    return Stats(
        name=values.pop("name", "shop"),
        state=state,
        created_ns=values.pop("created_ns", 1_767_323_045_000_000_000),
        owner_pid=50,
        owner_alive=owner_alive,
        distributor=distributor,
        lanes=tuple(lanes),
        watchers=tuple(watchers),
        **values,
    )


def picture(now, before=None, seconds=2.0, **fields):
    return Picture(stats=now, before=before, seconds=seconds, **fields)
