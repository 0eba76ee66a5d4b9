"""fruits submit: the job as a step of a live cluster."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import typer

from fruits_cli.cloud.clusters import Cluster, Role, StepSpec
from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.nodes import node_groups
from fruits_cli.cluster.plan import lifetime_min, plan_step
from fruits_cli.cluster.steps import submit as submit_step
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Target
from fruits_cli.dataset.images import bind_dataset, find_images
from fruits_cli.errors import AccessDenied
from fruits_cli.job.model import obtain_model
from fruits_cli.job.node_python import interpreter_on, python_digest
from fruits_cli.job.shipment import shipped_job
from fruits_cli.ledger import RunPhase, RunRecord, new_run_id
from fruits_cli.options import ClusterChoice, DryRun, with_config
from fruits_cli.runs.follow import follow, raise_failure
from fruits_cli.s3uri import S3Uri
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
    """The job as a step; with `wait` followed to its end, which then is the outcome.

    Raises JobFailed with the cause where it was waited for, UsageError, CloudError.
    """
    storage, region = session.cloud.storage, session.cloud.region
    found = find_cluster(cluster, session.cloud.clusters, session.ledger, region=region)
    interpreter_on(found, config.job.engine)
    source = find_images(images, places_of(config), storage, config.storage.dataset)
    line = f"{source} on {found.emr_name} ({found.cluster_id})"
    if dry_run:
        facts = {"run_id": run_id, "cluster_id": found.cluster_id, "images": str(source)}
        return Outcome([f"Would run {line}."], facts)
    digest, pictures = bind_dataset(source, storage)
    session.screen.tell(f"{line}, {pictures} pictures" if pictures else line)
    step = _planned_step(config, session, run_id, found, source, digest)
    record = RunRecord(
        run_id,
        Target.EMR,
        RunPhase.LAUNCHED,
        images=str(source),
        output=str(places_of(config).run(run_id)),
        region=region,
        cluster_name=found.name,
        cluster_id=found.cluster_id,
        dataset_digest=digest,
        job=config.job.saved(),
    )
    record = submit_step(step, record, session)
    if wait:
        _follow(config, record, session)
    keys = ("run_id", "cluster_id", "step_id", "images", "output")
    lines = [f"Run {run_id}, step {record.step_id}: {record.output}"]
    return Outcome([*lines, f"Next: {_next(run_id, wait=wait)}"], _facts(record, keys))


def _facts(record: RunRecord, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: getattr(record, key) for key in keys}


def _next(run_id: str, *, wait: bool) -> str:
    return f"fruits fetch-results {run_id}" if wait else "fruits status --watch"


def _planned_step(
    config: Config, session: Session, run_id: str, cluster: Cluster, source: S3Uri, digest: str
) -> StepSpec:
    """The step, its code and model in the bucket, sized for the nodes that are there."""
    artefact, _ = obtain_model(
        config.job, session.screen, session.environ, load_model=session.load_model
    )
    job = shipped_job(
        places_of(config),
        artefact,
        session.cloud.storage,
        images=source,
        run_id=run_id,
        dataset=digest,
        python=python_digest(cluster),
    )
    types = node_types(config, cluster, session)
    return plan_step(
        config,
        job,
        node_types=types,
        machines=session.cloud.account.machines(types),
        region=session.cloud.region,
        run_id=run_id,
        python=interpreter_on(cluster, config.job.engine),
    )


def node_types(config: Config, cluster: Cluster, session: Session) -> list[str]:
    """The types of the nodes that compute, as they are, or before they are as configured."""
    with suppress(AccessDenied):
        nodes = session.cloud.clusters.nodes(cluster.cluster_id)
        live = [node for node in nodes if node.ended_at is None and node.role is not Role.PRIMARY]
        if live:
            return sorted({node.instance_type for node in live})
    groups = [group for group in node_groups(config.cluster) if group.role is not Role.PRIMARY]
    return sorted({group.instance_type for group in groups})


def _follow(config: Config, record: RunRecord, session: Session) -> None:
    timeout_s = 60.0 * lifetime_min(config.cluster, transient=False) + _MARGIN_S
    try:
        state = follow(record, session, timeout_s=timeout_s)
    except KeyboardInterrupt:
        session.screen.tell(f"The job goes on; fruits status --watch follows {record.run_id}.")
        raise
    done = state.step is not None and state.step.state.value == "COMPLETED"
    session.ledger.write(replace(record, phase=RunPhase.DONE if done else RunPhase.FAILED))
    raise_failure(state, session)
