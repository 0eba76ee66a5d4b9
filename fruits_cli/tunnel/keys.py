"""The user's private keys: from a file that only they can read, or held by the SSH agent."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from base64 import b64decode
from contextlib import suppress
from io import StringIO
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from paramiko import Agent, ECDSAKey, Ed25519Key, Message, PKey, RSAKey, SSHException

from fruits_cli.errors import LoginRefused, UsageError

Keys = list[PKey]
# No key is as long; a device may be endless.
_MOST_BYTES = 2**20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# Attributes or blank lines may stand before it, as OpenSSL writes them.
_PRIVATE = re.compile(
    rb"-----BEGIN ([A-Z]+ )?(?:ENCRYPTED )?PRIVATE KEY-----(.*?)-----END [A-Z ]*PRIVATE KEY-----",
    re.DOTALL,
)
_PUBLIC = re.compile(rb"\s*(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w@.-]+ ([A-Za-z0-9+/]+=*)")
_OPENSSH_MAGIC = b"openssh-key-v1\0"


class HalfKey(UsageError):
    """A public or a locked key, whose private half only the SSH agent can have."""

    def __init__(self, message: str, *, hint: str, public: bytes | None) -> None:
        super().__init__(message, hint=hint)
        self.public = public


def bare_fingerprint(fingerprint: str) -> str:
    """A fingerprint without the marks that EC2 and ssh-keygen put around it."""
    return fingerprint.removeprefix("SHA256:").rstrip("=")


def load_keys(key_file: Path | None, *, first: str = "") -> Keys:
    """The key of `key_file`, or without one those of the SSH agent.

    A public or locked key selects the agent's, as `ssh -i` does. first: a line of authorized_keys,
    whose key is offered first. Raises UsageError where the file is missing, open to others or no
    key, LoginRefused where there is no key at all.
    """
    if key_file is None:
        wanted = _public_blob(first.encode())
        return sorted(_agent_keys(), key=lambda key: key.asbytes() != wanted)
    try:
        return [_load_key(key_file)]
    except HalfKey as half:
        with suppress(LoginRefused):
            if found := [key for key in _agent_keys() if key.asbytes() == half.public]:
                return found
        raise


def load_fingerprints(key_file: Path) -> frozenset[str]:
    """The fingerprints that EC2 can show for this key, without `SHA256:` and `=` around them.

    Of an RSA key that was imported MD5 of its public half, of one that EC2 made SHA-1 of the
    private one; SHA-256 of all others. Source: EC2 user guide, verify the fingerprint of a key
    pair. Raises UsageError as `load_keys` does.
    """
    key = _load_key(key_file)
    prints = {bare_fingerprint(key.fingerprint)}
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
    return _openssh(Ed25519PrivateKey.generate())


def load_public_line(key_file: Path) -> str:
    """The public half of a key, as it stands in authorized_keys. Raises UsageError."""
    key = _load_key(key_file)
    return f"{key.get_name()} {key.get_base64()}"


def _load_key(path: Path) -> PKey:
    content = _content(path)
    block = _PRIVATE.search(content)
    if block is None:
        raise _not_private(path, content)
    load = load_ssh_private_key if block[1] == b"OPENSSH " else load_pem_private_key
    try:
        key = _as_paramiko(load(block[0] + b"\n", password=None))
    except TypeError as error:
        raise HalfKey(
            f"The key file {path} is locked by a passphrase.",
            hint=f"ssh-add {path}; fruits then takes the key from the SSH agent.",
            public=_public_of_locked(path, block),
        ) from error
    except (ValueError, UnsupportedAlgorithm, SSHException) as error:
        raise _not_readable(path) from error
    certificate = path.with_name(f"{path.name}-cert.pub")
    if certificate.exists():
        _add_certificate(key, certificate)
    return key


def _add_certificate(key: PKey, file: Path) -> None:
    try:
        key.load_certificate(file.read_bytes()[:_MOST_BYTES].decode())
    except (OSError, ValueError, SSHException) as error:
        raise UsageError(
            f"The certificate {file} of the key beside it cannot be read.",
            hint="Renew it, or move it away: without one the key itself logs in.",
        ) from error


def _content(path: Path) -> bytes:
    """What the file holds. A private key that others may read is refused, as ssh refuses it."""
    try:
        with path.open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(f"The key file {path} cannot be read: {error.strerror}.") from error
    if mode & _OTHERS and not _PUBLIC.match(content):
        raise UsageError(
            f"The key file {path} is open to other users (mode {stat.S_IMODE(mode):04o}).",
            hint=f"chmod 600 {path}",
        )
    return content


def _not_private(path: Path, content: bytes) -> UsageError:
    if content.startswith(b"PuTTY-User-Key-File-"):
        return UsageError(
            f"The key file {path} is in PuTTY's format.",
            hint=f"puttygen {path} -O private-openssh -o key.pem && chmod 600 key.pem, and then "
            "--key-file key.pem",
        )
    if _PUBLIC.match(content):
        return HalfKey(
            f"The key file {path} is a public key, and the SSH agent does not hold its private "
            "half.",
            hint="Give the private key, usually the same name without .pub; or ssh-add it.",
            public=_public_blob(content),
        )
    return _not_readable(path)


def _not_readable(path: Path) -> UsageError:
    return UsageError(f"The file {path} is not a private key that fruits can read.")


def _as_paramiko(private: object) -> PKey:
    """The key as paramiko's, which reads few forms. Raises ValueError for other kinds."""
    if isinstance(private, RSAPrivateKey):
        return RSAKey.from_private_key(StringIO(_openssh(private)))
    if isinstance(private, Ed25519PrivateKey):
        return Ed25519Key.from_private_key(StringIO(_openssh(private)))
    if isinstance(private, EllipticCurvePrivateKey):
        return ECDSAKey.from_private_key(StringIO(_openssh(private)))
    raise ValueError("This kind of key is not one of SSH.")


def _openssh(private: RSAPrivateKey | Ed25519PrivateKey | EllipticCurvePrivateKey) -> str:
    return private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def _public_of_locked(path: Path, block: re.Match[bytes]) -> bytes | None:
    """The public half, which OpenSSH's form has in clear text, and other forms in a .pub file."""
    if block[1] == b"OPENSSH ":
        message = Message(b64decode(block[2]).removeprefix(_OPENSSH_MAGIC))
        # Source: OpenSSH, PROTOCOL.key: cipher, key derivation, its options, number of keys.
        for _ in range(3):
            message.get_binary()
        message.get_int()
        return message.get_binary()
    with suppress(OSError):
        return _public_blob(path.with_name(f"{path.name}.pub").read_bytes())
    return None


def _public_blob(line: bytes) -> bytes | None:
    match = _PUBLIC.match(line)
    # A line that was cut is nobody's key.
    with suppress(ValueError):
        return b64decode(match[1]) if match else None
    return None


def _agent_keys() -> Keys:
    try:
        agent = Agent()
    except (SSHException, OSError) as error:
        raise LoginRefused(f"The SSH agent does not answer: {error}.") from error
    # The keys sign through this connection, so it stays open.
    keys = agent.get_keys()
    if not keys:
        agent.close()
        raise LoginRefused(
            "There is no key to log in with: no key file is given and the SSH agent has none.",
            hint="Give --key-file KEY.pem, or ssh-add KEY.pem.",
        )
    return list(keys)
