"""``mpbroadcast get`` against kubectl's rules (spec F6, F7, F9)."""

from __future__ import annotations

import json
import re
import time

import pytest

from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSeries, EventSource, ObjectReference

from .conftest import SECOND, eventually, make_event

NASTY = "\x1b[2Jgone \x9b31m \u202ebackwards\x07\x7f"


def filled(store):
    now = time.time_ns()
    store.create(make_event("web-1"))
    store.create(
        make_event(
            "web",
            name="web.2",
            type="Warning",
            reason="FailedCreate",
            message="  Error creating: quota\nsecond line",
            involved_object=ObjectReference("Deployment", "default", "web", api_version="apps/v1"),
            source=EventSource("deployment-controller"),
            reporting_controller="deployment-controller",
            reporting_instance="",
            count=3,
            first_timestamp=now - 7200 * SECOND,
            last_timestamp=now - 300 * SECOND,
        )
    )
    store.create(
        make_event(
            "nightly",
            name="nightly.3",
            namespace="backups",
            reason="Done",
            message="",
            involved_object=ObjectReference(
                "Backup", "backups", "nightly", api_version="example.com/v1", field_path="spec"
            ),
            first_timestamp=None,
            last_timestamp=None,
            event_time=now - 90 * SECOND,
            series=EventSeries(7, now - 30 * SECOND),
        )
    )


def table(done):
    """The cells of a printed table, cut where its headings begin."""
    heading, *rows = done.stdout.splitlines()
    starts = [0, *(found.end() for found in re.finditer(r" {3,}", heading))]
    ends = [*starts[1:], None]
    return [[line[start:end].rstrip() for start, end in zip(starts, ends, strict=True)] for line in (heading, *rows)]


def test_the_usual_columns_are_those_of_kubectl_get_events(cli, store):
    filled(store)
    assert [
        ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"],
        ["10m", "Normal", "Started", "pod/web-1", "Started container app"],
        ["5m", "Warning", "FailedCreate", "deployment/web", "Error creating: quota..."],
    ] == [[re.sub(r"^5m\d*s?$", "5m", text) for text in row] for row in table(cli("get"))]


def test_a_line_is_exactly_what_kubectl_prints(cli, store):
    """Three blanks between columns, as wide as the widest cell; the last one is not padded."""
    filled(store)
    heading, first, _ = cli("get").stdout.splitlines()
    assert "LAST SEEN   TYPE      REASON         OBJECT           MESSAGE" == heading
    assert "10m         Normal    Started        pod/web-1        Started container app" == first


def test_wide_columns_and_all_namespaces(cli, store):
    filled(store)
    rows = table(cli("get", "-A", "-o", "wide"))
    assert [
        "NAMESPACE",
        "LAST SEEN",
        "TYPE",
        "REASON",
        "OBJECT",
        "SUBOBJECT",
        "SOURCE",
        "MESSAGE",
        "FIRST SEEN",
        "COUNT",
        "NAME",
    ] == rows[0]
    assert ["default", "10m", "Normal", "Started", "pod/web-1", "", "kubelet, node-1"] == rows[1][:7]
    assert ["120m", "3", "web.2"] == rows[2][-3:]
    assert ["backups", "spec", "", "7", "nightly.3"] == [rows[3][column] for column in (0, 5, 7, 9, 10)]


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ([], ["web-1.1", "web.2"]),
        (["-n", "backups"], ["nightly.3"]),
        (["-A"], ["web-1.1", "web.2", "nightly.3"]),
        (["-A", "--types", "warning"], ["web.2"]),
        (["-A", "--types", "Normal"], ["web-1.1", "nightly.3"]),
        (["-A", "--types", "NORMAL,Warning"], ["web-1.1", "web.2", "nightly.3"]),
        (["--for", "pod/web-1"], ["web-1.1"]),
        (["--for", "Pod/web-1"], ["web-1.1"]),
        (["--for", "pods/web-1"], ["web-1.1"]),
        (["--for", "po/web-1"], ["web-1.1"]),
        (["--for", "deploy/web"], ["web.2"]),
        (["--for", "deployments.apps/web"], ["web.2"]),
        (["--for", "deployment.v1.apps/web"], ["web.2"]),
        (["--for", "deployment.example.com/web"], []),
        (["--for", "pod/web"], []),
        (["-A", "--for", "backups/nightly"], ["nightly.3"]),
        (["-A", "--for", "backup.example.com/nightly"], ["nightly.3"]),
        (["-A", "--chunk-size", "1"], ["web-1.1", "web.2", "nightly.3"]),
        (["-A", "--chunk-size", "0"], ["web-1.1", "web.2", "nightly.3"]),
        (["-A", "--sort-by", ".metadata.name"], ["nightly.3", "web-1.1", "web.2"]),
        (["-A", "--sort-by", "{.lastTimestamp}"], ["nightly.3", "web-1.1", "web.2"]),
        (["-A", "--sort-by", "count"], ["web-1.1", "nightly.3", "web.2"]),
    ],
)
def test_options_choose_and_order_events(cli, store, args, names):
    filled(store)
    assert [f"event/{name}" for name in names] == cli("get", "-o", "name", *args).stdout.splitlines()


