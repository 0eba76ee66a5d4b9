"""The work of a run: its listing, the chunks that it is cut into, and their markers.

A chunk is the unit of work, progress and resume. For a folder it is `rows_per_chunk` rows of
inputs.parquet; for a packed dataset one row, whose path `<shard>#<first>+<count>` names its rows.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spark_job import schema
from spark_job.errors import JobError
from spark_job.files import Found, Place

DATASET_FILE, DATASET_FORMAT = "dataset.json", "fruits-dataset"
GROUP_ROWS, _SHARD_ROWS = 256, 2048
_SHARES_PER_SLOT, _MOST_SHARED = 2, 32
_MIN_CHUNK, _CHUNKS_PER_SLOT = 48, 16
# Rows that the driver holds until it knows whether the listing is a short one.
_HELD = 65_536
ROW_GROUP = 8_192


@dataclass(frozen=True)
class Plan:
    """job.json: what resume compares, and how inputs.parquet is cut into chunks."""

    images: str
    kind: str
    name: str
    pictures: int
    chunks: int
    rows_per_chunk: int
    dataset: str
    fingerprint: str
    weights: str
    engine: str
    precision: str
    image_size: int
    extensions: list[str]
    schema_version: int = schema.SCHEMA_VERSION

    def as_json(self) -> bytes:
        """The content of job.json."""
        return json.dumps(asdict(self), indent=2).encode()


@dataclass(frozen=True)
class Listing:
    """What was found: pictures, chunks, and the rows of inputs.parquet in each."""

    kind: str
    pictures: int
    chunks: int
    rows_per_chunk: int
    dataset: str = ""


def load_plan(output: Place) -> Plan | None:
    """The plan of the run in `output`, None where there is none. Raises JobError (2) if broken."""
    if not output.exists(schema.JOB_FILE):
        return None
    try:
        return Plan(**json.loads(output.read(schema.JOB_FILE)))
    except (ValueError, TypeError) as error:
        raise JobError(2, f"{output.at(schema.JOB_FILE)} cannot be read: {error}") from error


def list_inputs(
    images: Place,
    output: Place,
    *,
    extensions: Iterable[str],
    slots: int,
    digest: str = "",
    batch: int = 2,
) -> Listing:
    """Write inputs.parquet from a folder or a dataset. Raises JobError (2) where it cannot be.

    digest: of the dataset that is meant, even if dataset.json has changed. batch: of the engine.
    """
    if digest or images.exists(DATASET_FILE):
        return _list_dataset(images, output, slots=slots, digest=digest, batch=batch)
    if not images.is_folder():
        problem = "is not a folder" if images.exists() else "does not exist"
        raise JobError(2, f"The images {images.uri} cannot be read: this {problem}.")
    return _list_folder(_found(images, extensions), output, slots=slots, batch=batch)


def _found(images: Place, extensions: Iterable[str]) -> Iterator[Found]:
    try:
        yield from images.walk(extensions)
    except (PermissionError, FileNotFoundError) as error:
        raise JobError(2, f"A folder of {images.uri} cannot be listed: {error}") from error
    except OSError as error:
        raise JobError(1, f"{images.uri} could not be listed: {error}") from error


def _list_folder(found: Iterator[Found], output: Place, *, slots: int, batch: int) -> Listing:
    held = list(itertools.islice(found, _HELD))
    # Of a longer folder the length is not known yet: it gets the largest chunks.
    most = schema.CHUNK_PICTURES * slots * _CHUNKS_PER_SLOT
    size = chunk_size(most if len(held) == _HELD else len(held), slots, batch)
    rows = (
        (file.path, file.size, file.mtime, number // size)
        for number, file in enumerate(itertools.chain(held, found))
    )
    count = _write_inputs(rows, output)
    return Listing("folder", count, -(-count // size), size)


def _write_inputs(rows: Iterable[tuple[str, int, int, int]], output: Place) -> int:
    count = 0
    with (
        output.writing(schema.INPUTS_FILE) as stream,
        pq.ParquetWriter(stream, schema.INPUTS, compression="zstd") as writer,
    ):
        pending = iter(rows)
        while batch := list(itertools.islice(pending, ROW_GROUP)):
            columns = [
                pa.array(column, kind)
                for column, kind in zip(zip(*batch, strict=True), schema.INPUTS.types, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema.INPUTS))
            count += len(batch)
    return count


def chunk_size(pictures: int, slots: int, batch: int = 2) -> int:
    """Pictures of one chunk: the same number of chunks for every slot, where pictures allow it.

    At most 16 a slot, and fewer where they would hold less than 48 pictures each. A multiple of
    the batch, so that only a run's last batch is padded; above a row group a multiple of it, so
    that none is read twice.
    """
    rounds = min(max(pictures // (slots * _MIN_CHUNK), 1), _CHUNKS_PER_SLOT)
    even = max(-(-pictures // (slots * rounds)), 1)
    multiple = batch if even <= GROUP_ROWS else GROUP_ROWS
    return min(-(-even // multiple) * multiple, schema.CHUNK_PICTURES)


def _list_dataset(images: Place, output: Place, *, slots: int, digest: str, batch: int) -> Listing:
    shards, digest = _dataset_shards(images, digest)
    size = chunk_size(sum(pictures for _, pictures in shards), slots, batch)
    rows = [
        (f"{name}#{start}+{min(size, pictures - start)}", min(size, pictures - start), 0)
        for name, pictures in shards
        for start in range(0, pictures, size)
    ]
    _write_inputs(((*row, number) for number, row in enumerate(rows)), output)
    return Listing("dataset", sum(row[1] for row in rows), len(rows), 1, digest)


def _dataset_shards(images: Place, digest: str) -> tuple[list[tuple[str, int]], str]:
    file = f"manifests/{digest}.json" if digest else DATASET_FILE
    where = images.at(file)
    try:
        content = images.read(file)
        if digest and hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("its content has another digest than its name")
        facts = json.loads(content)
        if facts["format"] != DATASET_FORMAT or facts["version"] != 1:
            raise ValueError("it is not a fruits-dataset of version 1")
        shards = [(str(shard["name"]), int(shard["pictures"])) for shard in facts["shards"]]
        for name, pictures in shards:
            if not re.fullmatch(r"[0-9a-f]+\.parquet", name) or not 1 <= pictures <= _SHARD_ROWS:
                raise ValueError(f"the shard {name!r} of {pictures} pictures cannot be")
        if facts["pictures"] != sum(pictures for _, pictures in shards):
            raise ValueError("the shards do not hold as many pictures as it says")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise JobError(
            2, f"{where} cannot be read: {error}", hint="Pack the pictures again."
        ) from error
    return shards, hashlib.sha256(content).hexdigest()


class Inputs:
    """Reads the rows of single chunks out of inputs.parquet; cheapest in rising order."""

    def __init__(self, output: Place, rows_per_chunk: int) -> None:
        self._file = pq.ParquetFile(output.open(schema.INPUTS_FILE))
        self._rows_per_chunk = rows_per_chunk
        self._group = -1
        self._rows: list[Found] = []

    def of(self, chunk: int) -> list[Found]:
        """The rows of one chunk."""
        start = chunk * self._rows_per_chunk
        stop = min(start + self._rows_per_chunk, self._file.metadata.num_rows)
        return [self._row(number) for number in range(start, stop)]

    def _row(self, number: int) -> Found:
        group, place = divmod(number, ROW_GROUP)
        if group != self._group:
            columns = self._file.read_row_group(group, ["path", "size", "mtime"]).to_pydict()
            self._rows = [Found(*row) for row in zip(*columns.values(), strict=True)]
            self._group = group
        return self._rows[place]


def shares(todo: Sequence[int], slots: int) -> Iterator[list[int]]:
    """The chunks of each task: several at first, one at a time in the end.

    A task costs a slot up to 0.1 s; small ones in the end let all slots finish together.
    Source: Polychronopoulos and Kuck 1987, guided self-scheduling.
    """
    start = 0
    while start < len(todo):
        even = (len(todo) - start) // (_SHARES_PER_SLOT * slots)
        size = min(max(even, 1), _MOST_SHARED)
        yield list(todo[start : start + size])
        start += size


@dataclass(frozen=True)
class Tally:
    """Counts of one chunk or of many; `rejected` by reason, `inferences` those of this job.

    reused: rows copied from earlier runs; twins: from another place of this one. lost: rows that
    an earlier run had, in a file that is gone or changed.
    """

    pictures: int
    features: int
    rejected: dict[str, int]
    inferences: int = 0
    reused: int = 0
    twins: int = 0
    lost: int = 0

    def __add__(self, other: Tally) -> Tally:
        reasons = sorted({*self.rejected, *other.rejected})
        rejected = {why: self.rejected.get(why, 0) + other.rejected.get(why, 0) for why in reasons}
        return Tally(
            self.pictures + other.pictures,
            self.features + other.features,
            rejected,
            self.inferences + other.inferences,
            self.reused + other.reused,
            self.twins + other.twins,
            self.lost + other.lost,
        )


NOTHING = Tally(0, 0, {})


def marker_file(chunk: int) -> str:
    """Name of the marker that says that a chunk is done."""
    return f"{schema.CHUNKS_DIR}/{chunk}.json"


def features_file(chunk: int) -> str:
    """Name of the chunk's feature rows: fixed, so that a chunk computed twice replaces itself."""
    return f"{schema.FEATURES_DIR}/{chunk:07}.parquet"


