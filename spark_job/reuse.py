"""Features that an earlier run computed from the same bytes, found by digest and copied.

    known digests, wanted digests -> buckets by prefix -> matches -> one file of hits for each chunk

Rows meet in buckets on the executors, as arrays: only counts and chunk numbers reach the driver.
What stands in a hit is looked up once more when it is copied: a features file that is gone or is
not what its marker says costs its rows a computation, never a wrong row.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from spark_job import chunks, features, files, probe, schema
from spark_job.chunks import Plan
from spark_job.files import Found, Place

if TYPE_CHECKING:
    from pyspark import SparkContext

# `source` of a row: a run of `sources` by number, else one of these.
TWIN, OWNER, WANTED = -1, -2, -3
# In the place of a chunk: how many pictures of the newest run are in this one no more.
GONE = -1
_ROW = np.dtype([("digest", "S32"), ("source", "i4"), ("chunk", "i4"), ("pos", "i4")])
Rows = npt.NDArray[np.void]
_BUCKET_ROWS, _MOST_SOURCES, _MOST_LOOKED_AT = 500_000, 16, 256
_HITS_DIR, _TWINS_DIR = f"{schema.PLAN_DIR}/hits", f"{schema.PLAN_DIR}/twins"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def key_of(plan: Plan) -> str:
    """What features depend on beside the picture's bytes: model, engine and pixels, as a digest.

    The versions of decoders do not count, their pixels do.
    """
    engine = importlib.metadata.version(plan.engine)
    facts = [plan.fingerprint, plan.engine, engine, plan.precision, plan.image_size]
    return hashlib.sha256(json.dumps([*facts, probe.digest(plan.image_size)]).encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """A finished run whose features were made as this run's will be."""

    uri: str
    run_id: str
    chunks: int
    features: int


def find_sources(uris: Iterable[str], key: str, output: Place) -> list[Source]:
    """The newest runs of that key among these runs and folders of runs, at most 16."""
    places = {place.base: place for uri in uris for place in _runs_at(files.place(uri))}
    places.pop(output.base, None)
    newest = sorted(places.values(), key=lambda place: place.name, reverse=True)[:_MOST_LOOKED_AT]
    found = (source for place in newest if (source := _source(place, key)))
    return list(itertools.islice(found, _MOST_SOURCES))


def _runs_at(place: Place) -> Iterator[Place]:
    if place.exists(schema.MANIFEST_FILE):
        yield place
        return
    selector = pafs.FileSelector(place.base, allow_not_found=True)
    for info in place.fs.get_file_info(selector):
        if info.type == pafs.FileType.Directory:
            name = PurePosixPath(info.path).name
            yield Place(f"{place.uri.rstrip('/')}/{name}", place.fs, info.path)


def _source(place: Place, key: str) -> Source | None:
    try:
        facts = json.loads(place.read(schema.MANIFEST_FILE))
        if facts["reuse_key"] != key:
            return None
        counts = facts["counts"]
        return Source(place.uri, facts["run_id"], int(counts["chunks"]), int(counts["features"]))
    except (OSError, ValueError, KeyError, TypeError):
        # A run in progress, one of an older version, or no run at all.
        return None


def known_rows(
    sources: Sequence[Source], count: int, numbers: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, Rows]]:
    """Digests of the chunks (source, chunk), by bucket; a file that cannot be read gives none."""
    for source, chunk in numbers:
        try:
            table = features.read_table(
                files.place(sources[source].uri), chunks.features_file(chunk), ["sha256"]
            )
        except (OSError, pa.ArrowException, KeyError):
            continue
        digests = [bytes.fromhex(text) for text in table.column("sha256").to_pylist()]
        yield from by_bucket(rows_of(digests, source, chunk, range(len(digests))), count)


def wanted_rows(
    plan: Plan, output_uri: str, count: int, numbers: Iterable[int]
) -> Iterator[tuple[int, Rows]]:
    """Digests of the pictures of these chunks, by bucket."""
    source, output = files.place(plan.images), files.place(output_uri)
    inputs = chunks.Inputs(output, plan.rows_per_chunk)
    for chunk in numbers:
        found = list(_digests(plan, source, inputs.of(chunk)))
        digests, places = [d for _, d in found], [pos for pos, _ in found]
        yield from by_bucket(rows_of(digests, WANTED, chunk, places), count)


def _digests(plan: Plan, source: Place, rows: list[Found]) -> Iterator[tuple[int, bytes]]:
    if plan.kind == "dataset":
        texts = features.packed_columns(source, rows, ["sha256"]).column("sha256").to_pylist()
        # A row without content has a word there.
        yield from (
            (pos, bytes.fromhex(t)) for pos, t in enumerate(texts) if _DIGEST.fullmatch(t or "")
        )
        return
    for pos, picture in enumerate(features.pictures_of(plan, source, rows, check=False)):
        if picture.refusal is None:
            yield pos, hashlib.sha256(picture.content).digest()