def test_without_headers_there_are_none(cli, store):
    filled(store)
    assert 2 == len(cli("get", "--no-headers").stdout.splitlines())


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "No events found in default namespace.\n"),
        (["-n", "shop"], "No events found in shop namespace.\n"),
        (["-A"], "No events found.\n"),
    ],
)
@pytest.mark.usefixtures("store")
def test_nothing_found_is_said_on_standard_error(cli, args, text):
    done = cli("get", *args)
    assert ("", text) == (done.stdout, done.stderr)


def test_the_store_can_come_from_the_environment(cli, store, tmp_path):
    filled(store)
    store.close()
    (tmp_path / "events.db").rename(tmp_path / "other.db")
    assert 2 == len(cli("get", "-o", "name", MPBROADCAST_STORE="other.db").stdout.splitlines())
    assert 2 == len(cli("get", "-o", "name", "--store", "other.db", MPBROADCAST_STORE="none.db").stdout.splitlines())


def test_json_is_the_list_that_kubectl_prints(cli, store):
    filled(store)
    text = cli("get", "-A", "-o", "json").stdout
    body = json.loads(text)
    assert ["apiVersion", "items", "kind", "metadata"] == list(body)
    assert ("v1", "List", {"resourceVersion": ""}) == (body["apiVersion"], body["kind"], body["metadata"])
    assert ["Event"] * 3 == [item["kind"] for item in body["items"]]
    assert sorted(body["items"][0]) == list(body["items"][0])
    assert text.startswith('{\n    "apiVersion": "v1",\n    "items": [\n        {\n            "apiVersion": "v1",')
    assert body["items"][1] == Event.from_core_v1(body["items"][1]).to_core_v1()


@pytest.mark.usefixtures("store")
def test_an_empty_list_is_a_list(cli):
    assert [] == json.loads(cli("get", "-o", "json").stdout)["items"]
    assert (
        'apiVersion: v1\nitems: []\nkind: List\nmetadata:\n  resourceVersion: ""\n' == cli("get", "-o", "yaml").stdout
    )


def test_yaml_says_the_same_as_json(cli, store):
    yaml = pytest.importorskip("yaml")
    filled(store)
    store.create(make_event("odd", message=f"a: b # c\n  indented\n{NASTY}\u2028 1.0"))
    assert json.loads(cli("get", "-A", "-o", "json").stdout) == yaml.safe_load(cli("get", "-A", "-o", "yaml").stdout)


@pytest.mark.parametrize("output", ["", "wide", "json", "yaml", "name"])
def test_no_control_character_of_an_event_is_printed_raw(cli, store, output):
    store.create(
        make_event(
            name="odd",
            message=NASTY,
            reason="R" + NASTY,
            annotations={"k" + NASTY: NASTY},
            involved_object=ObjectReference("Pod" + NASTY, "default", "web" + NASTY, field_path=NASTY),
        )
    )
    text = cli("get", "-o", output).stdout
    assert text
    assert not [char for char in text if char != "\n" and not char.isprintable()]


def read_rows(process, count):
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def test_a_watch_follows_what_another_process_writes(cli, store):
    """The headings come once, changes come again, deletions do not, and nothing is sorted."""
    store.create(make_event("web-1"))
    with cli.started("get", "-w") as process:
        heading, first = read_rows(process, 2)
        cli("record", "pod/web-2", "--reason", "Second", "--message", "two")
        [second] = read_rows(process, 1)
        store.delete("default", "web-1.1")
        cli("record", "pod/web-2", "--reason", "Second", "--message", "two")
        cli("record", "pod/web-3", "--reason", "Third", "--message", "three", "--type", "Warning")
        third, fourth = read_rows(process, 2)
    assert heading.startswith("LAST SEEN")
    assert [["Started", "Second", "Second", "Third"]] == [
        [re.split(r" {3,}", row)[2] for row in (first, second, third, fourth)]
    ]
    assert heading.index("MESSAGE") == first.index("Started container app")


def test_a_watch_of_an_empty_store_waits_and_says_nothing(cli, store):
    with cli.started("get", "-w", "-o", "json", "--types", "warning") as process:
        store.create(make_event("web-1"))
        store.create(make_event("web-2", type="Warning"))
        lines = []
        eventually(lambda: lines.append(process.stdout.readline()) or lines[-1] == "}\n")
    assert "web-2.1" == json.loads("".join(lines))["metadata"]["name"]


def test_a_watch_of_a_store_that_goes_away_says_so(cli, store, tmp_path):
    store.create(make_event("web-1"))
    with cli.started("get", "-w", "-o", "name") as process:
        assert "event/web-1.1\n" == process.stdout.readline()
        (tmp_path / "events.db").unlink()
        _, err = process.communicate(timeout=20)
    assert 1 == process.returncode
    assert err.endswith("events.db was moved or deleted\n")
    assert 1 == len(err.splitlines())


def test_damaged_rows_are_skipped_and_counted(cli, store, tmp_path):
    import sqlite3

    filled(store)
    store.close()
    with sqlite3.connect(tmp_path / "events.db") as connection:
        connection.execute("UPDATE event SET object = ? WHERE name = 'web.2'", (b"{",))
    connection.close()
    done = cli("get", "-o", "name")
    assert "event/web-1.1\n" == done.stdout
    assert "mpbroadcast: 1 damaged event was skipped\n" == done.stderr
