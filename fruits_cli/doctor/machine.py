"""Verdicts on this machine: Python, Java, packages, weights, disk, port and key file; pure."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from fruits_cli.doctor.findings import Finding, failing, ok
from fruits_cli.files import cache_dir, expanded

# Source: requires-python of this project; pyspark 3.5 knows no later one.
_PYTHONS = ((3, 11), (3, 12))
_INSTALL_AGAIN = "Install fruits again: pip install --force-reinstall fruits"
# A run's results, the nodes' packages and Spark's shuffles are each well below.
WANTED_GIB = 2.0


def python(version: tuple[int, int]) -> Finding:
    """Whether this Python can run the job."""
    told = ".".join(str(part) for part in version)
    if version not in _PYTHONS:
        return failing("Python", f"{told}; the job needs 3.11 or 3.12.", _INSTALL_AGAIN)
    return ok("Python", told)


def packages(versions: Mapping[str, str | None]) -> Finding:
    """Whether what the job needs is installed; a version is None where the package is missing."""
    if missing := [name for name, version in versions.items() if version is None]:
        return failing("packages", f"{', '.join(missing)} is missing.", _INSTALL_AGAIN)
    return ok("packages", ", ".join(f"{name} {version}" for name, version in versions.items()))


def java(home: Path) -> Finding:
    """Where the Java 17 lies that local runs use."""
    return ok("Java", f"17 in {home}")


@dataclass(frozen=True)
class WeightsFacts:
    """Weights as configured, whether a file of them is here, and why they cannot be fetched."""

    weights: str
    is_here: bool
    # Empty where the server answers, or nobody had to ask.
    trouble: str = ""


def weights(facts: WeightsFacts) -> Finding:
    """Whether the model's weights are here, can be made, or can be downloaded."""
    if facts.weights == "random":
        return ok("weights", "random: made here, for trials")
    if facts.weights != "imagenet":
        if facts.is_here:
            return ok("weights", facts.weights)
        return failing(
            "weights",
            f"The file {facts.weights} cannot be read.",
            "Give --weights imagenet, random, or a .h5 or .weights.h5 file.",
        )
    if facts.is_here:
        return ok("weights", "imagenet, downloaded already")
    if facts.trouble:
        return failing(
            "weights",
            f"imagenet is not in the cache, and cannot be downloaded: {facts.trouble}.",
            "Download them elsewhere and give --weights FILE.h5, or try with --weights random.",
        )
    return ok("weights", "imagenet: the first run downloads them (9 MB)")


def disk(what: str, folder: Path, free_gib: float, *, is_writable: bool) -> Finding:
    """Whether a folder can be written, and has room."""
    name = f"disk, {what}"
    if not is_writable:
        return failing(name, f"{folder} cannot be written.", "Work in a folder of your own.")
    said = f"{free_gib:.1f} GiB free in {folder}, {WANTED_GIB:.0f} are wanted"
    if free_gib < WANTED_GIB:
        return failing(name, f"{said}.", "Make room there.")
    return ok(name, said)


def port(number: int) -> Finding:
    """A port that could be taken and was given back."""
    return ok("tunnel port", f"{number} is free")


def key_file(path: Path) -> Finding:
    """A private key that could be read, and that nobody else can."""
    return ok("key file", str(path))


# What spark_job.model downloads; the command line knows the job by its processes alone.
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)
# What the job and the making of its model import.
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


def versions(names: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """The versions of packages, None for one that is not installed; none is imported."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def weights_facts(
    weights: str, environ: Mapping[str, str], *, url: str = IMAGENET_URL
) -> WeightsFacts:
    """Whether the weights are here, else whether their server answers; nothing is downloaded."""
    if weights == "random":
        return WeightsFacts(weights, is_here=False)
    if weights != "imagenet":
        file = expanded(weights)
        return WeightsFacts(weights, is_here=file.is_file() and os.access(file, os.R_OK))
    cached = cache_dir(environ) / "models" / Path(url).name
    # The digest is written after the file: without it the download did not end.
    if cached.is_file() and cached.with_suffix(".sha256").is_file():
        return WeightsFacts(weights, is_here=True)
    return WeightsFacts(weights, is_here=False, trouble=_trouble(url))


def _trouble(url: str) -> str:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return ""
    except (OSError, HTTPException) as error:
        return str(getattr(error, "reason", "") or error) or type(error).__name__


def folders(environ: Mapping[str, str], here: Path) -> dict[str, Path]:
    """The folders that a run writes to."""
    return {
        "working folder": here,
        "cache": cache_dir(environ),
        "temporary folder": Path(tempfile.gettempdir()),
    }


def room(folder: Path) -> tuple[Path, float, bool]:
    """The nearest folder that exists, its free GiB, and whether we may write there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder, shutil.disk_usage(folder).free / _GIB, os.access(folder, os.W_OK | os.X_OK)
