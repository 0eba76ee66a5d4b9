"""A key pair for SSH: made on this machine, so that the private half never travels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from fruits_cli.errors import MachineError, UsageError


def key_path(name: str, environ: Mapping[str, str]) -> Path:
    """Where the private key of that name lies: ~/.ssh/NAME.pem."""
    return Path(environ.get("HOME", "~")).expanduser() / ".ssh" / f"{name}.pem"


def write_key(file: Path) -> None:
    """A new Ed25519 key in OpenSSH's format, mode 0600, never over one that is there.

    Raises MachineError where the file exists or cannot be written.
    """
    private = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(private)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise MachineError(f"{file} cannot be written: {error.strerror or error}.") from error


def load_public(file: Path) -> bytes:
    """The public half as `ssh-ed25519 AAAA...`. Raises UsageError where the file is no such key."""
    try:
        key = load_ssh_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"The key file {file} cannot be read: {error}.",
            hint="Move the file away: a new key is made then.",
        ) from error
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
