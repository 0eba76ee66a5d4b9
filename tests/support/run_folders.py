"""A run's folder as the job leaves it, with few features, written at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.scenes import manifest

RUN_ID = "20260823-141502-k3f9"


@dataclass(frozen=True)
class WrittenRun:
    """What a run holds: paths, labels, features (n, d) and components (n, k)."""

    paths: Sequence[str]
    labels: Sequence[str]
    features: npt.NDArray[np.float32]
    components: npt.NDArray[np.float32]
    rejected: Sequence[tuple[str, str, str, str]] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """The folder; the rows of features/ and pca/ are in different orders, in two files each."""
        order = np.arange(len(self.paths))
        digests = [hashlib.sha256(row.tobytes()).hexdigest() for row in self.features]
        names = {"path": self.paths, "label": self.labels}
        _write(folder / "features", {**names, "sha256": digests, "features": self.features}, order)
        if self.components.shape[1]:
            pca = {**names, "features": self.features, "pca_features": self.components}
            _write(folder / "pca", pca, order[::-1])
            (folder / "pca_model").mkdir()
            k, d = self.components.shape[1], self.features.shape[1]
            np.savez(
                folder / "pca_model" / "pca.npz",
                mean=np.zeros(d),
                scale=np.ones(d),
                components=np.eye(k, d),
            )
        columns = ("path", "label", "error", "message")
        rows = zip(*self.rejected, strict=True) if self.rejected else ((), (), (), ())
        rejected = dict(zip(columns, rows, strict=True))
        _write(folder / "rejected", rejected, np.arange(len(self.rejected)))
        told = manifest(len(self.paths) + len(self.rejected))
        told |= {"run_id": RUN_ID, "engine": "openvino", "precision": "f32", "image_size": 96}
        told |= {"weights": "w.h5", "pca_k": self.components.shape[1] or None, **self.facts}
        told["settings"] |= {"images": "/nowhere", "output": str(folder), **self.settings}
        (folder / "manifest.json").write_text(json.dumps(told))
        return folder


def _write(folder: Path, columns: dict[str, Any], order: npt.NDArray[np.int_]) -> None:
    folder.mkdir(parents=True)
    half = len(order) // 2
    for number, rows in enumerate((order[:half], order[half:])):
        table = {
            name: pa.array([_cell(values[row]) for row in rows], _kind(name))
            for name, values in columns.items()
        }
        pq.write_table(pa.table(table), folder / f"part-{number}.parquet")


def _cell(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _kind(name: str) -> pa.DataType:
    return pa.list_(pa.float32()) if name.endswith("features") else pa.string()


def clouds(
    labels: int = 3, each: int = 20, *, d: int = 16, k: int = 4, apart: float = 8.0, **more: Any
) -> WrittenRun:
    """Labels as clouds of points, the components being the first columns of the features."""
    dice = np.random.default_rng(labels * 1000 + each)
    middles = dice.normal(size=(labels, d)) * apart
    points = np.repeat(middles, each, axis=0) + dice.normal(size=(labels * each, d))
    names = [f"kind {number}" for number in range(labels) for _ in range(each)]
    paths = [f"{label}/{number:05}.jpg" for number, label in enumerate(names)]
    features = points.astype(np.float32)
    return WrittenRun(paths, names, features, features[:, :k].copy(), **more)
