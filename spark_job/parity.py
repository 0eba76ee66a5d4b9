"""Whether features in one precision, or by one machine's kernels, are near those in f32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SEED = 20
F32_LIMIT, BF16_COSINE = 1e-3, 0.99

Features = npt.NDArray[np.float32]


def smooth_pictures(count: int, side_px: int) -> npt.NDArray[np.uint8]:
    """`count` seeded pictures of coloured clouds, (count, side_px, side_px, 3), for calibration."""
    from PIL import Image

    dice = np.random.default_rng(SEED)
    grids = [dice.integers(0, 256, (cells, cells, 3)) for cells in dice.integers(2, 24, count)]
    side = (side_px, side_px)
    return np.stack([np.asarray(Image.fromarray(g.astype(np.uint8)).resize(side)) for g in grids])


def max_difference(seen: Features, expected: Features) -> float:
    """The largest difference of two numbers; NaN where one is."""
    return float(np.abs(seen - expected).max())


def min_cosine(seen: Features, expected: Features) -> float:
    """The smallest cosine of two rows; NaN where a number is."""
    norms = np.linalg.norm(seen, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((seen * expected).sum(axis=1) / norms).min())
