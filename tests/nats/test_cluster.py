"""Three servers with replicated streams: leaders are killed while events are published."""

from __future__ import annotations

import pytest

from mpbroadcast.sinks.nats import NATSSink
from tests.nats.servers import Run, check_log, records_of


@pytest.mark.slow
def test_a_server_and_then_the_leader_are_killed_under_load(make_servers):
    """Everything that was accepted is stored once, in order for each object; the dead servers come back."""
    servers = make_servers(3).ready(3)
    count = 9000
    with Run(NATSSink(servers.urls, replicas=3, timeout=30)) as run:
        run.give(records_of(3000))
        run.wait(lambda: len(run.settled) >= 1000)
        follower = (servers.leader() + 1) % 3
        servers.kill(follower)
        run.give(records_of(3000, first=3001))
        servers.start(follower)
        run.wait(lambda: len(run.settled) >= 4000)
        servers.in_step()
        leader = servers.leader()
        servers.kill(leader)
        run.give(records_of(3000, first=6001))
        servers.start(leader)
        run.wait(lambda: len(run.settled) == count)
    check_log([body for _, _, body in servers.messages()], count)
