"""``mpbroadcast relay``: real members, real servers, and members that are killed."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import yaml

from mpbroadcast.errors import StoreError
from mpbroadcast.relay.leases import Leases
from mpbroadcast.relay.member import Member
from mpbroadcast.sinks.jetstream import Access
from mpbroadcast.sinks.jsonlines import JSONLinesSink
from mpbroadcast.sinks.nats import NATSSink
from mpbroadcast.store.sqlite import Store
from tests.kube.fake_api import FakeApi
from tests.nats.servers import Run, check_log, records_of


class Members:
    """Processes of ``mpbroadcast relay``."""

    def __init__(self, servers, folder):
        self._servers = servers
        self._folder = folder
        self.all = []

    def start(self, to, *options):
        log = (self._folder / f"member-{len(self.all)}.log").open("wb")
        arguments = ["--from", ",".join(self._servers.urls), "--to", to, "--ttl", "3", *options]
        with log:
            self.all.append(
                subprocess.Popen([sys.executable, "-m", "mpbroadcast", "relay", *arguments], stderr=log, stdout=log)
            )
        return self.all[-1]

    def log(self, number=0):
        return (self._folder / f"member-{number}.log").read_text()

    def owners(self, group="relay"):
        """How many partitions each member has."""

        async def act(js):
            found = Counter()
            kv = await js.key_value(f"EVENTS-relay-{group}")
            for number in range(16):
                entry = await kv.get(f"partition.{number}")
                found[json.loads(entry.value)["owner"]] += 1
            return found

        try:
            return self._servers.run(act)
        except Exception:
            return Counter()

    def wait_for_shares(self, *shares):
        """Until every partition has an owner, and the members have that many each."""
        wait(lambda: sorted(shares) == sorted(self.owners().values()) and "" not in self.owners())

    def end(self, member):
        member.send_signal(signal.SIGTERM)
        assert 0 == member.wait(20)

    def close(self):
        for member in self.all:
            if member.poll() is None:
                member.kill()
                member.wait()


def wait(condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.1)


@pytest.fixture
def members(server, tmp_path):
    members = Members(server, tmp_path)
    yield members
    members.close()


def publish(servers, count, first=1, objects=97, reasons=1, **options):
    with Run(NATSSink(servers.urls, timeout=30, **options)) as run:
        run.give(records_of(count, objects, first, reasons))
    assert len(run.settled) == count


def stored(path):
    """The bodies in a store, in the order in which they were written first; fewer while there is none."""
    try:
        with Store.open(path, read_only=True) as store:
            return [event.to_core_v1() for event in store.list().events]
    except StoreError:  # a member is only making it
        return []


def check_store(path, count):
    bodies = stored(path)
    assert count == sum(body["count"] for body in bodies)
    check_log(bodies, count)


def test_everything_arrives_once_and_a_member_that_comes_again_goes_on(server, members, tmp_path):
    path = tmp_path / "events.db"
    publish(server, 1000)
    first = members.start(f"sqlite:{path}")
    wait(lambda: len(stored(path)) == 1000)
    members.end(first)
    assert "mpbroadcast: relayed 1000 events, refused 0\n" == members.log()
    publish(server, 500, first=1001)
    second = members.start(f"sqlite:{path}")
    wait(lambda: len(stored(path)) == 1500)
    members.end(second)
    assert "mpbroadcast: relayed 500 events, refused 0\n" == members.log(1)
    check_store(path, 1500)


def test_two_members_share_and_an_object_has_one_of_them(server, members, tmp_path):
    publish(server, 1)
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in paths:
        members.start(f"jsonl:{path}")
    members.wait_for_shares(8, 8)
    publish(server, 3000, first=2)

    def lines():
        found = [path.read_bytes().splitlines() if path.exists() else [] for path in paths]
        return [[json.loads(line) for line in one] for one in found]

    wait(lambda: sum(map(len, lines())) >= 3001)
    for member in members.all:
        members.end(member)
    both = sorted(lines(), key=lambda one: one[0]["message"] != "m-1")  # it came before they shared, to either of them
    check_log(both[0] + both[1], 3001)
    objects = [{body["involvedObject"]["name"] for body in one if body["message"] != "m-1"} for one in both]
    assert not objects[0] & objects[1]
    assert all(objects)


def test_repeats_are_counted_across_machines_and_members(server, members, tmp_path):
    """Ten publishers say the same about one object: one event with a count of ten."""
    from mpbroadcast.event.model import Event
    from tests.nats.servers import record

    path = tmp_path / "events.db"
    sink = NATSSink(server.urls)
    for number in range(1, 11):
        sink.create(Event.from_record(record(number, "web", "again")[2]))
    sink.close()
    members.start(f"sqlite:{path}")
    members.start(f"sqlite:{path}")
    wait(lambda: [10] == [body["count"] for body in stored(path)])


def test_a_member_that_is_killed_under_load_is_replaced(server, members, tmp_path):
    """With SIGKILL, twice, while another one works and events come in."""
    path = tmp_path / "events.db"
    publish(server, 1)
    members.start(f"sqlite:{path}")
    victim = members.start(f"sqlite:{path}")
    members.wait_for_shares(8, 8)
    with Run(NATSSink(server.urls)) as run:
        run.give(records_of(4000, first=2))
        wait(lambda: len(stored(path)) > 500)
        victim.kill()
        victim.wait()
        run.give(records_of(2000, first=4002))
        members.start(f"sqlite:{path}")
        members.all[0].kill()
        run.give(records_of(2000, first=6002))
    wait(lambda: len(stored(path)) >= 8001)
    check_store(path, 8001)


@pytest.fixture
def api(tmp_path):
    with FakeApi(journal=tmp_path / "journal") as api:
        cluster = {"name": "c", "cluster": {"server": api.url}}
        body = {"apiVersion": "v1", "kind": "Config", "current-context": "x", "clusters": [cluster], "users": [],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": ""}}]}  # fmt: skip
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(body))
        yield api


def test_members_are_killed_and_stopped_while_they_write_to_a_cluster(server, members, tmp_path, api):
    """One with SIGKILL, one with SIGSTOP for longer than its lease: it goes on in the middle of its queue."""
    journal = tmp_path / "journal"

    def writes():
        lines = journal.read_bytes().splitlines() if journal.exists() else []
        return [json.loads(line) for line in lines]

    options = ("--kubeconfig", str(tmp_path / "kubeconfig"))
    few = {"objects": 400, "reasons": 3}  # few of one reason about one object: client-go's rules let all of them pass
    publish(server, 1, **few)
    members.start("kubernetes", *options)
    victim = members.start("kubernetes", *options)
    members.wait_for_shares(8, 8)
    publish(server, 4000, first=2, **few)
    wait(lambda: len(writes()) > 200)
    victim.send_signal(signal.SIGSTOP)
    wait(lambda: 16 in members.owners().values())
    victim.send_signal(signal.SIGCONT)
    publish(server, 2000, first=4002, **few)
    wait(lambda: len(writes()) > 4100)
    members.all[0].kill()
    members.start("kubernetes", *options)
    wait(lambda: len(writes()) >= 6001)
    members.wait_for_shares(8, 8)
    for member in members.all[1:]:
        members.end(member)
    check_log([body for _, _, body in writes()], 6001, 400)


@pytest.mark.slow
def test_servers_are_killed_while_a_relay_reads(make_servers, tmp_path):
    """In a cluster of three: the leader of the stream, then another one, and both come back."""
    servers = make_servers(3).ready(3)
    members = Members(servers, tmp_path)
    path = tmp_path / "events.db"
    try:
        publish(servers, 2000, replicas=3)
        members.start(f"sqlite:{path}", "--ttl", "12")
        wait(lambda: len(stored(path)) > 200)
        leader = servers.leader()
        servers.kill(leader)
        publish(servers, 2000, first=2001, replicas=3)
        servers.start(leader)
        wait(lambda: len(stored(path)) >= 4000)
        check_store(path, 4000)
    finally:
        members.close()


def test_nothing_is_passed_by_while_a_lease_is_uncertain(server, tmp_path, monkeypatch):
    """A renewal was late for a moment, between two reads: what was read just then comes again in another round."""
    path = tmp_path / "events.jsonl"
    publish(server, 3000)
    looks = iter(range(1_000_000))
    monkeypatch.setattr(Leases, "is_valid", property(lambda _: next(looks) % 5 != 2))

    async def main():
        member = Member(Access.of(server.urls), JSONLinesSink(path), ttl=3)
        running = asyncio.create_task(member.run())
        end = asyncio.get_running_loop().time() + 30
        while not path.exists() or path.read_bytes().count(b"\n") < 3000:
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.1)
        member.stop()
        await running

    asyncio.run(main())
    check_log([json.loads(line) for line in path.read_bytes().splitlines()], 3000)


def test_a_missing_stream_and_wrong_options_are_one_line(server, members, tmp_path):
    cases = [
        (["jsonl:" + str(tmp_path / "x")], "there is no stream EVENTS; a NATSSink makes it when it first publishes"),
        (["tape:x"], "--to must be kubernetes, sqlite:FILE, jsonl:FILE or stdout, not 'tape:x'"),
        (["stdout", "--kubeconfig", "x"], "--kubeconfig and --context go with '--to kubernetes'"),
        (["stdout", "--group", "a.b"], "--group must have letters"),
        (["stdout", "--creds", "/nowhere"], "creds /nowhere: the file is not there"),
    ]
    for arguments, expected in cases:
        member = members.start(*arguments)
        assert member.wait(20) in {1, 2}
        log = members.log(len(members.all) - 1)
        assert log.startswith(f"mpbroadcast: {expected}"), log
        assert 1 == log.count("\n")


@pytest.mark.slow
def test_servers_that_do_not_answer_are_said_once_a_minute(server, members, tmp_path):
    """The first time at once, and at the end how often that was since then."""
    publish(server, 10)
    member = members.start(f"jsonl:{tmp_path / 'log'}")
    members.wait_for_shares(16)
    server.kill(0)
    wait(lambda: "do not answer" in members.log())
    time.sleep(12)  # for some more beats, each of which waits for its answer; nothing tells when they were
    server.start(0)
    members.end(member)
    lines = [line for line in members.log().splitlines() if "do not answer" in line]
    assert 2 == len(lines), lines
    assert re.search(r"\(\d+ like this since the last line\)$", lines[1])
