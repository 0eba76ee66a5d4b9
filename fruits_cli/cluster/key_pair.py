"""The EC2 key pair of `fruits init --key`: made here, so that the private half never travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.config import Config
from fruits_cli.errors import MachineError, UsageError
from fruits_cli.files import home_folder, write_new
from fruits_cli.tunnel.keys import bare_fingerprint

_PRIVATE = 0o600


@dataclass(frozen=True)
class KeyPair:
    """A key pair: its public half in EC2, its private half on this machine."""

    name: str
    file: Path
    region: str
    is_new: bool

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The keys of fruits.toml that name it."""
        return {"cluster": {"key_name": self.name}, "tunnel": {"key_file": str(self.file)}}

    def summary(self) -> str:
        """The key pair in one sentence."""
        if self.is_new:
            return (
                f"Key pair {self.name} was imported into {self.region}; its private key is "
                f"{self.file}."
            )
        return f"Key pair {self.name} exists in {self.region}, and {self.file} is its key."


def make_key_pair(config: Config, cloud: Cloud, *, environ: Mapping[str, str]) -> KeyPair:
    """Create what is missing of the pair `fruits-<cluster name>`.

    The file comes first: one whose import was interrupted is imported by the next call. Raises
    MachineError where the file of an existing pair is missing, or cannot be written; UsageError
    where it is another pair's.
    """
    name, file = key_pair_place(config, environ)
    shown = cloud.preflight.key_fingerprint(name)
    if shown is not None and not file.exists():
        raise MachineError(
            f"EC2 has a key pair {name} in {cloud.region}, but {file} is not on this machine.",
            hint="Copy the file from where it was made. If it is lost, fruits init --key makes "
            f"another after: aws ec2 delete-key-pair --key-name {name} --region {cloud.region}",
        )
    if not file.exists():
        _write_private_key(file)
    is_new = shown is None and _imported(name, file, cloud)
    if not is_new:
        _require_own(name, file, shown or cloud.preflight.key_fingerprint(name), cloud.region)
    return KeyPair(name, file, cloud.region, is_new)


def key_pair_place(config: Config, environ: Mapping[str, str]) -> tuple[str, Path]:
    """The pair's name in EC2, and the file of its private key."""
    name = f"{EMR_NAME_PREFIX}{config.cluster.name}"
    return name, home_folder(environ) / ".ssh" / f"{name}.pem"


def _write_private_key(file: Path) -> None:
    # Here, for paramiko takes long to import and most of init does without.
    from fruits_cli.tunnel.keys import new_private_key

    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(file, new_private_key(), mode=_PRIVATE)
    except OSError as error:
        raise MachineError(
            f"The key file {file} cannot be written: {error.strerror or error}.",
            hint="No key pair was made.",
        ) from error


def _imported(name: str, file: Path, cloud: Cloud) -> bool:
    from fruits_cli.tunnel.keys import load_public_line

    return cloud.rights.import_key(name, load_public_line(file).encode())


def _require_own(name: str, file: Path, shown: str | None, region: str) -> None:
    from fruits_cli.tunnel.keys import load_fingerprints

    if shown is None or bare_fingerprint(shown) not in load_fingerprints(file):
        raise UsageError(
            f"{file} is not the key of the key pair {name} that EC2 has in {region}.",
            hint="Move the file away and put the pair's own in its place; or give the cluster "
            "another name: [cluster] name in fruits.toml.",
        )
