"""Names of events: rule R5, the rows of client-go's own test."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.event.names import event_name, is_dns_subdomain, plain_name_fits, random_name

NOW_NS = 1_784_901_930_123_456_789  # 16 hex digits
LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def is_uuid(text):
    try:
        return str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4
    except ValueError:
        return False


@pytest.mark.client_go("NAM-01")
def test_a_valid_name_gets_the_nanoseconds_in_hex():
    assert "test-pod.178959f726d80ec" == event_name("test-pod", 105999103295324396)


@pytest.mark.parametrize(
    "ref_name",
    [
        pytest.param("x" * 300, marks=pytest.mark.client_go("NAM-02")),
        pytest.param("test.POD", marks=pytest.mark.client_go("NAM-03")),
        pytest.param("test.pod/invalid!chars?", marks=pytest.mark.client_go("NAM-04")),
        pytest.param("--test.pod/invalid!chars?", marks=pytest.mark.client_go("NAM-05")),
        "",
        "2001:db8::1",
        "web-",
        "a..b",
        "a\n",
        "é",
        "a" * 237,
    ],
)
def test_what_is_no_name_for_an_event_gets_a_uuid(ref_name):
    name = event_name(ref_name, NOW_NS)
    assert is_uuid(name)
    assert is_dns_subdomain(name)
    assert not plain_name_fits(ref_name)


def test_the_longest_name_that_leaves_room_for_the_time():
    assert "a" * 236 + f".{NOW_NS:x}" == event_name("a" * 236, NOW_NS)
    assert plain_name_fits("a" * 236)


def test_a_time_before_1970_cannot_be_in_a_name():
    assert is_uuid(event_name("web-1", -1))


def test_random_names_differ():
    assert random_name() != random_name()


@given(st.text(alphabet="ab-.A:0é\n", max_size=12) | st.text(max_size=300))
def test_every_name_is_one_that_kubernetes_takes(ref_name):
    name = event_name(ref_name, NOW_NS)
    assert re.fullmatch(rf"{LABEL}(\.{LABEL})*", name)
    assert len(name.encode()) <= 253
    assert plain_name_fits(ref_name) == (f"{ref_name}.{NOW_NS:x}" == name)
