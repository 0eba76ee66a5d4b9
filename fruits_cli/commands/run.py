"""fruits run: all of it, from pictures to components."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fruits_cli.config import Config
from fruits_cli.errors import UsageError
from fruits_cli.models import new_run_id
from fruits_cli.options import DryRun, with_config
from fruits_cli.ui import Screen

Images = Annotated[str | None, typer.Argument(help="Folder of pictures.", show_default=False)]
Sample = Annotated[bool, typer.Option("--sample", help="Run on a small drawn set of fruit.")]
Resume = Annotated[
    str | None,
    typer.Option(help="Go on with a run: its id, last, or its folder.", show_default=False),
]


@with_config("job")
def run(
    *,
    images: Images = None,
    sample: Sample = False,
    resume: Resume = None,
    dry_run: DryRun = False,
    config: Config,
    screen: Screen,
    flags: Mapping[str, Mapping[str, Any]],
) -> None:
    """Compute features and principal components of a folder of pictures.

    \b
    fruits run ./Test --pca-k 50    features, components, CSV and manifest in fruits-runs/
    fruits run --sample             the same on drawn pictures, without a download
    """
    from fruits_cli import local
    from fruits_cli.ledger import ledger_here

    here = local.Here(screen, ledger_here(), os.environ)
    if sum([images is not None, sample, resume is not None]) != 1:
        raise UsageError(
            "Give one of IMAGES, --sample and --resume.",
            hint="fruits run ./pictures, or fruits run --sample for a first look",
        )
    if resume is not None:
        plan = local.resumed_run(here.ledger, resume, flags)
    else:
        folder = local.sample_folder(os.environ) if sample else local.images_folder(str(images))
        plan = local.new_run(config, folder, run_id=new_run_id())
    if dry_run:
        screen.answer(local.plan_lines(plan), local.plan_facts(plan))
        return
    manifest = local.execute(plan, here)
    screen.answer(local.summary_lines(plan, manifest), local.summary_facts(plan, manifest))
