"""fruits logs: what the driver wrote, after a failure why, and the Spark UI."""

from __future__ import annotations

from typing import Annotated

import typer

from fruits_cli.config import Config
from fruits_cli.errors import UsageError
from fruits_cli.options import ClusterChoice, with_config
from fruits_cli.screen import Screen

Run = Annotated[
    str | None, typer.Argument(help="A run id, a prefix of one, or last.", show_default=False)
]
Workers = Annotated[bool, typer.Option("--workers", help="The executors' logs, too.")]

SparkUi = Annotated[
    bool, typer.Option("--ui", help="The address of the Spark UI, up to 30 days after the end.")
]


@with_config("storage")
def logs(
    *,
    run: Run = None,
    cluster: ClusterChoice = None,
    workers: Workers = False,
    ui: SparkUi = False,
    config: Config,
    screen: Screen,
) -> None:
    """Show the driver's output; after a failure the cause first."""
    from fruits_cli.looking import open_spark_ui, read_logs

    if ui and workers:
        raise UsageError("Give --ui or --workers.")
    if ui:
        outcome = open_spark_ui(config, screen, run=run, cluster=cluster)
    else:
        outcome = read_logs(config, screen, run=run, cluster=cluster, workers=workers)
    screen.answer(outcome.lines, outcome.facts)
