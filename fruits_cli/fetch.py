"""A run's results from S3 to disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from fruits_cli.cloud import Storage
from fruits_cli.errors import CloudError, FruitsError, UsageError
from fruits_cli.models import Progress, S3Uri
from fruits_cli.results import MANIFEST_FILE, PCA_CSV, parse_manifest, write_pca_csv
from fruits_cli.transfer import Fetching, Speed, fetch_all

# What resume compares stays where the run is.
_LEFT = ("_plan", "_chunks")


def fetch_manifest(storage: Storage, run: S3Uri) -> dict[str, Any]:
    """manifest.json of a run on S3. Raises FruitsError where there is none to read."""
    found = storage.fetch_bytes(run / MANIFEST_FILE)
    if found is None:
        raise FruitsError(
            f"The run {run} has no results: it is under way, it failed, or it never was.",
            hint="fruits status and fruits logs tell more.",
        )
    return parse_manifest(found.content, run / MANIFEST_FILE)


def fetch_run(storage: Storage, run: S3Uri, folder: Path) -> Iterator[Progress]:
    """Progress until everything but resume's files is in `folder`, and pca.csv is made there.

    A file that is there with the right size stays. Raises UsageError where the folder holds
    something else than this run.
    """
    fetchings = _fetchings(storage, run, folder)
    _refuse_foreign(folder, fetchings)
    # The manifest says "finished": it comes when all else has come.
    last = [one for one in fetchings if one.file.name == MANIFEST_FILE]
    others = [one for one in fetchings if one not in last and not _is_there(one)]
    done, total, speed = 0, sum(one.size for one in others), Speed()
    for group in (others, last):
        with closing(fetch_all(storage, group)) as fetched:
            for one in fetched:
                done += one.size
                yield _progress(done, total, speed)
    write_pca_csv(folder)


def _fetchings(storage: Storage, run: S3Uri, folder: Path) -> list[Fetching]:
    found = []
    for one in storage.list_objects(run):
        path = PurePosixPath(one.uri.key.removeprefix(run.key))
        if path.is_absolute() or ".." in path.parts:
            raise CloudError(f"{one.uri} would be written outside of {folder}.")
        # An empty key is the folder itself, as consoles make one.
        if path.parts and path.parts[0] not in _LEFT and not one.uri.key.endswith("/"):
            found.append(Fetching(one.uri, folder / path, one.size, one.modified_at))
    return found


def _refuse_foreign(folder: Path, fetchings: list[Fetching]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.")
    ours = {one.file for one in fetchings} | {folder / PCA_CSV}
    foreign = [file for file in folder.rglob("*") if file.is_file() and file not in ours]
    # Scratch files of a fetch that was interrupted.
    foreign = [file for file in foreign if not (file.name[0] == "." and file.suffix == ".tmp")]
    if foreign:
        raise UsageError(
            f"{folder} holds something else: {foreign[0].relative_to(folder)}.",
            hint="Give an --output-dir that is empty, or does not exist yet.",
        )


def _is_there(one: Fetching) -> bool:
    """Whether an earlier fetch brought this very version."""
    try:
        found = one.file.stat()
    except OSError:
        return False
    return found.st_size == one.size and found.st_mtime >= one.modified_at.timestamp()


def _progress(done: int, total: int, speed: Speed) -> Progress:
    note = f"{done / 2**20:.1f} of {total / 2**20:.1f} MiB ({speed.of(done) / 2**20:.1f} MiB/s)"
    return Progress("fetching", 0, 0, 0.0, note)
