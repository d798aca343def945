"""From a configuration of the official client to a connection; and that no secret gets out."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest

from mpbroadcast.errors import SinkRejected, SinkUnavailable
from mpbroadcast.kube.client import EventsClient
from mpbroadcast.kube.config import Access, bypasses_proxy, load_configuration, make_target
from mpbroadcast.kube.transport import Transport
from tests.kube.fake_api import FakeApi, status

SECRET = "s3cr3t-t0ken-0f-the-tests"


def kubeconfig(path, server, user, cluster="", context="one"):
    path.write_text(f"""
apiVersion: v1
kind: Config
current-context: {context}
contexts:
- {{name: one, context: {{cluster: c, user: u}}}}
- {{name: other, context: {{cluster: elsewhere, user: u}}}}
clusters:
- {{name: c, cluster: {{server: "{server}"{cluster}}}}}
- {{name: elsewhere, cluster: {{server: "http://127.0.0.1:9"}}}}
users:
- name: u
  user: {user}
""")
    return str(path)


def post(config, event, context=None, **options):
    """Creates one event with a client of its own."""

    async def main():
        client = EventsClient(Transport(Access(config, context), **options))
        try:
            return await client.create(event)
        finally:
            await client.close()

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def no_environment(monkeypatch, tmp_path):
    for name in (
        "KUBECONFIG",
        "KUBERNETES_SERVICE_HOST",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_kubeconfig_with_a_token(api, tmp_path, make_event):
    api.tokens = {SECRET}
    path = kubeconfig(tmp_path / "config", api.url, f"{{token: {SECRET}}}")
    assert "web" == post(path, make_event()).involved_object.name


def test_the_kubeconfig_of_the_environment(api, tmp_path, make_event, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", api.url, "{}"))
    post(None, make_event())
    assert 1 == len(api.events)


def test_the_kubeconfig_of_the_home_directory(api, tmp_path, make_event):
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config", api.url, "{}")
    post(None, make_event())
    assert 1 == len(api.events)


def test_a_context_can_be_chosen(api, tmp_path, make_event):
    path = kubeconfig(tmp_path / "config", api.url, "{}", context="other")
    post(path, make_event(), "one")
    with pytest.raises(SinkUnavailable):
        post(path, make_event())


BROKEN = {
    "missing": (None, "there is no kubeconfig"),
    "empty": ("", "empty"),
    "no YAML": ("{{{", "configured"),
    "a list": ("[]", "configured"),
    "no clusters": ("apiVersion: v1\nkind: Config\n", "configured"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_kubeconfig_that_cannot_be_used_is_one_plain_line(tmp_path, what):
    text, words = BROKEN[what]
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SinkUnavailable, match=words) as caught:
        load_configuration(str(path))
    assert "\n" not in str(caught.value)


def test_no_configuration_at_all_is_one_plain_line():
    with pytest.raises(SinkUnavailable, match="does not run in a cluster"):
        load_configuration()


def test_a_service_account_in_a_cluster(tmp_path, make_event, monkeypatch, authority):
    """The token file of a pod is read again when the server refuses what was in it."""
    from kubernetes.config import incluster_config

    with FakeApi(tls=authority.server("IP:127.0.0.1")) as api:
        token = tmp_path / "token"
        token.write_text("old\n")
        api.tokens = {SECRET}
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority.file))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))

        async def main():
            client = EventsClient(Transport(Access()))
            with pytest.raises(SinkUnavailable):
                await client.create(make_event(1))
            token.write_text(f"{SECRET}\n")
            await asyncio.sleep(1.05)
            await client.create(make_event(2))
            await client.close()

        asyncio.run(main())
        assert 1 == len(api.events)


def test_an_exec_plugin_is_asked_again_after_a_401_and_not_on_the_loop(api, tmp_path, make_event):
    """While the plugin runs, the event loop goes on."""
    plugin = tmp_path / "plugin"
    plugin.write_text(f"""#!{sys.executable}
