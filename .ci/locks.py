"""Makes the locks of the nodes' Python, or with --check tells whether they are current.

    .venv/bin/python .ci/locks.py

Packages and versions are those of this environment, which constraints.txt pins; the digests are
those of the wheels that pip finds for a node.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fruits_cli.files import templates_dir
from fruits_cli.job.node_python import LOCK_FILES, Lock, pip_command, target_options

# What the job imports on a node; pip fills the venv there.
ROOTS = {
    # matplotlib draws in the notebook, whose session is the cluster's.
    "base": ("matplotlib", "numpy", "openvino", "pillow", "pip", "pyarrow", "simplejpeg"),
    "tensorflow": ("tensorflow",),
}
IMPORTS = {
    "base": "numpy PIL.Image simplejpeg pyarrow.fs pyarrow.parquet openvino matplotlib",
    "tensorflow": "tensorflow keras h5py",
}
# Sends usage data home; the job never lets it be imported.
LEFT_OUT = {"openvino-telemetry"}
NODE = {
    "extra": "",
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.0",
    "python_version": "3.11",
    "sys_platform": "linux",
}


def closure(roots: Iterable[str]) -> set[str]:
    """The roots and all that they need on a node."""
    found, waiting = set(), [canonicalize_name(root) for root in roots]
    while waiting:
        name = waiting.pop()
        if name in found or name in LEFT_OUT:
            continue
        found.add(name)
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate(NODE):
                waiting.append(canonicalize_name(needed.name))
    return found


def layers() -> dict[str, dict[str, str]]:
    """Versions by package by layer; a later layer leaves out what an earlier one has."""
    constraints = (Path(__file__).parent.parent / "constraints.txt").read_text(encoding="utf-8")
    pairs = [line.split("==") for line in constraints.splitlines() if "==" in line]
    versions = {canonicalize_name(name): version for name, version in pairs}
    seen: set[str] = set()
    made = {}
    for layer, roots in ROOTS.items():
        names = closure(roots) - seen
        seen |= names
        made[layer] = {name: versions[name] for name in sorted(names)}
    return made


def hashes(versions: dict[str, str]) -> dict[str, str]:
    """The sha256 of each package's wheel for a node."""
    with tempfile.TemporaryDirectory() as scratch:
        report, wanted = Path(scratch) / "report.json", Path(scratch) / "wanted.txt"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
        command = [*pip_command(), "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += [*target_options(), "--target", scratch, "--report", str(report)]
        subprocess.run([*command, "--requirement", str(wanted)], check=True)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        canonicalize_name(one["metadata"]["name"]): one["download_info"]["archive_info"]["hashes"][
            "sha256"
        ]
        for one in installs
    }


def text(layer: str, versions: dict[str, str]) -> str:
    """A lock file: what is imported once it is installed, then one wheel a line."""
    found = hashes(versions)
    lock = "# Wheels for a node: CPython 3.11, x86_64, glibc 2.34. Made by make locks.\n"
    lock += f"# imports: {IMPORTS[layer]}\n"
    lines = [
        f"{name}=={version} --hash=sha256:{found[name]}\n" for name, version in versions.items()
    ]
    return lock + "".join(lines)


def main(argv: list[str]) -> int:
    """Write both locks, or compare their packages and versions."""
    stale = []
    for layer, versions in layers().items():
        file = templates_dir() / LOCK_FILES[layer]
        if "--check" not in argv:
            file.write_text(text(layer, versions), encoding="utf-8")
            continue
        pins = Lock(file.read_text(encoding="utf-8")).pins
        if {pin.name: pin.version for pin in pins} != versions:
            stale.append(file.name)
    if stale:
        sys.stderr.write(f"Not current: {', '.join(stale)}. Run make locks\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
