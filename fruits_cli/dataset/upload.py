"""Sends a folder of pictures to S3, as shards of a dataset or as it is; only what is new."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fruits_cli.cloud.protocols import Storage, StoredObject
from fruits_cli.cloud.transfer import Sending, Speed, send_all
from fruits_cli.config import Config
from fruits_cli.dataset.digests import DigestCache
from fruits_cli.dataset.listing import Listed, Totals, list_pictures
from fruits_cli.dataset.manifest import (
    DATASET_FILE,
    MANIFESTS,
    DatasetManifest,
    Shard,
    manifest_of,
    parse_manifest,
)
from fruits_cli.dataset.shards import PackedShard, pack
from fruits_cli.errors import UsageError
from fruits_cli.files import cache_dir, scratch_folder
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Progress
from fruits_cli.session import Session


def send_pictures(
    config: Config,
    folder: Path,
    totals: Totals,
    target: S3Uri,
    session: Session,
    *,
    raw: bool = False,
) -> Tally:
    """Send the folder, whose listing gave `totals`, with its progress on screen; what was sent."""
    tally, storage, extensions = Tally(), session.cloud.storage, config.job.extensions
    if raw:
        states = send_raw(folder, totals, target, storage, extensions=extensions, tally=tally)
    else:
        digests = digest_cache(folder, cache_dir(session.environ))
        states = send_dataset(
            folder, totals, target, storage, extensions=extensions, digests=digests, tally=tally
        )
    session.screen.follow(states)
    for path in tally.unreadable[:5]:
        session.screen.warn(f"{path} cannot be read; the job will reject it.")
    if len(tally.unreadable) > 5:
        session.screen.warn(f"{len(tally.unreadable) - 5} more cannot be read.")
    return tally


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9._-]+")
# S3's own limit for a key.
_MOST_KEY_BYTES = 1024


@dataclass
class Tally:
    """What an upload found and did so far."""

    pictures: int = 0
    kept_pictures: int = 0
    files_sent: int = 0
    files_kept: int = 0
    bytes_sent: int = 0
    # Of the dataset's manifest; empty for raw pictures.
    digest: str = ""
    unreadable: list[str] = field(default_factory=list)


def dataset_name(folder: Path, configured: str | None) -> str:
    """The configured name, else the folder's own, with `-` for what does not fit into a key.

    Raises UsageError where the configured name does not fit.
    """
    if configured is not None:
        if not _NAME.fullmatch(configured):
            raise UsageError(
                f"{configured!r} cannot name a dataset.",
                hint="Use letters, digits, dots, dashes and underscores.",
            )
        return configured
    name = _NOT_IN_NAME.sub("-", folder.resolve().name).strip("-.")[:100]
    return name or "pictures"


def digest_cache(folder: Path, cache_dir: Path) -> DigestCache:
    """The digests that earlier packings of this folder left on this machine."""
    digest = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return DigestCache(cache_dir / "digests" / f"{digest[:16]}.sqlite")


def send_dataset(
    folder: Path,
    totals: Totals,
    target: S3Uri,
    storage: Storage,
    *,
    extensions: Iterable[str],
    digests: DigestCache,
    tally: Tally,
) -> Iterator[Progress]:
    """Progress until the dataset is on S3 whole; `tally` counts.

    dataset.json comes last, so that a reader sees the former dataset or this one. What an
    interrupted upload sent is not sent again. Raises as `pack` does, and CloudError.
    """
    stored = {
        there.uri.key.removeprefix(target.key): there for there in storage.list_objects(target)
    }
    known = _known_shards(storage, target, stored)
    shards: list[Shard] = []
    view = _View("upload", totals.pictures, totals.bytes, tally)
    with scratch_folder("fruits-upload-") as scratch:
        packed = pack(folder, into=scratch, extensions=extensions, known=known, digests=digests)
        sendings = _sendings(packed, target, storage, stored, shards, tally)
        with closing(send_all(storage, sendings)) as sent:
            for sending in sent:
                yield view.after(sending)
    manifest = manifest_of(shards)
    tally.digest = put_manifest(storage, target, manifest)
    content, current = manifest.to_json().encode(), storage.fetch_bytes(target / DATASET_FILE)
    if current is None or current.content != content:
        storage.put_bytes(content, target / DATASET_FILE)
    yield view.at_end()


def put_manifest(storage: Storage, dataset: S3Uri, manifest: DatasetManifest) -> str:
    """Keep the manifest under its digest, where no later upload of that name replaces it."""
    storage.put_if_absent(
        manifest.to_json().encode(), dataset / f"{MANIFESTS}/{manifest.digest}.json"
    )
    return manifest.digest


def _known_shards(
    storage: Storage, target: S3Uri, stored: Mapping[str, StoredObject]
) -> dict[str, Shard]:
    """Shards of the dataset that is there, as far as their objects are there, too."""
    found = storage.fetch_bytes(target / DATASET_FILE) if DATASET_FILE in stored else None
    if found is None:
        return {}
    manifest = parse_manifest(found.content, origin=str(target / DATASET_FILE))
    return {
        shard.name: shard
        for shard in manifest.shards
        if shard.name in stored and stored[shard.name].size == shard.bytes
    }


def _sendings(
    packed: Iterable[PackedShard],
    target: S3Uri,
    storage: Storage,
    stored: Mapping[str, StoredObject],
    shards: list[Shard],
    tally: Tally,
) -> Iterator[Sending]:
    for made in packed:
        shard, uri = made.shard, target / made.shard.name
        shards.append(shard)
        tally.pictures += shard.pictures
        tally.unreadable += [unreadable.path for unreadable in made.unreadable]
        sha256 = bytes.fromhex(shard.sha256)
        if made.file is not None and not _is_stored(storage, uri, stored, shard):
            yield Sending(made.file, uri, shard.bytes, shard.pictures, sha256, remove=True)
            continue
        if made.file is not None:
            made.file.unlink(missing_ok=True)
        tally.files_kept += 1
        tally.kept_pictures += shard.pictures


def _is_stored(
    storage: Storage, uri: S3Uri, stored: Mapping[str, StoredObject], shard: Shard
) -> bool:
    """Whether an interrupted upload has sent this very file already."""
    found = stored.get(shard.name)
    if found is None or found.size != shard.bytes:
        return False
    return storage.stored_sha256(uri) == bytes.fromhex(shard.sha256)


def send_raw(
    folder: Path,
    totals: Totals,
    target: S3Uri,
    storage: Storage,
    *,
    extensions: Iterable[str],
    tally: Tally,
) -> Iterator[Progress]:
    """Progress until every picture is an object below `target`, under its path in the folder.

    Sent are those whose size differs, and those changed since they were sent.
    """
    stored = {there.uri.key: there for there in storage.list_objects(target)}
    view = _View("upload", totals.pictures, totals.bytes, tally)
    sendings = _raw_sendings(list_pictures(folder, extensions), target, stored, tally)
    with closing(send_all(storage, sendings, connections=64)) as sent:
        for sending in sent:
            yield view.after(sending)
    yield view.at_end()


def _raw_sendings(
    pictures: Iterable[Listed], target: S3Uri, stored: Mapping[str, StoredObject], tally: Tally
) -> Iterator[Sending]:
    for picture in pictures:
        uri = target / picture.path
        tally.pictures += 1
        if len(uri.key.encode()) > _MOST_KEY_BYTES:
            raise UsageError(
                f"{picture.path} is too long for an S3 key.", hint="Upload without --raw."
            )
        if picture.stamp is None or not picture.is_readable:
            tally.unreadable.append(picture.path)
        elif _is_unchanged(picture, stored.get(uri.key)):
            tally.files_kept += 1
            tally.kept_pictures += 1
        else:
            yield Sending(Path(picture.file), uri, picture.length, 1)


def _is_unchanged(picture: Listed, stored: StoredObject | None) -> bool:
    if stored is None or picture.stamp is None or stored.size != picture.length:
        return False
    changed_at = datetime.fromtimestamp(picture.stamp.mtime_ns / 1e9, UTC)
    return changed_at <= stored.modified_at


class _View:
    """An upload as progress: pictures done, their rate, and bytes."""

    def __init__(self, stage: str, pictures: int, size: int, tally: Tally) -> None:
        self._stage, self._total, self._bytes, self._tally = stage, pictures, size, tally
        self._sent_pictures, self._speed = 0, Speed()

    def after(self, sending: Sending) -> Progress:
        self._tally.files_sent += 1
        self._tally.bytes_sent += sending.size
        self._sent_pictures += sending.pictures
        return self._progress(self._sent_pictures + self._tally.kept_pictures)

    def at_end(self) -> Progress:
        return self._progress(self._tally.pictures)

    def _progress(self, done: int) -> Progress:
        sent = self._tally.bytes_sent
        rate = self._speed.of(self._sent_pictures)
        note = (
            f"{self._tally.files_sent} files, {sent / 2**20:.1f} MiB sent "
            f"({self._speed.of(sent) / 2**20:.1f} MiB/s)"
        )
        return Progress(self._stage, done, self._total, rate, note)
