"""``mpbroadcast demo``: the whole path, and an accounting that is right."""

from __future__ import annotations

import os
import re
import signal
import stat

import psutil
import pytest

from mpbroadcast.cli.running import find_running
from mpbroadcast.errors import SegmentError
from mpbroadcast.store.sqlite import Store

from .conftest import PROGRAM, clean_environment, eventually
from .terminal import Terminal

COLUMNS = ["FORWARDED", "HANDLED", "FAILED", "GIVEN UP", "FILTERED", "DROPPED", "LEFT"]
KLOG = r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.py:\d+\] \"Event occurred\" object=\"default/"


def accounting(text):
    """The printed accounting as numbers: calls, accepted, refused, forwarded, each watcher, stored."""
    [calls] = re.findall(r"recorded +([\d,]+) calls? of the workers = ([\d,]+) accepted \+ ([\d,]+) refused   ok", text)
    [forwarded] = re.findall(r"forwarded +([\d,]+) by the distributor, 0 left in lanes   ok", text)
    [stored] = re.findall(r"stored +([\d,]+) events? in ([\d,]+) rows?:.*   ok", text)
    assert re.search(r"  WATCHER  +" + "  +".join(COLUMNS), text)
    watchers = {}
    for name, *numbers in re.findall(
        r"^  (log|store|alerts|kubernetes) " + r" +([\d,]+)" * 7 + "   ok$", text, re.MULTILINE
    ):
        watchers[name] = dict(zip(COLUMNS, map(number, numbers), strict=True))
    return [*map(number, calls), number(forwarded)], watchers, [*map(number, stored)]


def number(text):
    return int(text.replace(",", ""))


def assert_adds_up(text, events):
    recorded, watchers, (stored, rows) = accounting(text)
    assert [events, events, 0, events] == recorded
    for numbers in watchers.values():
        assert events == numbers["FORWARDED"] + numbers["DROPPED"]
        assert numbers["FORWARDED"] == sum(numbers[name] for name in COLUMNS[1:5]) + numbers["LEFT"]
        assert 0 == numbers["FAILED"] == numbers["GIVEN UP"] == numbers["DROPPED"] == numbers["LEFT"]
    assert events == stored == watchers["store"]["HANDLED"]
    assert 0 < watchers["alerts"]["HANDLED"] < events
    assert "Everything adds up, and nothing was lost." in text
    return watchers, rows


def test_every_event_is_accounted_for(cli, tmp_path):
    done = cli("demo")
    watchers, rows = assert_adds_up(done.stdout, 200)
    assert {"log", "store", "alerts"} == set(watchers)
    with Store.open(tmp_path / ".demo/events.db", read_only=True) as store:
        events = store.list().events
    assert rows == len(events)
    assert 200 == sum(event.count for event in events)
    assert watchers["alerts"]["HANDLED"] == sum(event.count for event in events if event.type == "Warning")
    assert {"Pod", "Deployment", "Backup"} == {event.involved_object.kind for event in events}
    versions = {(event.involved_object.kind, event.involved_object.api_version) for event in events}
    assert {("Pod", "v1"), ("Deployment", "apps/v1"), ("Backup", "backup.example.com/v1")} == versions
    assert {"PodCreated", "PodFailed", "TaskProcessed", "ScalingReplicaSet", "BackOff"} <= {
        event.reason for event in events
    }


def test_the_table_ends_with_the_latest_and_the_command_for_the_rest_works(cli):
    text = cli("demo", "-q").stdout
    lines = text.splitlines()
    heading = next(index for index, line in enumerate(lines) if line.startswith("LAST SEEN   TYPE"))
    shown = lines[heading + 1 : heading + 21]
    assert all(re.match(r"\d+s +(Normal|Warning) +\w+ +(pod|deployment|backup)/", line) for line in shown)
    [arguments] = re.findall(r"^All of them:  \S+ -m mpbroadcast (.*)$", text, re.MULTILINE)
    [rows] = re.findall(r"that came last of ([\d,]+)\)", text)
    assert number(rows) + 1 == len(cli(*arguments.split()).stdout.splitlines())


def test_many_log_lines_go_to_a_private_file_and_the_last_are_shown(cli, tmp_path):
    done = cli("demo", "--events", "80")
    log = tmp_path / ".demo/events.log"
    lines = log.read_text().splitlines()
    assert 80 == len(lines)
    assert all(re.match(KLOG, line) for line in lines)
    assert "The log: 80 lines in .demo/events.log" in done.stdout
    assert all(line in done.stdout for line in lines[-3:])
    assert lines[0] not in done.stdout
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / ".demo").iterdir()}


def test_few_log_lines_are_on_the_screen(cli, tmp_path):
    done = cli("demo", "--events", "30")
    assert_adds_up(done.stdout, 30)
    assert 30 == len(re.findall(KLOG, done.stderr))
    assert not (tmp_path / ".demo/events.log").exists()


