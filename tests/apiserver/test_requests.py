"""Requests over plain HTTP: what the real API server does with events, one by one."""

from __future__ import annotations

import gzip

import pytest

from tests.apiserver.running import core_event, new_event

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
MERGE = {"Content-Type": "application/merge-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}


def _status(answer):
    body = answer.json
    assert ("Status", "v1", "Failure") == (body["kind"], body["apiVersion"], body["status"])
    assert answer.code == body["code"]
    assert "application/json" == answer.headers["content-type"]
    return body["code"], body.get("reason")


@pytest.fixture
def create(call, core, namespace):
    def create(name="web-1.17a", **fields):
        answer = call("POST", core, core_event(name, namespace, **fields))
        assert 201 == answer.code, answer.body
        return answer.json

    return create


class TestDiscovery:
    @pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
    def test_health_is_ok(self, call, path):
        assert (200, b"ok") == (call("GET", path).code, call("GET", path).body)

    def test_both_groups_have_events_with_every_verb(self, call):
        for path in ("/api/v1", "/apis/events.k8s.io/v1"):
            events = call("GET", path).json["resources"][0]
            assert ("events", "Event", True) == (events["name"], events["kind"], events["namespaced"])
            expected = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
            assert expected == events["verbs"]

    def test_groups_and_versions(self, call):
        assert ["v1"] == call("GET", "/api").json["versions"]
        groups = [group["name"] for group in call("GET", "/apis").json["groups"]]
        assert ["events.k8s.io", "apps"] == groups[:2]
        assert "events.k8s.io/v1" == call("GET", "/apis/events.k8s.io").json["preferredVersion"]["groupVersion"]
        assert "v1.36.2+mpbroadcast" == call("GET", "/version").json["gitVersion"]
        assert "/apis/events.k8s.io/v1" in call("GET", "/").json["paths"]

    def test_kinds_that_events_are_about_have_names_and_no_verbs(self, call):
        """`kubectl events --for deployment/web` looks here for what a deployment is."""
        for group in call("GET", "/apis").json["groups"][1:]:
            group_version = call("GET", f"/apis/{group['name']}").json["preferredVersion"]["groupVersion"]
            resources = call("GET", f"/apis/{group_version}").json
            assert group_version == resources["groupVersion"]
            assert [[]] * len(resources["resources"]) == [resource["verbs"] for resource in resources["resources"]]
        [pods] = [one for one in call("GET", "/api/v1").json["resources"] if one["name"] == "pods"]
        assert {"singularName": "pod", "kind": "Pod", "shortNames": ["po"], "namespaced": True}.items() <= pods.items()

    @pytest.mark.parametrize(("path", "group"), [("/api", ""), ("/apis", "events.k8s.io")])
    @pytest.mark.parametrize("version", ["v2", "v2beta1"])
    def test_aggregated_discovery_is_given_to_who_asks(self, call, path, group, version):
        accept = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
        answer = call("GET", path, headers={"Accept": accept})
        assert accept.partition(",")[0] == answer.headers["content-type"]
        assert f"apidiscovery.k8s.io/{version}" == answer.json["apiVersion"]
        resource = answer.json["items"][0]["versions"][0]["resources"][0]
        assert {"group": group, "version": "v1", "kind": "Event"} == resource["responseKind"]

    def test_openapi_is_there_in_every_form(self, call):
        assert "io.k8s.api.events.v1.Event" in call("GET", "/openapi/v2").json["definitions"]
        protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        answer = call("GET", "/openapi/v2", headers={"Accept": protobuf})
        assert answer.body.startswith(b"\x0a\x032.0")
        paths = call("GET", "/openapi/v3").json["paths"]
        for group in ("api/v1", "apis/events.k8s.io/v1"):
            document = call("GET", paths[group]["serverRelativeURL"]).json
            assert "patch" in document["paths"][f"/{group}/namespaces/{{namespace}}/events/{{name}}"]
        assert 404 == call("GET", "/openapi/v3/apis/apps/v1").code

    def test_namespaces_are_those_of_the_events(self, call, create, namespace):
        create()
        names = [item["metadata"]["name"] for item in call("GET", "/api/v1/namespaces").json["items"]]
        assert {"default", "kube-system", namespace} <= set(names)
        assert "Active" == call("GET", f"/api/v1/namespaces/{namespace}").json["status"]["phase"]
        assert (404, "NotFound") == _status(call("GET", "/api/v1/namespaces/nobody"))
        row = call("GET", f"/api/v1/namespaces/{namespace}", headers=TABLE).json["rows"][0]
        assert [namespace, "Active"] == row["cells"][:2]


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "expected"),
        [
            ("GET", "/api/v1/pods", (404, "NotFound")),
            ("GET", "/apis/apps/v1/deployments", (404, "NotFound")),
            ("GET", "/api/v1/events/", (404, "NotFound")),
            ("POST", "/api/v1/events", (405, "MethodNotAllowed")),
            ("DELETE", "/api/v1/events", (405, "MethodNotAllowed")),
            ("BREW", "/api/v1/events", (405, "MethodNotAllowed")),
            ("GET", "/api/v1/namespaces/default/events/nobody", (404, "NotFound")),
            ("DELETE", "/api/v1/namespaces/default/events/nobody", (404, "NotFound")),
        ],
    )
    def test_unknown_places_and_methods(self, call, method, path, expected):
        assert expected == _status(call(method, path))

    def test_json_is_the_only_language(self, call, core):
        assert (406, "NotAcceptable") == _status(call("GET", core, headers={"Accept": "application/yaml"}))
        unknown = "application/json;as=Table;g=meta.k8s.io;v=v9"
        assert (406, "NotAcceptable") == _status(call("GET", core, headers={"Accept": unknown}))
        answer = call("POST", core, b"kind: Event", {"Content-Type": "application/yaml"})
        assert (415, "UnsupportedMediaType") == _status(answer)

    @pytest.mark.parametrize("accept", ["", "*/*", "application/*", "text/html, */*;q=0.8", "application/json;q=0.5"])
    def test_json_is_what_most_headers_mean(self, call, core, accept):
        assert "EventList" == call("GET", core, headers={"Accept": accept}).json["kind"]

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"3", b'"text"', b"\xff\xfe", b"[" * 5000, b'{"metadata": 3}', b'{"count": "x"}']
    )
    def test_what_is_no_event_is_a_bad_request(self, call, core, body):
        assert (400, "BadRequest") == _status(call("POST", core, body, {"Content-Type": "application/json"}))

    def test_an_object_of_another_group_or_kind_is_a_bad_request(self, call, core, new, namespace):
        assert (
            "does not match the expected API version (v1)"
            in call("POST", core, new_event("a", namespace)).json["message"]
        )
        assert (400, "BadRequest") == _status(call("POST", new, core_event("a", namespace)))
        assert (400, "BadRequest") == _status(call("POST", core, core_event("a", namespace, kind="Pod")))

    def test_a_compressed_or_large_body_is_refused(self, call, core):
        body = gzip.compress(b"{}")
        answer = call("POST", core, body, {"Content-Encoding": "gzip", "Content-Type": "application/json"})
        assert (415, "UnsupportedMediaType") == _status(answer)
        answer = call("POST", core, b" " * (3 * 1024 * 1024 + 1), {"Content-Type": "application/json"})
        assert (413, "RequestEntityTooLarge") == _status(answer)

    def test_a_body_that_grows_too_large_is_refused(self, call, core):
        """It comes in chunks, so nobody said beforehand how large it would be."""
        chunks = (b" " * 65536 for _ in range(64))
        call.connection.request("POST", core, chunks, {"Content-Type": "application/json"}, encode_chunked=True)
        assert 413 == call.connection.getresponse().status

    @pytest.mark.parametrize(
        "headers", [{"Host": "evil.example"}, {"Host": "10.0.0.1:80"}, {"Origin": "http://localhost"}]
    )
    def test_web_pages_are_refused(self, call, core, headers):
        assert (403, "Forbidden") == _status(call("GET", core, headers=headers))

    @pytest.mark.parametrize("host", ["localhost", "localhost:8089", "127.0.0.1:1", "[::1]:1", "127.8.8.8"])
    def test_names_of_this_machine_are_served(self, call, host):
        assert 200 == call("GET", "/version", headers={"Host": host}).code


