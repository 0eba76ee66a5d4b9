"""Packs a folder into a dataset on disk with the product's own packer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fruits_cli.dataset.digests import DigestCache
from fruits_cli.dataset.manifest import DATASET_FILE, DatasetManifest, manifest_of, parse_manifest
from fruits_cli.dataset.shards import PackedShard, pack


def pack_on_disk(
    folder: Path, target: Path, *, extensions: Iterable[str], digests: DigestCache | None = None
) -> tuple[DatasetManifest, list[PackedShard]]:
    """The dataset's manifest and its shards as they came; those that are there are kept."""
    file = target / DATASET_FILE
    former = parse_manifest(file.read_bytes(), origin=str(file)).shards if file.exists() else ()
    known = {shard.name: shard for shard in former if (target / shard.name).exists()}
    packed = list(pack(folder, into=target, extensions=extensions, known=known, digests=digests))
    manifest = manifest_of([one.shard for one in packed])
    target.mkdir(parents=True, exist_ok=True)
    file.write_text(manifest.to_json(), encoding="utf-8")
    return manifest, packed
