"""The job as a step of a cluster that lives already."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from fruits_cli.cloud.clusters import Cluster, Role
from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.nodes import node_groups
from fruits_cli.cluster.plan import lifetime_min, plan_step
from fruits_cli.cluster.steps import submit
from fruits_cli.config import Config, Target
from fruits_cli.dataset.images import find_images
from fruits_cli.errors import AccessDenied
from fruits_cli.job.model import obtain_model
from fruits_cli.job.node_python import interpreter_on
from fruits_cli.job.shipment import shipped_job
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.runs.follow import follow, raise_failure
from fruits_cli.screen import Outcome
from fruits_cli.session import Session

_MARGIN_S = 15 * 60.0


@dataclass(frozen=True)
class Submission:
    """What the user asked of `fruits submit`."""

    run_id: str
    images: str | None = None
    cluster: str | None = None
    wait: bool = False


def submit_job(config: Config, asked: Submission, session: Session) -> Outcome:
    """The job as a step; with `wait` followed to its end, which then is the outcome.

    Raises JobFailed with the cause where it was waited for, UsageError, CloudError.
    """
    cloud, region = session.cloud, session.cloud.region
    cluster = find_cluster(asked.cluster, cloud.clusters, session.ledger, region=region)
    python = interpreter_on(cluster, config.job.engine)
    places = places_of(config)
    images = find_images(asked.images, places, cloud.storage, config.storage.dataset)
    session.screen.tell(f"{images} on {cluster.emr_name} ({cluster.cluster_id})")
    types = node_types(config, cluster, session)
    artefact, _ = obtain_model(
        config.job, session.screen, session.environ, load_model=session.load_model
    )
    job = shipped_job(places, artefact, cloud.storage, images=images, run_id=asked.run_id)
    step = plan_step(
        config,
        job,
        node_types=types,
        machines=cloud.account.machines(types),
        region=region,
        run_id=asked.run_id,
        python=python,
    )
    record = _record(config, asked, cluster, str(images), str(places.run(asked.run_id)), region)
    record = submit(
        step, record, clusters=cloud.clusters, ledger=session.ledger, clock=session.clock
    )
    session.screen.tell(f"Run {asked.run_id} is step {record.step_id}.")
    if asked.wait:
        _follow(config, record, session)
    return _outcome(record)


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


def _record(
    config: Config, asked: Submission, cluster: Cluster, images: str, output: str, region: str
) -> RunRecord:
    return RunRecord(
        asked.run_id,
        Target.EMR,
        RunPhase.LAUNCHED,
        images=images,
        output=output,
        region=region,
        cluster_name=cluster.name,
        cluster_id=cluster.cluster_id,
        job=config.job.model_dump(mode="json", exclude={"target", "output_dir"}),
    )


def _outcome(record: RunRecord) -> Outcome:
    facts: dict[str, Any] = {
        "run_id": record.run_id,
        "cluster_id": record.cluster_id,
        "step_id": record.step_id,
        "images": record.images,
        "output": record.output,
    }
    return Outcome([f"Run {record.run_id}, step {record.step_id}: {record.output}"], facts)
