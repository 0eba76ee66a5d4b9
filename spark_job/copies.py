"""Copies what reuse.py found: feature rows and refusals of earlier runs, and rows of twins.

A features file that is gone or is not what its marker says costs its rows a computation, never a
wrong row.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from spark_job import chunks, features, files, reuse, schema
from spark_job.chunks import Plan
from spark_job.features import ChunkResult
from spark_job.files import Found, Place
from spark_job.pictures import label_of, packed_columns
from spark_job.reuse import OWNER, SURPLUS, TWIN, Rows, Source

_TWINS_DIR, _ADDED_DIR = f"{reuse.SCRATCH_DIR}/twins", f"{reuse.SCRATCH_DIR}/added"
_COLUMNS = ["sha256", "features"]
# A file of 10 MB is read and checked in the time of computing some 16 rows.
_FEW_FILES, _FEW_ROWS = 16, 16
_NOT_WHOLE = (OSError, ValueError, KeyError, TypeError, pa.ArrowException)


@dataclass(frozen=True)
class Copied:
    """Rows of one chunk that need no computing: feature rows, and their places in the chunk."""

    table: pa.Table = field(default_factory=schema.FEATURE_ROWS.empty_table)
    places: tuple[int, ...] = ()
    # Of the places, those whose rows the newest source's sums count.
    counted: frozenset[int] = frozenset()
    # Place to digest, error and message of pictures that an earlier run refused for their bytes.
    refused: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    # So many rows stand in this run twice.
    twins: int = 0
    # Rows that were found, and whose file is gone or changed.
    lost: int = 0
    # Path, label and length of every picture of the chunk.
    names: pa.Table | None = None


@dataclass(frozen=True)
class _Origin:
    """A chunk of an earlier run, or twins of this one; empty where its file is not whole."""

    table: pa.Table = field(
        default_factory=lambda: schema.FEATURE_ROWS.empty_table().select(_COLUMNS)
    )
    refusals: dict[str, tuple[str, str]] = field(default_factory=dict)


def owned(output: Place, chunk: int) -> set[int]:
    """Places of the pictures in this chunk that others copy."""
    rows = reuse.load_hits(output, chunk)
    return {int(pos) for pos in rows["pos"][rows["source"] == OWNER]}


def write_twins(output: Place, chunk: int, table: pa.Table) -> None:
    """Keep the features of pictures that stand in several places of the run."""
    features.write_table(output, _twins_file(chunk), table)


def _twins_file(chunk: int) -> str:
    return f"{_TWINS_DIR}/{chunk:07}.parquet"


def copied(
    plan: Plan,
    images: Place,
    output: Place,
    sources: Sequence[Source],
    chunk: int,
    rows: list[Found],
) -> Copied:
    """The chunk's rows out of earlier runs, and of pictures that another place of this run owns."""
    hits = reuse.load_hits(output, chunk)
    surplus = set(hits["pos"][hits["source"] == SURPLUS].tolist())
    hits = worth_copying(hits[(hits["source"] >= 0) | (hits["source"] == TWIN)])
    if not len(hits):
        return Copied()
    tables, places, counted, refused = [], [], set[int](), {}
    twins = lost = 0
    for source, number in sorted({(int(hit["source"]), int(hit["chunk"])) for hit in hits}):
        wanted = hits[(hits["source"] == source) & (hits["chunk"] == number)]
        origin = _origin(output, sources, source, number)
        known = {text: row for row, text in enumerate(origin.table["sha256"].to_pylist())}
        there = []
        for hit in wanted:
            digest, pos = _hex(hit), int(hit["pos"])
            if digest in known:
                there.append(known[digest])
                places.append(pos)
            elif digest in origin.refusals:
                error, message = origin.refusals[digest]
                refused[pos] = (digest, error, message)
            else:
                lost += source != TWIN
        tables.append(origin.table.take(pa.array(there, pa.int64())))
        twins += len(there) if source == TWIN else 0
        if source == 0:
            counted.update(places[len(places) - len(there) :])
    names = _names(plan, images, rows)
    table = _renamed(pa.concat_tables(tables), names, places)
    return Copied(table, tuple(places), frozenset(counted - surplus), refused, twins, lost, names)


def worth_copying(hits: Rows) -> Rows:
    """Of hits in many files those whose file has several, and twins: a run whose rows lie in
    another order would read every file for each of its chunks."""
    _, file, counts = np.unique(hits[["source", "chunk"]], return_inverse=True, return_counts=True)
    if len(counts) <= _FEW_FILES:
        return hits
    kept: Rows = hits[(counts[file] >= _FEW_ROWS) | (hits["source"] == TWIN)]
    return kept