def rows_of(digests: list[bytes], source: int, chunk: int, places: Iterable[int]) -> Rows:
    """Rows of a chunk, known by a source or wanted by this run, with their places in it."""
    rows = np.empty(len(digests), _ROW)
    rows["digest"], rows["source"], rows["chunk"] = digests, source, chunk
    rows["pos"] = list(places)
    return rows


def by_bucket(rows: Rows, count: int) -> Iterator[tuple[int, Rows]]:
    """The rows parted into `count` buckets by their digests alone."""
    if not len(rows):
        return
    head = np.frombuffer(rows["digest"].tobytes(), ">u4").reshape(len(rows), 8)[:, 0]
    bucket = head % count
    for number in np.unique(bucket):
        yield int(number), rows[bucket == number]


def matches(bucket: Iterable[Rows]) -> Iterator[tuple[int, Rows]]:
    """The hits of one bucket by chunk of this run: rows of earlier runs, then twins in this one.

    Of pictures with the same bytes that nobody knows, the first is the owner: it is computed
    before all others, which copy it.
    """
    rows = np.concatenate(list(bucket))
    known, wanted = rows[rows["source"] >= 0], rows[rows["source"] == WANTED]
    # Of several runs that know a picture the newest is read: then most rows are in few files.
    known = known[np.argsort(known["source"], kind="stable")]
    _, first = np.unique(known["digest"], return_index=True)
    known = known[first]
    place = np.minimum(np.searchsorted(known["digest"], wanted["digest"]), max(len(known) - 1, 0))
    newest = known["digest"][known["source"] == 0]
    gone = len(newest) - int(np.isin(newest, wanted["digest"]).sum())
    yield GONE, np.array([(b"", 0, 0, gone)], _ROW)
    is_known = (
        known["digest"][place] == wanted["digest"] if len(known) else np.zeros(len(wanted), bool)
    )
    hits = wanted[is_known].copy()
    origin = known[place[is_known]] if len(known) else hits
    yield from _by_chunk(hits["chunk"], _hits(hits, origin["source"], origin["chunk"]))
    yield from _twins(wanted[~is_known])


def _twins(unknown: Rows) -> Iterator[tuple[int, Rows]]:
    unknown = unknown[np.lexsort((unknown["pos"], unknown["chunk"], unknown["digest"]))]
    _, first, inverse, counts = np.unique(
        unknown["digest"], return_index=True, return_inverse=True, return_counts=True
    )
    several = counts[inverse] > 1
    owners = unknown[first[inverse]][several]
    twins = unknown[several]
    yield from _by_chunk(twins["chunk"], _hits(twins, TWIN, owners["chunk"]))
    owner = unknown[first[counts > 1]]
    yield from _by_chunk(owner["chunk"], _hits(owner, OWNER, owner["chunk"]))


def _hits(rows: Rows, source: object, chunk: object) -> Rows:
    """Rows of this run, now with the run and chunk that their features are copied from."""
    hits = rows.copy()
    hits["source"], hits["chunk"] = source, chunk
    return hits


def _by_chunk(of: npt.NDArray[np.int32], hits: Rows) -> Iterator[tuple[int, Rows]]:
    for number in np.unique(of):
        yield int(number), hits[of == number]


def save_hits(output_uri: str, found: tuple[int, Iterable[Rows]]) -> tuple[int, int]:
    """Write the hits of one chunk; its number, and how many twins it owns."""
    chunk, parts = found
    rows = np.concatenate(list(parts))
    if chunk == GONE:
        return chunk, int(rows["pos"].sum())
    files.place(output_uri).write(f"{_HITS_DIR}/{chunk}.npy", rows.tobytes())
    return chunk, int((rows["source"] == OWNER).sum())


def find_hits(
    spark: SparkContext,
    plan: Plan,
    todo: list[int],
    sources: Sequence[Source],
    output_uri: str,
    *,
    slots: int,
) -> tuple[list[int], int]:
    """Leave each chunk its hits; the chunks that own twins, and how many pictures are gone."""
    count = (plan.pictures + sum(run.features for run in sources)) // _BUCKET_ROWS + 1
    look = functools.partial(wanted_rows, plan, output_uri, count)
    rows = spark.parallelize(todo, min(len(todo), slots)).mapPartitions(look)
    known = [(n, chunk) for n, run in enumerate(sources) for chunk in range(run.chunks)]
    if known:
        read = functools.partial(known_rows, tuple(sources), count)
        rows = rows.union(spark.parallelize(known, min(len(known), slots)).mapPartitions(read))
    found = rows.groupByKey(count).values().flatMap(matches).groupByKey(min(count * 2, slots))
    saved = found.map(functools.partial(save_hits, output_uri)).filter(lambda pair: pair[1] > 0)
    counted: dict[int, int] = dict(saved.collect())
    gone = counted.pop(GONE, 0)
    return sorted(counted), gone


