"""``mpbroadcast rbac``: the role that a controller needs to record events. Runs in: its own process."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["rbac"]


def rbac(
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NS",
            help="A Role of this namespace. Default: a ClusterRole.",
            show_default=False,
        ),
    ] = None,
    service_account: Annotated[str, typer.Option(metavar="NAME", help="Who may record.")] = "default",
    service_account_namespace: Annotated[
        str | None,
        typer.Option(metavar="NS", help="Where that account lives. Default: that of the role.", show_default=False),
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the role and its binding.")] = "mpbroadcast-events",
    read: Annotated[bool, typer.Option("--read", help="Also what 'mpbroadcast get' needs.")] = False,
) -> None:
    """Print the role that a controller needs to record events, for 'kubectl apply -f -'."""
    from mpbroadcast.kube.rbac import rbac_yaml  # noqa: PLC0415 - only when it runs

    try:
        text = rbac_yaml(
            name=name,
            namespace=namespace,
            service_account=service_account,
            service_account_namespace=service_account_namespace,
            read=read,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    print(text, end="")
