"""Finds by digest what an earlier run made of the same bytes.

    known digests, wanted digests -> buckets by prefix -> matches -> one file of hits for each chunk

Rows meet in buckets on the executors, as arrays: only counts and chunk numbers reach the driver.
copies.py looks up once more what stands in a hit, and copies it.
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

from spark_job import __version__, chunks, daemon, features, files, images, probe, schema
from spark_job.chunks import Plan
from spark_job.files import Found, Place
from spark_job.pictures import packed_columns, pictures_of

if TYPE_CHECKING:
    from pyspark import SparkContext

# `source` of a row: a run of `sources` by number, else one of these. A surplus row is in the newest
# run too, but there in fewer places.
TWIN, OWNER, WANTED, SURPLUS, UNREAD = -1, -2, -3, -4, -5
# In the place of a chunk: one row for each features file of an earlier run that cannot be read.
UNREAD_KEY = -(2**40)
# `pos` of a known row that stands for a refusal.
REFUSED = -1
_ROW = np.dtype([("digest", "S32"), ("source", "i4"), ("chunk", "i4"), ("pos", "i4")])
Rows = npt.NDArray[np.void]
_BUCKET_ROWS, _MOST_SOURCES, _MOST_LOOKED_AT = 500_000, 16, 256
# Pictures whose bytes the driver reads for their digests, and rows of earlier runs.
ON_DRIVER = 256
# What only the run at work needs.
SCRATCH_DIR = f"{schema.PLAN_DIR}/reuse"
_HITS_DIR, _GONE_DIR = f"{SCRATCH_DIR}/hits", f"{SCRATCH_DIR}/gone"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def key_of(plan: Plan, rules: int = images.RULES) -> str:
    """What features depend on beside the picture's bytes: model, engine and pixels, as a digest.

    rules: of decoding. The versions of decoders do not count, their pixels do.
    """
    engine = importlib.metadata.version(plan.engine)
    facts = [rules, plan.fingerprint, plan.engine, engine, plan.precision, plan.image_size]
    return hashlib.sha256(json.dumps([*facts, probe.digest(plan.image_size)]).encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """A finished run whose features were made as this run's will be.

    refusals: whether it rejected pictures by their bytes, as this code and its decoders would.
    sums: sha256 of its sums for the fit, empty where it kept none.
    """

    uri: str
    run_id: str
    chunks: int
    features: int
    refusals: bool = False
    sums: str = ""


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
        if not place.exists(chunks.marker_file(0)):
            # Fetched without its markers: no file could be told from a changed one.
            return None
        counts = facts["counts"]
        judges = {"fruits": __version__, **probe.versions()}
        same = all(facts["versions"].get(name) == now for name, now in judges.items())
        return Source(
            place.uri,
            facts["run_id"],
            int(counts["chunks"]),
            int(counts["features"]),
            refusals=same and counts["rejected"] > 0,
            sums=facts.get("sums", ""),
        )
    except (OSError, ValueError, KeyError, TypeError):
        # A run in progress, one of an older version, or no run at all.
        return None


@daemon.on_worker
def known_rows(
    sources: Sequence[Source], count: int, numbers: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, Rows]]:
    """Digests of the chunks (source, chunk), by bucket; of a file that cannot be read one row."""
    for source, chunk in numbers:
        run = files.place(sources[source].uri)
        try:
            table = features.read_table(run, chunks.features_file(chunk), ["sha256"])
            texts = table.column("sha256").to_pylist()
            if sources[source].refusals or sources[source].sums:
                facts = chunks.load_marker(run, chunk)
                # Sums count the rows that the file had, whatever has taken its place.
                chunks.require_rows(facts, chunk, texts)
                texts += facts["refusals"] if sources[source].refusals else ()
            digests = [bytes.fromhex(text) for text in texts]
        except (OSError, ValueError, pa.ArrowException, KeyError, TypeError):
            yield 0, rows_of([b""], UNREAD, chunk, [0])
            continue
        places = [*range(table.num_rows), *[REFUSED] * (len(digests) - table.num_rows)]
        yield from by_bucket(rows_of(digests, source, chunk, places), count)


@daemon.on_worker
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
        texts = packed_columns(source, rows, ["sha256"]).column("sha256").to_pylist()
        # A row without content has a word there.
        yield from (
            (pos, bytes.fromhex(t)) for pos, t in enumerate(texts) if _DIGEST.fullmatch(t or "")
        )
        return
    for pos, picture in enumerate(pictures_of(plan, source, rows, check=False)):
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
    before all others, which copy it. What is gone is by chunk of the newest run: see `gone_key`.
    """
    rows = np.concatenate(list(bucket))
    known, wanted = rows[rows["source"] >= 0], rows[rows["source"] == WANTED]
    newest = known[(known["source"] == 0) & (known["pos"] != REFUSED)]
    gone = newest[~_paired(newest, wanted)]
    for chunk, part in _by_chunk(gone["chunk"], gone):
        yield gone_key(chunk), part
    if len(unread := rows[rows["source"] == UNREAD]):
        yield UNREAD_KEY, unread
    # Of several runs that know a picture the newest is read: then most rows are in few files.
    known = known[np.argsort(known["source"], kind="stable")]
    _, first = np.unique(known["digest"], return_index=True)
    known = known[first]
    place = np.minimum(np.searchsorted(known["digest"], wanted["digest"]), max(len(known) - 1, 0))
    is_known = (
        known["digest"][place] == wanted["digest"] if len(known) else np.zeros(len(wanted), bool)
    )
    hits = wanted[is_known].copy()
    origin = known[place[is_known]] if len(known) else hits
    yield from _by_chunk(hits["chunk"], _hits(hits, origin["source"], origin["chunk"]))
    surplus = hits[(origin["source"] == 0) & ~_paired(hits, newest)]
    yield from _by_chunk(surplus["chunk"], _hits(surplus, SURPLUS, 0))
    yield from _twins(wanted[~is_known])


