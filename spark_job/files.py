"""The files that the job reads and writes, in local folders and below s3:// prefixes."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import stat
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from spark_job.listing import (
    Chain,
    identity,
    is_folder,
    is_picture_name,
    may_be_picture,
    written,
)

DOWNLOAD_TIMEOUT_S = 20.0
# With pauses that double up to 20 s: about a minute.
_S3_ATTEMPTS = 8
# Names of half-written files begin with this; Spark and pyarrow skip them.
SCRATCH = "._writing-"


@dataclass(frozen=True)
class Found:
    """A file of a listing: its path below the folder, bytes, and modification time in ns."""

    path: str
    size: int
    mtime: int


@dataclass(frozen=True)
class Place:
    """A folder on disk or a prefix on S3; names are relative to it, with `/`."""

    uri: str
    fs: pafs.FileSystem
    base: str

    @property
    def is_local(self) -> bool:
        """Whether this is a folder of this machine."""
        return isinstance(self.fs, pafs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return PurePosixPath(self.base).name

    def at(self, name: str) -> str:
        """The path of `name` for the filesystem."""
        return f"{self.base}/{name}" if name else self.base

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of that name is there."""
        return bool(self.fs.get_file_info(self.at(name)).type != pafs.FileType.NotFound)

    def is_folder(self) -> bool:
        """Whether the place itself is a folder, or a prefix with something below it."""
        return bool(self.fs.get_file_info(self.base).type == pafs.FileType.Directory)

    def read(self, name: str) -> bytes:
        """The whole file. Raises OSError."""
        # By one request on S3: a stream asks for 256 KiB, again and again.
        with self.fs.open_input_file(self.at(name)) as file:
            return bytes(file.read(file.size()))

    def open(self, name: str) -> Any:
        """The file for random access, as pyarrow reads Parquet. Raises OSError."""
        return self.fs.open_input_file(self.at(name))

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Publish a whole file at once: a reader sees all of it or none. Raises OSError."""
        with self.writing(name) as stream:
            stream.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """A stream whose bytes appear as file `name` when the block ends well. Raises OSError."""
        if not self.is_local:
            # On S3 an object appears when its upload is completed, and only then.
            try:
                with self.fs.open_output_stream(self.at(name)) as stream:
                    yield stream
            except BaseException:
                # pyarrow has completed the upload all the same.
                self.remove(name)
                raise
            return
        final = Path(self.at(name))
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = final.with_name(f"{SCRATCH}{final.name}.{uuid.uuid4().hex[:8]}")
        try:
            with scratch.open("wb") as stream:
                yield stream
            os.replace(scratch, final)
        finally:
            scratch.unlink(missing_ok=True)

    def list(self, folder: str) -> dict[str, int]:
        """Name to bytes of the files directly in `folder`; none where it does not exist."""
        selector = pafs.FileSelector(self.at(folder), allow_not_found=True)
        return {
            info.base_name: info.size
            for info in self.fs.get_file_info(selector)
            if info.type == pafs.FileType.File
        }

    def remove(self, name: str) -> None:
        """Delete a file, or a folder with everything below it; a missing one is no error."""
        kind = self.fs.get_file_info(self.at(name)).type
        if kind == pafs.FileType.Directory and self.is_local:
            shutil.rmtree(self.at(name))
        elif kind == pafs.FileType.Directory:
            self.fs.delete_dir(self.at(name))
        elif kind == pafs.FileType.File:
            self.fs.delete_file(self.at(name))

    def sweep(self, folders: Iterable[str]) -> None:
        """Delete half-written files of killed processes directly in these folders."""
        for folder in folders if self.is_local else ():
            for name in self.list(folder):
                if name.startswith(SCRATCH):
                    self.remove(f"{folder}/{name}" if folder else name)

    def walk(self, extensions: Iterable[str]) -> Iterator[Found]:
        """Every picture below: files with such an ending whose names begin with no dot.

        Streams, folder by folder. Raises OSError where a folder cannot be listed.
        """
        endings = tuple(f".{extension}" for extension in extensions)
        if self.is_local:
            return _walk_disk(os.fsencode(self.base), endings)
        return self._walk_prefix(self.base, endings)

    def _walk_prefix(self, prefix: str, endings: tuple[str, ...]) -> Iterator[Found]:
        # One folder at a time: a recursive selector would hold the whole listing in memory.
        for info in self.fs.get_file_info(pafs.FileSelector(prefix)):
            if len(info.path) <= len(prefix):
                # pyarrow takes a//b for a/b: it would list `prefix` again and again.
                raise FileNotFoundError(f"Keys below {prefix} have a folder without a name (//).")
            if info.type == pafs.FileType.Directory:
                yield from self._walk_prefix(info.path, endings)
            elif is_picture_name(info.base_name, endings):
                path = info.path[len(self.base) + 1 :]
                yield Found(path, info.size, info.mtime_ns or 0)


def place(uri: str) -> Place:
    """The folder or prefix that `uri` names: a local path, or s3://bucket/prefix.

    Region and end point of S3 come from the environment (AWS_REGION, AWS_ENDPOINT_URL_S3).
    """
    if not uri.startswith("s3://"):
        return Place(uri, pafs.LocalFileSystem(), os.path.abspath(uri))
    return Place(uri, _s3(dict(os.environ)), uri.removeprefix("s3://").rstrip("/"))


def _s3(environ: dict[str, str]) -> pafs.FileSystem:
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    options: dict[str, Any] = {
        # A small object is put by one request, not by an upload in parts, which takes three.
        "allow_delayed_open": True,
        # Three, pyarrow's own number, are over within two seconds; S3 slows down for longer.
        "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=_S3_ATTEMPTS),
    }
    if not endpoint:
        return pafs.S3FileSystem(region=region, **options)
    parts = urlsplit(endpoint)
    return pafs.S3FileSystem(
        region=region or "us-east-1",
        endpoint_override=parts.netloc,
        scheme=parts.scheme,
        **options,
    )


def _walk_disk(base: bytes, endings: tuple[str, ...]) -> Iterator[Found]:
    # pyarrow cannot list names that are not UTF-8, and follows symbolic links in circles.
    root = Path(os.path.realpath(os.fsdecode(base)))
    pending: list[tuple[bytes, Chain]] = [(b"", frozenset(map(identity, root.parents)))]
    while pending:
        below, above = pending.pop()
        folder = os.path.join(base, below)
        chain = above | {identity(folder)}
        folders = []
        with os.scandir(folder) as entries:
            for entry in _by_name(entries):
                path = os.path.join(below, entry.name)
                if is_folder(entry, chain):
                    folders.append((path, chain))
                elif is_picture_name(written(entry.name), endings) and may_be_picture(entry):
                    yield _found(entry, path)
        pending += reversed(folders)


def _by_name(entries: Iterator[os.DirEntry[bytes]]) -> Iterator[os.DirEntry[bytes]]:
    """Sorted, so that the rows of a chunk lie together in an earlier run too; a folder of more
    than 65,536 entries in parts, for the sake of memory."""
    while part := list(itertools.islice(entries, 65_536)):
        yield from sorted(part, key=lambda entry: entry.name)


def _found(entry: os.DirEntry[bytes], path: bytes) -> Found:
    try:
        status = entry.stat()
    except OSError:
        status = entry.stat(follow_symlinks=False)
    return Found(written(path), status.st_size, status.st_mtime_ns)


class AmbiguousName(OSError):
    """Two files on disk are written alike, one of them with bytes that are not UTF-8."""


def on_disk(base: str, path: str) -> bytes:
    """The bytes of the local name that `written` gave as `path`. Raises AmbiguousName."""
    name = os.fsencode(base)
    for part in path.split("/"):
        name = os.path.join(name, part.encode() if "\\x" not in part else _entry(name, part))
    return name


def _entry(folder: bytes, part: str) -> bytes:
    literal = part.encode()
    there = [n for n in {literal, _unwritten(part)} if os.path.lexists(os.path.join(folder, n))]
    if not there and os.path.isdir(folder):
        # Bytes that are not UTF-8 beside a backslash of the name's own.
        there = [name for name in os.listdir(folder) if written(name) == part]
    if len(there) > 1:
        raise AmbiguousName(f"Two files are written {part!r}.")
    return there[0] if there else literal


def _unwritten(path: str) -> bytes:
    parts = path.split("\\x")
    raw = parts[0].encode()
    for part in parts[1:]:
        try:
            value = int(part[:2], 16)
        except ValueError:
            value = 0
        # backslashreplace writes only bytes above ASCII; any other \x was in the name itself.
        is_escape = value >= 0x80 and part[:2] == part[:2].lower()
        raw += bytes([value]) + part[2:].encode() if is_escape else b"\\x" + part.encode()
    return raw


def read_local(name: bytes, *, limit: int) -> tuple[bytes, int, int]:
    """A regular file's bytes, size and mtime in ns, as of one open; at most `limit` bytes are read.

    Raises OSError, also for what is not a regular file.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.islink(name):
            raise OSError("It is a link to nothing.") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("It is not a regular file.")
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.read(min(status.st_size, limit)), status.st_size, status.st_mtime_ns
    finally:
        os.close(descriptor)


def digest_of_file(file: Path) -> str:
    """sha256 of a local file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(url: str, target: Path) -> None:
    """Fetch `url` into `target` as a whole, respecting proxies. Raises OSError."""
    scratch = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with (
            urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as answer,
            scratch.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)