class TestOneEvent:
    def test_both_groups_show_the_same_object(self, call, create, new, namespace):
        created = create()
        shown = call("GET", f"{new}/web-1.17a").json
        assert created["metadata"] == shown["metadata"]
        assert (created["message"], created["involvedObject"]) == (shown["note"], shown["regarding"])
        assert ("events.k8s.io/v1", 1) == (shown["apiVersion"], shown["deprecatedCount"])
        call("POST", new, new_event("web-2.17b", namespace))
        other = call("GET", f"/api/v1/namespaces/{namespace}/events/web-2.17b").json
        assert ("0/3 nodes are available", "example.com/scheduler") == (other["message"], other["reportingComponent"])

    def test_a_second_create_meets_the_first(self, call, create, core, namespace):
        create()
        answer = call("POST", core, core_event("web-1.17a", namespace))
        assert (409, "AlreadyExists") == _status(answer)
        assert 'events "web-1.17a" already exists' == answer.json["message"]
        assert {"name": "web-1.17a", "kind": "events"} == answer.json["details"]

    def test_the_namespace_comes_from_the_url(self, call, core, namespace):
        body = core_event("x", namespace)
        del body["metadata"]["namespace"]
        assert namespace == call("POST", core, body).json["metadata"]["namespace"]
        assert (400, "BadRequest") == _status(call("POST", core, core_event("y", "other")))

    def test_the_server_makes_a_name_where_there_is_a_beginning_of_one(self, call, core, namespace):
        body = core_event("", namespace, metadata={"generateName": "web-", "name": ""})
        names = {call("POST", core, body).json["metadata"]["name"] for _ in range(20)}
        assert 20 == len(names)
        assert all(name.startswith("web-") and len(name) == 9 for name in names)

    def test_no_name_at_all_is_invalid(self, call, core, namespace):
        answer = call("POST", core, core_event("", namespace))
        assert "metadata.name: Required value: name or generateName is required" in answer.json["message"]

    @pytest.mark.parametrize(
        ("metadata", "field"),
        [
            ({"name": "a/b"}, "metadata.name"),
            ({"name": ".."}, "metadata.name"),
            ({"labels": {"a b": "c"}}, "metadata.labels"),
            ({"labels": {"a": "b c"}}, "metadata.labels"),
            ({"labels": {"a": "b" * 64}}, "metadata.labels"),
            ({"labels": {"x/y/z": "b"}}, "metadata.labels"),
            ({"annotations": {"a b": "c"}}, "metadata.annotations"),
            ({"annotations": {"a": "c" * 262144}}, "metadata.annotations"),
        ],
    )
    def test_wrong_metadata_is_invalid(self, call, core, namespace, metadata, field):
        answer = call("POST", core, core_event("x", namespace, metadata=metadata))
        assert (422, "Invalid") == _status(answer)
        assert {field} == {cause["field"] for cause in answer.json["details"]["causes"]}

    def test_labels_and_annotations_are_kept(self, create):
        metadata = {"labels": {"b": "1", "a": ""}, "annotations": {"example.com/Note": "any text\n"}}
        created = create(metadata=metadata)["metadata"]
        assert (metadata["labels"], metadata["annotations"]) == (created["labels"], created["annotations"])

    def test_a_dry_run_keeps_nothing(self, call, create, core, namespace):
        answer = call("POST", core, core_event("x", namespace), dryRun="All")
        assert (201, "x") == (answer.code, answer.json["metadata"]["name"])
        assert 404 == call("GET", f"{core}/x").code
        create()
        body = {"count": 9}
        assert 9 == call("PATCH", f"{core}/web-1.17a", body, MERGE, dryRun="All").json["count"]
        assert 200 == call("DELETE", f"{core}/web-1.17a", {"dryRun": ["All"]}).code
        assert 1 == call("GET", f"{core}/web-1.17a").json["count"]
        assert (400, "BadRequest") == _status(call("POST", core, core_event("x", namespace), dryRun="Some"))

    def test_unknown_fields_are_warned_of_or_refused(self, call, core, namespace):
        body = core_event("x", namespace, mesage="oops", source={"component": "c", "hots": "h"})
        answer = call("POST", core, body)
        assert 201 == answer.code
        assert answer.headers["warning"].startswith('299 - "unknown field \\"')
        assert "warning" not in call("POST", core, body | {"metadata": {"name": "y"}}, fieldValidation="Ignore").headers
        answer = call("POST", core, body | {"metadata": {"name": "z"}}, fieldValidation="Strict")
        assert (400, "BadRequest") == _status(answer)
        errors = answer.json["message"].partition("strict decoding error: ")[2].split(", ")
        assert ['unknown field "mesage"', 'unknown field "source.hots"'] == sorted(errors)

    def test_pretty_means_lines(self, call, create, core):
        create()
        assert b'\n  "kind": "Event"' in call("GET", f"{core}/web-1.17a", pretty="true").body


