"""What answers mean, and the rules that a 403 asks for."""

from __future__ import annotations

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mpbroadcast.errors import SinkError, SinkRejected
from mpbroadcast.kube.rbac import rbac_yaml
from mpbroadcast.kube.status import answer_error, missing_rule

FORBIDDEN = (
    'events is forbidden: User "system:serviceaccount:prod:worker" cannot create resource "events" '
    'in API group "" in the namespace "prod"'
)


@given(code=st.integers(300, 599), body=st.binary(max_size=200), creating=st.booleans(), header=st.text(max_size=20))
def test_any_answer_gives_one_of_the_three_errors_and_one_line(code, body, creating, header):
    error = answer_error(code, {"retry-after": header}, body, creating=creating)
    assert isinstance(error, SinkError)
    assert "\n" not in str(error)
    assert str(error)


KEYS = st.sampled_from(["kind", "message", "reason", "details", "causes", "code", "retryAfterSeconds"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)))
def test_a_status_of_any_shape_is_read(value):
    try:
        body = orjson.dumps({"kind": "Status", "details": value, "message": value, "reason": value})
    except TypeError:
        return
    assert isinstance(answer_error(422, {}, body), SinkRejected)


def test_a_403_says_which_rule_is_missing():
    rule = missing_rule(SinkRejected(FORBIDDEN, code=403))
    assert (
        'service account prod/worker may not create events of API group "" in namespace prod: its role needs '
        'apiGroups [""], resources ["events"], verbs ["create"]; mpbroadcast rbac prints the whole role'
    ) == rule


@pytest.mark.parametrize("message", ["exceeded quota", "because it is being terminated", ""])
def test_another_403_is_not_about_rules(message):
    assert None is missing_rule(SinkRejected(message, code=403))


def test_a_cluster_role_for_both_apis():
    role, binding = yaml.safe_load_all(rbac_yaml(service_account="worker", service_account_namespace="prod"))
    assert "ClusterRole" == role["kind"]
    assert [{"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]}] == role[
        "rules"
    ]
    assert {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "mpbroadcast-events"} == binding[
        "roleRef"
    ]
    assert [{"kind": "ServiceAccount", "name": "worker", "namespace": "prod"}] == binding["subjects"]


def test_a_role_in_a_namespace_with_reading():
    role, binding = yaml.safe_load_all(rbac_yaml(namespace="prod", apis=("v1",), read=True, name="no"))
    assert ("Role", "prod", "no") == (role["kind"], role["metadata"]["namespace"], role["metadata"]["name"])
    assert ["create", "patch", "get", "list", "watch"] == role["rules"][0]["verbs"]
    assert "prod" == binding["subjects"][0]["namespace"]


@pytest.mark.parametrize(
    "options", [{"name": "a b"}, {"namespace": "x\ny"}, {"service_account": '"'}, {"apis": ()}, {"apis": ("v2",)}]
)
def test_names_that_kubernetes_does_not_take_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        rbac_yaml(**options)
