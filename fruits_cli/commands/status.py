"""fruits status: clusters, steps, progress, time and dollars so far."""

from __future__ import annotations

from typing import Annotated

import typer

from fruits_cli.config import Config
from fruits_cli.options import ClusterChoice, with_config
from fruits_cli.screen import Screen

Watch = Annotated[bool, typer.Option("--watch", help="Follow the newest job to its end.")]
All = Annotated[bool, typer.Option("--all", help="Every live cluster of fruits in the region.")]
AllRegions = Annotated[bool, typer.Option("--all-regions", help="The same in every region.")]


@with_config("storage")
def status(
    *,
    cluster: ClusterChoice = None,
    watch: Watch = False,
    everything: All = False,
    all_regions: AllRegions = False,
    config: Config,
    screen: Screen,
) -> None:
    """Show the cluster, its steps, progress and cost; without a cluster the runs of this folder."""
    from fruits_cli.looking import Look, look

    asked = Look(cluster, watch=watch, everything=everything, all_regions=all_regions)
    outcome = look(config, asked, screen)
    screen.answer(outcome.lines, outcome.facts)
