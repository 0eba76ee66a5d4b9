"""What `fruits upload` does: the bucket, then the pictures, then what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fruits_cli.config import Config, cache_dir
from fruits_cli.errors import UsageError
from fruits_cli.models import S3Uri
from fruits_cli.observe import check_bucket
from fruits_cli.plan import places_of
from fruits_cli.session import Session
from fruits_cli.shipping import local_images
from fruits_cli.ui import Outcome
from fruits_cli.upload import Tally, dataset_name, digest_cache, send_dataset, send_raw


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


def ensure_bucket(bucket: str, session: Session, *, yes: bool) -> None:
    """Make the bucket unless it is there, once the user agrees. Raises BucketElsewhere."""
    if check_bucket(session.cloud, bucket):
        return
    region = session.cloud.region
    session.screen.ask(f"Bucket {bucket} does not exist. Make it in {region}, private?", yes=yes)
    session.cloud.storage.create_bucket(bucket)
    session.screen.tell(f"Bucket {bucket} was made in {region}.")


def send_pictures(
    config: Config, folder: Path, target: S3Uri, session: Session, *, raw: bool = False
) -> Tally:
    """Send the folder with its progress on screen; what was found and sent."""
    tally, storage, extensions = Tally(), session.cloud.storage, config.job.extensions
    if raw:
        states = send_raw(folder, target, storage, extensions=extensions, tally=tally)
    else:
        digests = digest_cache(folder, cache_dir(session.environ))
        states = send_dataset(
            folder, target, storage, extensions=extensions, digests=digests, tally=tally
        )
    session.screen.follow(states)
    for path in tally.unreadable[:5]:
        session.screen.warn(f"{path} cannot be read; the job will reject it.")
    if len(tally.unreadable) > 5:
        session.screen.warn(f"{len(tally.unreadable) - 5} more cannot be read.")
    return tally


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
