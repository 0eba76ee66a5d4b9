"""What every cloud command holds in its hands."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fruits_cli.bundle import ModelArtefact, model_artefact
from fruits_cli.cloud import Clock, Cloud, SystemClock
from fruits_cli.config import Config
from fruits_cli.ledger import Ledger, ledger_here
from fruits_cli.ui import Screen
from fruits_cli.wheelhouse import Wheel, fetched_wheels


@dataclass(frozen=True)
class Session:
    """One command's screen, ledger, cloud and clock."""

    screen: Screen
    ledger: Ledger
    cloud: Cloud
    clock: Clock = field(default_factory=SystemClock)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    load_model: Callable[..., ModelArtefact] = model_artefact
    # None: S3 is on this machine, where no node fetches them.
    fetch_wheels: Callable[..., tuple[Wheel, ...]] | None = fetched_wheels


def open_session(config: Config, screen: Screen) -> Session:
    """A session on AWS as the configuration names it. Raises ConfigError without a region."""
    # Here, for boto3 takes longer to import than `fruits --help` may run.
    from fruits_cli.aws import connect, is_s3_here

    session = Session(screen, ledger_here(), connect(config.aws))
    return replace(session, fetch_wheels=None) if is_s3_here(session.environ) else session
