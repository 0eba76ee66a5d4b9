"""fruits cancel: stop the job, keep the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, Cluster, Step, StepState
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.steps import cancel as cancel_step
from fruits_cli.cluster.steps import is_housekeeping
from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config, Target
from fruits_cli.errors import CloudError
from fruits_cli.ledger import RunPhase, RunRecord, records_of
from fruits_cli.options import ClusterChoice, DryRun, Yes, with_config
from fruits_cli.screen import Outcome, Screen
from fruits_cli.session import Session


@with_config()
def cancel(
    *,
    cluster: ClusterChoice = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config,
    screen: Screen,
) -> Outcome:
    """Stop the running job; the cluster stays."""
    return cancel_job(cluster, open_session(config, screen), dry_run=dry_run, yes=yes)


def cancel_job(
    wanted: str | None, session: Session, *, dry_run: bool = False, yes: bool = False
) -> Outcome:
    """Cancel the running or waiting job of the cluster. Raises UsageError without a cluster."""
    clusters = session.cloud.clusters
    cluster = find_cluster(wanted, clusters, session.ledger, region=session.cloud.region)
    steps = clusters.steps(cluster.cluster_id)
    jobs = [step for step in steps if not (step.state.is_final or is_housekeeping(step.name))]
    # EMR lists the newest first: of those that wait, the last one runs next.
    running = [step for step in jobs if step.state is not StepState.PENDING]
    step = next(iter(running or jobs[::-1]), None)
    if step is None:
        _refuse_unlisted(cluster, steps, session)
        line = f"No job is running on {cluster.emr_name}."
        return Outcome([line], {"cluster_id": cluster.cluster_id, "step_id": None})
    job = f"{step.name} ({step.step_id}, {step.state})"
    facts = {"cluster_id": cluster.cluster_id, "step_id": step.step_id}
    if dry_run:
        return Outcome([f"Would cancel {job}; the cluster stays."], facts)
    session.screen.ask(f"Cancel {job}?", yes=yes)
    if (now := clusters.step(cluster.cluster_id, step.step_id)).state.is_final:
        # While the question stood: a job that completed was not cancelled.
        return Outcome([f"{step.name} has ended meanwhile: {now.state}."], facts)
    record = _record_of(cluster, step, session)
    cancel_step(record, session.cloud)
    if record.output:
        session.note(record, phase=RunPhase.CANCELLED)
    return Outcome(
        [f"{step.name} was asked to stop; the cluster stays."],
        {**facts, "run_id": record.run_id},
    )


def _refuse_unlisted(cluster: Cluster, steps: Sequence[Step], session: Session) -> None:
    """Raise CloudError where this folder has just sent a job that ListSteps does not show yet."""
    listed = {step.name.removeprefix(EMR_NAME_PREFIX) for step in steps}
    for record in records_of(cluster.cluster_id, session.ledger):
        if record.images and not record.phase.is_final and record.run_id not in listed:
            raise CloudError(
                f"EMR does not show the job of run {record.run_id} yet.",
                hint="Nothing was cancelled; try again in some seconds.",
            )


def _record_of(cluster: Cluster, step: Step, session: Session) -> RunRecord:
    # The step's name holds the run id; a record has no step's id while its run is followed.
    run_id = step.name.removeprefix(EMR_NAME_PREFIX)
    for record in records_of(cluster.cluster_id, session.ledger):
        if record.run_id == run_id:
            return replace(record, step_id=step.step_id)
    # Another folder started it.
    return RunRecord(
        run_id,
        Target.EMR,
        region=session.cloud.region,
        cluster_id=cluster.cluster_id,
        step_id=step.step_id,
    )
