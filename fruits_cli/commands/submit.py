"""fruits submit: the job as a step of a live cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from fruits_cli.config import Config
from fruits_cli.ledger import new_run_id
from fruits_cli.options import ClusterChoice, with_config
from fruits_cli.screen import Screen

Images = Annotated[
    str | None, typer.Argument(help="A dataset, or an s3:// address.", show_default="the newest")
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the job; exit 4 if it fails.")]


@with_config("storage", "job")
def submit(
    *,
    images: Images = None,
    cluster: ClusterChoice = None,
    wait: Wait = False,
    config: Config,
    screen: Screen,
) -> None:
    """Run the job on a live cluster, as a step.

    \b
    fruits submit --wait --pca-k 50
    """
    from fruits_cli.commands.wiring import open_session
    from fruits_cli.submission import Submission, submit_job

    asked = Submission(new_run_id(), images=images, cluster=cluster, wait=wait)
    outcome = submit_job(config, asked, open_session(config, screen))
    screen.answer(outcome.lines, outcome.facts)
