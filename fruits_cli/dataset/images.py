"""What IMAGES on the command line means: a folder, an address, or a dataset by name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fruits_cli.cloud.layout import Places
from fruits_cli.cloud.protocols import Storage
from fruits_cli.dataset.manifest import DATASET_FILE, parse_manifest
from fruits_cli.dataset.upload import dataset_name, put_manifest
from fruits_cli.errors import UsageError
from fruits_cli.files import expanded
from fruits_cli.s3uri import S3Uri, is_s3_uri, parse_s3_uri


def find_images(wanted: str | None, places: Places, storage: Storage, dataset: str | None) -> S3Uri:
    """The pictures on S3 that are meant: an address, the configured dataset, else the newest.

    Raises UsageError where there is none.
    """
    if wanted is not None:
        if is_s3_uri(wanted):
            uri = parse_s3_uri(wanted)
            return S3Uri(uri.bucket, f"{uri.key.rstrip('/')}/")
        dataset = wanted
    if dataset is not None:
        uri = places.dataset(dataset_name(Path(dataset), dataset))
        if storage.fetch_bytes(uri / DATASET_FILE) is None:
            raise UsageError(f"There is no dataset {uri}.", hint=_known(places, storage))
        return uri
    newest = _newest(storage, storage.list_folders(places.datasets))
    if newest is None:
        raise UsageError(
            f"There is no dataset below {places.datasets} yet.",
            hint="fruits upload FOLDER makes one; fruits run FOLDER does it all.",
        )
    return newest


def bind_dataset(uri: S3Uri, storage: Storage) -> tuple[str, int | None]:
    """The digest of the dataset as it is now, kept under it, and its number of pictures.

    Empty and None for a folder of raw pictures. Raises UsageError for a broken dataset.
    """
    found = storage.fetch_bytes(uri / DATASET_FILE)
    if found is None:
        return "", None
    manifest = parse_manifest(found.content, origin=f"{uri}{DATASET_FILE}")
    return put_manifest(storage, uri, manifest), manifest.pictures


def _newest(storage: Storage, folders: Iterable[S3Uri]) -> S3Uri | None:
    found = [
        (manifest.modified_at, folder.key, folder)
        for folder in folders
        if (manifest := storage.fetch_bytes(folder / DATASET_FILE))
    ]
    return max(found)[2] if found else None


def _known(places: Places, storage: Storage) -> str:
    folders = storage.list_folders(places.datasets)
    names = [uri.key.rstrip("/").rpartition("/")[2] for uri in folders]
    return f"Datasets: {', '.join(names)}" if names else "fruits upload IMAGES makes one."


def local_images(wanted: str | None) -> Path | None:
    """The folder that IMAGES names; None for an s3 address or none at all. Raises UsageError."""
    if wanted is None or is_s3_uri(wanted):
        return None
    folder = expanded(wanted)
    # os.path, unlike Path, does not mind a name that is too long or may not be looked at.
    if not os.path.isdir(folder):
        problem = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise UsageError(f"The images folder {wanted} {problem}.")
    return folder
