"""Three servers with replicated streams: leaders are killed while events are published."""

from __future__ import annotations

import time

import pytest

from mpbroadcast.sinks.nats import NATSSink
from tests.nats.servers import Run, check_log, records_of


@pytest.mark.slow
def test_the_leader_is_killed_and_another_server_with_it_under_load(make_servers):
    """Everything that was accepted is stored once, in order for each object; the dead servers come back."""
    servers = make_servers(3).ready(3)
    sink = NATSSink(servers.urls, replicas=3, timeout=30)
    count = 12_000
    with Run(sink) as run:
        run.give(records_of(4000))
        run.wait(lambda: len(run.settled) >= 1000)
        leader = servers.leader()
        servers.kill(leader)
        run.give(records_of(4000, first=4001))
        run.wait(lambda: len(run.settled) >= 6000)
        servers.start(leader)
        other = (servers.leader() + 1) % 3
        time.sleep(0.2)  # the killed server may or may not be in step again
        run.give(records_of(4000, first=8001))
        if other != leader:
            servers.kill(other)
            servers.start(other)
        run.wait(lambda: len(run.settled) == count)
    check_log([body for _, _, body in servers.messages()], count)
