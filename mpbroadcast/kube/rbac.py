"""The Role or ClusterRole that a controller needs to record events, as YAML. Pure."""

from __future__ import annotations

import json
import re
from typing import Final, Literal

__all__ = ["rbac_yaml"]

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_GROUPS: Final = {"v1": '""', "events.k8s.io/v1": "events.k8s.io"}


def _checked(what: str, name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise ValueError(f"{what} must be a name of lower case letters, digits, '-' and '.', not {name!r}")
    return name


def rbac_yaml(
    *,
    name: str = "mpbroadcast-events",
    namespace: str | None = None,
    service_account: str = "default",
    service_account_namespace: str | None = None,
    apis: tuple[Literal["v1", "events.k8s.io/v1"], ...] = ("v1", "events.k8s.io/v1"),
    read: bool = False,
) -> str:
    """Write the role, and its binding to a service account, ready for ``kubectl apply -f -``.

    Args:
        name: of the role and of the binding.
        namespace: a Role in that namespace; None for a ClusterRole, which events of cluster-scoped objects and of
            many namespaces need.
        service_account: whose.
        service_account_namespace: its namespace; that of the role, else ``default``, when left out.
        apis: which API shapes are written.
        read: also the verbs of ``mpbroadcast get``.

    Raises:
        ValueError: a name is none that Kubernetes takes, or there is no API.
    """
    if not apis or any(api not in _GROUPS for api in apis):
        raise ValueError(f"apis must be some of {', '.join(_GROUPS)}, not {apis!r}")
    kind = "ClusterRole" if namespace is None else "Role"
    where = "" if namespace is None else f"\n  namespace: {json.dumps(_checked('namespace', namespace))}"
    account = _checked("service_account_namespace", service_account_namespace or namespace or "default")
    verbs = ["create", "patch", *(["get", "list", "watch"] if read else [])]
    title = f"  name: {json.dumps(_checked('name', name))}{where}"
    return f"""apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}
metadata:
{title}
rules:
- apiGroups: [{", ".join(_GROUPS[api] for api in apis)}]
  resources: [events]
  verbs: [{", ".join(verbs)}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}Binding
metadata:
{title}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {kind}
  name: {json.dumps(name)}
subjects:
- kind: ServiceAccount
  name: {json.dumps(_checked("service_account", service_account))}
  namespace: {json.dumps(account)}
"""
