"""fruits terminate: end the cluster and show its bill."""

from __future__ import annotations

from fruits_cli.config import Config
from fruits_cli.options import ClusterChoice, DryRun, Yes, with_config
from fruits_cli.ui import Screen


@with_config()
def terminate(
    *,
    cluster: ClusterChoice = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config,
    screen: Screen,
) -> None:
    """End the cluster, wait until it is gone, and show what it cost."""
    from fruits_cli.ending import Ending, terminate_cluster
    from fruits_cli.session import open_session

    asked = Ending(cluster, yes=yes, dry_run=dry_run)
    outcome = terminate_cluster(asked, open_session(config, screen))
    screen.answer(outcome.lines, outcome.facts)
