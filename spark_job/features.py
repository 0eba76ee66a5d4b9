"""Computes one chunk: each picture becomes a feature row or a rejected row."""

from __future__ import annotations

import errno
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from spark_job import chunks, images, schema
from spark_job.chunks import Tally
from spark_job.errors import JobError
from spark_job.files import Place
from spark_job.pictures import Picture

Embed = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]

# Decoded before they are computed: a multiple of every engine's batch.
_TOGETHER = 8
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass
class ChunkResult:
    """Rows of one chunk, column by column."""

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    features: list[npt.NDArray[np.float32]] = field(default_factory=list)
    rejected: list[tuple[str, str, int, str, str]] = field(default_factory=list)
    # By sha256: error and message of those whose bytes are the reason, so that it stays one.
    refusals: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, picture: Picture) -> None:
        """Add a row, whose features come later."""
        self.paths.append(picture.path)
        self.labels.append(picture.label)
        self.digests.append(_digest_of(picture))

    def reject(self, picture: Picture, why: images.Refusal) -> None:
        """Add a rejected row."""
        row = (picture.path, picture.label, picture.length, why.error, why.message)
        self.rejected.append(row)
        if picture.refusal is None and not isinstance(why.__cause__, MemoryError):
            self.refusals[_digest_of(picture)] = (why.error, why.message)

    def tally(self, copied: int = 0) -> Tally:
        """The counts of this chunk, with so many rows that were copied."""
        reasons = Counter(row[3] for row in self.rejected)
        rows = len(self.paths) + copied
        return Tally(rows + len(self.rejected), rows, dict(reasons))

    def feature_table(self) -> pa.Table:
        """The feature rows."""
        rows = np.concatenate(self.features) if self.features else np.empty((0, schema.FEATURES))
        columns = [
            pa.array(values, pa.string()) for values in (self.paths, self.labels, self.digests)
        ]
        return pa.Table.from_arrays([*columns, list_column(rows)], schema=schema.FEATURE_ROWS)

    def rejected_table(self) -> pa.Table:
        """The rejected rows."""
        columns = list(zip(*self.rejected, strict=True)) or [()] * len(schema.REJECTED_ROWS)
        arrays = [pa.array(c, t) for c, t in zip(columns, schema.REJECTED_ROWS.types, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema.REJECTED_ROWS)


def _digest_of(picture: Picture) -> str:
    """sha256 of its bytes. Raises JobError (1) where a dataset has it with other bytes."""
    digest = hashlib.sha256(picture.content).hexdigest()
    if picture.sha256 not in ("", digest):
        raise JobError(
            1,
            f"{picture.path} has other bytes in its shard than the dataset says.",
            hint="Pack the pictures again.",
        )
    return digest


def list_column(rows: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> pa.ListArray:
    """An (n, d) array as n Arrow lists of d float32, without a Python list between."""
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(rows.astype(np.float32, copy=False).ravel()))


def feature_array(table: pa.Table) -> npt.NDArray[np.float32]:
    """The column `features` as (n, 1280) float32."""
    flat = table.column("features").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(-1, schema.FEATURES)


def embed_chunk(pictures: Iterable[Picture], embed: Embed, *, side_px: int) -> ChunkResult:
    """Features of every picture that decodes, a reason for every one that does not.

    embed: (n, side_px, side_px, 3) uint8 to (n, 1280) float32, made once per Python worker.
    """
    result = ChunkResult()
    decoded = _decoded(pictures, side_px, result)
    while batch := list(itertools.islice(decoded, _TOGETHER)):
        result.features.append(embed(np.stack(batch)))
    return result


def _decoded(
    pictures: Iterable[Picture], side_px: int, result: ChunkResult
) -> Iterator[npt.NDArray[np.uint8]]:
    """The pixels of each usable picture, once the rest of its row is in the result."""
    for picture in pictures:
        try:
            if picture.refusal:
                raise picture.refusal
            pixels = images.decoded(picture.content, side_px)
            result.add(picture)
        except images.Refusal as refusal:
            result.reject(picture, refusal)
            continue
        finally:
            # Up to 128 MiB, which must be gone before the next one is read.
            del picture
        yield pixels


def write_chunk(
    output: Place, chunk: int, table: pa.Table, result: ChunkResult, tally: Tally
) -> None:
    """Publish a chunk's feature rows and rejected rows, then its marker. Raises OSError."""
    tables = {chunks.features_file(chunk): table}
    # One file of rejected rows is always there, so that readers find the columns.
    if result.rejected or chunk == 0:
        tables[chunks.rejected_file(chunk)] = result.rejected_table()
    else:
        # An attempt that died before its marker may have rejected what can be read by now.
        output.remove(chunks.rejected_file(chunk))
    written = {name: write_table(output, name, table) for name, table in tables.items()}
    digests = table["sha256"].to_pylist()
    written[chunks.features_file(chunk)]["rows"] = chunks.digest_of_rows(digests)
    output.write(chunks.marker_file(chunk), chunks.marker(chunk, tally, written, result.refusals))


def write_table(output: Place, name: str, table: pa.Table) -> dict[str, int | str]:
    """Publish a table as Parquet; its bytes and sha256."""
    buffer = pa.BufferOutputStream()
    # Features do not repeat: a dictionary would be tried in vain for each page.
    pq.write_table(
        table, buffer, compression="zstd", use_dictionary=["label"], write_statistics=False
    )
    content = buffer.getvalue()
    output.write(name, content)
    return {"bytes": content.size, "sha256": hashlib.sha256(content).hexdigest()}


def read_table(place: Place, name: str, columns: list[str]) -> pa.Table:
    """Columns of a Parquet file of a run. Raises OSError, ArrowException."""
    with place.open(name) as stream:
        return pq.ParquetFile(stream).read(columns)


def no_space(error: OSError, place: Place) -> JobError | None:
    """The error of a full disk, None for any other."""
    if error.errno not in _NO_SPACE and "No space left" not in str(error):
        return None
    return JobError(
        1,
        f"There is no space left to write to {place.uri}.",
        hint="Free some and continue with fruits run --resume.",
    )
