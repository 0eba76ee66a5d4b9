"""Reads the pictures of a chunk ahead of their use, out of a folder or of packed shards."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spark_job import chunks, faults, files, images, schema
from spark_job.chunks import Plan
from spark_job.errors import JobError
from spark_job.files import Found, Place
from spark_job.listing import MAX_PICTURE_BYTES

T = TypeVar("T")
R = TypeVar("R")

# Of a shard's contents one read: S3 is asked seldom, and a worker holds little.
_STREAM_BYTES = 8 * 2**20
# Read together, so that the next are one read ahead; and under way beside what is in use.
_GROUP_PICTURES, _GROUP_BYTES, _AHEAD_BYTES = 32, _STREAM_BYTES, 16 * 2**20
_FACTS = ("path", "label", "sha256", "length")
# Each read of S3 waits 20 to 200 ms; a local one is in the page cache or on one disk.
_S3_READERS = 16


@dataclass(frozen=True)
class Picture:
    """A file's bytes, or in `refusal` why there are none; `sha256` is theirs, where it is known."""

    path: str
    label: str
    length: int
    content: bytes
    refusal: images.Refusal | None = None
    sha256: str = ""


def pictures_of(
    plan: Plan,
    source: Place,
    rows: list[Found],
    *,
    check: bool,
    wanted: Container[int] | None = None,
) -> Iterator[Picture]:
    """The pictures of one chunk, read ahead of their use.

    check: compare size and time on S3 too, one request more per file. wanted: places in the
    chunk, all unless given. Raises JobError (1) where the whole source is gone.
    """
    if wanted is None:
        wanted = range(rows_of(plan, rows))
    if plan.kind == "dataset":
        return _from_shards(source, rows, wanted)
    readers = 1 if source.is_local else _S3_READERS
    rows = [row for place, row in enumerate(rows) if place in wanted]
    return _from_files(plan, source, rows, check=check, readers=readers)


def rows_of(plan: Plan, rows: list[Found]) -> int:
    """Number of pictures of a chunk with these rows of the listing."""
    return sum(row.size for row in rows) if plan.kind == "dataset" else len(rows)


def label_of(path: str, plan: Plan) -> str:
    """The label of a picture in a folder: the name of the folder that it lies in."""
    return PurePosixPath(path).parent.name or plan.name


def _from_shards(source: Place, rows: list[Found], wanted: Container[int]) -> Iterator[Picture]:
    # A chunk of a dataset is one row of the listing.
    for row in rows:
        shard, numbers = _part(row)
        parts = [
            [number for number in group if number - numbers.start in wanted]
            for group in _groups_of(numbers)
        ]
        with _opened(source, shard) as shard_file:
            yield from _from_shard(shard_file, [part for part in parts if part])


@dataclass(frozen=True)
class _Shard:
    """An open shard; one that is far away is read in few requests."""

    stream: Any
    about: pq.FileMetaData
    is_far: bool


