"""The user's private keys: a file that only they can read, or the SSH agent's."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from paramiko import Agent, PKey, RSAKey, SSHException
from paramiko.pkey import UnknownKeyType

from fruits_cli.errors import LoginRefused, UsageError


def bare_print(fingerprint: str) -> str:
    """A fingerprint without what EC2 and ssh-keygen put around it in different ways."""
    return fingerprint.removeprefix("SHA256:").rstrip("=")


_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def load_keys(key_file: Path | None) -> Sequence[PKey]:
    """The key of `key_file`, or without one those of the SSH agent.

    Raises UsageError where the file is missing, open to others, locked or no key.
    """
    return [_load_key(key_file)] if key_file is not None else _agent_keys()


def load_prints(key_file: Path) -> frozenset[str]:
    """The fingerprints that EC2 can show for this key, without `SHA256:` and `=` around them.

    Of an RSA key that was imported MD5 of its public half, of one that EC2 made SHA-1 of the
    private one; SHA-256 of all others. Source: EC2 user guide, verify the fingerprint of a key
    pair. Raises UsageError as `load_keys` does.
    """
    key = _load_key(key_file)
    prints = {key.fingerprint.removeprefix("SHA256:").rstrip("=")}
    if isinstance(key, RSAKey) and isinstance(key.key, RSAPrivateKey):
        public = key.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        private = key.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        prints |= {
            hashlib.md5(public).digest().hex(":"),
            hashlib.sha1(private).digest().hex(":"),
        }
    return frozenset(prints)


def new_private_key() -> str:
    """A new Ed25519 key in OpenSSH's form, without a passphrase."""
    made = Ed25519PrivateKey.generate()
    return made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def load_public_line(key_file: Path) -> str:
    """The public half of a key, as it stands in authorized_keys. Raises UsageError."""
    key = _load_key(key_file)
    return f"{key.get_name()} {key.get_base64()}"


def _load_key(path: Path) -> PKey:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"The key file {path} cannot be read: {error.strerror}.") from error
    if mode & _OTHERS:
        raise UsageError(
            f"The key file {path} is open to other users (mode {stat.S_IMODE(mode):04o}).",
            hint=f"chmod 600 {path}",
        )
    try:
        return PKey.from_path(path)
    except TypeError as error:
        raise UsageError(
            f"The key file {path} is locked by a passphrase.",
            hint=f"ssh-add {path}, then leave out --key-file: the agent's keys are used.",
        ) from error
    except (OSError, ValueError, SSHException, UnknownKeyType) as error:
        raise UsageError(f"The file {path} is not a private key that fruits can read.") from error


def _agent_keys() -> Sequence[PKey]:
    try:
        agent = Agent()
    except (SSHException, OSError) as error:
        raise LoginRefused(f"The SSH agent does not answer: {error}.") from error
    # The keys sign through this connection, so it stays open with them.
    keys = agent.get_keys()
    if not keys:
        agent.close()
        raise LoginRefused(
            "There is no key to log in with: no key file is given and the SSH agent has none.",
            hint="Give --key-file KEY.pem, or ssh-add KEY.pem.",
        )
    return keys
