"""The wheels of the nodes' Python: read from the templates, fetched once by pip, kept in the cache.

Nodes need no package index: they get these very files, checked by the digests in the locks.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fruits_cli.bundle import templates_dir
from fruits_cli.config import cache_dir
from fruits_cli.errors import MachineError
from fruits_cli.models import Engine
from fruits_cli.nodes import SCRIPT_FILE, Lock, NodePython

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
        hint=f"{sys.executable} -m ensurepip brings it.",
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
