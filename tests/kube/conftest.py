"""A server that misbehaves on request, and clients of it."""

from __future__ import annotations

import gc
import ssl
import subprocess

import pytest
from kubernetes.client import Configuration

from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSource, ObjectReference
from mpbroadcast.kube.client import EventsClient
from mpbroadcast.kube.config import Access
from mpbroadcast.kube.transport import Transport
from tests.kube.fake_api import FakeApi

START_NS = 1_767_323_045_123_456_789


@pytest.fixture(autouse=True)
def nothing_left_open():
    """What a test leaves unclosed is that test's fault, not that of a later one."""
    yield
    gc.collect()


@pytest.fixture
def api():
    with FakeApi() as api:
        yield api


@pytest.fixture
def configure():
    """Makes a configuration of the official client for a server."""

    def make(api, **options):
        configuration = Configuration(host=api.url)
        configuration.proxy = None
        for name, value in options.items():
            setattr(configuration, name, value)
        return configuration

    return make


@pytest.fixture
def open_client(configure):
    """Makes clients; to be called, and its client closed, on the event loop that uses it."""

    def make(api, shape="v1", config=None, **options):
        return EventsClient(Transport(Access(config or configure(api)), **options), shape)

    return make


@pytest.fixture
def make_event():
    """Makes an event as a recorder would; any field can be given."""

    def make(now_ns=START_NS, **fields):
        reference = fields.pop("involved_object", ObjectReference("Pod", "default", "web", "u", "v1"))
        defaults = {
            "name": f"{reference.name}.{now_ns:x}",
            "namespace": reference.namespace or "default",
            "involved_object": reference,
            "type": "Normal",
            "reason": "Started",
            "message": "started",
            "source": EventSource("lab"),
            "reporting_controller": "lab",
            "count": 1,
            "first_timestamp": now_ns,
            "last_timestamp": now_ns,
        }
        return Event(**(defaults | fields))

    return make


class Authority:
    """A certificate authority of the tests' own, made by openssl."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "ca.pem"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests",
                      "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip

    def _openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.folder, check=True, capture_output=True)

    def issue(self, name, alternatives):
        """Makes name.pem and name.key, valid for the alternative names."""
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={alternatives}\n")
        self._openssl(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
        )
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def server(self, alternatives, *, client_certificates=False):
        """Makes the TLS context of a server."""
        cert, key = self.issue("server" + str(abs(hash(alternatives))), alternatives)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        if client_certificates:
            context.load_verify_locations(self.file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))
