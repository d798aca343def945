"""``mpbroadcast record``: one event from a shell script, into a store or a cluster.

Runs in: the command's process; no broadcaster is needed. An event that is there already is counted up, as client-go's
correlator does within one process: same object, source, type, reason and message.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mpbroadcast.cli.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    StoreOption,
    event_types,
    namespace_of,
    object_name,
    store_path,
)

if TYPE_CHECKING:
    from mpbroadcast.cli.options import ObjectName
    from mpbroadcast.event.model import Event
    from mpbroadcast.event.parts import ObjectReference

__all__ = ["record"]

_CLUSTER_WIDE: Final = frozenset({
    "APIService", "CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding", "CSIDriver", "CSINode",
    "CustomResourceDefinition", "IngressClass", "Namespace", "Node", "PersistentVolume", "PriorityClass",
    "RuntimeClass", "StorageClass", "VolumeAttachment",
})  # fmt: skip
"""Kinds that live in no namespace; events about them go to ``default`` (R6)."""

_REASON_LIMIT: Final = 128  # characters, the server's limit (spec 0.3)


def record(
    about: Annotated[str, typer.Argument(metavar="KIND/NAME", help="What it happened to: pod/web-1, Deployment/web.")],
    reason: Annotated[str, typer.Option("--reason", "-r", metavar="REASON", help="Why, one CamelCase word.")],
    message: Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="What happened, for people.")],
    type_: Annotated[str, typer.Option("--type", "-t", metavar="TYPE", help="Normal or Warning.")] = "Normal",
    namespace: NamespaceOption = None,
    api_version: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Of the object. Default: that of a built-in kind, else v1.", show_default=False
        ),
    ] = None,
    uid: Annotated[str, typer.Option(metavar="UID", help="Of the object.", show_default=False)] = "",
    action: Annotated[str, typer.Option(metavar="ACTION", help="What was done about it.", show_default=False)] = "",
    component: Annotated[str, typer.Option(metavar="NAME", help="Who reports.")] = "mpbroadcast",
    annotation: Annotated[
        list[str] | None,
        typer.Option("--annotation", metavar="KEY=VALUE", help="Of the event; may come several times."),
    ] = None,
    store: StoreOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Record one event; one that is there already is counted up."""
    from mpbroadcast.event.model import Event  # noqa: PLC0415 - only when it runs
    from mpbroadcast.event.names import event_name  # noqa: PLC0415
    from mpbroadcast.event.parts import EventSource  # noqa: PLC0415

    types = event_types(type_)
    if len(types) != 1:
        raise typer.BadParameter(f"--type must be Normal or Warning, not {type_!r}")
    if not 1 <= len(reason) <= _REASON_LIMIT or not reason.isprintable():
        raise typer.BadParameter(f"--reason must be a word of 1 to {_REASON_LIMIT} characters")
    reference = reference_to(object_name("KIND/NAME", about), namespace_of(namespace), api_version)._replace(uid=uid)
    now = time.time_ns()
    event = Event(
        name=event_name(reference.name, now),
        namespace=reference.namespace or "default",
        annotations=_annotations(annotation or []),
        involved_object=reference,
        type=types[0],
        reason=reason,
        action=action,
        message=message,
        source=EventSource(component),
        reporting_controller=component,
        count=1,
        first_timestamp=now,
        last_timestamp=now,
    )
    if kubeconfig is None and context is None:
        name, counted = _into_store(event, store_path(store))
    elif store is not None:
        raise typer.BadParameter("--store and --kubeconfig: an event goes to one of them")
    else:
        name, counted = _into_cluster(event, kubeconfig, context)
    print(f"event/{name} {'counted' if counted else 'created'}")


def reference_to(named: ObjectName, namespace: str, api_version: str | None) -> ObjectReference:
    """Return the reference to an object; kinds of Kubernetes are recognised in any letter case, also by short names."""
    from mpbroadcast.event.parts import ObjectReference  # noqa: PLC0415
    from mpbroadcast.event.scheme import DEFAULT_SCHEME  # noqa: PLC0415

    kind, version = named.kind, named.guessed_version()
    metas = [meta for word in named.kind_words() for meta in DEFAULT_SCHEME.find(word)]
    # Of two kinds of one name the one that is not named by its group: the core's, then that of the oldest group.
    metas.sort(key=lambda meta: "/" in meta.api_version)
    for meta in metas:
        if named.group_matches(meta.api_version):
            kind, version = meta.kind, meta.api_version
            break
    return ObjectReference(
        kind=kind,
        namespace="" if kind in _CLUSTER_WIDE else namespace,
        name=named.name,
        api_version=api_version or version,
    )


def _annotations(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for key, equals, value in pairs:
        if not key.strip() or not equals:
            raise typer.BadParameter(f"--annotation must be KEY=VALUE, not {key + equals + value!r}")
    return {key: value for key, _, value in pairs}


def _same(one: Event, other: Event) -> bool:
    """Tell whether two events are one that was repeated; what client-go's correlator compares (spec C1)."""
    return (one.source, one.involved_object, one.type, one.reason, one.message, one.reporting_controller) == (
        other.source, other.involved_object, other.type, other.reason, other.message, other.reporting_controller,
    )  # fmt: skip


def _patch(found: Event, event: Event) -> bytes:
    import orjson  # noqa: PLC0415

    from mpbroadcast.event.times import encode_time  # noqa: PLC0415

    changes = {"count": max(1, found.count) + 1, "lastTimestamp": encode_time(event.last_timestamp)}
    metadata = {"metadata": {"annotations": dict(event.annotations)}} if event.annotations else {}
    return orjson.dumps(changes | metadata)


def _into_store(event: Event, path: str) -> tuple[str, bool]:
    from mpbroadcast.store.selection import Selection  # noqa: PLC0415
    from mpbroadcast.store.sqlite import Store  # noqa: PLC0415

    with closing(Store.open(path)) as store:
        store.begin()  # looked up and written in one transaction: two scripts at once do not count past each other
        wanted = Selection(namespace=event.namespace, involved=event.involved_object, types=(event.type,))
        same = [found for found in store.list(wanted).events if _same(found, event)]
        if same:
            written = store.patch(same[-1].namespace, same[-1].name, _patch(same[-1], event))
        else:
            written = store.create(event)
        store.commit()
    return written.name, bool(same)


def _into_cluster(event: Event, kubeconfig: str | None, context: str | None) -> tuple[str, bool]:
    from mpbroadcast.cli.cluster import Cluster  # noqa: PLC0415

    with closing(Cluster(kubeconfig, context)) as cluster:
        fields = f"involvedObject.name={event.involved_object.name},type={event.type},reason={event.reason}"
        pages = cluster.each(cluster.client.pages(event.namespace, field_selector=fields))
        same = [found for page in pages for found in page.events if _same(found, event)]
        if same:
            return cluster.run(cluster.client.patch(same[-1], _patch(same[-1], event))).name, True
        return cluster.run(cluster.client.create(event)).name, False
