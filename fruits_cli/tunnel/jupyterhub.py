"""JupyterHub's password and the hash of its certificate's key."""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from fruits_cli.errors import TunnelError
from fruits_cli.files import write_private

USER = "jovyan"
# The user lives in the container, not on the node. Source: EMR Release Guide, JupyterHub,
# PAM authentication. The password comes on stdin: arguments are for all users to see.
_SET_PASSWORD = "sudo docker exec -i jupyterhub chpasswd"
_PASSWORD_BYTES = 18
_TIMEOUT_S = 15.0


class RunOnHost(Protocol):
    """Runs a command on the primary node; raises TunnelError when it fails."""

    def __call__(self, command: str, *, stdin: bytes = b"") -> bytes: ...


def password_file(state_dir: Path, cluster_id: str) -> Path:
    """Where the password of a cluster's JupyterHub is kept, for this user only."""
    return state_dir / "clusters" / cluster_id / "jupyterhub-password"


def load_password(file: Path) -> str:
    """The password that the first tunnel set. Raises TunnelError while none was."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise TunnelError(
            "No tunnel of this machine has set JupyterHub's password yet.",
            hint="Open one with fruits tunnel.",
        ) from error


def ensure_password(
    run: RunOnHost, file: Path, *, new: Callable[[int], str] = secrets.token_urlsafe
) -> str:
    """The password of JupyterHub's user, set on the cluster if this machine never did."""
    if file.exists():
        return load_password(file)
    password = new(_PASSWORD_BYTES)
    run(_SET_PASSWORD, stdin=f"{USER}:{password}\n".encode())
    write_private(file, f"{password}\n")
    return password


def certificate_key_hash(port: int) -> str:
    """Base64 of the SHA-256 of the certificate's key, as Chromium wants it, from a local forward.

    The certificate signs itself; what vouches for it is the SSH connection it came through.
    """
    try:
        pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=_TIMEOUT_S)
    except OSError as error:
        raise TunnelError(
            "JupyterHub does not answer on the cluster.",
            hint="It starts some minutes after the cluster; is the application installed?",
        ) from error
    key = load_pem_x509_certificate(pem.encode()).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()
