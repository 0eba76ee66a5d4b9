"""Principal components of feature rows: mergeable sums, eigenvectors, projection. numpy alone."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating[Any]]

# The product of more rows at once is no faster; it only needs more memory.
BLOCK_ROWS = 2048


@dataclass(frozen=True)
class Sums:
    """Row count, mean (d,) and centred scatter (d, d) of some rows, all in float64.

    Kept centred, because sums of squares about 0 lose the variance of columns with large means.
    """

    n: int
    mean: Floats
    scatter: Floats

    def __add__(self, other: Sums) -> Sums:
        """Sums of both sets of rows. Source: Chan, Golub, LeVeque 1983, pairwise update."""
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        n = self.n + other.n
        delta = other.mean - self.mean
        scatter = np.multiply.outer(delta, delta * (self.n * other.n / n))
        scatter += self.scatter
        scatter += other.scatter
        return Sums(n, self.mean + delta * (other.n / n), scatter)

    def __sub__(self, other: Sums) -> Sums:
        """Sums of these rows without some of them, which must be fewer; exact to rounding."""
        if other.n == 0:
            return self
        n = self.n - other.n
        mean = self.mean - (other.mean - self.mean) * (other.n / n)
        delta = other.mean - mean
        scatter = np.multiply.outer(delta, delta * (-n * other.n / self.n))
        scatter += self.scatter
        scatter -= other.scatter
        return Sums(n, mean, scatter)

    def npz(self) -> bytes:
        """The sums as an uncompressed .npz file: of the scatter its upper triangle, 6.6 MB."""
        buffer = io.BytesIO()
        triangle = self.scatter[np.triu_indices(len(self.mean))]
        np.savez(buffer, n=np.int64(self.n), mean=self.mean, triangle=triangle)
        return buffer.getvalue()


def load_sums(npz: bytes) -> Sums:
    """What `Sums.npz` wrote. Raises ValueError, KeyError."""
    with np.load(io.BytesIO(npz)) as arrays:
        n, mean, triangle = int(arrays["n"]), arrays["mean"], arrays["triangle"]
    upper = np.triu_indices(len(mean))
    scatter = np.empty((len(mean), len(mean)))
    scatter[upper] = triangle
    scatter.T[upper] = triangle
    return Sums(n, mean, scatter)


@dataclass(frozen=True)
class PcaModel:
    """mean (d,), scale (d,), components (k, d), explained_variance (k,) and its ratio (k,)."""

    mean: Floats
    scale: Floats
    components: Floats
    explained_variance: Floats
    explained_variance_ratio: Floats

    @property
    def k(self) -> int:
        """Number of components."""
        return len(self.components)

    def project(self, features: Features) -> npt.NDArray[np.float32]:
        """Centred, scaled projection of (n, d) to (n, k)."""
        centred = (features.astype(np.float64) - self.mean) / self.scale
        return (centred @ self.components.T).astype(np.float32)

    def npz(self) -> bytes:
        """The arrays as an uncompressed .npz file, which numpy alone reads back."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            mean=self.mean,
            scale=self.scale,
            components=self.components,
            explained_variance=self.explained_variance,
            explained_variance_ratio=self.explained_variance_ratio,
        )
        return buffer.getvalue()


def no_sums(d: int) -> Sums:
    """Sums of no rows."""
    return Sums(0, np.zeros(d), np.zeros((d, d)))


def sums_of(blocks: Iterable[Features], d: int) -> Sums:
    """Sums of all rows of the (n, d) blocks, however many, in the memory of one block."""
    return functools.reduce(Sums.__add__, map(_block_sums, _regrouped(blocks)), no_sums(d))


def _block_sums(rows: Features) -> Sums:
    centred = rows.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    return Sums(len(rows), mean, centred.T @ centred)


