"""fruits fetch-results: a cloud run's results to disk."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from fruits_cli.cloud.layout import places_of
from fruits_cli.commands.report import WithReport, with_report
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config
from fruits_cli.errors import ConfigError
from fruits_cli.files import expanded
from fruits_cli.job.results import RUNS_DIR
from fruits_cli.ledger import find_run, ledger_here
from fruits_cli.options import DryRun, with_config
from fruits_cli.runs.results import (
    fetch_manifest,
    fetch_run,
    manifest_lines,
    missing_files,
)
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Outcome, Screen

Run = Annotated[str, typer.Argument(help="A run id, a prefix of one, last, or an s3:// address.")]
Target = Annotated[
    Path | None, typer.Option("--output-dir", help="Where to; unset: fruits-runs/<run id>.")
]


@with_config("storage")
def fetch_results(
    *,
    run: Run = "last",
    output_dir: Target = None,
    report: WithReport = True,
    dry_run: DryRun = False,
    config: Config,
    screen: Screen,
    flags: Mapping[str, Mapping[str, Any]],
) -> Outcome:
    """Fetch features, components, rejected pictures and manifest of a run, with pca.csv."""
    runs: S3Uri | None = None
    with suppress(ConfigError):
        runs = places_of(config).runs
    # Before AWS is connected to, for which a run of this machine has no need.
    uri, record = find_run(run, ledger_here(), runs)
    session = open_session(config, screen)
    run_id = uri.key.rstrip("/").rpartition("/")[2]
    target = (expanded(output_dir) if output_dir else Path(RUNS_DIR) / run_id).absolute()
    manifest = fetch_manifest(session.cloud.storage, uri)
    facts = {"run_id": run_id, "uri": str(uri), "output": str(target)}
    if dry_run:
        missing = missing_files(session.cloud.storage, uri, target)
        size = sum(fetching.size for fetching in missing)
        line = f"Would fetch {len(missing)} files ({size / 2**20:.1f} MiB) into {target}."
        facts_of_plan = {**facts, "bytes": size, "files": len(missing)}
        return Outcome([*manifest_lines(manifest), line], facts_of_plan)
    screen.follow(fetch_run(session.cloud.storage, uri, target))
    if record:
        session.note(record, folder=str(target))
    outcome = Outcome(
        [*manifest_lines(manifest), f"Results: {target}"],
        {**facts, "manifest": manifest},
    )
    return with_report(outcome, screen, flags) if report else outcome