def _from_shard(shard: _Shard, parts: list[list[int]]) -> Iterator[Picture]:
    """The pictures of these numbers, each list of one row group.

    A usual row group is read at once: one request, where each takes tens of milliseconds.
    """

    def size(part: list[int]) -> int:
        return int(shard.about.row_group(part[0] // chunks.GROUP_ROWS).total_byte_size)

    def read(part: list[int]) -> pa.Table:
        return _taken(shard, part, [*_FACTS, "content"])

    for is_usual, run in itertools.groupby(parts, lambda part: size(part) <= _STREAM_BYTES):
        if is_usual:
            tables = read_ahead(read, run, readers=1, size=size)
            yield from itertools.chain.from_iterable(map(_at_once, tables))
        else:
            for part in run:
                yield from _one_by_one(shard, part)


def _at_once(table: pa.Table) -> Iterator[Picture]:
    """The pictures of a row group, each copied out of it only once it is used."""
    for facts, content in zip(table.select(_FACTS).to_pylist(), table["content"], strict=True):
        yield _packed(**facts, content=content.as_py())


def _taken(shard: _Shard, part: Sequence[int], columns: list[str]) -> pa.Table:
    """Rows of one row group, by their numbers in the shard, which rise."""
    group = part[0] // chunks.GROUP_ROWS
    file = pq.ParquetFile(shard.stream, metadata=shard.about, pre_buffer=shard.is_far)
    table = file.read_row_group(group, columns).select(columns)
    places = [number - group * chunks.GROUP_ROWS for number in part]
    if table.num_rows <= places[-1]:
        raise IndexError(f"its row group {group} is too short")
    if places[-1] - places[0] == len(places) - 1:
        # Not copied, as those that are taken are.
        return table.slice(places[0], len(places))
    return table.take(places)


def _one_by_one(shard: _Shard, part: list[int]) -> Iterator[Picture]:
    """The pictures of a row group of which a few may fill a worker."""
    contents = _contents(shard, part)

    def read(group: list[dict[str, Any]]) -> list[Picture]:
        return [_packed(**facts, content=next(contents)) for facts in group]

    packed = _taken(shard, part, list(_FACTS)).to_pylist()
    groups = _groups(packed, _GROUP_PICTURES, lambda facts: int(facts["length"]))
    # One reader: the contents come in their order.
    ahead = read_ahead(read, groups, readers=1, size=_length_of)
    yield from itertools.chain.from_iterable(ahead)


def _length_of(group: list[dict[str, Any]]) -> int:
    return sum(int(facts["length"]) for facts in group)


def _contents(shard: _Shard, part: list[int]) -> Iterator[bytes | None]:
    """The contents of these pictures, of which as few as can be are held at a time."""
    at = part[0] // chunks.GROUP_ROWS * chunks.GROUP_ROWS
    # pyarrow's own choice, to buffer ahead, holds the contents of the whole row group.
    file = pq.ParquetFile(
        shard.stream, metadata=shard.about, buffer_size=_STREAM_BYTES, pre_buffer=False
    )
    rows = file.iter_batches(
        1, row_groups=[at // chunks.GROUP_ROWS], columns=["content"], use_threads=False
    )
    for number in part:
        row = next(itertools.islice(rows, number - at, None))
        at, is_last = number + 1, number == part[-1]
        if is_last:
            # They hold the last page, which of a large picture is as large: gone before its copy.
            del rows, file
            pa.default_memory_pool().release_unused()
        content = _content_of(row)
        del row
        if is_last:
            pa.default_memory_pool().release_unused()
        yield content
        del content


def _content_of(row: pa.RecordBatch) -> bytes | None:
    """The only value, copied once: as_py() would copy it twice."""
    column = row.column(0)
    if column.null_count:
        return None
    _, offsets, values = column.buffers()
    start, end = np.frombuffer(offsets, np.int32)[column.offset : column.offset + 2]
    return memoryview(values)[start:end].tobytes()


def packed_columns(source: Place, rows: list[Found], columns: list[str]) -> pa.Table:
    """Columns of a chunk's rows in a packed dataset, without their content."""
    return pa.concat_tables(_columns(source, rows, columns))


def _columns(source: Place, rows: list[Found], columns: list[str]) -> Iterator[pa.Table]:
    for row in rows:
        shard, numbers = _part(row)
        with _opened(source, shard) as shard_file:
            for group in _groups_of(numbers):
                yield _taken(shard_file, group, columns)


def _part(row: Found) -> tuple[str, range]:
    """The shard that a row of a dataset's listing means, and the numbers of its pictures there."""
    shard, _, numbers = row.path.partition("#")
    first, count = (int(number) for number in numbers.split("+"))
    return shard, range(first, first + count)


def _groups_of(wanted: range) -> Iterator[range]:
    """The same numbers, cut where row groups end."""
    size = chunks.GROUP_ROWS
    for start in range(wanted.start - wanted.start % size, wanted.stop, size):
        yield range(max(start, wanted.start), min(start + size, wanted.stop))


@contextlib.contextmanager
def _opened(source: Place, shard: str) -> Iterator[_Shard]:
    """The shard, open. Raises JobError (1) where it is not as it was packed."""
    try:
        with source.open(shard) as stream:
            yield _Shard(stream, pq.read_metadata(stream), is_far=not source.is_local)
    except (OSError, pa.ArrowException, KeyError, IndexError) as error:
        raise JobError(
            1,
            f"The shard {source.at(shard)} cannot be read: {error}",
            hint="Pack the pictures again, or resume once it is there.",
        ) from error


def _packed(path: str, label: str, sha256: str, length: int, content: bytes | None) -> Picture:
    if content is None:
        return Picture(path, label, length, b"", _packed_refusal(path, sha256, length))
    return Picture(path, label, length, content, sha256=sha256)


def _packed_refusal(path: str, error: str, length: int) -> images.Refusal:
    """Why a row has no content: its column sha256 then holds schema.py's word, or nothing."""
    if error == schema.TOO_LARGE:
        return _too_large(length)
    if error == schema.NAME:
        return images.Refusal(schema.NAME, f"Two files are written {path!r}.")
    return images.Refusal(schema.UNREADABLE, "It could not be read when it was packed.")


def _too_large(size: int) -> images.Refusal:
    return images.Refusal(schema.TOO_LARGE, f"{size:,} bytes; the limit is {MAX_PICTURE_BYTES:,}.")


def _from_files(
    plan: Plan, source: Place, rows: list[Found], *, check: bool, readers: int
) -> Iterator[Picture]:
    def read_group(group: list[Found]) -> list[Picture]:
        return [_file(plan, source, row, check=check) for row in group]

    size = _GROUP_PICTURES if source.is_local else 1

    def group_bytes(group: list[Found]) -> int:
        # A larger one is rejected unread.
        return sum(row.size for row in group if row.size <= MAX_PICTURE_BYTES)

    groups = _groups(rows, size, lambda row: row.size)
    return itertools.chain.from_iterable(
        read_ahead(read_group, groups, readers=readers, size=group_bytes)
    )


def _groups(rows: Iterable[T], most: int, size: Callable[[T], int]) -> Iterator[list[T]]:
    group: list[T] = []
    for row in rows:
        full = len(group) == most or sum(map(size, group)) + size(row) > _GROUP_BYTES
        if group and full:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _file(plan: Plan, source: Place, row: Found, *, check: bool) -> Picture:
    label = label_of(row.path, plan)
    try:
        content = _content(source, row, check=check)
    except images.Refusal as why:
        return Picture(row.path, label, row.size, b"", why)
    return Picture(row.path, label, row.size, content)


def _content(source: Place, row: Found, *, check: bool) -> bytes:
    if row.size > MAX_PICTURE_BYTES:
        raise _too_large(row.size)
    try:
        return _local(source, row) if source.is_local else _object(source, row, check=check)
    except files.AmbiguousName as error:
        raise images.Refusal(schema.NAME, str(error)) from error
    except FileNotFoundError as error:
        _require_source(source)
        raise images.Refusal(schema.CHANGED, "It is gone since it was listed.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            faults.require_own_fault(source.at(row.path), error, is_local=source.is_local)
        reason = getattr(error, "strerror", None) or str(error)
        raise images.Refusal(schema.UNREADABLE, f"{reason}"[:500]) from error


def _local(source: Place, row: Found) -> bytes:
    name = files.on_disk(source.base, row.path)
    content, size, mtime = files.read_local(name, limit=MAX_PICTURE_BYTES)
    if (size, mtime) != (row.size, row.mtime) or len(content) != size:
        raise images.Refusal(schema.CHANGED, "It has changed since it was listed.")
    return content


def _object(source: Place, row: Found, *, check: bool) -> bytes:
    if check:
        now = source.fs.get_file_info(source.at(row.path))
        if (now.size, now.mtime_ns) != (row.size, row.mtime):
            raise images.Refusal(schema.CHANGED, "It has changed since it was listed.")
    content = source.read(row.path)
    if len(content) != row.size:
        raise images.Refusal(schema.CHANGED, "It has changed since it was listed.")
    return content


def _require_source(source: Place) -> None:
    if source.is_local and not source.is_folder():
        raise JobError(
            1,
            f"The images folder {source.uri} is gone.",
            hint="Bring it back and continue with fruits run --resume.",
        )


def read_ahead(
    read: Callable[[T], R],
    items: Iterable[T],
    *,
    readers: int,
    size: Callable[[T], int] = lambda item: 0,
) -> Iterator[R]:
    """read(item) of every item, in order, with `readers` of them under way while one is used.

    size: bytes of an item. Together those under way have at most 16 MiB; a larger one is read
    once it is the next to be used.
    """
    under_way: deque[tuple[int, Future[R]]] = deque()
    with ThreadPoolExecutor(readers) as pool:
        for item in items:
            needed = size(item)
            used: Future[R] | None = None
            while under_way and (
                len(under_way) == readers
                or sum(taken for taken, _ in under_way) + needed > _AHEAD_BYTES
            ):
                if used:
                    yield used.result()
                used = under_way.popleft()[1]
            if used and needed > _AHEAD_BYTES:
                yield used.result()
                used = None
            under_way.append((needed, pool.submit(read, item)))
            if used:
                yield used.result()
        for _, reading in under_way:
            yield reading.result()
