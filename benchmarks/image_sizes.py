"""Seconds against accuracy: `python -m benchmarks.image_sizes IMAGES WEIGHTS [ROUNDS]`

Each size and precision runs the job; accuracy is that of the nearest neighbour's label on 50
principal components, half of the pictures, drawn with a fixed seed, being the others' neighbours.
A precision that this CPU has no instructions for, or whose model is refused, has an empty cell.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.machine import machine, missing
from fruits_cli.config import JobConfig
from fruits_cli.errors import FruitsError
from fruits_cli.job.model import ModelArtefact, model_artefact
from fruits_cli.job.results import load_manifest
from fruits_cli.job.spark import LocalPlan, run_job, usable_cores

SIZES, PRECISIONS = (224, 160, 128, 96), ("f32", "bf16", "int8")
Choice = tuple[int, str]


def job_of(images: str, weights: str, choice: Choice) -> JobConfig:
    """The job that computes this side in this precision."""
    side_px, precision = choice
    return JobConfig(
        weights=weights, image_size=side_px, precision=precision, pca_k=50, calibration=Path(images)
    )


def measured(images: str, job: JobConfig, artefact: ModelArtefact) -> tuple[float, float]:
    """Seconds of the feature stage, and accuracy."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        for _ in run_job(
            LocalPlan("sizes", images, out, job, usable_cores()), artefact, os.environ
        ):
            pass
        return load_manifest(out)["seconds"]["features"], accuracy(out)


def accuracy(run: Path) -> float:
    """Share of one half whose nearest row of the other half has the same label."""
    table = pq.read_table(run / "pca", columns=["path", "label", "pca_features"]).sort_by("path")
    rows = np.stack(table["pca_features"].to_numpy()).astype(np.float64)
    labels = np.asarray(table["label"].to_pylist())
    order = np.random.default_rng(0).permutation(len(rows))
    known, asked = order[: len(order) // 2], order[len(order) // 2 :]
    squares = (rows[known] ** 2).sum(axis=1)
    nearest = (squares - 2 * rows[asked] @ rows[known].T).argmin(axis=1)
    return float((labels[known][nearest] == labels[asked]).mean())


def table(runs: dict[Choice, list[tuple[float, float]]]) -> list[str]:
    """A row for each size, seconds and accuracy of each precision, as Markdown."""
    names = "".join(f" {name}: seconds | accuracy |" for name in PRECISIONS)
    lines = [f"| `--image-size` |{names}", "| --- |" + " --- |" * 2 * len(PRECISIONS)]
    for side_px in SIZES:
        cells = []
        for found in (runs.get((side_px, precision)) for precision in PRECISIONS):
            seconds = statistics.median(run[0] for run in found) if found else 0
            cells += [f"{seconds:.1f}", f"{found[0][1]:.3f}"] if found else ["", ""]
        lines.append(f"| {side_px} | {' | '.join(cells)} |")
    return lines


def main(images: str, weights: str, rounds: int = 3) -> None:
    models: dict[Choice, tuple[JobConfig, ModelArtefact]] = {}
    sentences = {sentence for name in PRECISIONS if (sentence := missing(name))}
    for choice in itertools.product(SIZES, PRECISIONS):
        job = job_of(images, weights, choice)
        if choice[1] == "bf16" and missing("bf16"):
            continue
        try:
            models[choice] = job, model_artefact(job, environ=os.environ)
        except FruitsError as error:
            sentences.add(f"{choice[1]} at {choice[0]} px: {error}")
    runs: dict[Choice, list[tuple[float, float]]] = {choice: [] for choice in models}
    for turn, choice in itertools.product(range(rounds), models):
        runs[choice].append(measured(images, *models[choice]))
        print(f"{turn + 1} {choice}: {runs[choice][-1]}", file=sys.stderr, flush=True)
    print("\n".join([machine(), "", *table(runs), "", *sorted(sentences)]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
