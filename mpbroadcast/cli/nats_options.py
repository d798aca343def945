"""The options of commands that talk to NATS. Runs in: the command's process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from mpbroadcast.errors import SinkError
from mpbroadcast.sinks.jetstream import DEFAULT_STREAM, Access, check_stream

__all__ = [
    "CaOption",
    "CertificateOption",
    "CredsOption",
    "KeyOption",
    "StreamOption",
    "TokenFileOption",
    "access_of",
    "is_nats",
    "stream_of",
]

_VARIABLE: Final = "MPBROADCAST_NATS_TOKEN"
_PANEL: Final = "NATS"

StreamOption = Annotated[
    str | None,
    typer.Option(
        "--stream",
        metavar="NAME",
        help=f"The JetStream stream. Default: {DEFAULT_STREAM}.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
CredsOption = Annotated[
    str | None, typer.Option("--creds", metavar="FILE", help="Credentials (JWT and seed).", rich_help_panel=_PANEL)
]
TokenFileOption = Annotated[
    str | None,
    typer.Option(
        "--nats-token-file",
        metavar="FILE",
        help=f"The token in this file. Or set ${_VARIABLE}.",
        rich_help_panel=_PANEL,
    ),
]
CaOption = Annotated[
    str | None, typer.Option("--tls-ca", metavar="FILE", help="Trust this authority, PEM.", rich_help_panel=_PANEL)
]
CertificateOption = Annotated[
    str | None, typer.Option("--tls-cert", metavar="FILE", help="The client's certificate.", rich_help_panel=_PANEL)
]
KeyOption = Annotated[
    str | None, typer.Option("--tls-key", metavar="FILE", help="Key of --tls-cert.", rich_help_panel=_PANEL)
]


def is_nats(source: str) -> bool:
    """Say whether ``--from`` names NATS servers."""
    return source.partition("://")[0] in {"nats", "tls", "ws", "wss"}


def stream_of(name: str | None) -> str:
    """Return the name of a stream.

    Raises:
        typer.BadParameter: NATS takes no such name.
    """
    try:
        return check_stream(name or DEFAULT_STREAM)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from None


def access_of(
    servers: str,
    *,
    creds: str | None = None,
    token_file: str | None = None,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
) -> Access:
    """Return how to reach the servers; a token comes from a file or the environment, as a command line is public.

    Raises:
        typer.BadParameter: an option makes no sense.
        SinkError: the token file cannot be read.
    """
    if not is_nats(servers):
        raise typer.BadParameter("--from must be URLs such as nats://127.0.0.1:4222, with commas between them")
    token = os.environ.get(_VARIABLE) or None
    if token_file is not None:
        try:
            token = Path(token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it holds no text"
            raise SinkError(f"the token file {token_file} cannot be read: {why}") from None
    try:
        return Access.of(servers, creds=creds, token=token, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key)
    except ValueError as error:
        raise typer.BadParameter(f"--from: {error}") from None
