"""fruits submit: the job as a step of a live cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.plan import lifetime_min
from fruits_cli.cluster.steps import submit as submit_step
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Target
from fruits_cli.dataset.images import bind_dataset, find_images
from fruits_cli.errors import JobCancelled, UsageError
from fruits_cli.job.node_python import interpreter_on
from fruits_cli.ledger import RunPhase, RunRecord, new_run_id
from fruits_cli.options import ClusterChoice, DryRun, with_config
from fruits_cli.runs.follow import follow, raise_failure
from fruits_cli.runs.results import fetch_manifest, manifest_facts, manifest_lines
from fruits_cli.runs.step import planned_step
from fruits_cli.s3uri import parse_s3_uri
from fruits_cli.screen import Outcome, Screen
from fruits_cli.session import Session

Images = Annotated[
    str | None, typer.Argument(help="A dataset, or an s3:// address.", show_default="the newest")
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the job; exit 4 if it fails.")]


@with_config("storage", "job")
def submit(
    *,
    images: Images = None,
    cluster: ClusterChoice = None,
    wait: Wait = False,
    dry_run: DryRun = False,
    config: Config,
    screen: Screen,
) -> Outcome:
    """Run the job on a live cluster, as a step.

    \b
    fruits submit --wait --pca-k 50
    """
    return submit_job(
        config,
        open_session(config, screen),
        new_run_id(),
        images=images,
        cluster=cluster,
        wait=wait,
        dry_run=dry_run,
    )


_MARGIN_S = 15 * 60.0


def submit_job(
    config: Config,
    session: Session,
    run_id: str,
    *,
    images: str | None = None,
    cluster: str | None = None,
    wait: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Submit the job as a step; with `wait` follow it to its end.

    Raises JobFailed with the cause where it was waited for, UsageError, CloudError.
    """
    storage, region = session.cloud.storage, session.cloud.region
    found = _standing_cluster(cluster, session)
    interpreter_on(found, config.job.engine)
    source = find_images(images, places_of(config), storage, config.storage.dataset)
    line = f"{source} on {found.emr_name} ({found.cluster_id})"
    if dry_run:
        facts = {"run_id": run_id, "cluster_id": found.cluster_id, "images": str(source)}
        return Outcome([f"Would run {line}."], facts)
    digest, pictures = bind_dataset(source, storage)
    session.screen.tell(f"{line}, {pictures} pictures" if pictures else line)
    step, config = planned_step(
        config, session, found, run_id=run_id, source=source, dataset=digest
    )
    record = RunRecord(
        run_id,
        Target.EMR,
        RunPhase.LAUNCHED,
        images=str(source),
        output=str(places_of(config).run(run_id)),
        region=region,
        cluster_name=found.name,
        cluster_id=found.cluster_id,
        lifetime_min=lifetime_min(config.cluster, transient=False),
        dataset_digest=digest,
        job=config.job.saved(),
    )
    record = submit_step(step, record, session)
    lines = [f"Run {run_id}, step {record.step_id}: {record.output}"]
    keys = ("run_id", "cluster_id", "step_id", "images", "output")
    facts = {key: getattr(record, key) for key in keys}
    if not wait:
        return Outcome([*lines, "Next: fruits status --watch"], facts)
    _follow(config, record, session)
    manifest = fetch_manifest(storage, parse_s3_uri(record.output))
    lines = [*manifest_lines(manifest), *lines, f"Next: fruits fetch-results {run_id}"]
    return Outcome(lines, {**facts, **manifest_facts(manifest)})


def _standing_cluster(wanted: str | None, session: Session) -> Cluster:
    clusters, region = session.cloud.clusters, session.cloud.region
    found = find_cluster(wanted, clusters, session.ledger, region=region, standing=True)
    if found.ends_after_steps:
        # fruits run ends it once its own results are fetched, whatever else runs there.
        raise UsageError(
            f"Cluster {found.cluster_id} ends after its own run, and takes no other job.",
            hint="fruits create-cluster makes one that stays.",
        )
    return found


def _follow(config: Config, record: RunRecord, session: Session) -> None:
    timeout_s = 60.0 * lifetime_min(config.cluster, transient=False) + _MARGIN_S
    try:
        state = follow(record, session, timeout_s=timeout_s)
    except KeyboardInterrupt:
        session.screen.tell(f"The job goes on; fruits status --watch follows {record.run_id}.")
        raise
    phase = RunPhase.FAILED
    try:
        raise_failure(state, session)
        phase = RunPhase.DONE
    except JobCancelled:
        phase = RunPhase.CANCELLED
        raise
    finally:
        session.note(record, phase=phase)
