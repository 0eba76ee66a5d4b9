"""Packs a folder of pictures into Parquet shards.

Where a shard ends depends on the names of its pictures, and its own name on their content, so that
a changed picture changes its own shard and hardly another. The digests that earlier packings kept
name an unchanged shard without reading it again. A shard that is on S3 already is skipped; any
other is read whole, and named by the bytes that go into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fruits_cli.dataset.digests import DigestCache
from fruits_cli.dataset.listing import (
    Listed,
    Stamp,
    list_pictures,
    no_picture,
    stamp_of,
)
from fruits_cli.dataset.manifest import Shard
from fruits_cli.errors import MachineError
from fruits_cli.files import replacing
from spark_job.listing import MACHINE_FAULTS, MAX_PICTURE_BYTES

if TYPE_CHECKING:
    import pyarrow as pa


MAX_SHARD_PICTURES = 2048
MAX_SHARD_BYTES = 64 * 2**20
# A larger picture has a shard for itself: a reader keeps room for the largest that it has read.
_ALONE_BYTES = 16 * 2**20
ROW_GROUP_PICTURES = 256
# One picture in so many ends a shard, whatever came before it.
_CUT_EVERY = 1024
_TOO_LARGE = f"It is larger than {MAX_PICTURE_BYTES // 2**20} MiB."


@dataclass(frozen=True)
class Unreadable:
    """A picture that is in a shard without content, and why; the job will reject it."""

    path: str
    reason: str


@dataclass(frozen=True)
class PackedShard:
    """A shard of the dataset; `file` is None where the store has it already."""

    shard: Shard
    file: Path | None
    content_bytes: int
    unreadable: tuple[Unreadable, ...]


@dataclass(frozen=True, slots=True)
class _Picture:
    """A row; `content` is None for what is unreadable and for what needed no reading."""

    listed: Listed
    length: int
    sha256: str = ""
    content: bytes | None = None
    reason: str = ""
    # The job's word for it, where unreadable is not the word: it stands in the digest's column.
    error: str = ""
    # Of the file while it was read, unless it changed meanwhile.
    stamp: Stamp | None = None

    @property
    def is_unread(self) -> bool:
        return self.content is None and not self.reason

    @property
    def row(self) -> tuple[str, str, str, int]:
        return self.listed.path, self.listed.label, self.sha256 or self.error, self.length


def pack(
    folder: Path,
    *,
    into: Path,
    extensions: Iterable[str],
    known: Mapping[str, Shard],
    digests: DigestCache | None = None,
) -> Iterator[PackedShard]:
    """The shards of the pictures in `folder`, in order; those not `known` by name lie in `into`.

    Streams: memory is that of one shard, and a file in `into` may be removed once it was taken.
    Raises UsageError where a folder cannot be listed or there is no picture, MachineError where
    `into` cannot be written, or a picture not be read for no fault of its own.
    """
    extensions = tuple(extensions)
    with closing(digests or DigestCache(None)) as cache:
        shard = None
        for listed in _cut(list_pictures(folder, extensions)):
            shard = _packed(_digested(listed, cache), into, known)
            yield shard
        if shard is None:
            raise no_picture(folder, extensions)
        cache.forget_rest()


def shard_name(rows: Iterable[tuple[str, str, str, int]]) -> str:
    """The file name of the shard with these rows of path, label, sha256 and length."""
    digest = hashlib.sha256(b"fruits-dataset 1\n")
    for row in rows:
        digest.update(json.dumps(row).encode() + b"\n")
    return f"{digest.hexdigest()}.parquet"


def _cut(pictures: Iterable[Listed]) -> Iterator[list[Listed]]:
    shard: list[Listed] = []
    size = 0
    for picture in pictures:
        length = picture.length if picture.is_readable else 0
        is_large = length > _ALONE_BYTES
        if shard and (is_large or size + length > MAX_SHARD_BYTES):
            yield shard
            shard, size = [], 0
        shard.append(picture)
        size += length
        is_full = len(shard) == MAX_SHARD_PICTURES or size >= MAX_SHARD_BYTES
        if is_full or is_large or _ends_shard(picture.path):
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _ends_shard(path: str) -> bool:
    digest = hashlib.sha256(path.encode()).digest()
    return int.from_bytes(digest[-4:]) % _CUT_EVERY == 0


def _digested(listed: Sequence[Listed], digests: DigestCache) -> list[_Picture]:
    """The rows of a shard; read are only the files that no earlier packing knew."""
    known = digests.load(listed)
    pictures = [
        _Picture(picture, picture.length, known[picture.path], stamp=picture.stamp)
        if picture.path in known
        else _read(picture)
        for picture in listed
    ]
    kept = {p.listed.path: (p.stamp, p.sha256) for p in pictures if p.stamp and p.sha256}
    digests.save(kept, last=listed[-1].path)
    return pictures


def _packed(pictures: list[_Picture], into: Path, known: Mapping[str, Shard]) -> PackedShard:
    name = _name(pictures)
    if name not in known and any(picture.is_unread for picture in pictures):
        # What was not read may have changed since its digest was kept: the bytes decide.
        pictures = [_read(p.listed) if p.is_unread else p for p in pictures]
        name = _name(pictures)
    file = None if name in known else into / name
    return PackedShard(
        _write_shard(pictures, file) if file else known[name],
        file,
        sum(picture.length for picture in pictures if picture.sha256),
        tuple(Unreadable(p.listed.path, p.reason) for p in pictures if p.reason),
    )


def _name(pictures: Iterable[_Picture]) -> str:
    return shard_name(picture.row for picture in pictures)


def _read(listed: Listed) -> _Picture:
    unread = _Picture(listed, listed.length)
    if listed.has_twin:
        return replace(unread, reason="Another name is written alike.", error="name")
    if listed.length > MAX_PICTURE_BYTES:
        return replace(unread, reason=_TOO_LARGE, error="too_large")
    try:
        content, stamp = _content(listed.file)
    except OSError as error:
        if error.errno in MACHINE_FAULTS:
            raise MachineError(
                f"{listed.path} could not be read: {error.strerror}.",
                hint="Try again. A file that is damaged for good must be moved away first.",
            ) from error
        return replace(unread, reason=f"{error.strerror or error}.")
    if len(content) > MAX_PICTURE_BYTES:
        return replace(unread, reason=_TOO_LARGE, error="too_large")
    return _Picture(listed, len(content), hashlib.sha256(content).hexdigest(), content, stamp=stamp)


def _content(file: str) -> tuple[bytes, Stamp | None]:
    # Without O_NONBLOCK a file replaced by a pipe since the listing would block for ever.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("It is not a regular file")
        before = stamp_of(descriptor)
        content = _read_all(descriptor, before.size if before else 0)
        return content, before if before == stamp_of(descriptor) else None
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    """The file's bytes, one more than a picture may have at most; `size` is what to expect."""
    part = os.read(descriptor, min(size, MAX_PICTURE_BYTES) + 1)
    if len(part) == size:
        return part
    parts, length = [part], len(part)
    while part and length <= MAX_PICTURE_BYTES:
        part = os.read(descriptor, 2**20)
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def _write_shard(pictures: Sequence[_Picture], file: Path) -> Shard:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [("path", pa.string()), ("label", pa.string()), ("sha256", pa.string())]
    schema = pa.schema([*columns, ("length", pa.int64()), ("content", pa.binary())])
    with replacing(file) as scratch:
        with (
            scratch.open("xb") as stream,
            pq.ParquetWriter(
                stream,
                schema,
                # Pictures are compressed already; a dictionary pays only where texts repeat.
                compression={name: "zstd" for name in schema.names} | {"content": "none"},
                use_dictionary=["label"],
                write_statistics=["path", "label", "length"],
                # Else large pictures share a page, which a reader holds as a whole.
                write_batch_size=1,
            ) as writer,
        ):
            for start in range(0, len(pictures), ROW_GROUP_PICTURES):
                group = pictures[start : start + ROW_GROUP_PICTURES]
                writer.write_batch(_batch(group, schema), row_group_size=ROW_GROUP_PICTURES)
        with scratch.open("rb") as written:
            sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        size = scratch.stat().st_size
    return Shard(name=file.name, pictures=len(pictures), bytes=size, sha256=sha256)


def _batch(pictures: Sequence[_Picture], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    rows = zip(*((*picture.row, picture.content) for picture in pictures), strict=True)
    columns = [pa.array(column, field.type) for column, field in zip(rows, schema, strict=True)]
    return pa.record_batch(columns, schema=schema)
