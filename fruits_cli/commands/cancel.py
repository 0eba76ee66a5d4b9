"""fruits cancel: stop the job, keep the cluster."""

from __future__ import annotations

from fruits_cli.config import Config
from fruits_cli.options import ClusterChoice, Yes, with_config
from fruits_cli.screen import Screen


@with_config()
def cancel(
    *, cluster: ClusterChoice = None, yes: Yes = False, config: Config, screen: Screen
) -> None:
    """Stop the running job; the cluster stays."""
    from fruits_cli.commands.wiring import open_session
    from fruits_cli.ending import cancel_job

    outcome = cancel_job(cluster, open_session(config, screen), yes=yes)
    screen.answer(outcome.lines, outcome.facts)
