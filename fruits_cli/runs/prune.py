"""Finds what the bucket keeps for no run: superseded shards, code and models, and old logs.

Whatever a run, finished or not, refers to by digest stays, and so does the newest state of each
dataset. Nothing younger than a day is looked at: an upload may be under way. Parts of uploads that
a killed worker left go too: a bucket that fruits did not make may have no rule that removes them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fruits_cli.cloud.layout import Places, places_of_logs
from fruits_cli.cloud.protocols import Clock, Cloud, Storage, StoredObject
from fruits_cli.cluster.notebook import code_of_notebooks
from fruits_cli.dataset.manifest import DATASET_FILE, MANIFESTS, parse_manifest
from fruits_cli.errors import AccessDenied, UsageError
from fruits_cli.files import parse_json
from fruits_cli.job.results import MANIFEST_FILE, PLAN_FILE
from fruits_cli.s3uri import S3Uri

# Dollars a GB and month: S3 Standard in eu-west-3, the first 50 TB. Source: S3 pricing page.
_USD_GB_MONTH = 0.024
_UNTOUCHED, _LOGS_KEPT = timedelta(days=1), timedelta(days=60)


@dataclass(frozen=True)
class Unneeded:
    """Objects of one kind that no run needs."""

    kind: str
    objects: tuple[StoredObject, ...]

    @property
    def bytes(self) -> int:
        return sum(one.size for one in self.objects)


def find_unneeded(places: Places, cloud: Cloud, clock: Clock) -> list[Unneeded]:
    """By kind, those with objects alone. Raises UsageError while a cluster works on the bucket."""
    _refuse_live(places, cloud)
    storage, now = cloud.storage, clock.now()
    # What the runs of the bucket refer to.
    facts = [_facts(run, storage) for run in storage.list_folders(places.runs)]
    datasets = _digests(facts, "dataset_digest", "dataset")
    models = _digests(facts, "model_fingerprint", "fingerprint")
    codes = _digests(facts, "code_digest") | code_of_notebooks(places.bucket, storage)
    kinds = {
        "shards that no run and no dataset refers to": _shards(places, storage, datasets),
        "models of no run": _folders(places.model("x"), storage, models),
        "code of no run and no notebook": _folders(places.code("x"), storage, codes),
    }
    found = [Unneeded(kind, tuple(_old(ones, now, _UNTOUCHED))) for kind, ones in kinds.items()]
    logs = storage.list_objects(places.logs)
    found.append(Unneeded("logs older than 60 days", tuple(_old(logs, now, _LOGS_KEPT))))
    with suppress(AccessDenied):
        # Not below an empty prefix: the bucket may hold uploads that are not ours.
        ours = (places.runs, places.datasets, places.logs)
        uploads = itertools.chain.from_iterable(map(storage.list_uploads, ours))
        found.append(Unneeded("unfinished uploads", tuple(_old(uploads, now, _UNTOUCHED))))
    return [one for one in found if one.objects]


def _refuse_live(places: Places, cloud: Cloud) -> None:
    for cluster in cloud.clusters.find_clusters(live=True):
        if cluster.log_uri and places_of_logs(cluster.log_uri) == places:
            raise UsageError(
                f"Cluster {cluster.cluster_id} is live, and may need what no run names yet.",
                hint="Prune once it has ended: fruits terminate",
            )


def _digests(facts: Iterable[Mapping[str, Any]], *keys: str) -> frozenset[str]:
    return frozenset(str(one.get(key) or "") for one in facts for key in keys) - {""}


def _facts(run: S3Uri, storage: Storage) -> Mapping[str, Any]:
    """What a run's manifest says, and its plan where there is none yet."""
    for name in (MANIFEST_FILE, PLAN_FILE):
        found = storage.fetch_bytes(run / name)
        with suppress(ValueError):
            if found and isinstance(facts := parse_json(found.content), dict):
                return facts
    return {}


def _shards(places: Places, storage: Storage, needed: frozenset[str]) -> Iterator[StoredObject]:
    for dataset in storage.list_folders(places.datasets):
        objects = {
            one.uri.key.removeprefix(dataset.key): one for one in storage.list_objects(dataset)
        }
        named = {DATASET_FILE} & objects.keys()
        if not named:
            # An upload that was interrupted goes on from what is there.
            continue
        named |= {f"{MANIFESTS}/{digest}.json" for digest in needed} & objects.keys()
        kept = set(named)
        for name in named:
            content = storage.fetch_bytes(dataset / name)
            if content is None:
                raise UsageError(f"{dataset / name} was removed meanwhile: try again.")
            manifest = parse_manifest(content.content, origin=str(dataset / name))
            kept |= {shard.name for shard in manifest.shards}
            kept.add(f"{MANIFESTS}/{manifest.digest}.json")
        yield from (one for name, one in objects.items() if name not in kept)


def _folders(example: S3Uri, storage: Storage, needed: frozenset[str]) -> Iterator[StoredObject]:
    above = S3Uri(example.bucket, example.key.removesuffix("x/"))
    for folder in storage.list_folders(above):
        if folder.key.rstrip("/").rpartition("/")[2] not in needed:
            yield from storage.list_objects(folder)


def _old(objects: Iterable[StoredObject], now: datetime, age: timedelta) -> Iterator[StoredObject]:
    return (one for one in objects if now - one.modified_at > age)


def unneeded_lines(found: list[Unneeded]) -> list[str]:
    """One line for each kind, and their sum with what it costs a month."""
    if not found:
        return ["The bucket keeps nothing that no run needs."]
    lines = [f"{len(one.objects)} objects, {one.bytes / 1e6:,.1f} MB: {one.kind}" for one in found]
    size = sum(one.bytes for one in found)
    return [*lines, f"{size / 1e6:,.1f} MB in all, about ${size / 1e9 * _USD_GB_MONTH:.2f} a month"]


def unneeded_facts(found: list[Unneeded]) -> dict[str, Any]:
    """The same for --output json, with every address."""
    kinds = [
        {"kind": one.kind, "bytes": one.bytes, "objects": [str(o.uri) for o in one.objects]}
        for one in found
    ]
    size = sum(one.bytes for one in found)
    return {
        "unneeded": kinds,
        "bytes": size,
        "usd_a_month": round(size / 1e9 * _USD_GB_MONTH, 4),
        "removed": False,
    }


def remove_unneeded(found: Iterable[Unneeded], storage: Storage) -> None:
    """Delete the objects. Raises CloudError; what is gone by then stays gone."""
    for one in found:
        for stored in one.objects:
            if stored.upload_id:
                storage.abort_upload(stored)
            else:
                storage.delete_object(stored.uri)