def _renamed(table: pa.Table, names: pa.Table, places: list[int]) -> pa.Table:
    """The rows under the paths and labels that their pictures have in this run."""
    taken = names.take(pa.array(places, pa.int64()))
    columns = [taken["path"], taken["label"], table["sha256"], table["features"]]
    return pa.Table.from_arrays(columns, schema=schema.FEATURE_ROWS)


def _hex(hit: np.void) -> str:
    # numpy takes zero bytes at the end for padding.
    return bytes(hit["digest"]).ljust(32, b"\0").hex()


def _origin(output: Place, sources: Sequence[Source], source: int, chunk: int) -> _Origin:
    if source == TWIN:
        with contextlib.suppress(*_NOT_WHOLE):
            return _Origin(features.read_table(output, _twins_file(chunk), _COLUMNS))
        return _Origin()
    return _earlier(sources[source].uri, chunk, has_refusals=sources[source].refusals)


# The rows of a chunk mostly lie in two files, of which the next chunk has one: 10 MB each.
@functools.lru_cache(maxsize=2)
def _earlier(uri: str, chunk: int, *, has_refusals: bool) -> _Origin:
    try:
        run, name = files.place(uri), chunks.features_file(chunk)
        content = run.read(name)
        told = chunks.load_marker(run, chunk)
        if hashlib.sha256(content).hexdigest() != told["files"][name]["sha256"]:
            raise ValueError(f"{name} is not what its marker says")
        table = pq.ParquetFile(pa.BufferReader(content)).read(_COLUMNS)
        return _Origin(table, told.get("refusals", {}) if has_refusals else {})
    except _NOT_WHOLE:
        return _Origin()


def _names(plan: Plan, images: Place, rows: list[Found]) -> pa.Table:
    """Path, label and length of every picture of a chunk with these rows of the listing."""
    if plan.kind == "dataset":
        return packed_columns(images, rows, ["path", "label", "length"])
    paths = [row.path for row in rows]
    labels = [label_of(path, plan) for path in paths]
    return pa.table(
        {
            "path": pa.array(paths, pa.string()),
            "label": pa.array(labels, pa.string()),
            "length": pa.array([row.size for row in rows], pa.int64()),
        }
    )


def reject_again(result: ChunkResult, known: Copied) -> None:
    """Add the rejected rows of the pictures that an earlier run refused."""
    if known.names is None or not known.refused:
        return
    places = sorted(known.refused)
    for place, row in zip(places, known.names.take(places).to_pylist(), strict=True):
        digest, error, message = known.refused[place]
        result.rejected.append((row["path"], row["label"], row["length"], error, message))
        result.refusals[digest] = (error, message)


def merged(computed: pa.Table, known: Copied) -> pa.Table:
    """All feature rows of a chunk, in the order of its pictures."""
    if known.names is None or not known.places:
        return computed
    place = {path: number for number, path in enumerate(known.names["path"].to_pylist())}
    places = [*(place[path] for path in computed["path"].to_pylist()), *known.places]
    return pa.concat_tables([computed, known.table]).take(np.argsort(places, kind="stable"))


def write_added(output: Place, chunk: int, result: ChunkResult, known: Copied) -> None:
    """Keep the features of a chunk's rows that the newest source's sums do not count."""
    copied_too = [n for n, place in enumerate(known.places) if place not in known.counted]
    rows = features.feature_array(known.table.take(pa.array(copied_too, pa.int64())))
    added = np.concatenate([*result.features, rows])
    if len(added):
        output.write(f"{_ADDED_DIR}/{chunk}.npy", added.tobytes())


def added_chunks(output: Place) -> list[int]:
    """The chunks with rows that `write_added` kept."""
    return sorted(int(name.removesuffix(".npy")) for name in output.list(_ADDED_DIR))


def load_added(output: Place, chunk: int) -> npt.NDArray[np.float32]:
    """What `write_added` kept of a chunk."""
    content = output.read(f"{_ADDED_DIR}/{chunk}.npy")
    return np.frombuffer(content, np.float32).reshape(-1, schema.FEATURES)


def load_gone(output: Place, newest: Source, chunk: int) -> npt.NDArray[np.float32]:
    """Features of the newest source's rows that are gone; fewer where its file is not whole."""
    gone = reuse.load_gone(output, chunk)
    table = _origin(output, [newest], 0, chunk).table
    places = [int(hit["pos"]) for hit in gone]
    there = [place for place in places if place < table.num_rows]
    return features.feature_array(table.take(pa.array(there, pa.int64())))
