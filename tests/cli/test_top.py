"""``mpbroadcast top`` and ``stats`` beside a real application."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from mpbroadcast.cli import running
from mpbroadcast.cli.running import find_running
from mpbroadcast.errors import SegmentError

from .conftest import PROGRAM, clean_environment, eventually
from .terminal import Terminal

APPLICATION = Path(__file__).with_name("application.py")


class Application:
    """A running application: its name, its process and those of its workers."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self.process, self.name = process, name
        word, *pids = process.stdout.readline().split()
        assert "ready" == word
        self.pid, *self.workers = map(int, pids)

    def stats(self):
        return find_running(self.pid)[0].stats()


@contextmanager
def application(mode="well", workers=2):
    name = f"shop-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, str(APPLICATION), name, mode, str(workers)]
    process = subprocess.Popen(
        command,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Application(process, name)
    finally:
        process.communicate(timeout=30)


def test_a_running_broadcaster_is_found_by_itself_once():
    """Many processes have it open; it is one broadcaster."""
    with application() as one, application() as two:
        found = [entry.stats().name for entry in find_running()]
        assert [1, 1] == [found.count(one.name), found.count(two.name)]
        assert [two.name] == [entry.stats().name for entry in find_running(name=two.name)]
        for pid in (one.pid, one.workers[0], one.stats().distributor.pid):
            assert [one.name] == [entry.stats().name for entry in find_running(pid)]
    with pytest.raises(SegmentError, match="no running broadcaster called 'shop-"):
        find_running(name=one.name)


def test_it_is_mapped_read_only():
    with application() as one:
        [entry] = find_running(one.pid)
        with pytest.raises(SegmentError):
            entry.segment.ring.set("owner_pid", 1)


def test_not_on_a_terminal_it_is_one_plain_picture_with_rates(cli):
    with application() as one:
        text = cli("top", "--name", one.name).stdout
    assert "\x1b" not in text
    assert re.search(rf"^{one.name}  process {one.pid}  running for \d+s$", text, re.MULTILINE)
    assert re.search(r"^accepted +[\d,]+ +[\d,.]+/s  \S+$", text, re.MULTILINE)
    assert " ALL WELL  nothing is lost, every watcher keeps up" in text
    assert re.search(r"^log +active +[\d,.]+ +\d+ +0% +[\d,]+ +0 +0 +0 +0 +0  yes +\d+% +[\d.]+M$", text, re.MULTILINE)
    for n, pid in enumerate(one.workers):
        assert re.search(rf"^worker-{n} +{pid}  recording", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("stuck", r"LOSING  watcher store: [\d,.]+ events/s are dropped: its ring is full, it handles 0/s"),
        ("failing", r"FAILING  watcher store: [\d,.]+ events/s fail in its handler or sink"),
        ("refused", r"LOSING  process worker-\d: [\d,.]+ events/s are refused: invalid"),
    ],
)
def test_what_is_being_lost_and_why_is_said(cli, mode, says):
    with application(mode) as one:
        if mode == "stuck":
            eventually(lambda: one.stats().watcher("store").dropped)
        text = cli("top", "--name", one.name).stdout
    assert re.search(says, text), text


def test_a_table_of_stats_says_what_is_being_lost_now(cli):
    with application("stuck") as one:
        eventually(lambda: one.stats().watcher("store").dropped)
        text = cli("stats", "--name", one.name).stdout
    assert re.search(r"LOSING  watcher store: [\d,.]+ events/s are dropped: its ring is full, it handles 0/s", text), (
        text
    )


def test_a_broadcaster_is_opened_through_a_process_that_still_has_it(monkeypatch):
    """Those that ended while they were looked for are passed over, and no reason to fail."""
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    with application() as one:
        found = next(iter(running._open_segments([one.pid], strict=True)))
        holders = [(found[0], ended.pid, 5), found, ((0, 0), ended.pid, 6)]
        monkeypatch.setattr(running, "_open_segments", lambda *_, **__: holders)
        assert [one.pid] == [entry.pid for entry in find_running()]
    monkeypatch.setattr(running, "_open_segments", lambda *_, **__: holders[:1])
    with pytest.raises(SegmentError, match=r"^no running broadcaster of this user was found$"):
        find_running()


def top_of(one, tmp_path, **options):
    columns = options.pop("columns", 100)
    command = [*PROGRAM, "top", "--name", one.name, "--interval", "0.2"]
    return Terminal(command, columns=columns, rows=30, cwd=tmp_path, env=clean_environment(**options))