class TestUpdate:
    def test_a_put_replaces_the_event_and_keeps_its_identity(self, call, create, core, namespace):
        created = create(metadata={"labels": {"a": "b"}})
        answer = call("PUT", f"{core}/web-1.17a", core_event("web-1.17a", namespace, count=7))
        assert (200, 7) == (answer.code, answer.json["count"])
        metadata = answer.json["metadata"]
        assert created["metadata"]["uid"] == metadata["uid"]
        assert created["metadata"]["creationTimestamp"] == metadata["creationTimestamp"]
        assert int(metadata["resourceVersion"]) > int(created["metadata"]["resourceVersion"])
        assert "labels" not in metadata

    def test_a_put_of_the_same_writes_nothing(self, call, create, core):
        created = create()
        assert created == call("PUT", f"{core}/web-1.17a", created).json

    def test_a_put_of_what_is_not_there_creates_it(self, call, core, namespace):
        answer = call("PUT", f"{core}/fresh", core_event("fresh", namespace))
        assert (201, "fresh") == (answer.code, answer.json["metadata"]["name"])

    def test_an_old_version_meets_a_conflict(self, call, create, core):
        created = create()
        call("PATCH", f"{core}/web-1.17a", {"count": 2}, MERGE)
        answer = call("PUT", f"{core}/web-1.17a", created)
        assert (409, "Conflict") == _status(answer)
        expected = "the object has been modified; please apply your changes to the latest version and try again"
        assert answer.json["message"].endswith(expected)

    def test_another_uid_meets_a_conflict(self, call, create, core):
        create()
        answer = call("PATCH", f"{core}/web-1.17a", {"metadata": {"uid": "other"}}, MERGE)
        assert (409, "Conflict") == _status(answer)

    def test_another_name_or_namespace_is_a_bad_request(self, call, create, core, namespace):
        create()
        assert (400, "BadRequest") == _status(call("PUT", f"{core}/web-1.17a", core_event("b", namespace)))
        for metadata in ({"name": "b"}, {"namespace": "b"}, None):
            answer = call("PATCH", f"{core}/web-1.17a", {"metadata": metadata}, MERGE)
            assert (400, "BadRequest") == _status(answer)

    def test_the_new_group_lets_only_series_and_metadata_change(self, call, new, namespace):
        call("POST", new, new_event("e", namespace))
        series = {"series": {"count": 2, "lastObservedTime": "2026-11-25T03:10:00.000001Z"}}
        answer = call("PATCH", f"{new}/e", series | {"metadata": {"labels": {"a": "b"}}}, STRATEGIC)
        assert (200, 2, {"a": "b"}) == (answer.code, answer.json["series"]["count"], answer.json["metadata"]["labels"])
        changed = {
            "note": ("message", "other"),
            "reason": ("reason", "Other"),
            "action": ("action", "Other"),
            "type": ("type", "Normal"),
            "reportingController": ("reportingController", "other"),
            "reportingInstance": ("reportingInstance", "other"),
            "eventTime": ("eventTime", "2026-11-25T03:00:01.000001Z"),
            "regarding": ("involvedObject", {"name": "other"}),
            "related": ("related", {"name": "other"}),
            "deprecatedCount": ("count", 3),
        }
        for key, (field, value) in changed.items():
            answer = call("PATCH", f"{new}/e", {key: value}, MERGE)
            assert 422 == answer.code, key
            cause = answer.json["details"]["causes"][0]
            assert (field, True) == (cause["field"], cause["message"].endswith("field is immutable"))
        answer = call("PATCH", f"{new}/e", {"series": {"count": 1, "lastObservedTime": None}}, MERGE)
        assert {"series.count", "series.lastObservedTime"} == {c["field"] for c in answer.json["details"]["causes"]}


