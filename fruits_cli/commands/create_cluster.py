"""fruits create-cluster: a cluster that stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cluster.foundations import ensure_bucket, observe
from fruits_cli.cluster.launch import adopted, cluster_record, launch_once, living, new_launch_id
from fruits_cli.cluster.life import wait_until_ready
from fruits_cli.cluster.notebook import ship_notebook
from fruits_cli.cluster.plan import RunPlan, plan_cluster
from fruits_cli.cluster.plan_report import cluster_lines, plan_facts
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Target
from fruits_cli.errors import CloudError
from fruits_cli.job.node_python import node_python, ship_python
from fruits_cli.ledger import RunPhase, RunRecord, new_run_id
from fruits_cli.options import DryRun, Yes, with_config
from fruits_cli.screen import Outcome, Screen
from fruits_cli.session import Session
from fruits_cli.signals import termination_as_interrupt


@with_config("storage", "cluster")
def create_cluster(
    *, dry_run: DryRun = False, yes: Yes = False, config: Config, screen: Screen
) -> Outcome:
    """Create the cluster, or find the live one of that name; returns when it takes jobs.

    \b
    fruits create-cluster --dry-run    what would be made, and its price
    """
    return create(config, open_session(config, screen), new_run_id(), dry_run=dry_run, yes=yes)


def create(
    config: Config, session: Session, run_id: str, *, dry_run: bool = False, yes: bool = False
) -> Outcome:
    """The cluster of the configured name, ready for steps; a live one is found, not doubled.

    Raises CloudError with the cause where it does not come up, QuotaTooSmall, Locked, Declined.
    """
    name, cloud = config.cluster.name, session.cloud
    if cluster := living(name, cloud):
        session.screen.tell(f"Cluster {cluster.emr_name} lives already: {cluster.cluster_id}.")
        if dry_run:
            return _outcome(cluster)
        blank = RunRecord(run_id, Target.EMR, region=cloud.region, cluster_name=name)
        return _ready(adopted(cluster, blank, session.ledger), session)
    observed = observe(config, cloud, keep_alive=True)
    python = node_python(config.job.engine)
    plan = plan_cluster(config, observed, run_id=run_id, launch_id=new_launch_id(), python=python)
    lines = cluster_lines(plan, observed)
    if dry_run:
        return Outcome(lines, plan_facts(plan, observed))
    for line in lines:
        session.screen.tell(line)
    session.screen.ask("Create it?", yes=yes)
    ensure_bucket(plan.places.bucket, session, yes=True)
    ship_python(python, plan.places, session)
    record = launch_once(plan, cluster_record(config, plan, cloud.region), session, adopt=True)
    session.screen.tell(f"Cluster {record.cluster_id} was started.")
    if "JupyterHub" in plan.spec.applications:
        _put_notebook(plan, session)
    return _ready(record, session)


def _put_notebook(plan: RunPlan, session: Session) -> None:
    try:
        uri = ship_notebook(plan.places, session.cloud.storage)
    except CloudError as error:
        # The cluster has started: it is worth more than its notebook.
        session.screen.warn(f"The notebook was not put into the bucket. {error}")
        return
    session.screen.tell(f"A notebook for its runs is at {uri}.")


def _ready(record: RunRecord, session: Session) -> Outcome:
    try:
        with termination_as_interrupt():
            cluster = wait_until_ready(record.cluster_id, session)
    except KeyboardInterrupt:
        session.screen.tell(f"Cluster {record.cluster_id} goes on: fruits terminate ends it.")
        raise
    finally:
        _note_end(record, session)
    return _outcome(cluster)


def _note_end(record: RunRecord, session: Session) -> None:
    """Write down a cluster that ended instead of becoming ready."""
    cluster = session.cloud.clusters.cluster(record.cluster_id)
    if cluster.state.is_final:
        session.ledger.write(replace(record, phase=RunPhase.FAILED, cluster_ended=True))


def _outcome(cluster: Cluster) -> Outcome:
    lines = [
        f"Cluster {cluster.emr_name} ({cluster.cluster_id}) is {cluster.state}.",
        "Next: fruits submit, fruits tunnel, and at the end fruits terminate.",
    ]
    facts: dict[str, Any] = {
        "cluster_id": cluster.cluster_id,
        "name": cluster.name,
        "state": cluster.state.value,
        "primary": cluster.primary_dns,
    }
    return Outcome(lines, facts)
