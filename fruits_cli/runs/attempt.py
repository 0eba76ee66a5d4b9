"""One attempt at a run on EMR: how far it got, and what happens to its cluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX
from fruits_cli.cluster.ending import ENDS_CLUSTER, RunEnd, run_end
from fruits_cli.cluster.launch import look_for
from fruits_cli.cluster.life import await_end, release_launch_lock, stop_cluster
from fruits_cli.cluster.steps import cancel
from fruits_cli.errors import CloudError, FruitsError, JobCancelled
from fruits_cli.job.progress import argument, ask_to_stop
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.runs.follow import step_of_run
from fruits_cli.session import Session
from fruits_cli.signals import heard_again

_LOOK_FOR_S = 30.0


@dataclass
class Attempt:
    """How far an attempt at a run got; `record` is the newest, even if it could not be written."""

    record: RunRecord
    # Of its step, which ListSteps may not show yet.
    step_args: Sequence[str] = ()
    job_ended: bool = False
    completed: bool = False


def close_attempt(attempt: Attempt, error: BaseException, session: Session, *, keep: bool) -> None:
    """End the cluster where the table says so, before any message; else say how to continue."""
    end = run_end(error, job_ended=attempt.job_ended, completed=attempt.completed)
    record, interrupted = attempt.record, isinstance(error, KeyboardInterrupt)
    again = f"fruits run --resume {record.run_id}"
    is_stopping = keep and end is RunEnd.INTERRUPTED
    try:
        if not record.cluster_id:
            record = _found_launch(record, session, patient=interrupted)
        if not record.cluster_id:
            heard_again()
            session.screen.tell("No cluster was started.")
            known = session.ledger.load(record.run_id)
            # Another terminal may have launched this run, and written so.
            if known is None or known.launch_id == record.launch_id:
                session.note(_closed(record, end, error))
            return
        if keep or not ENDS_CLUSTER[end]:
            if is_stopping:
                _stop_job(record, attempt.step_args, session)
            _leave(record, end, session, keep=keep)
            session.note(_closed(record, end, error))
        else:
            _end(record, session, end, error)
    except FruitsError as second:
        session.screen.warn(f"{second} {_way_out(record, is_stopping=is_stopping)}")
        heard_again()
        if is_stopping:
            # A job that could not be stopped is at work, for --resume and for cancel.
            end = RunEnd.OUT_OF_SIGHT
        # Without one, the launch's own record says that nobody knows whether there is a cluster.
        if record.cluster_id:
            session.note(_closed(record, end, error))
    session.screen.tell(f"What is finished stays in {record.output}; {again} continues from there.")


def _way_out(record: RunRecord, *, is_stopping: bool) -> str:
    if not record.cluster_id:
        named = f"fruits terminate --cluster {record.run_id}"
        return f"Whether a cluster was started is not known; {named} ends one."
    if is_stopping:
        return f"The job may go on; fruits cancel --cluster {record.cluster_id} stops it."
    return f"End it with: fruits terminate --cluster {record.cluster_id}"


def _closed(record: RunRecord, end: RunEnd, error: BaseException) -> RunRecord:
    if record.phase.is_final:
        return record
    if not ENDS_CLUSTER[end] and record.cluster_id:
        return replace(record, phase=RunPhase.SUBMITTED)
    stopped = end is RunEnd.INTERRUPTED or isinstance(error, JobCancelled)
    return replace(record, phase=RunPhase.CANCELLED if stopped else RunPhase.FAILED)


def _end(record: RunRecord, session: Session, end: RunEnd, error: BaseException) -> None:
    # Before any message: this request is what stops the costs.
    stop_cluster(record.cluster_id, session)
    came_again = heard_again()
    session.screen.tell(f"Ending cluster {record.cluster_id}.")
    # Before we wait for its end, which may be cut: --resume must not take it for one at work.
    session.note(_closed(record, end, error))
    # Whoever interrupts us again is told that it ends all the same.
    with suppress(KeyboardInterrupt):
        if not came_again:
            session.screen.tell(f"It ran {await_end(record.cluster_id, session).line}.")
            return
        session.screen.tell("EMR is ending it; fruits status shows when it is gone.")
    release_launch_lock(session.cloud.clusters.cluster(record.cluster_id), session)


def _stop_job(record: RunRecord, step_args: Sequence[str], session: Session) -> None:
    """Cancel the run's step. Raises CloudError where the job could not be told to stop."""
    clusters, attempt = session.cloud.clusters, argument(step_args, "--attempt")
    step = step_of_run(record.run_id, record.cluster_id, session)
    if step is None or (attempt and argument(step.args, "--attempt") != attempt):
        # ListSteps does not show ours yet, which nothing but its file can tell.
        if not ask_to_stop(session.cloud.storage, step_args):
            raise CloudError(f"EMR does not show the job on {record.cluster_id} yet.")
        session.screen.tell("EMR does not show the job yet; it stops by itself once it has begun.")
    elif not step.state.is_final and clusters.cluster(record.cluster_id).state.is_live:
        cancel(replace(record, step_id=step.step_id), session.cloud)


def _leave(record: RunRecord, end: RunEnd, session: Session, *, keep: bool) -> None:
    cluster_id = record.cluster_id
    heard_again()
    if keep:
        session.screen.tell(f"Cluster {cluster_id} stays; fruits terminate ends it.")
        return
    session.screen.tell(
        f"Cluster {cluster_id} keeps running ({end}) and ends by itself: "
        f"fruits status --watch --cluster {cluster_id}"
    )


def _found_launch(record: RunRecord, session: Session, *, patient: bool) -> RunRecord:
    """With the cluster of a launch whose answer never came, looked for by its launch id."""
    found = look_for(
        f"{EMR_NAME_PREFIX}{record.cluster_name}",
        record.launch_id,
        session.cloud.clusters,
        session.clock,
        for_s=_LOOK_FOR_S if patient else 0.0,
    )
    return replace(record, cluster_id=found.cluster_id) if found else record
