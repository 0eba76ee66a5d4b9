"""What `fruits terminate` and `fruits cancel` do."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, Cluster, Step
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.life import bill_of, end_cluster
from fruits_cli.cluster.steps import cancel, is_housekeeping
from fruits_cli.config import Target
from fruits_cli.errors import ClusterNotFound, UsageError
from fruits_cli.ledger import RunPhase, RunRecord, records_of
from fruits_cli.screen import Outcome
from fruits_cli.session import Session


@dataclass(frozen=True)
class Ending:
    """What the user asked of `fruits terminate`."""

    cluster: str | None = None
    yes: bool = False
    dry_run: bool = False


def terminate_cluster(asked: Ending, session: Session) -> Outcome:
    """The cluster gone, and its bill; nothing to end is no error. Raises CloudError, Declined."""
    cluster = meant(asked.cluster, session)
    if cluster is None:
        return Outcome(["There is no cluster to end."], {"cluster_id": None, "state": None})
    name = f"{cluster.emr_name} ({cluster.cluster_id})"
    _, cost = bill_of(cluster, session.cloud, session.clock)
    if asked.dry_run:
        seen = {"cluster_id": cluster.cluster_id, "state": cluster.state.value}
        return Outcome([f"Cluster {name} is {cluster.state}; it ran {cost}."], seen)
    if cluster.state.is_live:
        session.screen.tell(f"Cluster {name} is {cluster.state}; it ran {cost}.")
        session.screen.ask("End it?", yes=asked.yes)
    ended = end_cluster(cluster.cluster_id, session)
    facts = {
        "cluster_id": cluster.cluster_id,
        "state": ended.cluster.state.value,
        "cost_usd": round(ended.bill.usd, 4) if ended.bill else None,
        "seconds": round(ended.bill.seconds) if ended.bill else None,
    }
    return Outcome([f"Cluster {name} is {ended.cluster.state}. It ran {ended.line}."], facts)


def meant(wanted: str | None, session: Session) -> Cluster | None:
    """The cluster that the user wants to end, None where none is left. Raises ClusterNotFound."""
    clusters, region = session.cloud.clusters, session.cloud.region
    try:
        return find_cluster(wanted, clusters, session.ledger, region=region, ended=True)
    except ClusterNotFound:
        # A name that nothing answers to any more is what the user wanted; an unknown id is not.
        if wanted and wanted.startswith("j-"):
            raise
        return None
    except UsageError:
        if clusters.find_clusters(live=True):
            raise
        return None


def cancel_job(wanted: str | None, session: Session, *, yes: bool) -> Outcome:
    """The running or waiting job of the cluster, cancelled. Raises UsageError without a cluster."""
    clusters, region = session.cloud.clusters, session.cloud.region
    cluster = find_cluster(wanted, clusters, session.ledger, region=region)
    step = next((one for one in clusters.steps(cluster.cluster_id) if _is_open(one)), None)
    if step is None:
        line = f"No job is running on {cluster.emr_name}."
        return Outcome([line], {"cluster_id": cluster.cluster_id, "step_id": None})
    session.screen.ask(f"Cancel {step.name} ({step.step_id}, {step.state})?", yes=yes)
    record = _record(cluster, step, session)
    cancel(record, clusters)
    if record.output:
        session.ledger.write(replace(record, phase=RunPhase.CANCELLED))
    facts = {"cluster_id": cluster.cluster_id, "step_id": step.step_id, "run_id": record.run_id}
    return Outcome([f"{step.name} was asked to stop; the cluster stays."], facts)


def _is_open(step: Step) -> bool:
    return not step.state.is_final and not is_housekeeping(step.name)


def _record(cluster: Cluster, step: Step, session: Session) -> RunRecord:
    for record in records_of(cluster.cluster_id, session.ledger):
        if record.step_id == step.step_id:
            return record
    # Somebody else's folder started it: its name tells the run.
    return RunRecord(
        step.name.removeprefix(EMR_NAME_PREFIX),
        Target.EMR,
        region=session.cloud.region,
        cluster_id=cluster.cluster_id,
        step_id=step.step_id,
    )
