"""fruits create-cluster: a cluster that stays."""

from __future__ import annotations

from fruits_cli.config import Config
from fruits_cli.ledger import new_run_id
from fruits_cli.options import DryRun, Yes, with_config
from fruits_cli.screen import Screen


@with_config("storage", "cluster")
def create_cluster(
    *, dry_run: DryRun = False, yes: Yes = False, config: Config, screen: Screen
) -> None:
    """Create the cluster, or find the live one of that name; returns when it takes jobs.

    \b
    fruits create-cluster --dry-run    what would be made, and its price
    """
    from fruits_cli.commands.wiring import open_session
    from fruits_cli.creation import Creation
    from fruits_cli.creation import create_cluster as created

    asked = Creation(new_run_id(), yes=yes, dry_run=dry_run)
    outcome = created(config, asked, open_session(config, screen))
    screen.answer(outcome.lines, outcome.facts)