def test_quiet_means_no_log_at_all(cli, tmp_path):
    done = cli("demo", "--quiet", "--events", "60")
    assert "" == done.stderr
    assert "Event occurred" not in done.stdout
    assert not (tmp_path / ".demo/events.log").exists()


@pytest.mark.parametrize("events", [1, 2, 3, 19, 20, 21])
def test_the_total_is_exactly_what_was_asked_for(cli, events):
    text = cli("demo", "-q", "--events", str(events), "--workers", "2").stdout
    recorded, _, (stored, _) = accounting(text)
    assert [events, events, 0, events, events] == [*recorded, stored]


def test_the_same_seed_gives_the_same_events(cli, tmp_path):
    def content(seed):
        cli("demo", "-q", "--events", "60", "--seed", seed)
        with Store.open(tmp_path / ".demo/events.db", read_only=True) as store:
            return sorted(
                (event.involved_object, event.type, event.reason, event.message, event.count)
                for event in store.list().events
            )

    assert content("7") == content("7")
    assert content("7") != content("8")


def test_a_store_of_the_users_is_added_to(cli, tmp_path):
    cli("record", "pod/mine", "--reason", "R", "--message", "m", "--store", "mine.db")
    for _ in range(2):
        assert 60 == accounting(cli("demo", "--events", "60", "--store", "mine.db").stdout)[2][0]
    with Store.open(tmp_path / "mine.db", read_only=True) as store:
        assert 121 == sum(event.count for event in store.list().events)
    assert not (tmp_path / ".demo").exists()
    assert (tmp_path / "mine.demo.log").exists()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_sixteen_workers_and_20000_events_lose_nothing(cli):
    assert_adds_up(cli("demo", "--workers", "16", "--events", "20000", timeout=150).stdout, 20000)


def test_in_a_pipe_there_is_no_colour_and_no_bar(cli):
    done = cli("demo", "--events", "2000")
    assert "\x1b" not in done.stdout + done.stderr
    assert "━" not in done.stdout


@pytest.mark.slow
def test_on_a_terminal_there_is_colour_a_bar_and_no_line_too_long(tmp_path):
    command = [*PROGRAM, "demo", "--events", "30000"]
    with Terminal(command, cwd=tmp_path, env=clean_environment(), columns=80) as terminal:
        terminal.read_until(r"(recording|delivering) +\S+ +\d+/30000")
        assert 0 == terminal.read_to_end()
    assert "\x1b[1m" in terminal.output
    table = terminal.text[terminal.text.index("The events, as kubectl") :].splitlines()
    assert all(len(line) <= 80 for line in table if not line.startswith("All of them"))
    assert_adds_up("\n".join(table), 30000)


def test_no_color_is_obeyed(tmp_path):
    command = [*PROGRAM, "demo", "-q", "--events", "60"]
    with Terminal(command, cwd=tmp_path, env=clean_environment(NO_COLOR="1")) as terminal:
        assert 0 == terminal.read_to_end()
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", terminal.output)


def workers_of(process):
    """The forked workers that have recorded something."""
    try:
        [demo] = find_running(process.pid)
        lanes = demo.stats().lanes
        return [psutil.Process(lane.pid) for lane in lanes if lane.alive and lane.name.startswith("worker-")]
    except (SegmentError, psutil.Error):
        return []


def test_a_killed_worker_is_said_and_its_events_are_accounted_for(cli):
    with cli.started("demo", "-q", "--events", "200000", "--workers", "3") as process:
        workers = eventually(lambda: len(found := workers_of(process)) == 3 and found)
        os.kill(workers[0].pid, signal.SIGKILL)
        out, err = process.communicate(timeout=50)
    assert 1 == process.returncode, err
    assert "Traceback" not in out + err
    assert re.search(r"A worker was killed, so not everything was recorded: worker-\d \(9\)", out)
    assert "WRONG" not in out
    assert "Everything adds up" in out


def test_ctrl_c_ends_everything_quietly(tmp_path):
    command = [*PROGRAM, "demo", "-q", "--events", "1000000"]
    with Terminal(command, cwd=tmp_path, env=clean_environment()) as terminal:
        terminal.read_until("4 workers record 1,000,000 events")
        workers = eventually(lambda: len(found := workers_of(terminal.process)) == 4 and found)
        terminal.read_until(r"recording ━")
        terminal.type("\x03")
        assert 130 == terminal.read_to_end()
    assert "Traceback" not in terminal.text
    assert not [worker for worker in workers if worker.is_running()]


def test_workers_do_not_outlive_a_killed_controller(cli):
    with cli.started("demo", "-q", "--events", "1000000", "--workers", "2") as process:
        workers = eventually(lambda: len(found := workers_of(process)) == 2 and found)
        process.kill()
        process.communicate()
        eventually(lambda: not any(worker.is_running() for worker in workers))
