"""Questions about this machine: Python, packages, Java, weights, disk, port and key file."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http.client import HTTPException
from pathlib import Path

from fruits_cli.doctor.findings import Finding, failing, ok, warning
from fruits_cli.files import cache_dir, expanded, nearest_folder, temporary_folder
from fruits_cli.job.java import find_java

# Source: requires-python of this project; pyspark 3.5 knows no later one.
_PYTHONS = ((3, 11), (3, 12))
_INSTALL_AGAIN = "Install fruits again: pip install --force-reinstall fruits"
# A run's results, the nodes' packages and Spark's shuffles are each well below.
_NEEDED_GIB = 2.0
# What spark_job.model downloads; fruits_cli does not import the job.
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)
# What the job and spark_job.model import.
PACKAGES = (
    "pyspark",
    "openvino",
    "tensorflow",
    "pyarrow",
    "numpy",
    "pandas",
    "pillow",
    "simplejpeg",
)
_TIMEOUT_S = 5.0
_GIB = 1 << 30


def python(version: tuple[int, ...] = sys.version_info[:2]) -> Finding:
    """Whether this Python can run the job."""
    said = ".".join(str(part) for part in version)
    if version not in _PYTHONS:
        return failing(f"{said}; the job needs 3.11 or 3.12.", _INSTALL_AGAIN)
    return ok(said)


def packages(names: Iterable[str] = PACKAGES) -> Finding:
    """Whether what the job needs is installed; nothing is imported."""
    versions, missing = [], []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return failing(f"{', '.join(missing)} is missing.", _INSTALL_AGAIN)
    return ok(", ".join(versions))


def java(environ: Mapping[str, str]) -> Finding:
    """Where the Java 17 lies that local runs use."""
    return ok(f"17 in {find_java(environ)}")


def weights(wanted: str, environ: Mapping[str, str], *, url: str = IMAGENET_URL) -> Finding:
    """Whether the model's weights are here, can be made or downloaded; nothing is downloaded."""
    if wanted == "random":
        return ok("random: made here, for trials")
    if wanted != "imagenet":
        file = expanded(wanted)
        if file.is_file() and os.access(file, os.R_OK):
            return ok(wanted)
        return failing(
            f"The file {wanted} cannot be read.",
            "Give --weights imagenet, random, or a .h5 or .weights.h5 file.",
        )
    cached = cache_dir(environ) / "models" / Path(url).name
    # The digest is written after the file: without it the download did not end.
    if cached.is_file() and cached.with_suffix(".sha256").is_file():
        return ok("imagenet, downloaded already")
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return ok("imagenet: the first run downloads them (9 MB)")
    except (OSError, HTTPException) as error:
        reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        return warning(
            f"imagenet is not in the cache, and cannot be downloaded: {reason}.",
            "Download the weights elsewhere and give --weights FILE.h5, or --weights random for "
            "a trial.",
        )


def folders(environ: Mapping[str, str], here: Path) -> dict[str, Callable[[], Path]]:
    """The folders that a run writes to, each found when it is asked for: there may be none."""
    return {
        "working folder": lambda: here,
        "cache": partial(cache_dir, environ),
        "temporary folder": temporary_folder,
    }


def room(folder: Path) -> tuple[Path, float, bool]:
    """The nearest folder that exists, its free GiB, and whether we may write there."""
    folder = nearest_folder(folder)
    return folder, shutil.disk_usage(folder).free / _GIB, os.access(folder, os.W_OK | os.X_OK)


def disk(
    wanted: Callable[[], Path], look: Callable[[Path], tuple[Path, float, bool]] = room
) -> Finding:
    """Whether a folder can be written, and has room."""
    folder, free_gib, is_writable = look(wanted())
    if not is_writable:
        return failing(f"{folder} cannot be written.", "Work in a folder of your own.")
    said = f"{free_gib:.1f} GiB free in {folder}, {_NEEDED_GIB:.0f} GiB needed"
    return failing(f"{said}.", "Make room there.") if free_gib < _NEEDED_GIB else ok(said)


def port(number: int) -> Finding:
    """Whether the tunnel can have its port."""
    from fruits_cli.tunnel.ports import listen_on

    listen_on(number).close()
    return ok(f"{number} is free")


def key_file(path: Path) -> Finding:
    """Whether the private key can be read, and by nobody else."""
    # Here, for paramiko takes longer to import than most questions take.
    from fruits_cli.tunnel.keys import load_fingerprints

    load_fingerprints(path)
    return ok(str(path))
