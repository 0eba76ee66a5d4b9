"""The bytes of a run's pictures: from their folder, or from a packed dataset here or on S3."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fruits_cli.cloud.protocols import Storage
from fruits_cli.dataset.manifest import DATASET_FILE, DatasetManifest, parse_manifest
from fruits_cli.errors import FruitsError
from fruits_cli.job.results import read_columns
from fruits_cli.s3uri import S3Uri, is_s3_uri, parse_s3_uri

_MOST_BYTES, _BATCH_ROWS = 64 * 2**20, 32


@dataclass(frozen=True)
class Album:
    """Where pictures may lie: a folder, a packed dataset, or nowhere (an empty `images`).

    all_paths: every path of the run, sorted; a dataset's shards hold them in that order.
    warn: called where pictures are missing, without which a page still works.
    """

    images: str = ""
    storage: Storage | None = None
    all_paths: Sequence[str] = field(default=(), repr=False)
    warn: Callable[[str], None] = lambda _: None
    # Thumbnails are not worth more of S3's transfer, nor of the user's time.
    most_fetched: int = 256 * 2**20

    def contents(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of each of these pictures that can be had, in any order."""
        try:
            yield from self._contents(paths) if self.images else ()
        except FruitsError as error:
            self.warn(" ".join(filter(None, (f"Thumbnails are missing: {error}", error.hint))))

    def _contents(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        if is_s3_uri(self.images):
            yield from self._from_s3(parse_s3_uri(f"{self.images.rstrip('/')}/"), set(paths))
            return
        folder = Path(self.images)
        if (folder / DATASET_FILE).is_file():
            manifest = parse_manifest(
                (folder / DATASET_FILE).read_bytes(), origin=str(folder / DATASET_FILE)
            )
            for name, wanted in self._shards(manifest, set(paths)):
                yield from _from_shard(folder / name, wanted)
            return
        for path in paths:
            if (content := _from_file(folder, path)) is not None:
                yield path, content

    def _from_s3(self, uri: S3Uri, paths: set[str]) -> Iterator[tuple[str, bytes]]:
        if self.storage is None or (told := self.storage.fetch_bytes(uri / DATASET_FILE)) is None:
            return
        manifest = parse_manifest(told.content, origin=str(uri / DATASET_FILE))
        sizes, fetched = {shard.name: shard.bytes for shard in manifest.shards}, 0
        with tempfile.TemporaryDirectory(prefix="fruits-report-") as scratch:
            for name, wanted in self._shards(manifest, paths):
                fetched += sizes[name]
                if fetched > self.most_fetched:
                    raise FruitsError(
                        f"more than {self.most_fetched // 2**20} MiB of {uri} would be fetched.",
                        hint="--images FOLDER takes them from this machine.",
                    )
                file = Path(scratch) / name
                self.storage.fetch_file(uri / name, file)
                yield from _from_shard(file, wanted)
                file.unlink()

    def _shards(self, manifest: DatasetManifest, paths: set[str]) -> Iterator[tuple[str, set[str]]]:
        """The shards that have some of the paths, with those; all where the order tells nothing."""
        start, is_same = 0, manifest.pictures == len(self.all_paths)
        for shard in manifest.shards:
            here = set(self.all_paths[start : start + shard.pictures]) if is_same else paths
            start += shard.pictures
            if wanted := here & paths:
                yield shard.name, wanted


def _from_shard(file: Path, paths: set[str]) -> Iterator[tuple[str, bytes]]:
    for batch in read_columns([file], ["path", "content"], batch_rows=_BATCH_ROWS):
        for path, content in zip(batch["path"], batch["content"], strict=True):
            if path in paths and content is not None:
                yield path, content


def _from_file(folder: Path, path: str) -> bytes | None:
    # A Parquet file of somebody else may name any path.
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\0" in path:
        return None
    try:
        # A pipe would block its reader for ever.
        status = os.stat(folder / path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return None
        return (folder / path).read_bytes()
    except OSError:
        return None
