"""A server for the tests of a module, and a namespace of its own for each test."""

from __future__ import annotations

import itertools

import pytest

from tests.apiserver.running import CORE, NEW, Client, serving

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    with serving(store=str(folder / "events.db"), kubeconfig=str(folder / "config")) as running:
        running.folder = folder
        yield running


@pytest.fixture
def call(server):
    client = Client(server.url)
    yield client
    client.close()


@pytest.fixture
def namespace():
    return f"test-{next(_NUMBERS)}"


@pytest.fixture
def core(namespace):
    """The path of this test's events in core/v1."""
    return f"{CORE}/namespaces/{namespace}/events"


@pytest.fixture
def new(namespace):
    """The path of this test's events in events.k8s.io/v1."""
    return f"{NEW}/namespaces/{namespace}/events"