import json, pathlib, time
tokens = pathlib.Path({str(tmp_path)!r}, "tokens").read_text().split()
time.sleep(0.3)
version = "client.authentication.k8s.io/v1"
print(json.dumps({{"apiVersion": version, "kind": "ExecCredential", "status": {{"token": tokens[0]}}}}))
""")
    plugin.chmod(0o700)
    user = f"{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: {plugin}, interactiveMode: Never}}}}"
    path = kubeconfig(tmp_path / "config", api.url, user)
    (tmp_path / "tokens").write_text("first")
    api.tokens = {"first"}

    async def main():
        client = EventsClient(Transport(Access(path)))
        await client.create(make_event(1))
        (tmp_path / "tokens").write_text("second")
        api.tokens = {"second"}
        longest, last, going = 0.0, time.monotonic(), True

        async def beat():
            nonlocal longest, last
            while going:
                await asyncio.sleep(0.01)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()

        beating = asyncio.create_task(beat())
        await asyncio.gather(*[client.create(make_event(n)) for n in range(2, 10)])
        going = False
        await beating
        await client.close()
        return longest

    assert 0.25 > asyncio.run(main())
    assert 9 == len(api.events)
    assert 8 >= sum(seen.headers.get("authorization") == "Bearer first" for seen in api.seen) - 1


def test_the_refresh_hook_runs_in_another_thread_and_once_for_many_requests(api, configure, make_event):
    threads = []

    def hook(configuration):
        threads.append(threading.current_thread())
        configuration.api_key["authorization"] = f"Bearer token-{len(threads)}"

    configuration = configure(api, refresh_api_key_hook=hook, api_key={"authorization": "Bearer token-0"})
    api.tokens = {"token-2"}

    async def main():
        client = EventsClient(Transport(Access(configuration)))
        await asyncio.gather(*[client.create(make_event(n + 1)) for n in range(10)])
        await client.close()

    asyncio.run(main())
    assert 10 == len(api.events)
    assert 2 == len(threads)
    assert threading.main_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_a_401_is_tried_once_with_new_credentials_and_no_more(api, configure, make_event):
    configuration = configure(api, api_key={"authorization": "Bearer x"})
    numbers = iter(range(100))
    configuration.refresh_api_key_hook = lambda conf: conf.api_key.update(authorization=f"Bearer {next(numbers)}")
    api.tokens = set()
    with pytest.raises(SinkUnavailable) as caught:
        post(configuration, make_event())
    assert 401 == caught.value.code
    assert 2 == len(api.seen)


def test_a_hook_that_fails_is_unavailable_and_says_no_secret(api, configure, make_event):
    def hook(_):
        raise RuntimeError(f"cannot renew {SECRET}")

    with pytest.raises(SinkUnavailable) as caught:
        post(configure(api, refresh_api_key_hook=hook), make_event())
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_an_own_authority_is_trusted_and_another_one_is_not(make_event, configure, authority):
    with FakeApi(tls=authority.server("IP:127.0.0.1")) as api:
        post(configure(api, ssl_ca_cert=str(authority.file)), make_event(1))
        with pytest.raises(SinkUnavailable, match=r"certificate of 127\.0\.0\.1.* is not accepted"):
            post(configure(api), make_event(2))
        post(configure(api, verify_ssl=False), make_event(3))
        assert 2 == len(api.events)


def test_a_wrong_host_name_is_refused_unless_it_is_the_one_to_expect(make_event, configure, authority):
    with FakeApi(tls=authority.server("DNS:kubernetes.example")) as api:
        with pytest.raises(SinkUnavailable, match="not accepted"):
            post(configure(api, ssl_ca_cert=str(authority.file)), make_event(1))
        post(configure(api, ssl_ca_cert=str(authority.file), tls_server_name="kubernetes.example"), make_event(2))
        with pytest.raises(SinkUnavailable, match="not accepted"):
            post(configure(api, ssl_ca_cert=str(authority.file), tls_server_name="other.example"), make_event(3))
        post(configure(api, ssl_ca_cert=str(authority.file), assert_hostname=False), make_event(4))
        assert 2 == len(api.events)


def test_keys_in_a_kubeconfig_are_used_and_leave_no_file(make_event, authority, tmp_path, monkeypatch):
    """The official client writes them into files of its own, and a killed process would leave those."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cert, key = authority.issue("client", "DNS:client")
    data = {
        name: base64.b64encode(file.read_bytes()).decode()
        for name, file in (("ca", authority.file), ("cert", cert), ("key", key))
    }
    with FakeApi(tls=authority.server("IP:127.0.0.1", client_certificates=True)) as api:
        path = kubeconfig(tmp_path / "config", api.url,
                          f"{{client-certificate-data: {data['cert']}, client-key-data: {data['key']}}}",
                          f", certificate-authority-data: {data['ca']}")  # fmt: skip
        post(path, make_event(1))
        post(path, make_event(2))
        assert 2 == len(api.events)
    assert ["config"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_certificate_file_that_is_replaced_is_used(make_event, configure, authority, tmp_path, monkeypatch):
    """Rotated under the same name, as a kubelet or cert-manager does."""
    monkeypatch.setattr("mpbroadcast.kube.config.HOOK_SECONDS", 0.0)
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.file.read_bytes())
    with FakeApi(tls=authority.server("IP:127.0.0.1")) as api:

        async def main():
            access = Access(configure(api, ssl_ca_cert=str(file)))
            first, _ = await access.current()
            same, _ = await access.current()
            file.write_bytes(authority.file.read_bytes() + b"\n")
            second, _ = await access.current()
            return first is same, first is second

        assert (True, False) == asyncio.run(main())


def test_a_path_before_the_api_is_kept(api, configure, make_event):
    """As Rancher has it."""
    configuration = configure(api)
    configuration.host = api.url + "/k8s/clusters/c-1/"
    target = make_target(configuration)
    assert f"{api.url}/k8s/clusters/c-1" == target.url


