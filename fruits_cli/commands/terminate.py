"""fruits terminate: end the cluster and show its bill."""

from __future__ import annotations

from typing import Annotated

import typer

from fruits_cli.config import Config
from fruits_cli.options import ClusterChoice, DryRun, Yes, with_config
from fruits_cli.screen import Screen


@with_config("storage")
def terminate(
    *,
    cluster: ClusterChoice = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also roles, profile, key pair; never data.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config,
    screen: Screen,
) -> None:
    """End the cluster, wait until it is gone, and show what it cost."""
    from fruits_cli.aws.clients import connect_everywhere
    from fruits_cli.commands.wiring import open_session
    from fruits_cli.ending import Ending, terminate_cluster
    from fruits_cli.purging import purge_account

    asked = Ending(cluster, yes=yes, dry_run=dry_run)
    session = open_session(config, screen)
    if purge:
        outcome = purge_account(config, asked, session, connect_everywhere(config.aws))
    else:
        outcome = terminate_cluster(asked, session)
    screen.answer(outcome.lines, outcome.facts)
