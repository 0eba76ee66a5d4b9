"""Compares the features of a precision with those of f32, on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spark_job import pca

Features = npt.NDArray[np.float32]

_MOST_COMPONENTS, _ROWS_PER_COMPONENT = 50, 4
# Set from the measurements that docs/weights-and-speed.md lists, with room below the good ones.
LEAST_COSINE, LEAST_MEDIAN_COSINE, LEAST_EQUAL_NEIGHBOURS = 0.9, 0.97, 0.7
MOST_ACCURACY_LOST, MOST_ANGLE_DEG, MOST_VARIANCE_DIFFERENCE = 0.03, 25.0, 0.02


@dataclass(frozen=True)
class Price:
    """Of `pictures` pictures: cosines with f32, the share whose nearest neighbour is the same one,
    and the share whose nearest neighbour has the same label, in f32 and now; of the first
    `components` principal components: the angle of both subspaces (root mean square of the sines)
    and the difference of the cumulative variance.
    """

    pictures: int
    smallest_cosine: float
    median_cosine: float
    equal_neighbours: float
    accuracy_f32: float
    accuracy: float
    components: int
    subspace_angle_deg: float
    variance_difference: float

    def as_dict(self) -> dict[str, Any]:
        """Its values, rounded."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def price_of(reference: Features, seen: Features, labels: Sequence[str]) -> Price:
    """The price of (n, 1280) features beside the reference ones; n is 8 or more."""
    lengths = np.linalg.norm(reference, axis=1) * np.linalg.norm(seen, axis=1)
    cosines = (reference * seen).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    names = np.asarray(labels)
    before, now = _neighbours(reference), _neighbours(seen)
    k = min(_MOST_COMPONENTS, len(seen) // _ROWS_PER_COMPONENT)
    models = [pca.fit(pca.sums_of([rows], rows.shape[1]), k=k) for rows in (reference, seen)]
    shares = [float(model.explained_variance_ratio.sum()) for model in models]
    overlap = float(((models[0].components @ models[1].components.T) ** 2).sum()) / k
    return Price(
        pictures=len(seen),
        smallest_cosine=float(cosines.min()),
        median_cosine=float(np.median(cosines)),
        equal_neighbours=float((before == now).mean()),
        accuracy_f32=float((names[before] == names).mean()),
        accuracy=float((names[now] == names).mean()),
        components=k,
        subspace_angle_deg=float(np.degrees(np.arcsin(np.sqrt(max(1 - overlap, 0.0))))),
        variance_difference=shares[1] - shares[0],
    )


def _neighbours(features: Features) -> npt.NDArray[np.intp]:
    """The number of each row's nearest other row."""
    rows = features.astype(np.float64)
    squares = (rows**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * rows @ rows.T
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances.argmin(axis=1))


def shortfalls(price: dict[str, Any]) -> list[str]:
    """The values of a price that are beyond the limits, or not numbers."""
    lost = price["accuracy_f32"] - price["accuracy"]
    least = [
        ("smallest cosine", price["smallest_cosine"], LEAST_COSINE),
        ("median cosine", price["median_cosine"], LEAST_MEDIAN_COSINE),
        ("equal nearest neighbours", price["equal_neighbours"], LEAST_EQUAL_NEIGHBOURS),
    ]
    most = [
        ("accuracy lost", lost, MOST_ACCURACY_LOST),
        ("angle of the subspaces", price["subspace_angle_deg"], MOST_ANGLE_DEG),
        ("difference of variance", abs(price["variance_difference"]), MOST_VARIANCE_DIFFERENCE),
    ]
    # Negated, so that NaN fails.
    short = [
        f"{name} {value:.3f}, needed {bound}" for name, value, bound in least if not value >= bound
    ]
    return short + [
        f"{name} {value:.3f}, allowed {bound}" for name, value, bound in most if not value <= bound
    ]