def sweep(output: Place) -> None:
    """Remove what only the features stage needed."""
    output.remove(_HITS_DIR)
    output.remove(_TWINS_DIR)


@dataclass(frozen=True)
class Reuse:
    """Rows of one chunk that need no computing: feature rows, and their places in the chunk."""

    table: pa.Table = field(default_factory=schema.FEATURE_ROWS.empty_table)
    places: tuple[int, ...] = ()
    # So many of them stand in this run twice.
    twins: int = 0
    # Rows that were found, and whose file is gone or changed.
    lost: int = 0
    # Of every picture of the chunk.
    paths: tuple[str, ...] = ()


def owned(output: Place, chunk: int) -> set[int]:
    """Places of the pictures in this chunk that others copy."""
    rows = _load(output, chunk)
    return {int(pos) for pos in rows["pos"][rows["source"] == OWNER]}


def write_twins(output: Place, chunk: int, table: pa.Table) -> None:
    """Keep the features of pictures that stand in several places of the run."""
    features.write_table(output, f"{_TWINS_DIR}/{chunk:07}.parquet", table)


def copied(
    plan: Plan,
    images: Place,
    output: Place,
    sources: Sequence[Source],
    chunk: int,
    rows: list[Found],
) -> Reuse:
    """The chunk's rows out of earlier runs, and of pictures that another place of this run owns."""
    hits = _load(output, chunk)
    hits = hits[hits["source"] != OWNER]
    if not len(hits):
        return Reuse()
    tables, places, twins, lost = [], [], 0, 0
    for source, number in sorted({(int(hit["source"]), int(hit["chunk"])) for hit in hits}):
        wanted = hits[(hits["source"] == source) & (hits["chunk"] == number)]
        table = _origin(output, sources, source, number)
        known = {bytes.fromhex(text): n for n, text in enumerate(table["sha256"].to_pylist())}
        found = [(known.get(_digest(hit)), int(hit["pos"])) for hit in wanted]
        there = [(row, pos) for row, pos in found if row is not None]
        tables.append(table.take(pa.array([row for row, _ in there], pa.int64())))
        places += [pos for _, pos in there]
        if source == TWIN:
            twins += len(there)
        else:
            lost += len(found) - len(there)
    if not places:
        return Reuse(lost=lost)
    names = _names(plan, images, rows)
    taken, table = names.take(pa.array(places, pa.int64())), pa.concat_tables(tables)
    # Under the paths and labels that their pictures have in this run.
    columns = [taken["path"], taken["label"], table["sha256"], table["features"]]
    table = pa.Table.from_arrays(columns, schema=schema.FEATURE_ROWS)
    return Reuse(table, tuple(places), twins, lost, tuple(names["path"].to_pylist()))


def _digest(hit: np.void) -> bytes:
    # numpy takes zero bytes at the end for padding.
    return bytes(hit["digest"]).ljust(32, b"\0")


def _load(output: Place, chunk: int) -> Rows:
    name = f"{_HITS_DIR}/{chunk}.npy"
    if not output.exists(name):
        return np.empty(0, _ROW)
    return np.frombuffer(output.read(name), _ROW)


def _origin(output: Place, sources: Sequence[Source], source: int, chunk: int) -> pa.Table:
    """The feature rows of a chunk of an earlier run, or twins; none where its file is not whole."""
    columns = ["sha256", "features"]
    try:
        if source == TWIN:
            return features.read_table(output, f"{_TWINS_DIR}/{chunk:07}.parquet", columns)
        run, name = files.place(sources[source].uri), chunks.features_file(chunk)
        content = run.read(name)
        told = json.loads(run.read(chunks.marker_file(chunk)))["files"][name]["sha256"]
        if hashlib.sha256(content).hexdigest() != told:
            raise ValueError(f"{name} is not what its marker says")
        return pq.ParquetFile(pa.BufferReader(content)).read(columns)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return schema.FEATURE_ROWS.empty_table().select(columns)


def _names(plan: Plan, images: Place, rows: list[Found]) -> pa.Table:
    """Path and label of every picture of a chunk with these rows of the listing."""
    if plan.kind == "dataset":
        return features.packed_columns(images, rows, ["path", "label"])
    paths = [row.path for row in rows]
    labels = [features.label_of(path, plan) for path in paths]
    return pa.table({"path": pa.array(paths, pa.string()), "label": pa.array(labels, pa.string())})


def merged(computed: pa.Table, known: Reuse) -> pa.Table:
    """All feature rows of a chunk, in the order of its pictures."""
    if not known.places:
        return computed
    place = {path: number for number, path in enumerate(known.paths)}
    places = [*(place[path] for path in computed["path"].to_pylist()), *known.places]
    return pa.concat_tables([computed, known.table]).take(np.argsort(places, kind="stable"))
