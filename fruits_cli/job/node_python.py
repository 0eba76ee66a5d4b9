"""The Python of a cluster's nodes: its packages, where they are, and what installs them."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fruits_cli.cloud.clusters import BootstrapAction, Cluster
from fruits_cli.cloud.layout import Places
from fruits_cli.cloud.protocols import Storage
from fruits_cli.cloud.transfer import Sending
from fruits_cli.config import Engine
from fruits_cli.errors import MachineError, UsageError
from fruits_cli.files import cache_dir, templates_dir
from fruits_cli.job.shipment import send_new
from fruits_cli.s3uri import S3Uri
from fruits_cli.session import Session


def ship_python(python: NodePython, places: Places, session: Session) -> None:
    """Send what the nodes' bootstrap action needs: its script, the locks, and the wheels.

    Raises MachineError where the wheels cannot be fetched, CloudError.
    """
    storage = session.cloud.storage
    _put_new(python.script, script_place(python, places), storage)
    for lock in python.locks:
        _put_new(lock.text, places.wheels(lock.digest) / LOCK_FILE, storage)
    if session.fetch_wheels is None:
        session.screen.tell(
            "Rehearsal: the nodes' wheels are not sent, as no node would install them."
        )
        return
    sent = sum(_ship_wheels(lock, places, session) for lock in python.locks)
    session.screen.tell(f"The nodes' Python {python.digest}: {sent} wheels sent.")


def _ship_wheels(lock: Lock, places: Places, session: Session) -> int:
    assert session.fetch_wheels is not None
    session.screen.detail("Fetching the nodes' wheels, or finding them in the cache.")
    folder = places.wheels(lock.digest)
    sendings = [
        Sending(
            wheel.file,
            folder / wheel.file.name,
            wheel.file.stat().st_size,
            0,
            bytes.fromhex(wheel.sha256),
        )
        for wheel in session.fetch_wheels(lock, environ=session.environ)
    ]
    return send_new(sendings, session.cloud.storage)


def _put_new(text: str, uri: S3Uri, storage: Storage) -> None:
    content = text.encode()
    digest = hashlib.sha256(content).digest()
    if storage.stored_sha256(uri) != digest:
        storage.put_bytes(content, uri, sha256=digest)


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
        return tuple(Pin(**match.groupdict()) for match in found if match)


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


def python_digest(cluster: Cluster) -> str:
    """The digest of the packages that a cluster's nodes have; empty where it does not say."""
    return cluster.tags.get(PYTHON_TAG, "").partition("/")[2]


def _interpreter(digest: str) -> str:
    return f"{_HOME}/{digest}/bin/python"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


LOCK_FILES = {"base": "lock-base.txt", "tensorflow": "lock-tensorflow.txt"}
_LAYERS = {Engine.OPENVINO: ("base",), Engine.TENSORFLOW: ("base", "tensorflow")}
# Amazon Linux 2023 has glibc 2.34. pip takes a platform by its letter: with one tag alone it
# finds other versions, or none.
_PLATFORMS = [
    *(f"manylinux_2_{minor}_x86_64" for minor in range(34, 16, -1)),
    "manylinux2014_x86_64",
]
# What pip warns of before it says, misleadingly, that there is no such version.
_UNREACHABLE = "after connection broken by"
_RETRIES = "2"


@dataclass(frozen=True)
class Wheel:
    """A file of the cache, whose digest is the one in its lock."""

    file: Path
    sha256: str


def node_python(engine: Engine) -> NodePython:
    """The Python that the nodes of this version get for an engine; nothing is fetched."""
    texts = [_template(LOCK_FILES[layer]) for layer in _LAYERS[engine]]
    return NodePython(engine, tuple(Lock(text) for text in texts), _template(SCRIPT_FILE))


def _template(name: str) -> str:
    return (templates_dir() / name).read_text(encoding="utf-8")


def target_options() -> list[str]:
    """pip's options for wheels that a node can use, whatever machine this is."""
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    options += ["--implementation", "cp"]
    for abi in ("cp311", "abi3", "none"):
        options += ["--abi", abi]
    for platform in _PLATFORMS:
        options += ["--platform", platform]
    return options


def fetched_wheels(lock: Lock, *, environ: Mapping[str, str]) -> tuple[Wheel, ...]:
    """The lock's wheels, out of the cache or fetched into it.

    Raises MachineError where pip or the package index is missing, or the disk is full.
    """
    folder = cache_dir(environ) / "wheels" / lock.digest
    if wheels := _complete(folder, lock):
        return wheels
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as scratch:
            fetched = Path(scratch) / "wheels"
            _download(lock, Path(scratch) / "lock.txt", fetched, environ)
            shutil.rmtree(folder, ignore_errors=True)
            # Another fruits may have put the same files there just now.
            with suppress(FileExistsError):
                fetched.rename(folder)
    except OSError as error:
        raise MachineError(
            f"The wheels for the nodes cannot be kept in {folder.parent}: {error.strerror}.",
            hint="Make room, or give another place by XDG_CACHE_HOME.",
        ) from error
    if wheels := _complete(folder, lock):
        return wheels
    raise MachineError(f"The wheels in {folder} are not those of the lock.", hint="Delete it.")


def _complete(folder: Path, lock: Lock) -> tuple[Wheel, ...]:
    """The wheels in `folder`; none at all where one is missing, broken or too much."""
    wheels = tuple(Wheel(file, _sha256(file)) for file in sorted(folder.glob("*.whl")))
    wanted = {pin.sha256 for pin in lock.pins}
    return wheels if {wheel.sha256 for wheel in wheels} == wanted else ()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(lock: Lock, lock_file: Path, folder: Path, environ: Mapping[str, str]) -> None:
    lock_file.write_text(lock.text, encoding="utf-8")
    command = [*pip_command(), "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--retries", _RETRIES, *target_options(), "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(lock_file)]
    ended = subprocess.run(command, env=dict(environ), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise _refusal(ended.stderr)


def pip_command() -> Sequence[str]:
    """pip of this Python, else the one on PATH. Raises MachineError."""
    if importlib.util.find_spec("pip"):
        # A module's `-m` would look for it in the current folder first; -P does not.
        return [sys.executable, "-P", "-m", "pip"]
    if found := shutil.which("pip3") or shutil.which("pip"):
        return [found]
    raise MachineError(
        "pip is missing, which fetches the wheels for the nodes.",
        hint=f"{sys.executable} -m ensurepip installs it.",
    )


def _refusal(stderr: str) -> MachineError:
    what = "The wheels for the nodes could not be fetched"
    if _UNREACHABLE in stderr:
        return MachineError(
            f"{what}: the package index does not answer.",
            hint="They are fetched once, then kept: try again with a network, or set pip's proxy "
            "or index (PIP_PROXY, PIP_INDEX_URL).",
        )
    if "No space left on device" in stderr:
        return MachineError(
            f"{what}: no space left on the disk.",
            hint="Make room, or give other places by XDG_CACHE_HOME and TMPDIR.",
        )
    last = (stderr.strip().splitlines() or ["pip said nothing"])[-1]
    return MachineError(f"{what}: {last.removeprefix('ERROR: ')}")