class TestPatch:
    @pytest.mark.parametrize(
        ("headers", "patch", "expected"),
        [
            (MERGE, {"message": None, "count": 5}, {"count": 5}),
            (MERGE, {"source": {"host": None}}, {"source": {"component": "kubelet"}}),
            (STRATEGIC, {"count": 5, "message": "m"}, {"count": 5, "message": "m"}),
            (STRATEGIC, {"source": {"$patch": "replace", "component": "c"}}, {"source": {"component": "c"}}),
            (STRATEGIC, {"source": {"$patch": "delete"}}, {"source": {}}),
            (STRATEGIC, {"source": {"$retainKeys": ["host"], "host": "h"}}, {"source": {"host": "h"}}),
            (JSON_PATCH, [{"op": "replace", "path": "/count", "value": 5}], {"count": 5}),
            (
                JSON_PATCH,
                [{"op": "test", "path": "/count", "value": 1}, {"op": "remove", "path": "/source/host"}],
                {"source": {"component": "kubelet"}},
            ),
            (
                JSON_PATCH,
                [
                    {"op": "add", "path": "/metadata/annotations", "value": {}},
                    {"op": "add", "path": "/metadata/annotations/a~1b", "value": "c"},
                ],
                {},
            ),
            (JSON_PATCH, [{"op": "copy", "from": "/source/host", "path": "/action"}], {"action": "node-1"}),
            (
                JSON_PATCH,
                [{"op": "move", "from": "/source/host", "path": "/action"}],
                {"action": "node-1", "source": {"component": "kubelet"}},
            ),
        ],
    )
    def test_every_kind_of_patch(self, call, create, core, headers, patch, expected):
        created = create()
        answer = call("PATCH", f"{core}/web-1.17a", patch, headers)
        assert 200 == answer.code, answer.body
        assert expected == {key: answer.json[key] for key in expected}
        if patch == {"message": None, "count": 5}:
            assert "message" not in answer.json
        assert created["metadata"]["uid"] == answer.json["metadata"]["uid"]

    @pytest.mark.parametrize(
        ("headers", "patch", "expected"),
        [
            (MERGE, [], 400),
            (MERGE, {"count": "five"}, 400),
            (MERGE, {"$patch": "delete"}, 400),
            (STRATEGIC, {"source": {"$patch": "explode"}}, 400),
            (STRATEGIC, {"$patch": []}, 400),
            (STRATEGIC, {"source": {"$retainKeys": 3}}, 400),
            (JSON_PATCH, {}, 400),
            (JSON_PATCH, [3], 400),
            (JSON_PATCH, [{"op": "jump", "path": "/count"}], 400),
            (JSON_PATCH, [{"op": "add", "path": "/count"}], 400),
            (JSON_PATCH, [{"op": "add", "path": "count", "value": 1}], 400),
            (JSON_PATCH, [{"op": "replace", "path": "", "value": 1}], 400),
            (JSON_PATCH, [{"op": "remove", "path": "/nothing"}], 422),
            (JSON_PATCH, [{"op": "test", "path": "/count", "value": True}], 422),
            (JSON_PATCH, [{"op": "add", "path": "/count/x", "value": 1}], 422),
            (JSON_PATCH, [{"op": "move", "from": "/source", "path": "/source/x"}], 422),
            (JSON_PATCH, [{"op": "test", "path": "/count", "value": 1}] * 10_001, 413),
            (JSON_PATCH, [{"op": "add", "path": "/x", "value": [1] * 1000}]
             + [{"op": "copy", "from": "/x", "path": "/x/-"}] * 40, 413),
            (MERGE, {"involvedObject": {"namespace": "elsewhere"}}, 422),
        ],
    )  # fmt: skip
    def test_a_patch_that_cannot_be_carried_out_changes_nothing(self, call, create, core, headers, patch, expected):
        created = create()
        answer = call("PATCH", f"{core}/web-1.17a", patch, headers)
        assert expected == _status(answer)[0], answer.body
        assert created == call("GET", f"{core}/web-1.17a").json

    def test_a_deep_patch_is_refused(self, call, create, core):
        create()
        deep = b'{"a":' * 900 + b"1" + b"}" * 900
        for headers in (MERGE, STRATEGIC):
            assert (400, "BadRequest") == _status(call("PATCH", f"{core}/web-1.17a", deep, headers))

    def test_server_side_apply_is_not_supported(self, call, create, core):
        create()
        answer = call("PATCH", f"{core}/web-1.17a", b"{}", {"Content-Type": "application/apply-patch+yaml"})
        assert (415, "UnsupportedMediaType") == _status(answer)
        assert "application/strategic-merge-patch+json" in answer.json["message"]

    def test_a_patch_of_what_is_not_there_says_so(self, call, core):
        answer = call("PATCH", f"{core}/nobody", {"count": 2}, STRATEGIC)
        assert (404, "NotFound") == _status(answer)
        assert 'events "nobody" not found' == answer.json["message"]


