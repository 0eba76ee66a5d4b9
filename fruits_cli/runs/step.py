"""Plans the job as a step of an existing cluster."""

from __future__ import annotations

from contextlib import suppress

from fruits_cli.cloud.clusters import Cluster, Role, StepSpec
from fruits_cli.cloud.layout import places_of
from fruits_cli.cloud.machines import fast_precisions
from fruits_cli.cluster.launch import new_launch_id
from fruits_cli.cluster.nodes import node_groups
from fruits_cli.cluster.plan import plan_step
from fruits_cli.cluster.steps import require_room
from fruits_cli.config import Config
from fruits_cli.errors import AccessDenied
from fruits_cli.job.model import obtain_model
from fruits_cli.job.node_python import interpreter_on, python_digest
from fruits_cli.job.results import PLAN_FILE, planned_model
from fruits_cli.job.shipment import shipped_job
from fruits_cli.runs.reuse import reuse_on_s3
from fruits_cli.s3uri import S3Uri
from fruits_cli.session import Session


def planned_step(
    config: Config,
    session: Session,
    cluster: Cluster,
    *,
    run_id: str,
    source: S3Uri,
    dataset: str,
    resume: bool = False,
) -> tuple[StepSpec, Config]:
    """The step, sized for the nodes that are there, and the configuration with what `auto` chose.

    Sends code and model to the bucket. Raises UsageError where the cluster has another Python
    than the job needs, CloudError where its queue is full.
    """
    require_room(cluster.cluster_id, session.cloud.clusters)
    types = node_types(config, cluster, session)
    artefact, chosen = obtain_model(
        config.job,
        session.screen,
        session.environ,
        begun=begun_model(run_id, config, session) if resume else "",
        fast=fast_precisions(types),
        load_model=session.load_model,
    )
    config = config.model_copy(update={"job": chosen})
    job = shipped_job(
        places_of(config),
        artefact,
        session.cloud.storage,
        images=source,
        run_id=run_id,
        dataset=dataset,
        python=python_digest(cluster),
        reuse=reuse_on_s3(config.job.reuse, places_of(config), session.ledger),
        resume=resume,
    )
    step = plan_step(
        config,
        job,
        node_types=types,
        machines=session.cloud.account.machines(types),
        region=session.cloud.region,
        run_id=run_id,
        attempt=new_launch_id(),
        python=interpreter_on(cluster, config.job.engine),
    )
    return step, config


def begun_model(run_id: str, config: Config, session: Session) -> str:
    """The fingerprint of the model that a run began with; empty where it has no plan yet."""
    found = session.cloud.storage.fetch_bytes(places_of(config).run(run_id) / PLAN_FILE)
    return planned_model(found.content) if found else ""


def node_types(config: Config, cluster: Cluster, session: Session) -> list[str]:
    """The types of the nodes that compute, as they are, or before they are as configured."""
    with suppress(AccessDenied):
        nodes = session.cloud.clusters.nodes(cluster.cluster_id)
        live = [node for node in nodes if node.ended_at is None and node.role is not Role.PRIMARY]
        if live:
            return sorted({node.instance_type for node in live})
    groups = [group for group in node_groups(config.cluster) if group.role is not Role.PRIMARY]
    return sorted({group.instance_type for group in groups})
