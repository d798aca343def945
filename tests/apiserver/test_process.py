"""The server as a process: the command line, tokens, TLS, the kubeconfig, signals, age limits."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from mpbroadcast.apiserver import app
from mpbroadcast.apiserver import server as module
from mpbroadcast.apiserver.server import ServeOptions, Server, write_kubeconfig
from mpbroadcast.errors import ServeError, StoreError
from mpbroadcast.store.sqlite import Store
from tests.apiserver.running import CORE, Client, Process, core_event, serving

EVENTS = f"{CORE}/namespaces/default/events"
TOKEN = "s3cret-t0ken"
COMMAND = [sys.executable, "-m", "mpbroadcast", "serve"]


@pytest.fixture(scope="module")
def guarded():
    with serving(token=TOKEN) as running:
        yield running


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


class TestCommand:
    def test_it_says_where_it_listens_and_how_to_use_it(self, tmp_path):
        config = tmp_path / "config"
        command = [*COMMAND, "--port", "0", "--store", str(tmp_path / "e.db"), "--write-kubeconfig", str(config)]
        server = Process(command)
        client = Client(server.url)
        assert 201 == client("POST", EVENTS, core_event()).code
        client.close()
        assert (0, "") == server.stop()
        assert 2 == len(server.lines)
        kept = "each until 60m after its last change"
        assert f"Serving Events at {server.url} from {tmp_path / 'e.db'}, {kept}\n" == server.lines[0]
        assert f"kubectl --kubeconfig {config} get events -A\n" == server.lines[1]
        with Store.open(tmp_path / "e.db") as store:
            assert ["web-1.17a"] == [event.name for event in store.list().events]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_quietly(self, tmp_path, number):
        server = Process([*COMMAND, "--port", "0", "--store", str(tmp_path / "e.db")])
        assert (0, "") == server.stop(number)

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--host", "0.0.0.0"], "without a token, everybody who reaches 0.0.0.0"),
            (["--port", "99999"], "there is no port 99999"),
            (["--ttl", "-1"], "the TTL is a number of seconds"),
            (["--ttl", "nan"], "0 keeps events for ever"),
            (["--token-file", "/nonexistent/token"], "the token file /nonexistent/token cannot be read"),
            (["--tls-cert", "x"], "a certificate and its key come together"),
            (["--tls", "--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"], "cannot be used: No such file"),
            (["--host", "nowhere.invalid", "--token-file", "token"], "cannot listen on nowhere.invalid"),
            (["--store", "/nonexistent/e.db"], "the directory /nonexistent does not exist"),
            (["--write-kubeconfig", "/nonexistent/config"], "kubeconfig /nonexistent/config cannot be written"),
        ],
    )
    def test_what_cannot_be_done_is_one_line(self, tmp_path, arguments, expected):
        (tmp_path / "token").write_text(TOKEN)
        command = [*COMMAND, "--port", "0", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=tmp_path, check=False)
        assert (1, "") == (done.returncode, done.stdout)
        assert 1 == done.stderr.count("\n"), done.stderr
        assert expected in done.stderr

    def test_a_taken_port_is_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(
                ServeError, match=f"cannot listen on 127.0.0.1, port {port}: .* another port may be free"
            ):
                Server(ServeOptions(port=port))

    def test_a_file_that_is_no_store_is_left_alone(self, tmp_path):
        path = tmp_path / "precious"
        path.write_text("precious")
        with pytest.raises(StoreError, match="not an event store"):
            Server(ServeOptions(port=0, store=path))
        assert "precious" == path.read_text()


class TestToken:
    @pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x"])
    def test_without_the_token_nothing_is_shown(self, guarded, header):
        client = Client(guarded.url)
        headers = {} if header is None else {"Authorization": header}
        for path in (EVENTS, "/version", "/nowhere"):
            answer = client("GET", path, headers=headers)
            assert (401, "Unauthorized") == (answer.code, answer.json["reason"])
        assert 200 == client("GET", "/readyz", headers=headers).code
        client.close()

    def test_with_the_token_everything_is(self, guarded):
        client = Client(guarded.url, TOKEN)
        assert 200 == client("GET", EVENTS).code
        client.close()

    def test_the_token_is_nowhere_to_be_read(self, tmp_path):
        """Not in what the server writes, not in its arguments, not in a representation of its options."""
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        command = [*COMMAND, "--port", "0", "--store", str(tmp_path / "e.db"), "--token-file", str(tmp_path / "token")]
        server = Process([*command, "--write-kubeconfig", str(tmp_path / "config")])
        client = Client(server.url, TOKEN)
        assert 200 == client("GET", EVENTS).code
        assert 401 == client("GET", EVENTS, headers={"Authorization": "Bearer x"}).code
        client.close()
        assert TOKEN not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
        _, errors = server.stop()
        assert TOKEN not in errors + "".join(server.lines)
        assert "kubectl sends a token over https only" in server.lines[2]
        assert TOKEN not in repr(ServeOptions(token=TOKEN))

    def test_the_token_may_come_from_the_environment(self, tmp_path):
        server = Process([*COMMAND, "--port", "0", "--store", str(tmp_path / "e.db")], MPBROADCAST_TOKEN=TOKEN)
        client = Client(server.url)
        assert 401 == client("GET", EVENTS).code
        client.close()
        server.stop()

    @pytest.mark.parametrize("token", ["", "tok\nen", "tök"])
    def test_a_token_that_no_header_can_carry_is_refused(self, token):
        with pytest.raises(ServeError, match="the token is empty, or holds"):
            ServeOptions(token=token)


class TestTls:
    @needs_openssl
    def test_a_certificate_is_made_and_trusted_through_the_kubeconfig(self, tmp_path):
        config = tmp_path / "config"
        with serving(tls=True, token=TOKEN, kubeconfig=str(config)) as server:
            cluster = yaml.safe_load(config.read_text())["clusters"][0]["cluster"]
            assert server.url == cluster["server"]
            assert server.url.startswith("https://")
            trusted = ssl.create_default_context(
                cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
            )
            client = Client(server.url, TOKEN, context=trusted)
            assert 200 == client("GET", EVENTS).code
            client.close()


class TestKubeconfig:
    def test_it_is_private_and_says_where_the_server_is(self, tmp_path):
        path = tmp_path / "config"
        write_kubeconfig(path, "http://127.0.0.1:1", TOKEN)
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        config = yaml.safe_load(path.read_text())
        assert ("v1", "Config", "mpbroadcast") == (config["apiVersion"], config["kind"], config["current-context"])
        assert {"server": "http://127.0.0.1:1"} == config["clusters"][0]["cluster"]
        assert {"token": TOKEN} == config["users"][0]["user"]
        assert {"cluster": "mpbroadcast", "user": "mpbroadcast", "namespace": "default"} == config["contexts"][0][
            "context"
        ]

    def test_one_of_its_own_is_replaced_and_anybody_elses_is_not(self, tmp_path):
        path = tmp_path / "config"
        write_kubeconfig(path, "http://127.0.0.1:1")
        path.chmod(0o644)
        write_kubeconfig(path, "http://127.0.0.1:2", TOKEN)
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert "127.0.0.1:2" in path.read_text()
        path.write_text("apiVersion: v1\n")
        with pytest.raises(ServeError, match="is there already and is no kubeconfig of mpbroadcast"):
            write_kubeconfig(path, "http://127.0.0.1:3")
        assert "apiVersion: v1\n" == path.read_text()
        assert [path] == list(tmp_path.iterdir())


class TestStore:
    def test_events_outlive_the_server(self, tmp_path):
        for expected in ([], ["web-1.17a"]):
            with serving(store=str(tmp_path / "events.db")) as server:
                client = Client(server.url)
                assert expected == [item["metadata"]["name"] for item in client("GET", EVENTS).json["items"]]
                client("POST", EVENTS, core_event())
                client.close()

    def test_events_go_after_their_time(self, tmp_path):
        """And whoever watches hears of it."""
        with serving(store=str(tmp_path / "events.db"), ttl=0.3) as server:
            client, watcher = Client(server.url), Client(server.url)
            response = watcher.send("GET", EVENTS, watch="true")
            client("POST", EVENTS, core_event())
            lines = [response.readline(), response.readline()]
            assert [b'{"type":"ADDED"', b'{"type":"DELETED"'] == [line.partition(b",")[0] for line in lines]
            assert [] == client("GET", EVENTS).json["items"]
            client.close()
            watcher.close()

    def test_the_store_of_one_run_is_gone_with_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        with serving() as server:
            client = Client(server.url)
            assert 201 == client("POST", EVENTS, core_event()).code
            client.close()
            assert 1 == len(list(tmp_path.iterdir()))
        assert [] == list(tmp_path.iterdir())


class TestClients:
    def test_one_that_says_nothing_for_long_is_dropped(self, monkeypatch):
        monkeypatch.setattr(module, "_FIRST_REQUEST_SECONDS", 0.1)
        _while_serving(lambda url: _raw(url, b"GET / HT"), b"")

    def test_one_that_sends_its_body_slowly_is_dropped(self, monkeypatch):
        monkeypatch.setattr(app, "_BODY_SECONDS", 0.1)
        head = b"POST /api/v1/namespaces/default/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
        _while_serving(lambda url: _raw(url, head).partition(b"\r\n")[0], b"HTTP/1.1 408 Request Timeout")

    def test_one_that_speaks_no_http_is_told_so(self):
        _while_serving(
            lambda url: _raw(url, b"\x16\x03\x01 hello\r\n\r\n").partition(b"\r\n")[0], b"HTTP/1.1 400 Bad Request"
        )

    def test_endless_headers_are_cut_off(self):
        flood = b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 20_000
        _while_serving(lambda url: _raw(url, flood).partition(b"\r\n")[0], b"HTTP/1.1 400 Bad Request")


def _raw(url, data):
    """Send bytes; return everything that comes until the other side closes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        received = b""
        try:
            connection.sendall(data)
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionError:  # closed while there was still something to be read
            pass
        return received