class TestDelete:
    def test_a_deletion_is_answered_with_what_was_deleted(self, call, create, core):
        uid = create()["metadata"]["uid"]
        answer = call("DELETE", f"{core}/web-1.17a", {"propagationPolicy": "Background"})
        assert ("Success", {"name": "web-1.17a", "kind": "events", "uid": uid}) == (
            answer.json["status"],
            answer.json["details"],
        )
        assert (404, "NotFound") == _status(call("DELETE", f"{core}/web-1.17a"))

    def test_preconditions_must_hold(self, call, create, core):
        metadata = create()["metadata"]
        for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
            assert (409, "Conflict") == _status(call("DELETE", f"{core}/web-1.17a", {"preconditions": wrong}))
        right = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        assert 200 == call("DELETE", f"{core}/web-1.17a", {"preconditions": right}).code

    def test_a_collection_is_deleted_by_selectors(self, call, create, core):
        for number in range(3):
            create(f"n{number}", type="Normal" if number else "Warning")
        deleted = call("DELETE", core, fieldSelector="type=Normal").json
        assert ["n1", "n2"] == [item["metadata"]["name"] for item in deleted["items"]]
        assert ["n0"] == [item["metadata"]["name"] for item in call("GET", core).json["items"]]
        call("DELETE", core)
        assert [] == call("GET", core).json["items"]

    def test_a_large_collection_is_deleted_in_steps(self, call, create, core):
        """More than one transaction holds."""
        for number in range(501):
            create(f"n{number}")
        assert 501 == len(call("DELETE", core).json["items"])
        assert [] == call("GET", core).json["items"]


