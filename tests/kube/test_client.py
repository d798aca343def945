"""Requests and answers, with a server that does not always behave."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mpbroadcast.errors import NotFound, SinkRejected, SinkUnavailable
from mpbroadcast.event.parts import EventSeries
from tests.kube.fake_api import (
    CLOSE_EARLY,
    DONE_THEN_RESET,
    GARBAGE,
    HALF,
    NO_HTTP,
    RESET,
    SLOW,
    FakeApi,
    Reply,
    status,
)

LANES = pytest.mark.parametrize("fast", [True, False], ids=["fast lane", "plain lane"])


@pytest.fixture
def run(open_client):
    """Runs a coroutine function with a client, and closes the client."""

    def go(api, act, shape="v1", **options):
        async def main():
            client = open_client(api, shape, **options)
            try:
                return await act(client)
            finally:
                await client.close()

        return asyncio.run(main())

    return go


@LANES
def test_a_created_event_comes_back_as_it_is_stored(api, run, make_event, fast):
    event = make_event(message="日本 <b>", annotations={"a": "b"})
    stored = run(api, lambda client: client.create(event), fast=fast)
    assert (event.name, "日本 <b>", 1, "1") == (stored.name, stored.message, stored.count, stored.resource_version)
    assert event.first_timestamp // 10**9 * 10**9 == stored.first_timestamp
    assert [("POST", "default", event.name)] == [entry[:3] for entry in api.log]
    assert "application/json" == api.seen[0].headers["content-type"]


def test_what_a_webhook_changed_comes_back_changed(api, run, make_event):
    event = make_event()
    changed = event.replace(message="changed", count=3).to_core_v1()
    api.faults.append(Reply(201, {}, json.dumps(changed).encode()))
    stored = run(api, lambda client: client.create(event))
    assert ("changed", 3) == (stored.message, stored.count)


@LANES
def test_connections_are_kept(api, run, make_event, fast):
    async def act(client):
        for n in range(50):
            await client.create(make_event(n + 1))

    run(api, act, fast=fast)
    assert 1 == api.connections
    assert 50 == len(api.events)


@LANES
def test_a_patch_is_a_strategic_merge_patch(api, run, make_event, fast):
    event = make_event()

    async def act(client):
        await client.create(event)
        return await client.patch(event, b'{"count":2,"lastTimestamp":"2026-01-02T03:05:00Z","message":"m"}')

    assert 2 == run(api, act, fast=fast).count
    assert "application/strategic-merge-patch+json" == api.seen[1].headers["content-type"]
    assert f"/api/v1/namespaces/default/events/{event.name}" == api.seen[1].path


def test_names_with_odd_characters_are_quoted(api, run, make_event):
    event = make_event(name="a/b?c#d%2fé.1")

    async def act(client):
        await client.create(event)
        return await client.patch(event, b"{}")

    assert event.name == run(api, act).name


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_change_the_path_is_refused_here(api, run, make_event, name):
    with pytest.raises(SinkRejected, match="no event can be called"):
        run(api, lambda client: client.patch(make_event(name=name), b"{}"))
    assert [] == api.seen


UNAVAILABLE = {
    "reset": RESET,
    "half an answer": HALF,
    "garbage": GARBAGE,
    "no HTTP": NO_HTTP,
    "closed": CLOSE_EARLY,
    "stored, then reset": DONE_THEN_RESET,
    "an HTML page": Reply(200, {"Content-Type": "text/html"}, b"<html>log in</html>"),
    "JSON of something else": Reply(201, {}, b'{"kind":"Pod","metadata":{}}'),
    "a list": Reply(201, {}, b"[]"),
    "a Status of success": Reply(201, {}, b'{"kind":"Status","status":"Success"}'),
    "a wrong type": Reply(201, {}, b'{"kind":"Event","metadata":{"name":5}}'),
    "nothing": Reply(201),
    "500": status(500, "InternalError", "etcd is gone"),
    "502 of a proxy": Reply(502, {}, b"<html>Bad Gateway</html>"),
    "503": status(503, "ServiceUnavailable", "shutting down"),
    "504": status(504, "Timeout", "timed out"),
    "429": status(429, "TooManyRequests", "too many"),
    "401": status(401, "Unauthorized", "Unauthorized"),
    "no credentials got there": status(403, "Forbidden", 'User "system:anonymous" cannot create resource "events"'),
}


@LANES
@pytest.mark.client_go("REC-15")
@pytest.mark.parametrize("what", UNAVAILABLE)
def test_what_may_pass_is_unavailable(api, run, make_event, what, fast):
    """One line, and the next request works: nothing of the failed one is left in the connection."""
    api.faults.append(UNAVAILABLE[what])

    async def act(client):
        with pytest.raises(SinkUnavailable) as caught:
            await client.create(make_event(1))
        await client.create(make_event(2))
        return caught.value

    error = run(api, act, fast=fast)
    assert "\n" not in str(error)
    assert str(error)
    assert None is error.__cause__


@LANES
def test_a_slow_answer_is_not_waited_for(api, run, make_event, fast):
    api.faults.append(SLOW)
    begin = time.monotonic()

    async def act(client):
        with pytest.raises(SinkUnavailable):
            await client.create(make_event(1))
        await client.create(make_event(2))

    run(api, act, timeout=0.3, fast=fast)
    assert 5 > time.monotonic() - begin


@LANES
def test_an_answer_that_drips_is_not_waited_for(api, run, make_event, fast):
    """A deadline for the whole answer: bytes that keep coming do not renew it."""

    async def drip(writer, reply):
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(reply.body))
        for byte in reply.body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    api.faults.append(drip)
    with pytest.raises(SinkUnavailable):
        run(api, lambda client: client.create(make_event()), timeout=0.3, fast=fast)


@LANES
def test_an_answer_without_an_end_is_cut_off(api, run, make_event, fast):
    api.faults.append(Reply(201, {}, b"x" * 300_000))
    with pytest.raises(SinkUnavailable, match="larger than 100000"):
        run(api, lambda client: client.create(make_event()), largest_answer=100_000, fast=fast)


def test_what_a_server_sends_unasked_is_no_answer(api, run, make_event):
    """Bytes behind an answer would be taken for the next one; that connection is not used again."""

    async def twice(writer, reply):
        whole = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(reply.body), reply.body)
        writer.write(whole + whole)
        await writer.drain()
        return True

    api.faults.append(twice)

    async def act(client):
        return [(await client.create(make_event(n + 1))).name for n in range(2)]

    assert ["web.1", "web.2"] == run(api, act)
    assert 2 == api.connections


def test_a_server_that_is_not_there(run, make_event):
    with FakeApi() as api:
        pass
    with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1"):
        run(api, lambda client: client.create(make_event()))


REJECTED = [
    (status(400, "BadRequest", "no"), 400, "BadRequest", ""),
    (status(403, "Forbidden", 'User "u" cannot create resource "events" in API group ""'), 403, "Forbidden", ""),
    (status(403, "Forbidden", "being terminated", ["NamespaceTerminating"]), 403, "Forbidden", "NamespaceTerminating"),
    (status(404, "NotFound", 'namespaces "x" not found'), 404, "NotFound", ""),
    (status(405, "MethodNotAllowed", "no"), 405, "MethodNotAllowed", ""),
    (status(409, "AlreadyExists", "exists"), 409, "AlreadyExists", ""),
    (Reply(409, {}, b"<html>"), 409, "", ""),
    (status(413, "RequestEntityTooLarge", "no"), 413, "RequestEntityTooLarge", ""),
    (status(415, "UnsupportedMediaType", "no"), 415, "UnsupportedMediaType", ""),
    (status(422, "Invalid", "no", ["FieldValueInvalid"]), 422, "Invalid", "FieldValueInvalid"),
    (Reply(302, {"Location": "http://127.0.0.1:1/"}), 302, "", ""),
    (Reply(307, {"Location": "http://127.0.0.1:1/"}), 307, "", ""),
    (Reply(501), 501, "", ""),
]  # fmt: skip


@LANES
@pytest.mark.client_go("DER-01", "DER-02")
@pytest.mark.parametrize(("reply", "code", "reason", "cause"), REJECTED, ids=[str(row[1]) + row[3] for row in REJECTED])
def test_other_refusals_are_final(api, run, make_event, reply, code, reason, cause, fast):
    """A redirect as well: the credentials are meant for this server."""
    api.faults.append(reply)
    with pytest.raises(SinkRejected) as caught:
        run(api, lambda client: client.create(make_event()), fast=fast)
    assert (code, reason, cause) == (caught.value.code, caught.value.reason, caught.value.cause)
    assert not isinstance(caught.value, NotFound)
    assert 1 == len(api.seen)


@pytest.mark.client_go("REC-18")
@pytest.mark.parametrize("reply", [None, Reply(404, {}, b"404 page not found\n")])
def test_a_patch_of_what_is_not_there_is_not_found(api, run, make_event, reply):
    api.faults.append(reply)
    with pytest.raises(NotFound):
        run(api, lambda client: client.patch(make_event(), b"{}"))


@pytest.mark.client_go("DER-03")
def test_a_conflict_on_a_patch_is_final(api, run, make_event):
    api.faults.append(status(409, "Conflict", "changed meanwhile"))
    with pytest.raises(SinkRejected) as caught:
        run(api, lambda client: client.patch(make_event(), b"{}"))
    assert "Conflict" == caught.value.reason


PATIENCE = [
    ("7", 7.0),
    ("0", 0.0),
    ("-3", 0.0),
    ("1e9", 600.0),
    ("inf", 600.0),
    ("nan", None),
    ("soon", None),
    (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 600.0),
    ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
]


@pytest.mark.parametrize(("header", "seconds"), PATIENCE, ids=[row[0] for row in PATIENCE])
def test_retry_after_is_read(api, run, make_event, header, seconds):
    """Seconds or a date; garbage is none, and nobody can stop us for longer than ten minutes."""
    api.faults.append(Reply(429, {"Retry-After": header}))
    with pytest.raises(SinkUnavailable) as caught:
        run(api, lambda client: client.create(make_event()))
    assert (429, seconds) == (caught.value.code, caught.value.retry_after)


def test_retry_after_stands_in_the_status_as_well(api, run, make_event):
    api.faults.append(Reply(503, {}, b'{"kind":"Status","message":"m","details":{"retryAfterSeconds":3}}'))
    with pytest.raises(SinkUnavailable) as caught:
        run(api, lambda client: client.create(make_event()))
    assert 3.0 == caught.value.retry_after


def test_events_v1_is_filled_and_series_patched(api, run, make_event):
    event = make_event(message="x" * 2000)

    async def act(client):
        await client.create(event)
        series = event.replace(series=EventSeries(2, event.first_timestamp))
        stored = await client.patch(series, b'{"series":{"count":2,"lastObservedTime":"2026-01-02T03:04:05.000001Z"}}')
        return stored, client.cuts

    stored, cuts = run(api, act, "events.k8s.io/v1")
    assert (2, 1) == (stored.series.count, cuts)
    assert "/apis/events.k8s.io/v1/namespaces/default/events" == api.seen[0].path


def test_pages_are_read_one_by_one(api, run, make_event):
    async def act(client):
        for n in range(25):
            await client.create(make_event(n + 1))
        return [page async for page in client.pages("default", limit=10, field_selector="type=Normal")]

    pages = run(api, act)
    assert [(10, True), (10, True), (5, False)] == [(len(page.events), page.more) for page in pages]
    assert "fieldSelector=type%3DNormal" in api.seen[-1].path


def test_a_watch_goes_on_after_its_end_and_at_a_bookmark(api, run, make_event):
    event = make_event().to_core_v1()
    line = {"type": "ADDED", "object": event | {"metadata": event["metadata"] | {"resourceVersion": "7"}}}
    bookmark = {"type": "BOOKMARK", "object": {"kind": "Event", "metadata": {"resourceVersion": "9"}}}
    api.watchers = [[line, bookmark], [line]]

    async def act(client):
        found = []
        async for change in client.watch("default", resource_version="5"):
            found.append(change.type)
            if len(found) == 2:
                break
        return found

    assert ["ADDED", "ADDED"] == run(api, act)
    assert ["resourceVersion=5", "resourceVersion=9"] == [
        part for seen in api.seen for part in seen.path.split("&") if part.startswith("resourceVersion")
    ]


def test_a_version_that_is_too_old_lists_again(api, run, make_event):
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    event = make_event(2)
    line = {"type": "ADDED", "object": event.replace(uid="uid-2", resource_version="2").to_core_v1()}
    api.watchers = [[gone], [line]]

    async def act(client):
        await client.create(make_event(1))
        await client.create(make_event(2))
        found = []
        async for change in client.follow("default"):
            found.append((change.type, change.event.name))
            if len(found) == 3:
                break
        return found

    assert ["ADDED", "ADDED", "ADDED"] == [type_ for type_, _ in run(api, act)]
    assert 2 == sum("limit=" in seen.path for seen in api.seen)


@pytest.mark.parametrize(
    "line", [b"garbage\n", b"[]\n", b'{"type":"ADDED"}\n', b'{"type":"ADDED","object":{"metadata":3}}\n']
)
def test_a_broken_line_of_a_watch_is_unavailable(api, run, line):
    api.watchers = [[line]]

    async def act(client):
        async for _ in client.watch("default"):
            pass

    with pytest.raises(SinkUnavailable):
        run(api, act)
