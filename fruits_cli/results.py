"""What a run left behind, for the people who read it: pca.csv and the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fruits_cli.disk import replacing
from fruits_cli.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST_FILE, PCA_DIR, PCA_CSV = "manifest.json", "pca", "pca.csv"
_COLUMNS = ["path", "label", "pca_features"]
_BATCH_ROWS = 8192
# A spreadsheet would run such a cell as a formula; with an apostrophe before it, it is text.
_FORMULA = "^[=+@\t\r-]"


def load_manifest(run_folder: Path) -> dict[str, Any]:
    """What manifest.json of the run says. Raises UsageError where there is none to read."""
    file = run_folder / MANIFEST_FILE
    try:
        manifest = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no finished run in {run_folder}.", hint=f"A finished one has {file}."
        ) from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{file} is not a manifest: {error}.") from error
    if not isinstance(manifest, dict):
        raise UsageError(f"{file} is not a manifest: it holds no object.")
    return manifest


def write_pca_csv(run_folder: Path) -> Path | None:
    """pca.csv with path, label and pc_1 to pc_k, from pca/*.parquet file by file, batch by batch.

    Quoted as RFC 4180 says; numbers are the shortest that read back as the same float32.
    None where the run has no components. Raises UsageError naming a broken file.
    """
    import pyarrow.csv as pacsv

    batches = _batches(_parts(run_folder / PCA_DIR))
    first = next(batches, None)
    if first is None:
        return None
    target = run_folder / PCA_CSV
    with replacing(target) as scratch, scratch.open("xb") as stream:
        stream.write(",".join(first.schema.names).encode() + b"\n")
        options = pacsv.WriteOptions(include_header=False)
        with pacsv.CSVWriter(stream, first.schema, write_options=options) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
    return target


def _parts(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.parquet") if not file.name.startswith((".", "_")))


def _batches(files: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    """The rows of all files, a column for each component; the first batch decides how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = None
    for file in files:
        try:
            with file.open("rb") as stream, pq.ParquetFile(stream) as rows:
                for batch in rows.iter_batches(_BATCH_ROWS, columns=_COLUMNS):
                    if not batch.num_rows:
                        continue
                    cells = _cells(batch)
                    if schema is not None and cells.schema != schema:
                        raise UsageError(f"{file} has other components than {files[0]}.")
                    schema = cells.schema
                    yield cells
        except (OSError, KeyError, pa.ArrowException) as error:
            raise UsageError(f"{file} cannot be read: {error}.") from error


def _cells(batch: pa.RecordBatch) -> pa.RecordBatch:
    import numpy as np
    import pyarrow as pa

    path, label, rows = (batch.column(name) for name in _COLUMNS)
    rows = rows.cast(pa.list_(pa.float32()))
    lengths = np.diff(rows.offsets.to_numpy())
    if rows.null_count or np.ptp(lengths):
        raise pa.ArrowInvalid("its rows are not equally long")
    components = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), lengths[0])
    columns = [_as_text(path), _as_text(label), *np.ascontiguousarray(components.T)]
    names = ["path", "label", *(f"pc_{number + 1}" for number in range(lengths[0]))]
    return pa.record_batch([pa.array(column) for column in columns], names)


def _as_text(column: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    is_formula = pc.match_substring_regex(column, _FORMULA)
    return pc.if_else(is_formula, pc.binary_join_element_wise("'", column, ""), column)
