"""Seconds against accuracy: `python -m benchmarks.image_sizes IMAGES WEIGHTS [ROUNDS]`

Each size and precision runs the job; accuracy is that of the nearest neighbour's label on 50
principal components, half of the pictures, drawn with a fixed seed, being the others' neighbours.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from fruits_cli.config import JobConfig
from fruits_cli.job.model import model_artefact
from fruits_cli.job.results import load_manifest
from fruits_cli.job.spark import LocalPlan, run_job, usable_cores

SIZES, PRECISIONS = (224, 160, 128, 96), ("f32", "bf16", "int8")


def measured(images: str, weights: str, side_px: int, precision: str) -> tuple[float, float]:
    """Seconds of the feature stage, and accuracy."""
    job = JobConfig(
        weights=weights, image_size=side_px, precision=precision, pca_k=50, calibration=Path(images)
    )
    artefact = model_artefact(job, environ=os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        for _ in run_job(
            LocalPlan("sizes", images, out, job, usable_cores()), artefact, os.environ
        ):
            pass
        table = pd.read_parquet(out / "pca", columns=["path", "label", "pca_features"])
        return load_manifest(out)["seconds"]["features"], accuracy(table.sort_values("path"))


def accuracy(table: pd.DataFrame) -> float:
    """Share of one half whose nearest row of the other half has the same label."""
    rows = np.stack(table["pca_features"].to_numpy()).astype(np.float64)
    labels = table["label"].to_numpy()
    order = np.random.default_rng(0).permutation(len(rows))
    known, asked = order[: len(order) // 2], order[len(order) // 2 :]
    squares = (rows[known] ** 2).sum(axis=1)
    nearest = (squares - 2 * rows[asked] @ rows[known].T).argmin(axis=1)
    return float((labels[known][nearest] == labels[asked]).mean())


def main(images: str, weights: str, rounds: int = 3) -> None:
    print("| image size | precision | seconds | accuracy |\n| --- | --- | --- | --- |")
    choices = list(itertools.product(SIZES, PRECISIONS))
    runs = {choice: [] for choice in choices}
    for _ in range(rounds):
        for choice in choices:
            runs[choice].append(measured(images, weights, *choice))
    for (side_px, precision), found in runs.items():
        seconds = statistics.median(run[0] for run in found)
        print(f"| {side_px} | {precision} | {seconds:.1f} | {found[0][1]:.3f} |")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
