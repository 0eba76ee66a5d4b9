"""Fingerprints of key pairs as EC2 shows them: moto hashes other bytes of some keys.

Source: EC2 user guide, verify the fingerprint of a key pair.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from moto.ec2.models import key_pairs

_motos_fingerprint, _motos_rsa, _motos_ed25519 = (
    key_pairs.public_key_fingerprint,
    key_pairs.random_rsa_key_pair,
    key_pairs.random_ed25519_key_pair,
)


def patch_fingerprints() -> None:
    """Patch moto's EC2, in this process, to show the fingerprints of Amazon's."""
    key_pairs.public_key_fingerprint = _fingerprint
    key_pairs.random_rsa_key_pair = _create_rsa
    key_pairs.random_ed25519_key_pair = _create_ed25519


def _fingerprint(public_key: Any, digest: Callable[..., Any]) -> str:
    if isinstance(public_key, Ed25519PublicKey):
        return _ed25519_fingerprint(public_key)
    return str(_motos_fingerprint(public_key, digest))


def _create_rsa() -> Any:
    """EC2 hashes the private half of a key that it made itself."""
    made = _motos_rsa()
    private = load_pem_private_key(made["material"], password=None)
    form = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {**made, "fingerprint": hashlib.sha1(form).digest().hex(":")}


def _create_ed25519() -> Any:
    made = _motos_ed25519()
    private = load_ssh_private_key(made["material"], password=None)
    return {**made, "fingerprint": _ed25519_fingerprint(private.public_key())}


def _ed25519_fingerprint(public_key: Any) -> str:
    line = public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64encode(hashlib.sha256(base64.b64decode(line.split()[1])).digest()).decode()
