"""fruits fetch-results: a cloud run's results to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fruits_cli.config import Config
from fruits_cli.options import with_config
from fruits_cli.screen import Screen

Run = Annotated[str, typer.Argument(help="A run id, a prefix of one, last, or an s3:// address.")]
Target = Annotated[
    Path | None, typer.Option("--output-dir", help="Where to; unset: fruits-runs/<run id>.")
]


@with_config("storage")
def fetch_results(
    *, run: Run = "last", output_dir: Target = None, config: Config, screen: Screen
) -> None:
    """Fetch features, components, rejected pictures and manifest of a run, with pca.csv."""
    from fruits_cli.bringing import bring_results
    from fruits_cli.commands.wiring import open_session

    outcome = bring_results(config, run, output_dir, open_session(config, screen))
    screen.answer(outcome.lines, outcome.facts)