def _while_serving(ask, expected):
    server = Server(ServeOptions(port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert expected == ask(server.url)
    finally:
        server.stop()
        thread.join()


def test_the_extra_is_named_where_it_is_missing(tmp_path):
    """Importing the command needs nothing; running it says what to install."""
    code = (
        "import sys\n"
        "sys.modules['uvicorn'] = sys.modules['starlette'] = None\n"
        "from mpbroadcast.cli.main import run\n"
        "sys.exit(run(['serve']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (1, "mpbroadcast: mpbroadcast serve needs the extra 'serve': pip install 'mpbroadcast[serve]'\n") == (
        done.returncode,
        done.stderr,
    )


def test_an_answer_does_not_wait_for_an_acknowledgement(guarded):
    """Head and body are two writes; without TCP_NODELAY the second one comes 40 ms later."""
    client = Client(guarded.url, TOKEN)
    times = []
    for _ in range(60):  # a young connection acknowledges at once, so the delay would show later
        begin = time.perf_counter()
        client("POST", EVENTS, {})
        times.append(time.perf_counter() - begin)
    client.close()
    assert min(times[-20:]) < 0.03


def test_an_idle_server_rests(tmp_path):
    """With a watcher it looks for news some twelve times a second; that must cost nearly nothing."""
    with serving(store=str(tmp_path / "events.db")) as server:
        client = Client(server.url)
        client.send("GET", EVENTS, watch="true")
        before = _cpu_seconds(server.process.pid)
        time.sleep(2)  # the time over which the use is measured
        assert _cpu_seconds(server.process.pid) - before < 0.1
        client.close()


def _cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