class TestLists:
    @pytest.fixture
    def names(self, call, namespace):
        def names(path, **query):
            answer = call("GET", path, **query)
            assert 200 == answer.code, answer.body
            return [item["metadata"]["name"] for item in answer.json["items"]]

        return names

    def test_pages_hold_everything_once_and_one_version(self, call, create, core):
        for number in range(7):
            create(f"n{number}")
        seen, token, versions = [], "", set()
        while True:
            page = call("GET", core, **{"limit": 3} | ({"continue": token} if token else {})).json
            assert len(page["items"]) <= 3
            seen += [item["metadata"]["name"] for item in page["items"]]
            versions.add(page["metadata"]["resourceVersion"])
            create(f"late{len(seen)}")  # what comes after the first page is not part of the list
            token = page["metadata"].get("continue", "")
            if not token:
                break
        assert [f"n{number}" for number in range(7)] == seen
        assert 1 == len(versions)

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"continue": "nonsense"}, (400, "BadRequest")),
            ({"limit": "many"}, (400, "BadRequest")),
            ({"limit": "-1"}, (400, "BadRequest")),
            ({"resourceVersion": "x"}, (400, "BadRequest")),
            ({"resourceVersion": "1", "resourceVersionMatch": "Exact"}, (410, "Expired")),
            ({"resourceVersion": "1", "limit": "5"}, (410, "Expired")),
            ({"resourceVersion": "999999999"}, (504, "Timeout")),
            ({"resourceVersionMatch": "Exact"}, (422, "Invalid")),
            ({"resourceVersion": "1", "resourceVersionMatch": "Roughly"}, (422, "Invalid")),
            ({"resourceVersion": "0", "resourceVersionMatch": "Exact"}, (422, "Invalid")),
            ({"sendInitialEvents": "true"}, (422, "Invalid")),
            ({"watch": "1", "sendInitialEvents": "true"}, (422, "Invalid")),
            ({"watch": "1", "resourceVersionMatch": "NotOlderThan"}, (422, "Invalid")),
            ({"fieldSelector": "status.phase=x"}, (400, "BadRequest")),
            ({"fieldSelector": "type"}, (400, "BadRequest")),
            ({"labelSelector": "a in b"}, (400, "BadRequest")),
            ({"labelSelector": ","}, None),
            ({"fieldSelector": ","}, None),
            ({"resourceVersion": "0"}, None),
            ({"resourceVersion": "1"}, None),
            ({"resourceVersion": "1", "resourceVersionMatch": "NotOlderThan"}, None),
            ({"includeObject": "Everything"}, (400, "BadRequest")),
        ],
    )
    def test_list_options(self, call, create, core, query, expected):
        create()
        answer = call("GET", core, **query)
        assert 200 == answer.code if expected is None else expected == _status(answer)

    def test_the_present_version_can_be_asked_for_exactly(self, call, create, core):
        create()
        version = call("GET", core).json["metadata"]["resourceVersion"]
        assert 200 == call("GET", core, resourceVersion=version, resourceVersionMatch="Exact").code

    def test_all_namespaces(self, create, names, namespace):
        create()
        assert "web-1.17a" in names("/api/v1/events")
        assert ["web-1.17a"] == names("/apis/events.k8s.io/v1/events", fieldSelector=f"metadata.namespace={namespace}")

    @pytest.mark.parametrize(
        ("selector", "expected"),
        [
            ("involvedObject.name=web-1", ["a", "b"]),
            ("involvedObject.name=web-1,type=Warning", ["b"]),
            ("involvedObject.name!=web-1", ["c"]),
            ("involvedObject.kind=Pod,involvedObject.kind!=pod", ["a", "b"]),
            ("involvedObject.kind=pod", []),
            ("involvedObject.uid=u1", ["a", "b"]),
            ("involvedObject.uid=", ["c"]),
            ("involvedObject.apiVersion=apps/v1", ["c"]),
            (r"involvedObject.fieldPath=spec.containers{x\,y\=z}", ["a"]),
            ("type==Warning", ["b"]),
            ("type=Warning,type=Normal", []),
            ("reason=Scaled", ["c"]),
            ("reason!=Pulled,reason!=Scaled", []),
            ("source=kubelet", ["a", "b"]),
            ("source=controller", ["c"]),
            ("reportingComponent=controller", ["c"]),
            ("metadata.name=b", ["b"]),
            ("metadata.namespace=elsewhere", []),
        ],
    )
    def test_field_selectors(self, create, core, names, namespace, selector, expected):
        pod = {"kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": "web-1", "uid": "u1"}
        create("a", involvedObject=pod | {"fieldPath": "spec.containers{x,y=z}"})
        create("b", type="Warning")
        about = {"kind": "Deployment", "apiVersion": "apps/v1", "namespace": namespace, "name": "web"}
        create("c", involvedObject=about, reason="Scaled", source={}, reportingComponent="controller")
        assert expected == names(core, fieldSelector=selector)

    def test_the_new_group_has_names_of_its_own(self, call, new, names, namespace):
        call("POST", new, new_event("e", namespace))
        assert ["e"] == names(new, fieldSelector="regarding.name=web-2,reportingController=example.com/scheduler")
        assert (400, "BadRequest") == _status(call("GET", new, fieldSelector="involvedObject.name=web-2"))
        assert (400, "BadRequest") == _status(call("GET", new, fieldSelector="source=x"))

    @pytest.mark.parametrize(
        ("selector", "expected"),
        [
            ("app=web", ["a"]),
            ("app!=web", ["b", "c"]),
            ("app", ["a", "b"]),
            ("!app", ["c"]),
            ("app in (web, db)", ["a", "b"]),
            ("app notin (web)", ["b", "c"]),
            ("app,tier=x", ["b"]),
            ("tier=", ["a"]),
            ("example.com/x=1", ["c"]),
        ],
    )
    def test_label_selectors(self, create, core, names, selector, expected):
        create("a", metadata={"labels": {"app": "web", "tier": ""}})
        create("b", metadata={"labels": {"app": "db", "tier": "x"}})
        create("c", metadata={"labels": {"example.com/x": "1"}})
        assert expected == names(core, labelSelector=selector)

    def test_a_table_has_the_columns_of_kubectl(self, call, create, core):
        create(message="first\nsecond \x1b[31mred", count=3)
        answer = call("GET", core, headers=TABLE).json
        assert ("Table", "meta.k8s.io/v1") == (answer["kind"], answer["apiVersion"])
        shown = [(column["name"], column["priority"]) for column in answer["columnDefinitions"]]
        expected = [
            ("Last Seen", 0),
            ("Type", 0),
            ("Reason", 0),
            ("Object", 0),
            ("Subobject", 1),
            ("Source", 1),
            ("Message", 0),
            ("First Seen", 1),
            ("Count", 1),
            ("Name", 1),
        ]
        assert expected == shown
        [row] = answer["rows"]
        assert ["Normal", "Pulled", "pod/web-1", "", "kubelet, node-1"] == row["cells"][1:6]
        assert "first\nsecond ^[[31mred" == row["cells"][6]
        assert ["3", "web-1.17a"] == row["cells"][8:]
        assert "PartialObjectMetadata" == row["object"]["kind"]

    def test_a_table_of_the_older_version_with_or_without_objects(self, call, create, core):
        create()
        accept = {"Accept": "application/json;as=Table;v=v1beta1;g=meta.k8s.io"}
        answer = call("GET", core, headers=accept, includeObject="Object").json
        assert ("meta.k8s.io/v1beta1", "Event") == (answer["apiVersion"], answer["rows"][0]["object"]["kind"])
        assert "object" not in call("GET", core, headers=accept, includeObject="None").json["rows"][0]
        assert 1 == len(call("GET", f"{core}/web-1.17a", headers=accept).json["rows"])

    def test_metadata_alone(self, call, create, core):
        created = create()
        accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
        answer = call("GET", core, headers=accept).json
        assert "PartialObjectMetadataList" == answer["kind"]
        assert [created["metadata"]] == [item["metadata"] for item in answer["items"]]
        one = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
        assert created["metadata"] == call("GET", f"{core}/web-1.17a", headers=one).json["metadata"]


def test_a_long_list_comes_in_parts_that_make_one_whole(call, create, core, server):
    """Beyond 1,000 events a list is written piece by piece; in every form the pieces must fit together."""
    for number in range(1003):
        create(f"n{number}")
    assert 1003 == len(call("GET", core).json["items"])
    table = call("GET", core, headers=TABLE).json
    assert (1003, 10) == (len(table["rows"]), len(table["columnDefinitions"]))
    page = call("GET", core, limit=1002).json
    assert 1002 == len(page["items"])
    rest = call("GET", core, **{"limit": 1002, "continue": page["metadata"]["continue"]}).json
    assert ["n1002"] == [item["metadata"]["name"] for item in rest["items"]]
    assert page["metadata"]["resourceVersion"] == rest["metadata"]["resourceVersion"]