def gone_key(chunk: int) -> int:
    """What stands in the place of a chunk for the rows of one of the newest run's that are gone."""
    return -1 - chunk


def _paired(rows: Rows, others: Rows) -> npt.NDArray[np.bool_]:
    """Whether each of the rows has one of the others with its digest for itself."""
    return np.isin(_ranked(rows), _ranked(others))


def _ranked(rows: Rows) -> npt.NDArray[np.bytes_]:
    """The digests, each with its number among the equal ones."""
    order = np.argsort(rows["digest"], kind="stable")
    _, counts = np.unique(rows["digest"], return_counts=True)
    rank = np.empty(len(rows), ">u4")
    rank[order] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    ranked = np.empty(len(rows), [("digest", "S32"), ("rank", ">u4"), ("end", "S1")])
    ranked["digest"], ranked["rank"], ranked["end"] = rows["digest"], rank, b"."
    return ranked.view("S37").reshape(len(rows))


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


@daemon.on_worker
def save_hits(output_uri: str, found: tuple[int, Iterable[Rows]]) -> tuple[int, int]:
    """Write the hits of one chunk; its number, and how many twins it owns or rows are gone."""
    chunk, parts = found
    rows, output = np.concatenate(list(parts)), files.place(output_uri)
    if chunk == UNREAD_KEY:
        return chunk, len(rows)
    if chunk < 0:
        output.write(f"{_GONE_DIR}/{gone_key(chunk)}.npy", rows.tobytes())
        return chunk, len(rows)
    output.write(f"{_HITS_DIR}/{chunk}.npy", rows.tobytes())
    return chunk, int((rows["source"] == OWNER).sum())


@dataclass(frozen=True)
class Matched:
    """What is known of a run's pictures.

    owners: chunks with pictures that others copy; gone: by chunk of the newest source, how many of
    its pictures are in this run no more; unread: features files that are gone or broken.
    """

    owners: list[int] = field(default_factory=list)
    gone: dict[int, int] = field(default_factory=dict)
    unread: int = 0


def find_hits(
    spark: SparkContext,
    plan: Plan,
    todo: list[int],
    sources: Sequence[Source],
    output_uri: str,
    *,
    slots: int,
) -> Matched:
    """Leave each chunk its hits; only numbers of chunks and counts come back."""
    many = plan.pictures + sum(run.features for run in sources)
    count = many // _BUCKET_ROWS + 1
    look = functools.partial(wanted_rows, plan, output_uri, count)
    read = functools.partial(known_rows, tuple(sources), count)
    save = functools.partial(save_hits, output_uri)
    known = [(n, chunk) for n, run in enumerate(sources) for chunk in range(run.chunks)]
    if many <= ON_DRIVER:
        # Three stages of Spark take as long as half of such a run.
        rows = [rows for _, rows in itertools.chain(look(todo), read(known))]
        saved = filter(_counts, map(save, _gathered(matches(rows)))) if rows else ()
    else:
        found = spark.parallelize(todo, min(len(todo), slots)).mapPartitions(look)
        if known:
            parts = min(len(known), slots)
            found = found.union(spark.parallelize(known, parts).mapPartitions(read))
        hits = found.groupByKey(count).values().flatMap(matches)
        saved = hits.groupByKey(min(count * 2, slots)).map(save).filter(_counts).collect()
    counted = dict(saved)
    unread = counted.pop(UNREAD_KEY, 0)
    return Matched(
        sorted(chunk for chunk in counted if chunk >= 0),
        {gone_key(chunk): number for chunk, number in counted.items() if chunk < 0},
        unread,
    )


def _counts(saved: tuple[int, int]) -> bool:
    return saved[1] > 0


def _gathered(pairs: Iterable[tuple[int, Rows]]) -> Iterable[tuple[int, list[Rows]]]:
    by_chunk: dict[int, list[Rows]] = {}
    for chunk, rows in pairs:
        by_chunk.setdefault(chunk, []).append(rows)
    return by_chunk.items()


def load_hits(output: Place, chunk: int) -> Rows:
    """The hits of a chunk."""
    return _load(output, f"{_HITS_DIR}/{chunk}.npy")


def load_gone(output: Place, chunk: int) -> Rows:
    """Rows of a chunk of the newest source that are in this run no more."""
    return _load(output, f"{_GONE_DIR}/{chunk}.npy")


def _load(output: Place, name: str) -> Rows:
    try:
        return np.frombuffer(output.read(name), _ROW)
    except FileNotFoundError:
        return np.empty(0, _ROW)
