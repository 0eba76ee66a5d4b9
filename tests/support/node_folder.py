"""A folder that plays a node: its own /opt and /mnt, python3.11, and commands of EMR's image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

from tests.support.paths import ROOT

SCRIPT = ROOT / "templates" / "bootstrap.sh"
_AWS = Path(__file__).with_name("node_aws.py")


class NodeFolder:
    """A node below `root`; `environ` leads its aws command to an embedded AWS."""

    def __init__(self, root: Path, environ: Mapping[str, str], *, aws: str | None = None) -> None:
        self.root, self.opt, self.tmp = root, root / "opt" / "fruits", root / "mnt" / "tmp"
        self._commands = root / "commands"
        for folder in (self._commands, self.tmp, root / "usr/bin", root / "mnt/var/lib/info"):
            folder.mkdir(parents=True)
        self.command("aws", f'exec {aws or f"{sys.executable} {_AWS}"} "$@"')
        self.command("sleep", "exit 0")
        self.command("shutdown", f'echo "$@" >> {root}/shutdown.log')
        self.has_python(Path(getattr(sys, "_base_executable", sys.executable)))
        self.environ = {
            "PATH": f"{self._commands}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "HOME": str(root),
            "FRUITS_ROOT": str(root),
            **environ,
        }

    def command(self, name: str, line: str) -> None:
        """Put a command of one line on the node's PATH."""
        _write_script(self._commands / name, line)

    def has_python(self, python: Path | None) -> None:
        """Give the node its /usr/bin/python3.11, or take it away."""
        place = self.root / "usr/bin/python3.11"
        place.unlink(missing_ok=True)
        if python is not None:
            _write_script(place, f'exec {python} "$@"')

    def is_primary(self, cluster_id: str | None) -> None:
        """Let the node be the primary one of that cluster."""
        info = self.root / "mnt/var/lib/info"
        (info / "instance.json").write_text(json.dumps({"isMaster": True}))
        if cluster_id:
            (info / "job-flow.json").write_text(json.dumps({"jobFlowId": cluster_id}, indent=1))

    def boot(self, *args: str, under: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run bootstrap.sh on the node, in a namespace of its own where `under` makes one."""
        return self.run(*under, str(SCRIPT), *args)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environ,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def left_over(self) -> list[str]:
        """What a run left beside the Python that it was to make."""
        made = [*self.tmp.glob("*"), *self.opt.glob("making.*")]
        return [file.name for file in made]


def _write_script(file: Path, line: str) -> None:
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)


def pip_wheel(folder: Path) -> Path:
    """The pip of this environment as a wheel, so that none has to be fetched."""
    pip = distribution("pip")
    wheel = folder / f"pip-{pip.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in pip.files or ():
            if ".." not in file.parts and file.suffix != ".pyc" and file.name != "INSTALLER":
                archive.write(str(file.locate()), str(file))
    return wheel


def full_disk(folder: Path, size: str) -> list[str] | None:
    """A command that runs another one with a small disk at `folder`; None where none can be had."""
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mounting = f'mount -t tmpfs -o size={size} tmpfs {folder} && exec "$@"'
    if shutil.which("unshare") is None:
        return None
    tried = subprocess.run([*words, mounting, "sh", "true"], capture_output=True, check=False)
    return [*words, mounting, "sh"] if tried.returncode == 0 else None
