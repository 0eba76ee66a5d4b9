"""Follows a run on its cluster to the end; a failure is raised with its cause."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, Cluster, ClusterState, Step, StepState
from fruits_cli.cluster.diagnosis import Diagnosis, Evidence, diagnose, lost_nodes, proof_lines
from fruits_cli.cluster.life import cluster_progress
from fruits_cli.cluster.logs import JobLogs, await_logs, failed_in_bootstrap, fetch_logs
from fruits_cli.cluster.steps import is_housekeeping
from fruits_cli.cluster.watch import RunState, watch_cluster, watch_run
from fruits_cli.errors import CloudError, FruitsError, JobCancelled, JobFailed, UsageError
from fruits_cli.job.progress import STOPPED, argument, fetch_report
from fruits_cli.ledger import RunRecord
from fruits_cli.s3uri import parse_s3_uri
from fruits_cli.screen import Progress
from fruits_cli.session import Session

_BAD_STEPS = (StepState.FAILED, StepState.INTERRUPTED)


def has_failed(state: RunState) -> bool:
    """True if the step or the cluster failed."""
    if state.step and state.step.state in _BAD_STEPS:
        return True
    return state.cluster.state is ClusterState.TERMINATED_WITH_ERRORS


_LAST_WORDS_S = 900.0
_KINDS: dict[int, type[FruitsError]] = {2: UsageError}


def follow(record: RunRecord, session: Session, *, timeout_s: float) -> RunState:
    """Show the run until it ends; its last state. Raises DeadlineReached."""
    states = watch_run(
        session.cloud,
        record.cluster_id,
        record.step_id or f"{EMR_NAME_PREFIX}{record.run_id}",
        parse_s3_uri(record.output),
        clock=session.clock,
        timeout_s=timeout_s,
        tell=session.screen.warn,
    )
    state = session.screen.follow(states, shown=progress_of)
    assert state is not None
    return state


def progress_of(state: RunState) -> Progress:
    """A run's state as the bar shows it: the job's own progress once it runs."""
    step = state.step.state if state.step else None
    if state.progress and step is StepState.RUNNING:
        return state.progress
    if step is None or step is StepState.PENDING:
        return cluster_progress(state.cluster)
    return Progress(f"step {step}", 0, 0, 0.0)


def raise_failure(state: RunState, session: Session) -> None:
    """Return if the step completed; else show the cause and raise.

    JobFailed for a failed job, UsageError for options that the job refused, JobCancelled, and
    CloudError where the cluster never came to it.
    """
    if state.step and state.step.state is StepState.COMPLETED:
        return
    if state.progress and state.progress.stage == STOPPED:
        # The job may have stopped before EMR cancelled its step, which then counts as failed.
        raise _cancelled()
    state = _at_its_end(state, session)
    found = diagnosed(state, session, wait_for_logs=True)
    for line in proof_lines(found):
        session.screen.tell(line)
    if state.error:
        kind = _KINDS.get(_exit_code(state), JobFailed)
        raise kind(found.cause, hint=found.hint)
    if lost_nodes(state.cluster, state.step):
        raise CloudError(f"The cluster ended while the job ran: {found.cause}", hint=found.hint)
    if state.step and state.step.state is StepState.CANCELLED:
        if found.stage in ("launch", "bootstrap"):
            raise CloudError(f"The cluster did not come up: {found.cause}", hint=found.hint)
        raise _cancelled()
    if state.step and state.step.started_at:
        where = "" if found.stage == "job" else f" in stage {found.stage}"
        raise JobFailed(f"The job failed{where}: {found.cause}", hint=found.hint)
    raise CloudError(f"The cluster ended in stage {found.stage}: {found.cause}", hint=found.hint)


def _cancelled() -> FruitsError:
    return JobCancelled("The job was cancelled.", hint="fruits run --resume continues it.")


def _at_its_end(state: RunState, session: Session) -> RunState:
    """The state with the reason of its cluster's end, which EMR gives once the cluster is gone."""
    step, cluster = state.step, state.cluster
    has_begun = step is not None and step.started_at is not None
    is_known = has_begun and (bool(cluster.reason_code) or has_failed(state))
    if cluster.state.is_live or is_known:
        return state
    with suppress(CloudError):
        for cluster in watch_cluster(
            session.cloud.clusters,
            state.cluster.cluster_id,
            until=lambda state: state.is_final,
            clock=session.clock,
            timeout_s=_LAST_WORDS_S,
        ):
            session.screen.detail(f"cluster {cluster.cluster_id} {cluster.state}")
    return replace(state, cluster=cluster)


def _exit_code(state: RunState) -> int:
    with suppress(TypeError, ValueError):
        return int((state.error or {}).get("exit_code") or 0)
    return 0


def diagnosed(state: RunState, session: Session, *, wait_for_logs: bool) -> Diagnosis:
    """The cause of a failure; waits for EMR's logs only where the job itself reported none."""
    logs = JobLogs()
    if not state.error:
        logs = _logs(state, session, wait=wait_for_logs)
    stage = state.progress.stage if state.progress else ""
    return diagnose(
        Evidence(
            cluster=state.cluster,
            step=state.step,
            stage="" if stage in ("failed", "done") else stage,
            job_error=state.error,
            logs=logs.telling,
        )
    )


def _logs(state: RunState, session: Session, *, wait: bool) -> JobLogs:
    step_id = state.step.step_id if state.step else ""
    ran = state.step is not None and state.step.started_at is not None

    def is_enough(logs: JobLogs) -> bool:
        return bool(logs.driver if ran else logs.bootstrap)

    # A launch that was refused never had a node, and no logs are to come.
    if wait and (ran or failed_in_bootstrap(state.cluster)):
        return await_logs(session, state.cluster, step_id, is_enough=is_enough)
    return fetch_logs(session.cloud.storage, state.cluster, step_id, workers=True)


def step_of_run(run_id: str, cluster_id: str, session: Session) -> Step | None:
    """The newest step of a run on a cluster, found by its name."""
    steps = session.cloud.clusters.steps(cluster_id)
    return next((step for step in steps if step.name == f"{EMR_NAME_PREFIX}{run_id}"), None)


def jobs_on(cluster: Cluster, session: Session) -> list[Step]:
    """The steps of a cluster that are jobs, the newest first."""
    steps = session.cloud.clusters.steps(cluster.cluster_id)
    return [step for step in steps if not is_housekeeping(step.name)]


def state_of(
    cluster: Cluster, step: Step | None, session: Session, *, output: str = ""
) -> RunState:
    """The state of a job at this moment. output: where it writes, unless its arguments say it."""
    # The arguments do also for a run that another folder started.
    output = output or (argument(step.args, "--output") if step else "")
    if not output:
        return RunState(cluster, step)
    args = step.args if step else ()
    report = fetch_report(session.cloud.storage, parse_s3_uri(output), args)
    return RunState(cluster, step, report.progress, report.error)
