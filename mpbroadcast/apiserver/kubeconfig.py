"""A kubeconfig that leads kubectl, and every other Kubernetes client, to this server."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mpbroadcast.errors import ServeError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["write_kubeconfig"]

_MARK: Final = "# Written by mpbroadcast serve."
_NAME: Final = "mpbroadcast"


def write_kubeconfig(
    path: str | os.PathLike[str], url: str, token: str | None = None, certificate: bytes | None = None
) -> None:
    """Write a kubeconfig, readable by this user only. Blocks for the disk.

    A file that is there already is replaced if an earlier call wrote it, and is else left alone.

    Args:
        path: of the file; its directory must exist.
        url: of the server.
        token: that the server asks for. kubectl sends it over https only.
        certificate: of the server or of who signed for it, PEM; None where the system knows it, or without TLS.

    Raises:
        ServeError: with one line, if it cannot be written, or the file is somebody else's.
    """
    target = Path(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not target.read_bytes().startswith(_MARK.encode()):
                raise ServeError(f"{target} is there already and is no kubeconfig of mpbroadcast; name another file")
        _replace(target, "\n".join([*_lines(url, token, certificate), ""]))
    except OSError as error:
        raise ServeError(f"the kubeconfig {target} cannot be written: {error.strerror or error}") from None


def _lines(url: str, token: str | None, certificate: bytes | None) -> Iterator[str]:
    # A JSON string is a YAML string.
    yield f"{_MARK} It leads to a server for Events only."
    yield "apiVersion: v1"
    yield "kind: Config"
    yield f"current-context: {_NAME}"
    yield "clusters:"
    yield f"- name: {_NAME}"
    yield "  cluster:"
    yield f"    server: {json.dumps(url)}"
    if certificate is not None:
        yield f"    certificate-authority-data: {base64.b64encode(certificate).decode()}"
    yield "users:"
    yield f"- name: {_NAME}"
    yield "  user:" if token else "  user: {}"
    if token:
        yield f"    token: {json.dumps(token)}"
    yield "contexts:"
    yield f"- name: {_NAME}"
    yield "  context:"
    yield f"    cluster: {_NAME}"
    yield f"    user: {_NAME}"
    yield "    namespace: default"


def _replace(target: Path, text: str) -> None:
    """Write beside the target and rename: the token is never in a file that others can read, nor half of it in one."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - the descriptor is private already
            file.write(text)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
