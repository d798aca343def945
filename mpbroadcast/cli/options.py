"""What several commands have in common: which store, which object, which types. Runs in: the command's process."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from mpbroadcast.event.parts import EventType, ObjectReference
from mpbroadcast.store.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpbroadcast.event.model import Event

__all__ = [
    "DEFAULT_STORE",
    "ContextOption",
    "KubeconfigOption",
    "NamespaceOption",
    "ObjectName",
    "StoreOption",
    "event_types",
    "namespace_of",
    "object_name",
    "selection_of",
    "store_path",
]

DEFAULT_STORE: Final = "events.db"

NamespaceOption = Annotated[str | None, typer.Option("--namespace", "-n", metavar="NS", help="The namespace.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FILE",
        help="The event store. Default: $MPBROADCAST_STORE, else ./events.db.",
        show_default=False,
    ),
]
KubeconfigOption = Annotated[
    str | None,
    typer.Option("--kubeconfig", metavar="FILE", help="Use the cluster of this kubeconfig instead of a store."),
]
ContextOption = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="The context of the kubeconfig.", show_default=False)
]

_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_VERSION: Final = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?")
_SHORT_KINDS: Final = {
    "cj": "cronjob",
    "cm": "configmap",
    "deploy": "deployment",
    "ds": "daemonset",
    "hpa": "horizontalpodautoscaler",
    "ing": "ingress",
    "netpol": "networkpolicy",
    "no": "node",
    "ns": "namespace",
    "pdb": "poddisruptionbudget",
    "po": "pod",
    "pv": "persistentvolume",
    "pvc": "persistentvolumeclaim",
    "rc": "replicationcontroller",
    "rs": "replicaset",
    "sa": "serviceaccount",
    "sc": "storageclass",
    "sts": "statefulset",
    "svc": "service",
}
"""kubectl's short names."""


def store_path(given: str | None) -> str:
    """Return which store is meant: the given one, ``$MPBROADCAST_STORE``, or ``events.db`` here."""
    if given == "":
        raise typer.BadParameter("--store needs the name of a file")
    return given or os.environ.get("MPBROADCAST_STORE") or DEFAULT_STORE


def namespace_of(given: str | None) -> str:
    """Return a namespace that can exist, ``default`` if none was given.

    Raises:
        typer.BadParameter: Kubernetes has no namespace of such a name.
    """
    if given is not None and not _NAMESPACE.fullmatch(given):
        raise typer.BadParameter(f"{given!r} cannot be a namespace: lower case letters, digits and '-', at most 63")
    return given or "default"


def event_types(given: str) -> tuple[str, ...]:
    """Read ``Normal,Warning`` in any letter case (F7); nothing means both.

    Raises:
        typer.BadParameter: something else stands there.
    """
    known = {str(member).lower(): str(member) for member in EventType}
    words = [word.strip() for word in given.split(",")] if given else []
    if any(word.lower() not in known for word in words):
        raise typer.BadParameter(f"valid --types are Normal or Warning, not {given!r}")
    return tuple(dict.fromkeys(known[word.lower()] for word in words))


class ObjectName(NamedTuple):
    """An object as kubectl names one: ``pod/web-1``, ``deployments.apps/web``, ``backup.v1.example.com/nightly``.

    Attributes:
        kind: as it was typed: a kind in any letter case, its plural, or a short name.
        group: behind the first dot: a group, or a version and a group; empty for any.
        name: of the object.
    """

    kind: str
    group: str
    name: str

    def kind_matches(self, kind: str) -> bool:
        """Tell whether a kind is what was typed."""
        typed, lower = self.kind.lower(), kind.lower()
        return typed in {lower, _plural(lower)} or _SHORT_KINDS.get(typed) == lower

    def about(self, reference: ObjectReference) -> bool:
        """Tell whether a reference is to this object."""
        if reference.name != self.name or not self.kind_matches(reference.kind):
            return False
        return self.group_matches(reference.api_version)

    def group_matches(self, api_version: str) -> bool:
        """Tell whether an ``apiVersion`` is of the group that was typed, or any if none was."""
        group, _, version = api_version.rpartition("/")
        return self.group in {"", group, f"{version}.{group}"}

    def guessed_version(self) -> str:
        """Return the ``apiVersion`` of an unknown kind: of the typed group, ``v1`` where no version was typed."""
        if not self.group:
            return "v1"
        version, dot, group = self.group.partition(".")
        return f"{group}/{version}" if dot and _VERSION.fullmatch(version) else f"{self.group}/v1"

    def kind_words(self) -> tuple[str, ...]:
        """Return the kinds, in small letters, that what was typed may mean; the likeliest first."""
        typed = self.kind.lower()
        words = [_SHORT_KINDS.get(typed, typed)]
        for ending, singular in (("ies", "y"), ("es", ""), ("s", "")):
            if typed.endswith(ending):
                words.append(typed.removesuffix(ending) + singular)
        return tuple(words)


def _plural(kind: str) -> str:
    """Guess a resource from a kind as Kubernetes does."""
    if kind == "endpoints":
        return kind
    if kind.endswith("s"):
        return kind + "es"
    return kind[:-1] + "ies" if kind.endswith("y") else kind + "s"


def object_name(what: str, given: str) -> ObjectName:
    """Read ``KIND/NAME``.

    Raises:
        typer.BadParameter: it is something else; ``what`` says which argument that was.
    """
    kind, slash, name = given.partition("/")
    kind, _, group = kind.partition(".")
    if not slash or not kind.isalnum() or not name or "/" in name or name in {".", ".."} or not name.isprintable():
        raise typer.BadParameter(f"{what} must be in KIND/NAME form, such as pod/web-1, not {given!r}")
    return ObjectName(kind, group, name)


def selection_of(*, namespace: str, types: Iterable[str] = (), about: ObjectName | None = None) -> Selection:
    """Return the selection that these options make; an empty namespace means all of them."""
    if about is None:
        return Selection(namespace=namespace, types=tuple(types))

    def keep(event: Event) -> bool:
        return about.about(event.involved_object)

    return Selection(namespace=namespace, types=tuple(types), involved=ObjectReference(name=about.name), keep=keep)
