"""Real servers, or a reason why there are none."""

from __future__ import annotations

import pytest

pytest.importorskip("nats", reason="the extra 'nats' is not installed")

from tests.nats.servers import PROGRAM, Servers


@pytest.fixture
def make_servers(tmp_path):
    """Makes one server, or a cluster, and ends it with the test."""
    if PROGRAM is None:
        pytest.skip("nats-server is not installed")
    made = []

    def make(count=1, extra=""):
        folder = tmp_path / f"nats-{len(made)}"
        folder.mkdir()
        made.append(Servers(folder, count, extra))
        return made[-1]

    yield make
    for servers in made:
        servers.close()


@pytest.fixture
def server(make_servers):
    return make_servers().ready()
