"""Reads what the job wrote into a run's folder: its manifest and its Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from fruits_cli.errors import UsageError
from fruits_cli.files import parse_json, read_document

if TYPE_CHECKING:
    import pyarrow as pa

# Below the working folder, one folder for each run.
RUNS_DIR = "fruits-runs"
MANIFEST_FILE, MODEL_FILE = "manifest.json", "pca_model/pca.npz"
# What a resumed run is compared with.
PLAN_FILE = "_plan/job.json"
FEATURES_DIR, PCA_DIR, REJECTED_DIR = "features", "pca", "rejected"
_TEXTS = ("path", "label", "sha256", "error", "message")
# What `fruits report` adds: the page, and a folder of numbers and lists.
REPORT_FILE, REPORT_DIR = "report.html", "report"
_BATCH_ROWS = 8192


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


class _Counts(_Checked):
    pictures: int
    features: int
    rejected: int
    rejected_by_reason: dict[str, int]
    # Older runs have no such counts.
    inferences: int = 0
    reused: int = 0
    twins: int = 0
    lost: int = 0
    gone: int = 0
    unread: int = 0


class _Manifest(_Checked):
    """What is read of a manifest, which whoever may write to the bucket may have written."""

    counts: _Counts
    seconds: dict[str, FiniteFloat]
    settings: dict[str, Any]
    pca_k: int | None
    cumulative_variance: FiniteFloat | None
    engine: str = ""
    precision: str = ""
    image_size: int = 0
    weights: str = ""
    model_fingerprint: str = ""
    reused_from: list[str] = []


def parts(folder: Path) -> list[Path]:
    """The Parquet files of a folder, without those that are being written."""
    return sorted(file for file in folder.glob("*.parquet") if not file.name.startswith((".", "_")))


def load_manifest(run_folder: Path) -> dict[str, Any]:
    """What manifest.json of the run says. Raises UsageError where there is none to read."""
    file = run_folder / MANIFEST_FILE
    try:
        return parse_manifest(read_document(file), file)
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no finished run in {run_folder}.", hint=f"A finished one has {file}."
        ) from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error


def planned_model(plan: bytes | None) -> str:
    """The fingerprint of the model that a run began with, out of its plan; empty if there is none.

    plan: the bytes of PLAN_FILE.
    """
    try:
        return str(parse_json(plan or b"")["fingerprint"])
    except (ValueError, KeyError, TypeError):
        return ""


def parse_manifest(content: bytes, name: object) -> dict[str, Any]:
    """A manifest out of the bytes of the file of that name. Raises UsageError where it is none."""
    try:
        manifest = parse_json(content)
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])[:100]
        said = f"it has no {place}" if fault["type"] == "missing" else f"its {place} is wrong"
        raise UsageError(
            f"{name} is not a manifest: {said if place else 'it is no object'}."
        ) from error
    except ValueError as error:
        raise UsageError(f"{name} is not a manifest: {error}.") from error
    return dict(manifest)


def read_columns(
    files: Sequence[Path],
    columns: Sequence[str],
    *,
    optional: Sequence[str] = (),
    batch_rows: int = _BATCH_ROWS,
    as_arrow: bool = False,
) -> Iterator[dict[str, Any]]:
    """The columns batch by batch: features as (n, d) float32, all else as Python values, or Arrow.

    An optional column is left out where a file has none. Raises UsageError naming the file that
    cannot be read, lacks a column, or whose lists are not equally long.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def values(name: str, column: pa.Array) -> Any:
        if name.endswith("features"):
            return _feature_rows(column)
        if name in _TEXTS:
            column = _texts(column, may_be_null=name not in ("path", "label"))
        return column if as_arrow else column.to_pylist()

    for file in files:
        try:
            with file.open("rb") as stream, pq.ParquetFile(stream) as rows:
                there = set(rows.schema_arrow.names)
                if missing := set(columns) - there:
                    raise KeyError(f"it has no column {min(missing)}")
                wanted = [*columns, *(name for name in optional if name in there)]
                for batch in rows.iter_batches(batch_rows, columns=wanted) if wanted else ():
                    if batch.num_rows:
                        yield {name: values(name, batch[name]) for name in wanted}
        except (OSError, KeyError, pa.ArrowException) as error:
            raise UsageError(f"{file} cannot be read: {error.args[0]}.") from error


def _texts(column: pa.Array, *, may_be_null: bool) -> pa.Array:
    """The cells as text that is valid everywhere, numbers too, and none of them missing."""
    import pyarrow as pa

    texts = column.cast(pa.string())
    # A column that says it is text may have been written as any bytes.
    texts.validate(full=True)
    if texts.null_count and not may_be_null:
        raise pa.ArrowInvalid("it has rows without a path or a label")
    return texts.fill_null("") if texts.null_count else texts


def _feature_rows(column: pa.Array) -> Any:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = column.cast(pa.list_(pa.float32()))
    shortest, longest = pc.min_max(pc.list_value_length(rows)).as_py().values()
    if rows.null_count or shortest != longest:
        raise pa.ArrowInvalid("its rows are not equally long")
    values = rows.flatten()
    if values.null_count:
        values = values.fill_null(float("nan"))
    # pyarrow's own to_numpy imports pandas, half a second.
    return np.from_dlpack(values).reshape(len(rows), longest)
