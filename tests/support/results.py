"""What a run left behind, read back for tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds


@dataclass(frozen=True)
class Results:
    """The folder of a run."""

    folder: Path

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of features/, pca/ or rejected/, in the order of their paths."""
        table = ds.dataset(self.folder / name, format="parquet").to_table()
        return sorted(table.to_pylist(), key=lambda row: str(row["path"]))

    def paths(self, name: str) -> list[str]:
        """The paths of those rows."""
        return [row["path"] for row in self.rows(name)]

    def reasons(self) -> dict[str, str]:
        """Rejected path to reason."""
        return {row["path"]: row["error"] for row in self.rows("rejected")}

    def array(self, name: str, column: str) -> npt.NDArray[np.float32]:
        """A column of lists as an array, in the order of the paths."""
        return np.array([row[column] for row in self.rows(name)], np.float32)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run."""
        facts: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        return facts

    @property
    def counts(self) -> dict[str, Any]:
        """The counts of the manifest."""
        counts: dict[str, Any] = self.json("manifest.json")["counts"]
        return counts

    @property
    def error(self) -> dict[str, Any]:
        """The error of progress.json, which has to say that the run failed."""
        progress = self.json("progress.json")
        assert progress["stage"] == "failed"
        error: dict[str, Any] = progress["error"]
        return error

    def stamps(self, name: str) -> dict[str, int]:
        """File to time of its last writing, below a folder of the run."""
        return {file.name: file.stat().st_mtime_ns for file in (self.folder / name).iterdir()}
