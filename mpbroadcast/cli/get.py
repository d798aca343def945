"""``mpbroadcast get``: events of a store, a cluster or a stream, as ``kubectl get events`` shows them (spec F6, F7)."""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpbroadcast.base.text import counted
from mpbroadcast.cli.nats_options import (
    CaOption,
    CertificateOption,
    CredsOption,
    KeyOption,
    StreamOption,
    TokenFileOption,
    access_of,
    stream_of,
)
from mpbroadcast.cli.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    StoreOption,
    event_types,
    namespace_of,
    object_name,
    selection_of,
    store_path,
)
from mpbroadcast.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpbroadcast.cli.printing import Printer
    from mpbroadcast.cli.source import EventSource
    from mpbroadcast.event.model import Event
    from mpbroadcast.store.selection import Selection

__all__ = ["get"]


def get(
    namespace: NamespaceOption = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    about: Annotated[
        str | None, typer.Option("--for", metavar="KIND/NAME", help="Only events about this object, such as pod/web-1.")
    ] = None,
    types: Annotated[
        str, typer.Option("--types", metavar="TYPES", help="Only these: Normal, Warning.", show_default=False)
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with what comes, until Ctrl-C.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="wide|json|yaml|name", help="Instead of the usual columns.")
    ] = None,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Without the headings.")] = False,
    sort_by: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Such as .lastTimestamp or .metadata.name; else as recorded.")
    ] = None,
    chunk_size: Annotated[int, typer.Option(min=0, metavar="N", help="Read so many at a time; 0: all at once.")] = 500,
    store: StoreOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    servers: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="URL,...", help="A JetStream stream at nats://host:4222 instead.", rich_help_panel="NATS"
        ),
    ] = None,
    stream: StreamOption = None,
    creds: CredsOption = None,
    nats_token_file: TokenFileOption = None,
    tls_ca: CaOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
) -> None:
    """Print events in the columns of 'kubectl get events'."""
    from mpbroadcast.cli.printing import make_printer  # noqa: PLC0415 - only when it runs

    if sort_by is not None and watch:
        raise typer.BadParameter("--sort-by does not go with --watch: events come as they are recorded")
    where = "" if all_namespaces else _namespace(namespace, kubeconfig, context)
    wanted = selection_of(
        namespace=where, types=event_types(types), about=None if about is None else object_name("--for", about)
    )
    printer = make_printer(output, namespaces=all_namespaces, headings=not no_headers)
    nats = {"creds": creds, "token_file": nats_token_file, "tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key}
    if servers is None and (stream is not None or any(nats.values())):
        raise typer.BadParameter("--stream and the other options of NATS go with --from nats://...")
    if sum((servers is not None, store is not None, kubeconfig is not None or context is not None)) > 1:
        raise typer.BadParameter("--from, --store and --kubeconfig: events come from one of them")
    if servers is not None:
        found = _nats_source(wanted, servers, stream, nats)
    else:
        found = _source(wanted, store, kubeconfig, context)
    with closing(found) as source:
        events = [event for page in source.pages(chunk_size) for event in page]
        if sort_by is not None:
            events = sorted_by(events, sort_by)
        if watch:
            printer.print_more(events)
            for more in source.follow():
                printer.print_more(more)
        _print_all(printer, events, output, where)
        if source.unreadable:
            skipped = counted(source.unreadable, "damaged event was", "damaged events were")
            print(f"mpbroadcast: {skipped} skipped", file=sys.stderr)


def _print_all(printer: Printer, events: Sequence[Event], output: str | None, where: str) -> None:
    if events or output in {"json", "yaml"}:
        printer.print_list(events)
    else:
        print(f"No events found in {where} namespace." if where else "No events found.", file=sys.stderr)


def _namespace(given: str | None, kubeconfig: str | None, context: str | None) -> str:
    """Return the one that is asked for, else that of the kubeconfig, else ``default``."""
    if given is None and (kubeconfig is not None or context is not None):
        from mpbroadcast.cli.cluster import context_namespace  # noqa: PLC0415 - it loads the official client

        given = context_namespace(kubeconfig, context)
    return namespace_of(given)


def _source(selection: Selection, store: str | None, kubeconfig: str | None, context: str | None) -> EventSource:
    if kubeconfig is None and context is None:
        from mpbroadcast.cli.source import StoreSource  # noqa: PLC0415 - either the store or the cluster

        path = store_path(store)
        if store is None and not Path(path).exists():
            raise StoreError(f"there is no event store at {path}; --store FILE or $MPBROADCAST_STORE name another one")
        return StoreSource(path, selection)
    from mpbroadcast.cli.cluster import ClusterSource  # noqa: PLC0415

    return ClusterSource(selection, kubeconfig=kubeconfig, context=context)


def _nats_source(selection: Selection, servers: str, stream: str | None, options: dict[str, str | None]) -> EventSource:
    from mpbroadcast.cli.nats_source import NATSSource  # noqa: PLC0415 - only who asks for it

    access, name = access_of(servers, **options), stream_of(stream)
    # While it waits for servers that went away, it says so once a minute.
    logging.basicConfig(level=logging.WARNING, format="mpbroadcast: %(message)s", stream=sys.stderr)
    return NATSSource(selection, access, name)


def sorted_by(events: list[Event], field: str) -> list[Event]:
    """Sort by a field of the JSON shape; events without it come first, and equals stay in their order.

    Args:
        events: to be sorted.
        field: ``.lastTimestamp``, ``{.metadata.name}``, ``count``...

    Raises:
        typer.BadParameter: no event has that field.
    """
    path = field.strip("{}").lstrip(".").split(".")
    values = [_value_at(event.to_core_v1(), path) for event in events]
    if events and all(value is None for value in values):
        raise typer.BadParameter(f"--sort-by: no event has a field {field!r} with a text or a number in it")
    order = sorted(range(len(events)), key=lambda index: (values[index] is not None, _comparable(values[index])))
    return [events[index] for index in order]


def _comparable(value: Any) -> tuple[float, str]:
    return (value, "") if isinstance(value, (int, float)) else (0, value or "")


def _value_at(body: Any, path: list[str]) -> Any:
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body if isinstance(body, (str, int, float)) else None
