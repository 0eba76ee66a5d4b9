"""fruits upload: pictures to S3."""

from __future__ import annotations

from typing import Annotated

import typer

from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.foundations import ensure_bucket
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config
from fruits_cli.dataset.images import local_images
from fruits_cli.dataset.listing import require_pictures
from fruits_cli.dataset.upload import dataset_name, send_pictures
from fruits_cli.errors import UsageError
from fruits_cli.options import DryRun, Yes, with_config
from fruits_cli.screen import Outcome, Screen

Images = Annotated[str, typer.Argument(help="Folder of pictures.")]
Raw = Annotated[bool, typer.Option("--raw", help="One object per picture, in the same layout.")]


@with_config("storage")
def upload(
    *,
    images: Images,
    raw: Raw = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config,
    screen: Screen,
) -> Outcome:
    """Pack a folder of pictures into a dataset on S3; only what changed is sent.

    \b
    fruits upload ./Test --bucket my-bucket
    """
    folder = local_images(images)
    if folder is None:
        raise UsageError(f"{images} is on S3 already.")
    session = open_session(config, screen)
    places = places_of(config)
    name = dataset_name(folder, config.storage.dataset)
    target = places.pictures(name) if raw else places.dataset(name)
    found = require_pictures(folder, config.job.extensions)
    if dry_run:
        line = f"{found.pictures} pictures ({found.bytes / 2**20:.1f} MiB) to {target}"
        facts = {"uri": str(target), "pictures": found.pictures, "bytes": found.bytes}
        return Outcome([f"Would send {line}, except those that are there already."], facts)
    ensure_bucket(places.bucket, session, yes=yes)
    tally = send_pictures(config, folder, found, target, session, raw=raw)
    size = f"{tally.bytes_sent / 2**20:.1f} MiB"
    lines = [
        str(target),
        f"{tally.pictures} pictures; {tally.files_sent} files sent ({size}), "
        f"{tally.files_kept} were there.",
    ]
    facts = {
        "uri": str(target),
        "pictures": tally.pictures,
        "files_sent": tally.files_sent,
        "files_kept": tally.files_kept,
        "bytes_sent": tally.bytes_sent,
        "unreadable": tally.unreadable,
    }
    return Outcome(lines, facts)