@pytest.mark.parametrize("host", ["", "ftp://x", "127.0.0.1:80", "https://"])
def test_an_address_that_is_none(api, configure, host):
    configuration = configure(api)
    configuration.host = host
    with pytest.raises(SinkUnavailable, match="http"):
        make_target(configuration)


PROXIES = [
    ("https://10.0.0.1:6443", "10.0.0.0/8", True),
    ("https://10.0.0.1:6443", "10.0.0.1", True),
    ("https://11.0.0.1:6443", "10.0.0.0/8", False),
    ("https://api.example.com", "example.com", True),
    ("https://api.example.com", ".example.com", True),
    ("https://badexample.com", "example.com", False),
    ("https://api.example.com:6443", "other, api.example.com:6443", True),
    ("https://api.example.com", "*", True),
    ("https://API.example.com", "api.Example.com", True),
    ("https://[fd00::1]:6443", "fd00::/8", True),
    ("https://api.example.com", "", False),
]


@pytest.mark.parametrize(("url", "no_proxy", "bypass"), PROXIES)
def test_no_proxy(url, no_proxy, bypass):
    assert bypass is bypasses_proxy(url, no_proxy)


def test_a_socks_proxy_is_refused_in_plain_words(api, configure):
    with pytest.raises(SinkUnavailable, match="SOCKS"):
        make_target(configure(api, proxy=f"socks5://me:{SECRET}@127.0.0.1:1"))


class Proxy(FakeApi):
    """Tunnels by CONNECT, and passes plain requests on."""

    async def _connection(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.seen.append(head)
        method, target, _ = head.split("\r\n")[0].split(" ")
        host, port = (target if method == "CONNECT" else target.split("/")[2]).rsplit(":", 1)
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            up_writer.write(head.replace(f"http://{host}:{port}", "").encode())
        await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer), return_exceptions=True)

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
def test_a_proxy_with_a_password(make_event, configure, authority, tls):
    with FakeApi(tls=authority.server("IP:127.0.0.1") if tls else None) as api, Proxy() as proxy:
        configuration = configure(api, ssl_ca_cert=str(authority.file), proxy=f"http://me:pw@127.0.0.1:{proxy.port}")
        post(configuration, make_event())
        assert 1 == len(api.events)
        assert "Proxy-Authorization: Basic bWU6cHc=" in proxy.seen[0]
        direct = configure(api, ssl_ca_cert=str(authority.file), proxy=configuration.proxy, no_proxy="127.0.0.0/8")
        post(direct, make_event(2))
        assert 1 == len(proxy.seen)


SECRET_SERVERS = {
    "not there": lambda api: api.__exit__(),
    "401": lambda api: setattr(api, "always", status(401, "Unauthorized", "no")),
    "403": lambda api: setattr(api, "always", status(403, "Forbidden", "no")),
    "reset": lambda api: setattr(api, "always", "reset"),
    "no http": lambda api: setattr(api, "always", "no http"),
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("what", SECRET_SERVERS)
def test_no_token_in_any_error_log_line_or_repr(configure, make_event, caplog, what, fast):
    caplog.set_level(logging.DEBUG)
    with FakeApi() as api:
        configuration = configure(api, api_key={"authorization": f"Bearer {SECRET}"})
        SECRET_SERVERS[what](api)
        access = Access(configuration)
        transport = Transport(access, fast=fast)

        async def main():
            client = EventsClient(transport)
            try:
                await client.create(make_event())
            finally:
                await client.close()

        with pytest.raises((SinkUnavailable, SinkRejected)) as caught:
            asyncio.run(main())
        error = caught.value
        said = [*traceback.format_exception(error), *map(repr, (error, error.__context__, access, transport))]
        assert SECRET not in "".join([*said, repr(access._target), caplog.text])


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "a\x00b", "é"])
def test_a_token_that_is_no_header_is_refused_without_being_said(api, configure, make_event, token):
    with pytest.raises(SinkUnavailable, match="no HTTP header") as caught:
        post(configure(api, api_key={"authorization": "Bearer " + token}), make_event())
    assert token not in str(caught.value)
    assert [] == api.seen


def test_importing_a_sink_imports_no_client():
    """The application pays for neither."""
    code = """
import sys
from mpbroadcast.sinks.kubernetes import KubernetesSink
KubernetesSink('/nowhere')
print([name for name in ('aiohttp', 'kubernetes') if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=Path.cwd())
    assert "[]" == out.stdout.strip()


def test_a_process_that_has_connected_has_no_thread_left(api, configure, make_event):
    """A helper that has one cannot fork a spare."""
    configuration = configure(api)
    configuration.host = api.url.replace("127.0.0.1", "localhost")
    before = set(threading.enumerate())

    async def main():
        client = EventsClient(Transport(Access(configuration)))
        await client.create(make_event())
        gc.collect()
        left = set(threading.enumerate()) - before
        await client.close()
        return left

    assert set() == asyncio.run(main())
