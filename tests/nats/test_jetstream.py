"""Subjects, message ids, and how to connect, without a server."""

from __future__ import annotations

import pickle

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.errors import MissingExtra, SinkError
from mpbroadcast.event.model import Event
from mpbroadcast.event.parts import EventSeries, EventSource, ObjectReference
from mpbroadcast.sinks.encoding import encoded
from mpbroadcast.sinks.jetstream import (
    Access,
    Subjects,
    covers,
    escaped,
    hash_of_id,
    message_id,
    object_hash,
)
from tests.nats.servers import record


def about(kind="Pod", namespace="default", name="web-1", **fields):
    return Event(
        name=f"{name}.1", namespace=namespace, involved_object=ObjectReference(kind, namespace, name), **fields
    )


def test_a_subject_says_namespace_kind_and_name():
    assert "events.default.Pod.web-1" == Subjects().of(about())
    assert "events.*.*.*" == Subjects().wildcard


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("ip-10-0-0-1.ec2.internal", "ip-10-0-0-1%2Eec2%2Einternal"),
        ("*", "%2A"),
        (">", "%3E"),
        ("a b\r\nPUB x 0", "a%20b%0D%0APUB%20x%200"),
        ("50%", "50%25"),
        ("", "_"),
        ("_", "%5F"),
        ("é", "%C3%A9"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_what_nats_gives_a_meaning_to_is_escaped(name, token):
    assert f"events.default.Pod.{token}" == Subjects().of(about(name=name))


@given(st.text(max_size=400), st.text(max_size=400))
def test_two_texts_are_two_tokens_and_each_is_one(first, second):
    token = escaped(first)
    assert token.isascii()
    assert token.isprintable()
    assert not set(token) & set(" .*>\t\r\n")
    assert 0 < len(token) <= 160
    assert (first == second) == (token == escaped(second))


def test_other_fields_can_be_in_a_subject():
    subjects = Subjects("k8s.{component}.{type}.{reason}")
    event = about(type="Warning", reason="BackOff", reporting_controller="kubelet")
    assert "k8s.kubelet.Warning.BackOff" == subjects.of(event)
    assert subjects.wildcard == pickle.loads(pickle.dumps(subjects)).wildcard == "k8s.*.*.*"


@pytest.mark.parametrize(
    "template", ["", "{namespace}.x", "events.{colour}", "events..x", "events.*", "a.b{name}", "a.{name!r}", "a.{", 7]
)
def test_a_template_that_makes_no_sense_is_refused_in_one_line(template):
    with pytest.raises(ValueError, match=r"^subject[^\n]+$"):
        Subjects(template)


@pytest.mark.parametrize(
    ("filters", "subject", "expected"),
    [
        (["events.>"], "events.*.*.*", True),
        (["events.*.*.*"], "events.*.*.*", True),
        (["events.*.*"], "events.*.*.*", False),
        (["events.default.*.*"], "events.*.*.*", False),
        (["other", ">"], "events.*", True),
        ([], "events.*", False),
    ],
)
def test_a_stream_covers_a_subject_or_not(filters, subject, expected):
    assert expected == covers(filters, subject)


def test_one_write_has_one_id_and_another_write_another():
    event = Event.from_record(record(1)[2])
    again = Event.from_record(record(1)[2])
    counted = event.replace(count=2)
    ids = [message_id(one, str(one.to_core_v1()).encode()) for one in (event, again, counted)]
    assert ids[0] == ids[1] != ids[2]
    assert [object_hash("default", "Pod", "web")] * 3 == [hash_of_id(one) for one in ids]
    assert hash_of_id("somebody-elses") is None
    assert hash_of_id(None) is None


def test_the_hash_of_an_object_never_changes():
    """Members of different releases must agree."""
    assert 0x46B9042E == object_hash("default", "Pod", "web-1")


SECRETS = {"password": "s3cret", "token": "t0ken"}


def test_nothing_secret_is_shown():
    access = Access.of("nats://anna:s3cret@host:4222, tls://t0ken@other", user="anna", **SECRETS)
    shown = f"{access!r} {access.where} {access}"
    assert "nats://host:4222,tls://other" == access.where
    assert "s3cret" not in shown
    assert "t0ken" not in shown
    assert access == pickle.loads(pickle.dumps(access))


@pytest.mark.parametrize("servers", [[], "", "host:4222", "http://host", "nats://", "nats://host:x", [7]])
def test_servers_that_are_none_are_refused_in_one_line(servers):
    with pytest.raises(ValueError, match=r"^servers must[^\n]+$"):
        Access.of(servers)


def test_a_refused_url_does_not_tell_its_password():
    with pytest.raises(ValueError, match="servers must") as caught:
        Access.of("http://anna:s3cret@host")
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SinkError, match=r"creds .*nats\.creds: the file is not there"):
        Access.of("nats://host", creds=tmp_path / "nats.creds").check("NATSSink")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr("mpbroadcast.sinks.jetstream.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"NATSSink needs the extra 'nats'"):
        Access.of("nats://host").check("NATSSink")


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["\x00name", "\x00message", '"\x00name"', '"firstTimestamp":null,"lastTimestamp":null', "\ud800", ""]
)
TIMES = st.none() | st.integers(0, 10**19 - 1) | st.just(0)
REFERENCES = st.builds(ObjectReference, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)


@given(
    TEXTS,
    TEXTS,
    TIMES,
    st.fixed_dictionaries(
        {},
        optional={
            "involved_object": REFERENCES,
            "namespace": TEXTS,
            "reason": TEXTS,
            "type": TEXTS,
            "action": TEXTS,
            "source": st.builds(EventSource, TEXTS, TEXTS),
            "related": REFERENCES,
            "count": st.integers(0, 3),
            "last_timestamp": TIMES,
            "event_time": TIMES,
            "annotations": st.dictionaries(TEXTS, TEXTS, max_size=2),
            "labels": st.dictionaries(TEXTS, TEXTS, max_size=2),
            "uid": TEXTS,
            "series": st.builds(EventSeries, st.integers(0, 5), TIMES),
            "reporting_instance": TEXTS,
        },
    ),
)
def test_the_fast_way_to_encode_gives_the_same_bytes(name, message, time, fields):
    event = Event(
        **({"name": name, "message": message, "count": 1, "first_timestamp": time, "last_timestamp": time} | fields)
    )
    assert orjson.dumps(event.to_core_v1()) == encoded(event)
