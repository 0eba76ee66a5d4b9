"""What `fruits fetch-results` does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fruits_cli.cloud.layout import places_of
from fruits_cli.config import Config
from fruits_cli.errors import ConfigError
from fruits_cli.ledger import find_run
from fruits_cli.runs import results
from fruits_cli.runs.results import fetch_manifest, fetch_run
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Outcome
from fruits_cli.session import Session

RUNS_DIR = "fruits-runs"


def bring_results(
    config: Config, wanted: str, output_dir: Path | None, session: Session
) -> Outcome:
    """The results of a run on disk. Raises UsageError, or FruitsError for an unfinished run."""
    runs: S3Uri | None = None
    with suppress(ConfigError):
        runs = places_of(config).runs
    uri, record = find_run(wanted, session.ledger, runs)
    run_id = uri.key.rstrip("/").rpartition("/")[2]
    target = (output_dir or Path(RUNS_DIR) / run_id).absolute()
    storage = session.cloud.storage
    manifest = fetch_manifest(storage, uri)
    session.screen.follow(fetch_run(storage, uri, target))
    if record:
        session.ledger.write(replace(record, folder=str(target)))
    lines = [*results.manifest_lines(manifest), f"Results: {target}"]
    facts = {"run_id": run_id, "uri": str(uri), "output": str(target), "manifest": manifest}
    return Outcome(lines, facts)
