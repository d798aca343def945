"""gunicorn: the page's programs under reload, recycling, kills and stop; gunicorn notices nothing of the helpers."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
from collections import Counter
from pathlib import Path

import pytest

from tests.frameworks.conftest import needs
from tests.path.conftest import eventually

needs("gunicorn")
PAGE = "gunicorn"
PRELOAD = pytest.mark.parametrize("preload", [False, True], ids=["no preload", "preload"])


class Server:
    """A running gunicorn, and a client that counts what was answered."""

    def __init__(self, page, *options, preload=False, application="web:app"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.page = page
        self.answered = Counter()
        if preload:  # as the page says: on_starting is then not needed
            conf = page.directory / "gunicorn.conf.py"
            conf.write_text(
                re.sub(r"def on_starting.*?\n\n\n", "preload_app = True\n", conf.read_text(), flags=re.DOTALL)
            )
        self.process = page.python("-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", *options, application)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            ok = connection.getresponse().read() == b"served\n"
        except OSError:
            return False
        finally:
            connection.close()
        self.answered[path] += ok
        return ok

    def workers(self):
        return set(
            eventually(lambda: [pid for pid in self.page.processes() if parent(pid) == self.process.pid], timeout=20)
        )

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def paths(page):
    return Counter(message.split(" by ")[0] for message in page.messages())


@PRELOAD
@pytest.mark.timeout(120)
def test_every_answered_request_is_an_event_through_recycling_and_reload(page, preload):
    server = Server(page, "--max-requests", "7", preload=preload)
    eventually(lambda: server.get("/up"))
    for number in range(40):
        eventually(lambda number=number: server.get(f"/before/{number}"))
    old = server.workers()
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: not old & server.workers())
    for number in range(20):
        eventually(lambda number=number: server.get(f"/after/{number}"))
    assert 0 == server.stop(), page.log
    assert +server.answered == paths(page)
    assert len({message.split(" by ")[1] for message in page.messages()}) >= 6, "workers were recycled and replaced"
    assert f"accepted {sum(server.answered.values())}, refused 0" in page.log
    assert "exited with code" not in page.log
    assert "Traceback" not in page.log
    assert {} == page.left()


@PRELOAD
def test_the_death_of_helpers_is_not_seen_by_the_main_process(page, preload):
    server = Server(page, "--log-level", "debug", preload=preload)
    eventually(lambda: server.get("/before"))
    helpers = eventually(lambda: (found := page.helpers()) and len(found) >= 4 and found)
    assert not {pid for pid in helpers if parent(pid) == server.process.pid}
    for pid, title in helpers.items():
        if "(spare)" not in title:
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.get("/after"))
    assert 0 == server.stop(), page.log
    assert {"/before", "/after"} == set(paths(page))
    assert "Reaped unknown" not in page.log
    assert {} == page.left()


@pytest.mark.parametrize(("application", "code"), [("web:nothing", 4), ("broken:app", 3)])
def test_the_exit_codes_by_which_workers_tell_gunicorn_to_give_up_arrive(page, application, code):
    page.write("broken.py", "raise RuntimeError('no')\n")
    server = Server(page, "--workers", "1", application=application)  # of two failing at once gunicorn makes a 1
    assert code == server.process.wait(30), page.log
    assert {} == page.left()


def test_the_port_is_free_at_once_when_gunicorn_is_killed_while_helpers_still_deliver(page):
    page.write(
        "events.py",
        (page.directory / "events.py").read_text()
        + "\nimport time\nbroadcaster.start_event_watcher(lambda event: time.sleep(1.5), name='slow')\n",
    )
    server = Server(page, "--workers", "1")
    for _ in range(3):
        eventually(lambda: server.get("/x"))
    (worker,) = server.workers()
    eventually(page.helpers)
    os.kill(server.process.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    server.process.wait()

    def free():
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", server.port))
            again.listen()
        return True

    eventually(lambda: worker not in page.processes())
    assert free()
    assert page.helpers(), "they still deliver"
    assert {} == page.left()
    assert server.answered["/x"] == len(page.messages())


def test_a_sink_started_after_the_sockets_exist_does_not_keep_them(page):
    """Gunicorn marks its listening sockets as inheritable, and built-in sinks are exec'd."""
    conf = page.directory / "gunicorn.conf.py"
    conf.write_text(conf.read_text().replace("def on_starting", "def when_ready"))
    page.write("web.py", (page.directory / "web.py").read_text().replace("from events import SITE, recorder", "")
               .replace("def app(", "def app_(") + "\n\ndef app(environ, start_response):\n"
               "    start_response('200 OK', [])\n    return [b'served\\n']\n")  # fmt: skip
    server = Server(page)
    eventually(lambda: server.get("/x"))
    helpers = eventually(lambda: (found := page.helpers()) and len(found) >= 4 and found)
    with Path("/proc/net/tcp").open() as file:
        inodes = {
            line.split()[9] for line in file if f":{server.port:04X}" in line.split()[1] and line.split()[3] == "0A"
        }
    assert inodes
    for pid in helpers:
        links = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
        assert not links & {f"socket:[{inode}]" for inode in inodes}, helpers[pid]
    assert 0 == server.stop(), page.log
    assert {} == page.left()