def _regrouped(blocks: Iterable[Features]) -> Iterator[Features]:
    # Adding two (d, d) scatters costs as much as the product of some hundred rows.
    held: list[Features] = []
    for block in blocks:
        for start in range(0, len(block), BLOCK_ROWS):
            held.append(block[start : start + BLOCK_ROWS])
            if sum(map(len, held)) >= BLOCK_ROWS:
                yield np.concatenate(held)
                held = []
    if held:
        yield np.concatenate(held)


def fit(
    sums: Sums,
    *,
    k: int | None = None,
    variance: float | None = None,
    standardize: bool = False,
) -> PcaModel:
    """Principal components of the rows behind `sums`, by number or by share of variance.

    ddof is n - 1; the largest absolute loading of each component is positive; with `standardize`
    a column without variance keeps scale 1. Neither k nor variance: min(50, n - 1). n is 2 or more.
    """
    d = len(sums.mean)
    covariance = sums.scatter / (sums.n - 1)
    scale = np.ones(d)
    if standardize:
        deviation = np.sqrt(np.diagonal(covariance))
        # Rounding leaves a constant column a variance of about 1e-32 of its mean's square.
        varies = deviation > 1e-12 * np.maximum(1.0, np.abs(sums.mean))
        scale[varies] = deviation[varies]
        covariance = covariance / np.multiply.outer(scale, scale)
    most = min(sums.n - 1, d)
    values, vectors = _eigenpairs(covariance, most)
    explained = np.maximum(values[::-1][:most], 0.0)
    total = explained.sum()
    ratio = explained / total if total > 0 else np.zeros_like(explained)
    kept = _kept(ratio, k, variance, sums.n)
    components = _with_fixed_signs(vectors[:, ::-1][:, :kept].T)
    return PcaModel(sums.mean, scale, components, explained[:kept], ratio[:kept])


def _eigenpairs(covariance: Floats, rank: int) -> tuple[Floats, Floats]:
    """Rising eigenvalues (m,) and their vectors (d, m), m at least `rank`, which bounds that of
    the (d, d) covariance: of few rows the small product of its root has the same ones.
    """
    if rank > len(covariance) // 2:
        return np.linalg.eigh(covariance)
    root = _root(covariance, rank)
    values, small = np.linalg.eigh(root.T @ root)
    # Beyond the true rank lie zeros, whose vectors are any that are orthogonal to the others.
    lengths = np.sqrt(np.maximum(values, np.finfo(np.float64).tiny))
    vectors, triangle = np.linalg.qr((root @ small / lengths)[:, ::-1])
    return values, (vectors * np.where(np.diagonal(triangle) < 0, -1.0, 1.0))[:, ::-1]


def _root(covariance: Floats, rank: int) -> Floats:
    """(d, rank) R with R @ R.T = covariance, which has no higher rank.

    Source: Cholesky with complete pivoting; Higham, Accuracy and Stability, 10.3.
    """
    root = np.zeros((len(covariance), rank))
    left = np.diagonal(covariance).copy()
    least = np.finfo(np.float64).eps * len(covariance) * max(left.max(), 0.0)
    for column in range(rank):
        pivot = int(left.argmax())
        if left[pivot] <= least:
            break
        part = covariance[:, pivot] - root[:, :column] @ root[pivot, :column]
        root[:, column] = part / np.sqrt(left[pivot])
        left -= root[:, column] ** 2
        left[pivot] = 0.0
    return root


def _kept(ratio: Floats, k: int | None, variance: float | None, n: int) -> int:
    if variance is None:
        return min(k or min(50, n - 1), len(ratio))
    # Half a rounding of the sum, so that a share of 1.0 can be reached.
    reached = np.cumsum(ratio) >= variance - 1e-12
    return int(np.argmax(reached)) + 1 if reached.any() else len(ratio)


def _with_fixed_signs(components: Floats) -> Floats:
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return np.ascontiguousarray(components * np.where(signs == 0, 1.0, signs)[:, None])
