"""``mpbroadcast relay``: from JetStream into a cluster, a store or a log. Runs in: the command's process."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING, Annotated

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
from mpbroadcast.cli.options import ContextOption, KubeconfigOption  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from mpbroadcast.relay.member import Member
    from mpbroadcast.sinks.base import EventSink

__all__ = ["relay"]

_TARGETS = "kubernetes, sqlite:FILE, jsonl:FILE or stdout"


def relay(
    source: Annotated[
        str, typer.Option("--from", metavar="URL,...", help="NATS servers, such as nats://127.0.0.1:4222.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="SINK", help=f"{_TARGETS}.")],
    stream: StreamOption = None,
    group: Annotated[
        str, typer.Option("--group", metavar="NAME", help="Members of one group share the events.")
    ] = "relay",
    partitions: Annotated[
        int,
        typer.Option("--partitions", min=1, max=256, metavar="N", help="Of a new group: the most members that share."),
    ] = 16,
    ttl: Annotated[
        float,
        typer.Option("--ttl", min=3, metavar="SECONDS", help="Take the work of a member that was killed after this."),
    ] = 15.0,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    creds: CredsOption = None,
    nats_token_file: TokenFileOption = None,
    tls_ca: CaOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
) -> None:
    """Bring the events of a JetStream stream into a cluster, a store or a log; start as many as you like."""
    access = access_of(
        source, creds=creds, token_file=nats_token_file, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key
    )
    sink = _sink(to, kubeconfig, context)
    access.check("the relay")
    check = getattr(sink, "check", None)
    if check is not None:
        check()
    logging.basicConfig(level=logging.WARNING, format="mpbroadcast: %(message)s", stream=sys.stderr)
    from mpbroadcast.relay.member import Member  # noqa: PLC0415 - only when it runs

    try:
        member = Member(access, sink, stream=stream_of(stream), group=group, partitions=partitions, ttl=ttl)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from None
    asyncio.run(_run(member))
    written = member.counts["created"] + member.counts["patched"]
    print(f"mpbroadcast: relayed {counted(written, 'event')}, refused {member.counts['rejected']}", file=sys.stderr)


def _sink(to: str, kubeconfig: str | None, context: str | None) -> EventSink:
    """Make the sink that ``--to`` names."""
    kind, _, path = to.partition(":")
    if kind == "kubernetes" and not path:
        from mpbroadcast.sinks.kubernetes import KubernetesSink  # noqa: PLC0415 - one of them

        return KubernetesSink(kubeconfig, context=context)
    if kubeconfig is not None or context is not None:
        raise typer.BadParameter("--kubeconfig and --context go with '--to kubernetes'")
    if kind == "sqlite" and path:
        from mpbroadcast.sinks.sqlite import SQLiteSink  # noqa: PLC0415

        return SQLiteSink(path)
    if kind == "jsonl" and path:
        from mpbroadcast.sinks.jsonlines import JSONLinesSink  # noqa: PLC0415

        return JSONLinesSink(path)
    if to == "stdout":
        from mpbroadcast.sinks.stdout import StdoutSink  # noqa: PLC0415

        return StdoutSink()
    raise typer.BadParameter(f"--to must be {_TARGETS}, not {to!r}")


async def _run(member: Member) -> None:
    """Relay until Ctrl-C or SIGTERM, and then settle what is under way."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, member.stop)
    await member.run()
