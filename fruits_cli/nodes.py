"""The Python of a cluster's nodes: its packages, its place, and the action that makes it; pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from fruits_cli.cluster import BootstrapAction, Cluster
from fruits_cli.errors import UsageError
from fruits_cli.models import Engine, S3Uri
from fruits_cli.places import Places

# Which engine a cluster's Python was made for, and its digest: `openvino/0123...`.
PYTHON_TAG = "fruits:python"
SCRIPT_FILE, LOCK_FILE = "bootstrap.sh", "lock.txt"
_HOME = "/opt/fruits"
_PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})$")


@dataclass(frozen=True)
class Pin:
    """One wheel of a lock."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Lock:
    """One layer of packages, each in one version with one digest; `text` is the file itself."""

    text: str

    @property
    def digest(self) -> str:
        return _digest(self.text)

    @property
    def pins(self) -> tuple[Pin, ...]:
        found = (_PIN.match(line) for line in self.text.splitlines())
        return tuple(Pin(**one.groupdict()) for one in found if one)


@dataclass(frozen=True)
class NodePython:
    """What the nodes get for an engine: layers of packages, and the script that installs them."""

    engine: Engine
    locks: tuple[Lock, ...]
    script: str

    @property
    def digest(self) -> str:
        """The identity of all packages; the script may change without another Python."""
        return _digest("".join(lock.text for lock in self.locks))

    @property
    def interpreter(self) -> str:
        return _interpreter(self.digest)

    @property
    def tags(self) -> dict[str, str]:
        """What tells a later `submit` which Python the cluster has."""
        return {PYTHON_TAG: f"{self.engine}/{self.digest}"}


def script_place(python: NodePython, places: Places) -> S3Uri:
    """Where the script lies: nodes that come late get the one that the first ones got."""
    return places.bootstrap(_digest(python.script)) / SCRIPT_FILE


def bootstrap_action(
    python: NodePython, places: Places, *, region: str, lifetime_min: int
) -> BootstrapAction:
    """The action that makes `python` on each node, and on the primary the end of its cluster."""
    args = ["--digest", python.digest, "--region", region]
    for lock in python.locks:
        args += ["--wheels", str(places.wheels(lock.digest))]
    args += ["--max-lifetime-min", str(lifetime_min)]
    return BootstrapAction("fruits python", script_place(python, places), tuple(args))


def interpreter_on(cluster: Cluster, engine: Engine) -> str:
    """The interpreter that the job finds on a live cluster's nodes.

    Raises UsageError where the cluster was made without one, or for the other engine.
    """
    made_for, _, digest = cluster.tags.get(PYTHON_TAG, "").partition("/")
    again = "fruits create-cluster --name OTHER makes one that has it"
    if not digest:
        raise UsageError(
            f"Cluster {cluster.cluster_id} was made without a Python for the job.", hint=f"{again}."
        )
    if engine is Engine.TENSORFLOW and made_for != engine:
        raise UsageError(
            f"Cluster {cluster.cluster_id} was made for {made_for}: its Python has no TensorFlow.",
            hint=f'Give --engine {made_for}; or, with engine = "{engine}" in fruits.toml, {again}.',
        )
    return _interpreter(digest)


def _interpreter(digest: str) -> str:
    return f"{_HOME}/{digest}/bin/python"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