def rejected_file(chunk: int) -> str:
    """Name of the chunk's rejected rows."""
    return f"{schema.REJECTED_DIR}/{chunk:07}.parquet"


def marker(
    chunk: int,
    tally: Tally,
    files: dict[str, dict[str, Any]],
    refusals: Mapping[str, tuple[str, str]] | None = None,
) -> bytes:
    """The content of a chunk's marker; files: name to bytes and sha256.

    refusals: of pictures that were rejected for their bytes, sha256 to error and message.
    """
    counts = {"pictures": tally.pictures, "features": tally.features, "rejected": tally.rejected}
    counts |= {"reused": tally.reused, "twins": tally.twins}
    return json.dumps(
        {"chunk": chunk, **counts, "files": files, "refusals": refusals or {}}
    ).encode()


def load_marker(output: Place, chunk: int) -> dict[str, Any]:
    """What a chunk's marker says. Raises OSError, ValueError."""
    return dict(json.loads(output.read(marker_file(chunk))))


def load_tally(output: Place, chunk: int) -> Tally:
    """The counts that a chunk's marker gives."""
    facts = load_marker(output, chunk)
    counts = (facts["pictures"], facts["features"], facts["rejected"])
    return Tally(*counts, reused=facts.get("reused", 0), twins=facts.get("twins", 0))


def digest_of_rows(digests: Iterable[str]) -> str:
    """Of the pictures in a features file: told by its marker, and found without the features."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def require_rows(facts: dict[str, Any], chunk: int, digests: Iterable[str]) -> None:
    """Raise ValueError, KeyError where a marker's features file has other rows than it says."""
    name = features_file(chunk)
    if facts["files"][name]["rows"] != digest_of_rows(digests):
        raise ValueError(f"{name} has other rows than its marker says")


def finished_chunks(output: Place) -> list[int]:
    """Numbers of the chunks whose marker is there, rising."""
    names = output.list(schema.CHUNKS_DIR)
    return sorted(int(name[:-5]) for name in names if re.fullmatch(r"\d+\.json", name))
