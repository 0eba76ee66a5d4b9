"""fruits run: all of it, from pictures to components, here or on a cluster of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fruits_cli.commands.report import WithReport, early_reporter, with_report
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Target
from fruits_cli.dataset.sample import ensure_sample, sample_folder
from fruits_cli.errors import UsageError
from fruits_cli.ledger import RunRecord, ledger_here, new_run_id
from fruits_cli.options import DryRun, Yes, with_config
from fruits_cli.runs.local import run_here
from fruits_cli.screen import Outcome, Screen

Images = Annotated[
    str | None,
    typer.Argument(help="Folder of pictures, or on EMR a dataset.", show_default=False),
]
Sample = Annotated[bool, typer.Option("--sample", help="Run on a small drawn set of fruit.")]
Local = Annotated[bool, typer.Option("--local", help="Run on this machine: --target local.")]
Keep = Annotated[bool, typer.Option("--keep-cluster", help="Leave the cluster up afterwards.")]
Detach = Annotated[
    bool, typer.Option("--detach", help="Leave once the cluster was started; it ends by itself.")
]
Resume = Annotated[
    str | None,
    typer.Option(help="Go on with a run: its id, last, or its folder.", show_default=False),
]


@with_config("job", "storage", "cluster")
def run(
    *,
    images: Images = None,
    sample: Sample = False,
    resume: Resume = None,
    local: Local = False,
    keep_cluster: Keep = False,
    detach: Detach = False,
    report: WithReport = True,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config,
    screen: Screen,
    flags: Mapping[str, Mapping[str, Any]],
) -> Outcome:
    """Compute features and principal components of a folder of pictures.

    \b
    fruits run ./Test --pca-k 50    features, components, CSV and manifest in fruits-runs/
    fruits run --sample             the same on drawn pictures, without a download
    """
    if (images is not None) + sample + (resume is not None) > 1:
        raise UsageError("Give one of IMAGES, --sample and --resume.")
    record = _record_on_emr(resume)
    if record is None and (resume or local or config.target is Target.LOCAL):
        if detach:
            raise UsageError("--detach is for runs on EMR.")
        with early_reporter() if report and not dry_run else contextlib.nullcontext() as early:
            outcome = run_here(
                config, screen, flags, images=images, sample=sample, resume=resume, dry_run=dry_run
            )
            return with_report(outcome, screen, flags, early=early) if report else outcome
    # Here, for a run on this machine needs nothing of it.
    from fruits_cli.runs.emr import run_on_emr
    from fruits_cli.runs.resume import resume_on_emr, resumed_config

    session = open_session(config, screen)
    how = {"keep": keep_cluster, "detach": detach, "dry_run": dry_run, "yes": yes}
    images = str(ensure_sample(sample_folder(os.environ))) if sample else images
    if record:
        outcome = resume_on_emr(
            resumed_config(config, record, flags), session, record, flags, **how
        )
    else:
        outcome = run_on_emr(config, session, new_run_id(), images=images, sample=sample, **how)
    return with_report(outcome, screen, flags, images=images) if report else outcome


def _record_on_emr(resume: str | None) -> RunRecord | None:
    """The run to resume, if it ran on EMR."""
    with contextlib.suppress(UsageError):
        if resume and (record := ledger_here().find(resume)).target is Target.EMR:
            return record
    return None
