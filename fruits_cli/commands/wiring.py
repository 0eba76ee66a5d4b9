"""Puts AWS, ledger, model and wheels together for a command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fruits_cli.config import Config
from fruits_cli.ledger import ledger_here
from fruits_cli.screen import Screen

if TYPE_CHECKING:
    from fruits_cli.session import Session


def open_session(config: Config, screen: Screen) -> Session:
    """A session on AWS as the configuration names it. Raises ConfigError without a region."""
    # Here, for boto3 takes longer to import than `fruits --help` may run, and a run on this
    # machine needs nothing of AWS.
    from fruits_cli.aws import connect, is_s3_here
    from fruits_cli.cloud.protocols import SystemClock
    from fruits_cli.job.model import model_artefact
    from fruits_cli.job.node_python import fetched_wheels
    from fruits_cli.session import Session

    return Session(
        screen,
        ledger_here(),
        connect(config.aws),
        SystemClock(),
        os.environ,
        load_model=model_artefact,
        fetch_wheels=None if is_s3_here(os.environ) else fetched_wheels,
    )
