"""What the demo's controller works on: objects, and tasks that are the same for the same seed.

Runs in: the application, before the workers are forked: they inherit the objects. Loads the official client.
"""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Task", "make_objects", "plan"]

NAMESPACE: Final = "default"
_APPLICATIONS: Final = ("web", "cart", "search", "mail")
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"  # what Kubernetes makes its random names of
_KINDS: Final = (("Pod", 6), ("Deployment", 3), ("Backup", 1))
_FAILURES: Final = ((0, 80), (1, 14), (2, 6))  # how often a task fails before it succeeds, in percent
_STEPS: Final = 2  # events of a task that does not fail: the first and the last


class Task(NamedTuple):
    """One thing to reconcile.

    Attributes:
        number: from 1.
        kind: of its object.
        which: object of that kind.
        failures: how often it fails before it succeeds.
        events: how many events it records; fewer than it could, for the last one.
    """

    number: int
    kind: str
    which: int
    failures: int
    events: int


def plan(total: int, seed: int, sizes: dict[str, int]) -> Iterator[Task]:
    """Yield tasks that record ``total`` events in all.

    Args:
        total: how many events.
        seed: the same one gives the same tasks.
        sizes: how many objects there are of each kind.
    """
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    number, left = 0, total
    while left:
        number += 1
        [kind] = chance.choices([name for name, _ in _KINDS], [weight for _, weight in _KINDS])
        [failures] = chance.choices([count for count, _ in _FAILURES], [weight for _, weight in _FAILURES])
        events = min(left, _STEPS + failures)
        yield Task(number, kind, chance.randrange(sizes[kind]), failures, events)
        left -= events


def make_objects(total: int, seed: int) -> dict[str, list[Any]]:
    """Return objects as a controller has them: models of the official client, and a custom resource as a mapping.

    The models are as listed ones are: they do not say their kind.

    Loads the official client: 0.65 s.

    Args:
        total: how many events there will be.
        seed: the same one gives the same names.
    """
    from kubernetes.client import (  # noqa: PLC0415
        V1Deployment,
        V1DeploymentSpec,
        V1LabelSelector,
        V1ObjectMeta,
        V1Pod,
        V1PodTemplateSpec,
    )

    chance = random.Random(seed)  # noqa: S311
    copies = max(3, min(50, total // 40))

    def metadata(name: str, make: Callable[..., Any]) -> Any:
        return make(
            name=name, namespace=NAMESPACE, uid=_uid(chance), resource_version=str(chance.randrange(1000, 9999))
        )

    objects: dict[str, list[Any]] = {"Pod": [], "Deployment": [], "Backup": []}
    for application in _APPLICATIONS:
        labels = {"app": application}
        spec = V1DeploymentSpec(
            replicas=copies,
            selector=V1LabelSelector(match_labels=labels),
            template=V1PodTemplateSpec(metadata=V1ObjectMeta(labels=labels)),
        )
        objects["Deployment"].append(V1Deployment(metadata=metadata(application, V1ObjectMeta), spec=spec))
        replica_set = f"{application}-{_letters(chance, 5)}"
        for _ in range(copies):
            name = f"{replica_set}-{_letters(chance, 5)}"
            objects["Pod"].append(V1Pod(metadata=metadata(name, V1ObjectMeta)))
    for name in ("nightly", "weekly"):
        objects["Backup"].append({
            "apiVersion": "backup.example.com/v1",
            "kind": "Backup",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": _uid(chance), "resourceVersion": "1"},
            "spec": {"schedule": "0 3 * * *"},
        })  # fmt: skip
    return objects


def _letters(chance: random.Random, count: int) -> str:
    return "".join(chance.choices(_LETTERS, k=count))


def _uid(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))
