"""The pictures of a run that are most like a given one, by cosine, exact, in little memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fruits_cli.errors import UsageError
from fruits_cli.job.results import FEATURES_DIR, MODEL_FILE, PCA_DIR, parts, read_columns
from fruits_cli.report.source import Floats

_BATCH_ROWS = 4096
# Each thread holds a batch of rows: more threads than this would need more than a GiB.
_MOST_THREADS = 4


@dataclass(frozen=True)
class Match:
    """A picture of the run; similarity is the cosine, 1 for the same direction."""

    similarity: float
    path: str
    label: str


def nearest_by_features(features: Floats, run_folder: Path, most: int) -> list[Match]:
    """The `most` pictures whose features have the largest cosine with (d,), best first."""
    return _nearest(parts(run_folder / FEATURES_DIR), "features", features, most)


def nearest_by_components(features: Floats, run_folder: Path, most: int) -> list[Match]:
    """The same by components: the features (d,) are centred, scaled and projected as the run's.

    Raises UsageError where the run has none.
    """
    try:
        with np.load(run_folder / MODEL_FILE) as model:
            centred = (features.astype(np.float64) - model["mean"]) / model["scale"]
            components = (model["components"] @ centred).astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{run_folder} has no components: {run_folder / MODEL_FILE} cannot be read.",
            hint="fruits similar PICTURE --by features needs none.",
        ) from error
    return _nearest(parts(run_folder / PCA_DIR), "pca_features", components, most)


# Cosine, file, and row within it: names are read of the best alone.
_Place = tuple[float, Path, int]


def _nearest(files: Sequence[Path], column: str, wanted: Floats, most: int) -> list[Match]:
    def best(file: Path) -> list[_Place]:
        found: list[_Place] = []
        start = 0
        for batch in read_columns([file], [column], batch_rows=_BATCH_ROWS):
            rows: Floats = batch[column]
            if rows.shape[1] != len(wanted):
                raise UsageError(f"{file} has rows of another length than the picture's.")
            cosines = cosine(rows, wanted)
            order = np.argsort(-cosines, kind="stable")[:most]
            found += [(float(cosines[row]), file, start + int(row)) for row in order]
            found = _best(found, most)
            start += len(rows)
        return found

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        places = _best([place for found in pool.map(best, files) for place in found], most)
    names = {file: _names(file) for file in {file for _, file, _ in places}}
    return [Match(similarity, *names[file][row]) for similarity, file, row in places]


def _best(places: list[_Place], most: int) -> list[_Place]:
    # Of equal ones the first in the files, whichever thread was first.
    return sorted(places, key=lambda place: (-place[0], place[1], place[2]))[:most]


def _names(file: Path) -> list[tuple[str, str]]:
    batches = read_columns([file], ["path", "label"])
    return [pair for batch in batches for pair in zip(batch["path"], batch["label"], strict=True)]


def cosine(rows: Floats, wanted: Floats) -> npt.NDArray[np.float32]:
    """Cosine of each of (n, d) with (d,); 0 where one of the two is nothing but zeros."""
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows)) * np.linalg.norm(wanted)
    products = rows @ wanted
    found: npt.NDArray[np.float32] = np.zeros_like(products)
    np.divide(products, lengths, out=found, where=lengths > 0)
    return found
