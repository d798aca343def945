"""Anything at all as a request: always an answer, never a fault of the server."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.apiserver.running import Client, core_event, new_event, serving

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "ODD"]
TYPES = [
    "application/json",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "",
]
ACCEPTS = [
    "application/json",
    "application/json;as=Table;g=meta.k8s.io;v=v1",
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    "application/yaml",
    ";;,=,;q=x",
    "*/*;q=0",
]
PARAMETERS = [
    "fieldSelector",
    "labelSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "dryRun",
    "fieldValidation",
    "includeObject",
    "pretty",
    "sendInitialEvents",
    "timeoutSeconds",
]
VALUES = st.one_of(
    st.sampled_from(
        ["", "0", "1", "-1", "All", "Strict", "true", "Exact", "type=Normal", "a in (b,c)", "!a", "x!=y,z"]
    ),
    st.text(max_size=20),
)

texts = st.text(max_size=30) | st.sampled_from(
    ["Normal", "2026-01-01T00:00:00Z", "0000-00-00T00:00:00Z", "v1", "\x1b["]
)
leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
fields = st.sampled_from(
    sorted({*core_event(), *new_event(), "deprecatedCount", "related", "series", "$patch", "$retainKeys"})
)
metadata = st.dictionaries(
    st.sampled_from(["name", "namespace", "labels", "annotations", "uid", "resourceVersion", "generateName"]),
    values,
    max_size=3,
)


odd_texts = st.text(max_size=40) | st.sampled_from(["", "Normal", "x" * 1025, "\x00", "\x1b[2J\r\n\t", "\u202e", "a/b"])
times = st.none() | st.sampled_from(
    ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999999+14:00", "2026-02-28T23:59:60Z"]
)
references = st.dictionaries(
    st.sampled_from(["kind", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"]), odd_texts, max_size=4
)
fitting = {
    "reason": odd_texts,
    "message": odd_texts,
    "note": odd_texts,
    "type": odd_texts,
    "action": odd_texts,
    "reportingComponent": odd_texts,
    "reportingInstance": odd_texts,
    "count": st.integers(-(2**31), 2**31),
    "firstTimestamp": times,
    "lastTimestamp": times,
    "related": references,
    "source": st.dictionaries(st.sampled_from(["component", "host"]), odd_texts),
    "series": st.fixed_dictionaries({"count": st.integers(-1, 2**31), "lastObservedTime": times}),
    "involvedObject": references.map(lambda reference: reference | {"namespace": "default"}),
}


@st.composite
def events(draw):
    """Mostly of the right types, so that many get past the door."""
    body = draw(st.sampled_from([core_event, new_event]))("fuzz")
    for field in draw(st.lists(st.sampled_from(sorted(fitting)), max_size=4, unique=True)):
        body[field] = draw(fitting[field])
    if draw(st.integers(0, 3)) == 0:
        body |= draw(st.dictionaries(fields, values, max_size=2))
        body["metadata"] = {"name": "fuzz"} | draw(metadata)
    return body


operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
    optional={
        "path": st.sampled_from(["", "/", "/count", "/metadata/labels", "/metadata", "/source/-", "/a~2"]) | texts,
        "from": st.sampled_from(["", "/count", "/metadata", "/nothing"]),
        "value": values,
    },
)
bodies = st.one_of(
    events().map(lambda body: json.dumps(body).encode(errors="surrogatepass")),
    values.map(lambda value: json.dumps(value).encode(errors="surrogatepass")),
    st.lists(operations, max_size=4).map(lambda value: json.dumps(value).encode(errors="surrogatepass")),
    st.binary(max_size=50),
    st.none(),
)
segments = st.sampled_from(["events", "fuzz", "default", "namespaces", "%00", "..", "%2F", "\u00e9", "a b"]) | st.text(
    max_size=8
)
paths = st.one_of(
    st.sampled_from(
        [
            f"{prefix}{rest}"
            for prefix in ("/api/v1", "/apis/events.k8s.io/v1")
            for rest in ("", "/events", "/namespaces/default/events", "/namespaces/default/events/fuzz", "/namespaces")
        ]
    ),
    st.lists(segments, max_size=5).map(lambda parts: "/api/v1/" + "/".join(parts)),
    st.lists(segments, max_size=5).map(lambda parts: "/" + "/".join(parts)),
)


@pytest.fixture(scope="module")
def url():
    with serving() as running:
        client = Client(running.url)
        client("POST", "/api/v1/namespaces/default/events", core_event("fuzz"))
        client.close()
        yield running.url


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(METHODS),
    path=paths,
    query=st.dictionaries(st.sampled_from(PARAMETERS), VALUES, max_size=4),
    body=bodies,
    content_type=st.sampled_from(TYPES),
    accept=st.sampled_from(ACCEPTS),
)
def test_every_request_is_answered_and_none_is_a_fault(url, method, path, query, body, content_type, accept):
    client = Client(url)
    try:
        answer = client(method, path, body, {"Content-Type": content_type, "Accept": accept}, **query)
        assert answer.code < 500 or (504, True) == (answer.code, "resourceVersion" in query), answer.body
        if answer.body and answer.headers["content-type"] == "application/json":
            assert isinstance(answer.json, dict)
            if answer.code >= 400:
                assert ("Status", answer.code) == (answer.json["kind"], answer.json["code"])
    finally:
        client.close()


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=events(), strict=st.booleans())
def test_what_is_accepted_can_be_read_back(url, body, strict):
    """Whatever the server took, it can show: in both groups, in every form."""
    client = Client(url)
    try:
        prefix = "/apis/events.k8s.io/v1" if strict else "/api/v1"
        answer = client("POST", f"{prefix}/namespaces/default/events", json.dumps(body).encode(errors="surrogatepass"))
        assert answer.code in {201, 400, 409, 422}, answer.body
        if answer.code == 201:
            name = answer.json["metadata"]["name"]
            for group in ("/api/v1", "/apis/events.k8s.io/v1"):
                for accept in ACCEPTS[:2]:
                    shown = client("GET", f"{group}/namespaces/default/events", headers={"Accept": accept})
                    assert name.encode() in shown.body
            client("DELETE", "/api/v1/namespaces/default/events")
    finally:
        client.close()
