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

_of_rsa, _made_rsa, _made_ed25519 = (
    key_pairs.public_key_fingerprint,
    key_pairs.random_rsa_key_pair,
    key_pairs.random_ed25519_key_pair,
)


def show_amazons_prints() -> None:
    """Patch moto's EC2, in this process, to show the fingerprints of Amazon's."""
    key_pairs.public_key_fingerprint = _imported
    key_pairs.random_rsa_key_pair = _created_rsa
    key_pairs.random_ed25519_key_pair = _created_ed25519


def _imported(public_key: Any, digest: Callable[..., Any]) -> str:
    if isinstance(public_key, Ed25519PublicKey):
        return _of_ed25519(public_key)
    return str(_of_rsa(public_key, digest))


def _created_rsa() -> Any:
    """EC2 hashes the private half of a key that it made itself."""
    made = _made_rsa()
    private = load_pem_private_key(made["material"], password=None)
    form = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {**made, "fingerprint": hashlib.sha1(form).digest().hex(":")}


def _created_ed25519() -> Any:
    made = _made_ed25519()
    private = load_ssh_private_key(made["material"], password=None)
    return {**made, "fingerprint": _of_ed25519(private.public_key())}


def _of_ed25519(public_key: Any) -> str:
    line = public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64encode(hashlib.sha256(base64.b64decode(line.split()[1])).digest()).decode()
