"""What `fruits upload` does: the bucket, then the pictures, then what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.foundations import ensure_bucket
from fruits_cli.config import Config
from fruits_cli.dataset.images import local_images
from fruits_cli.dataset.upload import Tally, dataset_name, send_pictures
from fruits_cli.errors import UsageError
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Outcome
from fruits_cli.session import Session


@dataclass(frozen=True)
class Upload:
    """What the user asked of `fruits upload`."""

    images: str
    raw: bool = False
    yes: bool = False


def upload_folder(config: Config, asked: Upload, session: Session) -> Outcome:
    """The folder on S3, as a dataset or as it is. Raises UsageError or CloudError."""
    folder = local_images(asked.images)
    if folder is None:
        raise UsageError(f"{asked.images} is on S3 already.")
    places = places_of(config)
    name = dataset_name(folder, config.storage.dataset)
    ensure_bucket(places.bucket, session, yes=asked.yes)
    target = places.pictures(name) if asked.raw else places.dataset(name)
    tally = send_pictures(config, folder, target, session, raw=asked.raw)
    return Outcome(_lines(tally, target), _facts(tally, target))


def _lines(tally: Tally, target: S3Uri) -> list[str]:
    size = f"{tally.bytes_sent / 2**20:.1f} MiB"
    return [
        str(target),
        f"{tally.pictures} pictures; {tally.files_sent} files sent ({size}), "
        f"{tally.files_kept} were there.",
    ]


def _facts(tally: Tally, target: S3Uri) -> dict[str, Any]:
    return {
        "uri": str(target),
        "pictures": tally.pictures,
        "files_sent": tally.files_sent,
        "files_kept": tally.files_kept,
        "bytes_sent": tally.bytes_sent,
        "unreadable": tally.unreadable,
    }
