"""What this machine has for a run: packages, weights, room on disk, a free port, a key."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from pathlib import Path

from fruits_cli.checks.machine import WeightsFacts
from fruits_cli.config import cache_dir

# What spark_job.model downloads; the command line knows the job by its processes alone.
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)
# What the job and the making of its model import.
PACKAGES = ("pyspark", "openvino", "tensorflow", "pyarrow", "numpy", "pandas", "pillow")
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
        file = Path(weights).expanduser()
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
