"""fruits doctor: what would keep a run, a cluster or the tunnel from working."""

from __future__ import annotations

import os
from pathlib import Path

from fruits_cli.config import Config
from fruits_cli.options import with_config
from fruits_cli.screen import Outcome, Screen


@with_config("storage", "job", "cluster", "tunnel")
def doctor(*, config: Config, screen: Screen) -> Outcome:
    """Check everything that could make a run, a cluster or the tunnel fail; changes nothing.

    \b
    fruits doctor                    this machine alone, while no bucket is configured
    fruits doctor --bucket NAME      the account as well; exit code 1 where something fails
    """
    from fruits_cli.aws import connect
    from fruits_cli.doctor.examination import Surroundings, examine, report

    around = Surroundings(os.environ, Path.cwd(), lambda: connect(config.aws, is_hasty=True))
    return report(examine(config, around))
