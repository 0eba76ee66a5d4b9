"""How the variance of features is spread over their principal components."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

SHARES = (0.80, 0.90, 0.95, 0.99)


def spectrum(blocks: Iterable[npt.NDArray[np.float32]], *, standardize: bool) -> list[float]:
    """The share of the variance of every component of all rows, the largest first.

    blocks: (n, d) features, of which one is held at a time. Empty for fewer than two rows.
    """
    n, shift, total = 0, None, np.zeros(0)
    scatter = np.zeros((0, 0))
    for block in blocks:
        if shift is None:
            shift = block.mean(axis=0)
            total, scatter = np.zeros(block.shape[1]), np.zeros((block.shape[1],) * 2)
        # About a mean of some rows, so that float32 is exact enough for the product.
        moved = block - shift
        total += moved.sum(axis=0, dtype=np.float64)
        scatter += moved.T @ moved
        n += len(block)
    if n < 2:
        return []
    scatter -= np.multiply.outer(total, total / n)
    if standardize:
        deviation = np.sqrt(np.maximum(np.diagonal(scatter), 0.0))
        deviation[deviation <= 1e-6 * max(1.0, float(deviation.max(initial=0.0)))] = np.inf
        scatter /= np.multiply.outer(deviation, deviation)
    values = np.maximum(np.linalg.eigvalsh(scatter)[::-1][: min(n - 1, len(scatter))], 0.0)
    whole = values.sum()
    return [float(value) for value in values / whole] if whole > 0 else []


def components_for(ratio: Sequence[float], share: float) -> int | None:
    """How many components hold that share of the variance; None where these are too few."""
    reached = np.cumsum(ratio) >= share - 1e-9
    return int(np.argmax(reached)) + 1 if reached.any() else None