def test_on_a_terminal_it_is_live_and_q_quits(tmp_path):
    with application() as one, top_of(one, tmp_path) as terminal:
        terminal.read_until("ALL WELL")
        seen = len(terminal.text)
        eventually(lambda: terminal._read(0.1) and len(terminal.text) > 2 * seen)  # it is drawn again and again
        terminal.type("q")
        assert 0 == terminal.read_to_end()
    assert "\x1b[?1049h" in terminal.output  # a screen of its own
    assert "\x1b[?1049l" in terminal.output[-200:]  # and the user's again
    assert "q: quit" in terminal.text


def test_ctrl_c_quits_as_well_and_leaves_the_terminal_as_it_was(tmp_path):
    with application() as one, top_of(one, tmp_path) as terminal:
        terminal.read_until("ALL WELL")
        terminal.type("\x03")
        assert 130 == terminal.read_to_end()
    assert "Traceback" not in terminal.text
    assert "\x1b[?1049l" in terminal.output[-200:]


@pytest.mark.slow
def test_a_stuck_watcher_is_named(tmp_path):
    with application("stuck") as one, top_of(one, tmp_path) as terminal:
        terminal.read_until(r"STUCK  watcher store: [\d,]+ events wait and none was handled for \ds")
        terminal.read_until(r"LOSING  watcher store: [\d,]+ events/s are dropped")


def test_a_worker_that_dies_and_a_watcher_that_is_replaced_are_news(tmp_path):
    with application(workers=3) as one, top_of(one, tmp_path) as terminal:
        terminal.read_until("ALL WELL")
        os.kill(one.workers[1], signal.SIGKILL)
        terminal.read_until(
            rf"GONE  process worker-1 \({one.workers[1]}\) ended \ds ago; everything it recorded was forwarded"
        )
        os.kill(one.stats().watcher("log").helper.pid, signal.SIGKILL)
        terminal.read_until(r"RESTARTED  watcher log: its process died \ds ago, the spare took over")


def test_a_stopped_helper_is_said_to_be_stopped(tmp_path):
    with application() as one:
        helper = one.stats().watcher("log").helper.pid
        os.kill(helper, signal.SIGSTOP)
        try:
            with top_of(one, tmp_path) as terminal:
                terminal.read_until(rf"STOPPED  watcher log: process {helper} is stopped")
        finally:
            os.kill(helper, signal.SIGCONT)


def test_no_color_is_obeyed(tmp_path):
    with application() as one, top_of(one, tmp_path, NO_COLOR="1") as terminal:
        terminal.read_until("ALL WELL")
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", terminal.output)


def test_an_application_that_ends_meanwhile_is_seen_to_end(tmp_path):
    with application() as one, top_of(one, tmp_path) as terminal:
        terminal.read_until("ALL WELL")
        one.process.stdin.close()
        one.process.wait(timeout=20)
        one.process.stdin = None
        terminal.read_until("ENDED  the broadcaster was shut down")
        terminal.type("q")
        assert 0 == terminal.read_to_end()


def test_stats_as_json_is_everything(cli):
    with application("failing") as one:
        [body] = json.loads(cli("stats", "--format", "json", "--pid", str(one.pid)).stdout)
    assert (one.name, "running", one.pid, True) == (body["name"], body["state"], body["owner_pid"], body["owner_alive"])
    assert body["accepted"] == sum(lane["accepted"] for lane in body["lanes"])
    assert body["accepted"] == body["forwarded"] + body["backlog"]
    watchers = {watcher["name"]: watcher for watcher in body["watchers"]}
    assert {"log", "store"} == set(watchers)
    assert {"failed"} == {loss["reason"] for loss in body["losses"]}
    assert {"store"} == {loss["owner"] for loss in body["losses"]}
    assert watchers["store"]["helper"]["spare_pid"] > 0


def test_stats_for_prometheus_can_be_parsed(cli):
    parser = pytest.importorskip("prometheus_client.parser")
    with application("failing") as one:
        text = cli("stats", "--format", "prometheus", "--name", one.name).stdout
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    [accepted] = families["mpbroadcast_events_accepted"].samples
    assert {"broadcaster": one.name} == accepted.labels
    assert accepted.value > 0
    [failed] = [
        sample.value
        for sample in families["mpbroadcast_events_lost"].samples
        if (sample.labels["reason"], sample.labels["owner"]) == ("failed", "watcher store")
    ]
    assert failed > 0
