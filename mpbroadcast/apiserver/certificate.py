"""A self-signed certificate, made with the ``openssl`` program: kubectl sends a token over https only."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mpbroadcast.errors import ServeError

if TYPE_CHECKING:
    import os

__all__ = ["make_certificate"]

_DAYS: Final = 825  # the most that some TLS libraries accept
_SECONDS: Final = 30.0  # openssl takes milliseconds


def _alternative_names(host: str) -> str:
    names = {"DNS:localhost", "IP:127.0.0.1", "IP:::1"}
    try:
        names.add(f"IP:{ipaddress.ip_address(host)}")
    except ValueError:
        names.add(f"DNS:{host}")
    return ",".join(sorted(names))


def make_certificate(directory: str | os.PathLike[str], host: str) -> tuple[str, str]:
    """Make a key and a certificate for a host, ``localhost`` and the loopback addresses. Blocks for some milliseconds.

    Args:
        directory: where the two files go; nobody else should be able to look into it.
        host: name or address that clients use.

    Returns:
        The paths of certificate and key.

    Raises:
        ServeError: with one line, if there is no openssl or it fails.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ServeError("openssl makes the certificate and is not installed; give a certificate and a key")
    certificate, key = Path(directory) / "tls.crt", Path(directory) / "tls.key"
    command = [openssl, "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", str(_DAYS), "-subj", "/CN=mpbroadcast"]
    command += ["-addext", f"subjectAltName={_alternative_names(host)}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False, umask=0o077)
    except (OSError, subprocess.SubprocessError) as error:
        raise ServeError(f"openssl could not make a certificate: {error}") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ServeError(f"openssl could not make a certificate: {why}")
    return str(certificate), str(key)
