"""Kinds that events are about, whose names this server knows and of which it has no objects. Pure.

``kubectl events --for pod/web-1`` and ``kubectl describe`` ask discovery what a ``pod`` is before they look for events.
These resources are listed without any verb, as there is nothing to be done with them here: ``kubectl api-resources``
leaves them out, and who asks for one gets 404.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["KNOWN", "Known"]


class Known(NamedTuple):
    """One kind: its name in URLs, its short name if it has one, and whether its objects live in a namespace."""

    kind: str
    plural: str
    short: str = ""
    namespaced: bool = True


KNOWN: Final[dict[str, tuple[Known, ...]]] = {
    "v1": (
        Known("ConfigMap", "configmaps", "cm"),
        Known("Endpoints", "endpoints", "ep"),
        Known("Node", "nodes", "no", namespaced=False),
        Known("PersistentVolume", "persistentvolumes", "pv", namespaced=False),
        Known("PersistentVolumeClaim", "persistentvolumeclaims", "pvc"),
        Known("Pod", "pods", "po"),
        Known("ReplicationController", "replicationcontrollers", "rc"),
        Known("ResourceQuota", "resourcequotas", "quota"),
        Known("Secret", "secrets"),
        Known("Service", "services", "svc"),
        Known("ServiceAccount", "serviceaccounts", "sa"),
    ),
    "apps/v1": (
        Known("DaemonSet", "daemonsets", "ds"),
        Known("Deployment", "deployments", "deploy"),
        Known("ReplicaSet", "replicasets", "rs"),
        Known("StatefulSet", "statefulsets", "sts"),
    ),
    "autoscaling/v2": (Known("HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa"),),
    "batch/v1": (Known("CronJob", "cronjobs", "cj"), Known("Job", "jobs")),
    "networking.k8s.io/v1": (Known("Ingress", "ingresses", "ing"), Known("NetworkPolicy", "networkpolicies", "netpol")),
    "policy/v1": (Known("PodDisruptionBudget", "poddisruptionbudgets", "pdb"),),
    "storage.k8s.io/v1": (Known("StorageClass", "storageclasses", "sc", namespaced=False),),
}
"""By group and version; those that Kubernetes itself writes events about."""
