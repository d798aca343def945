"""``mpbroadcast serve``: a Kubernetes API for the events of a store. Runs in: the command's process, until Ctrl-C."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from mpbroadcast.cli.options import StoreOption, store_path
from mpbroadcast.errors import ServeError

__all__ = ["serve"]

_ENVIRONMENT: Final = "MPBROADCAST_TOKEN"
_DEFAULT_PORT: Final = 8089


def serve(
    store: StoreOption = None,
    host: Annotated[
        str,
        typer.Option("--host", metavar="HOST", help="Where to listen. Off this machine's loopback, a token is needed."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", help="Where to listen; 0 for any free port.")
    ] = _DEFAULT_PORT,
    ttl: Annotated[
        float,
        typer.Option("--ttl", metavar="SECONDS", help="Delete events this long after their last change; 0 for never."),
    ] = 3600.0,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help=f"Answer only to who sends the token in this file. Or set ${_ENVIRONMENT}.",
            show_default=False,
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve https. kubectl sends a token over https only.", show_default=False)
    ] = False,
    tls_cert: Annotated[
        str | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate for --tls, PEM. Default: self-signed.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", metavar="FILE", help="Key of --tls-cert.")] = None,
    write_kubeconfig: Annotated[
        str | None,
        typer.Option("--write-kubeconfig", metavar="FILE", help="Write a kubeconfig that leads kubectl here."),
    ] = None,
) -> None:
    """Serve the events of a store as a Kubernetes API, for kubectl and every client."""
    # Starlette and uvicorn are an extra, and 0.2 s that no other command should wait.
    from mpbroadcast.apiserver.server import ServeOptions, run  # noqa: PLC0415

    run(
        ServeOptions(
            store=store_path(store),
            host=host,
            port=port,
            ttl=ttl,
            token=_token(token_file),
            tls=tls,
            certificate=tls_cert,
            key=tls_key,
            kubeconfig=write_kubeconfig,
        ),
        out=lambda line: print(line, flush=True),
    )


def _token(path: str | None) -> str | None:
    """Return the token of a file, else of the environment: on a command line everybody could read it with ``ps``."""
    if path is None:
        return os.environ.get(_ENVIRONMENT) or None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ServeError(f"the token file {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ServeError(f"the token file {path} holds no text") from None
    if not token:
        raise ServeError(f"the token file {path} is empty")
    return token
