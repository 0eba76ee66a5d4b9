"""fruits logs: what the driver wrote, and after a failure why."""

from __future__ import annotations

from typing import Annotated

import typer

from fruits_cli.config import Config
from fruits_cli.options import ClusterChoice, with_config
from fruits_cli.ui import Screen

Run = Annotated[
    str | None, typer.Argument(help="A run id, a prefix of one, or last.", show_default=False)
]
Workers = Annotated[bool, typer.Option("--workers", help="The executors' logs, too.")]


@with_config("storage")
def logs(
    *,
    run: Run = None,
    cluster: ClusterChoice = None,
    workers: Workers = False,
    config: Config,
    screen: Screen,
) -> None:
    """Show the driver's output; after a failure the cause first."""
    from fruits_cli.looking import read_logs

    outcome = read_logs(config, screen, run=run, cluster=cluster, workers=workers)
    screen.answer(outcome.lines, outcome.facts)
