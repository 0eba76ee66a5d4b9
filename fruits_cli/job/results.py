"""What lies in a run's folder: the manifest and Parquet files of the job, and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fruits_cli.errors import UsageError

# Below the working folder, one folder for each run.
RUNS_DIR = "fruits-runs"
MANIFEST_FILE, MODEL_FILE = "manifest.json", "pca_model/pca.npz"
FEATURES_DIR, PCA_DIR, REJECTED_DIR = "features", "pca", "rejected"
# What `fruits report` adds: the page, and a folder of numbers and lists.
REPORT_FILE, REPORT_DIR = "report.html", "report"
_KEYS = {"counts", "seconds", "settings", "pca_k", "cumulative_variance"}


def parts(folder: Path) -> list[Path]:
    """The Parquet files of a folder, without those that are being written."""
    return sorted(file for file in folder.glob("*.parquet") if not file.name.startswith((".", "_")))


def load_manifest(run_folder: Path) -> dict[str, Any]:
    """What manifest.json of the run says. Raises UsageError where there is none to read."""
    file = run_folder / MANIFEST_FILE
    try:
        return parse_manifest(file.read_bytes(), file)
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no finished run in {run_folder}.", hint=f"A finished one has {file}."
        ) from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error


def parse_manifest(content: bytes, name: object) -> dict[str, Any]:
    """A manifest out of the bytes of the file of that name. Raises UsageError where it is none."""
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise UsageError(f"{name} is not a manifest: {error}.") from error
    missing = _KEYS - manifest.keys() if isinstance(manifest, dict) else _KEYS
    if missing:
        raise UsageError(f"{name} is not a manifest: it has no {min(missing)}.")
    return dict(manifest)
