"""Continues a run on EMR, in whatever state it and its cluster are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from fruits_cli.cloud.clusters import LAUNCH_ID_TAG, Cluster
from fruits_cli.cluster.launch import launch_record, living
from fruits_cli.cluster.life import end_cluster
from fruits_cli.cluster.plan import lifetime_min
from fruits_cli.cluster.steps import submit
from fruits_cli.config import COMMAND_LINE, Config, Layer, configured
from fruits_cli.errors import ClusterNotFound
from fruits_cli.job.results import MANIFEST_FILE
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.runs.attempt import Attempt
from fruits_cli.runs.emr import (
    confirm,
    detached,
    fetch_and_end,
    follow_and_fetch,
    launch_and_follow,
    ship,
    shown_plan,
)
from fruits_cli.runs.follow import step_of_run
from fruits_cli.runs.step import planned_step
from fruits_cli.s3uri import parse_s3_uri
from fruits_cli.screen import Outcome
from fruits_cli.session import Session
from fruits_cli.signals import termination_as_interrupt


def resume_on_emr(
    config: Config,
    session: Session,
    record: RunRecord,
    flags: Mapping[str, Mapping[str, Any]],
    *,
    keep: bool = False,
    detach: bool = False,
    dry_run: bool = False,
    yes: bool = False,
) -> Outcome:
    """Continue a run: follow it while it is at work, fetch it once it is done, else run it.

    flags: the command's; new ones of the job run a finished run again. Raises as `run_on_emr`.
    """
    has_new_options = bool(flags.get("job", {}).keys() - {"output_dir"})
    cluster = _cluster_of(record, session)
    # A launch whose answer got lost has told no id.
    record = replace(record, cluster_id=cluster.cluster_id) if cluster else record
    # `fruits submit` chose a cluster that was there: it is not ours to end.
    is_own = bool(record.launch_id)
    stays = cluster is not None and (record.is_kept or not is_own)
    # Seconds after it was asked to end, EMR may still show cluster and step as they were.
    is_ending = cluster is not None and is_own and record.phase.is_final
    with termination_as_interrupt():
        at_work = None if is_ending else _at_work(record, cluster, session)
        is_done = not (at_work or has_new_options) and _has_results(record, session)
        if dry_run and (at_work or is_done):
            return _would_not_run(at_work or record, is_done=is_done)
        if at_work and has_new_options:
            session.screen.warn("It is at work: the job's new options have no effect.")
        if at_work:
            return _joined(config, session, at_work, stays=stays, keep=keep, detach=detach)
        if is_done:
            session.screen.tell(f"Run {record.run_id} is finished; fetching its results.")
            ended = record.cluster_ended or not (is_own or cluster)
            attempt = Attempt(replace(record, cluster_ended=ended), job_ended=True, completed=True)
            return fetch_and_end(config, session, attempt, pictures=None, keep=stays or not is_own)
    if cluster and is_own and record.is_kept:
        return _again_on(cluster, config, session, record, detach=detach, dry_run=dry_run)
    return _again_on_new_cluster(
        config,
        session,
        record,
        ending=cluster if is_ending else None,
        keep=keep or record.is_kept,
        detach=detach,
        dry_run=dry_run,
        yes=yes,
    )


def _again_on(
    cluster: Cluster,
    config: Config,
    session: Session,
    record: RunRecord,
    *,
    detach: bool,
    dry_run: bool,
) -> Outcome:
    """Run it as another step of the cluster that it kept."""
    line = f"Run {record.run_id} continues on its own cluster, {cluster.cluster_id}"
    if dry_run:
        facts = {"run_id": record.run_id, "cluster_id": cluster.cluster_id, "images": record.images}
        return Outcome([f"{line}."], facts)
    session.screen.tell(f"{line}, which stays.")
    with termination_as_interrupt():
        step, config = planned_step(
            config,
            session,
            cluster,
            run_id=record.run_id,
            source=parse_s3_uri(record.images),
            dataset=record.dataset_digest,
            resume=True,
        )
        job, own = config.job.saved(), cluster.cluster_id
        lifetime = lifetime_min(config.cluster, transient=False)
        again = replace(record, phase=RunPhase.LAUNCHED, cluster_id=own, step_id="", job=job)
        again = submit(step, replace(again, lifetime_min=lifetime), session)
        if detach:
            return detached(again, stays=True)
        attempt = Attempt(again, step.args)
        return follow_and_fetch(config, session, attempt, pictures=None, keep=True)


def _again_on_new_cluster(
    config: Config,
    session: Session,
    record: RunRecord,
    *,
    ending: Cluster | None,
    keep: bool,
    detach: bool,
    dry_run: bool,
    yes: bool,
) -> Outcome:
    """Run it as `run_on_emr` does, once the cluster of the attempt before has ended."""
    source = parse_s3_uri(record.images)
    plan, shown = shown_plan(
        config, session, record.run_id, source, shown_as=source, keep=keep, resume=True
    )
    if dry_run:
        return shown
    confirm(shown, session, yes=yes)
    with termination_as_interrupt():
        if ending:
            session.screen.tell(f"Cluster {ending.cluster_id} of the attempt before is ending.")
            end_cluster(ending.cluster_id, session)
        config, launchable, pictures = ship(
            config, session, plan, source, None, None, dataset=record.dataset_digest
        )
        again = launch_record(config, launchable, session.cloud.region, images=record.images)
        again = replace(again, created_at=record.created_at)
        return launch_and_follow(
            config, session, launchable, again, pictures=pictures, detach=detach
        )


def _cluster_of(record: RunRecord, session: Session) -> Cluster | None:
    """The live cluster that the run launched, and no other of its name, or was submitted to."""
    if record.launch_id:
        cluster = living(record.run_id, session.cloud)
        is_its = cluster and cluster.tags.get(LAUNCH_ID_TAG) == record.launch_id
        return cluster if is_its else None
    with suppress(ClusterNotFound):
        if record.cluster_id:
            cluster = session.cloud.clusters.cluster(record.cluster_id)
            return cluster if cluster.state.is_live else None
    return None


def _at_work(record: RunRecord, cluster: Cluster | None, session: Session) -> RunRecord | None:
    """The run to resume, if its cluster has a step of it that is not at its end."""
    if cluster is None:
        return None
    step = step_of_run(record.run_id, cluster.cluster_id, session)
    # A launch brings its step along, even if ListSteps does not show it yet.
    if step.state.is_final if step else not record.launch_id:
        return None
    step_id = step.step_id if step else ""
    return replace(record, phase=RunPhase.SUBMITTED, cluster_id=cluster.cluster_id, step_id=step_id)


def _has_results(record: RunRecord, session: Session) -> bool:
    manifest = parse_s3_uri(record.output) / MANIFEST_FILE
    return session.cloud.storage.fetch_bytes(manifest) is not None


def _would_not_run(record: RunRecord, *, is_done: bool) -> Outcome:
    would = "is finished; its results would be fetched"
    if not is_done:
        would = f"is at work on {record.cluster_id}; it would be followed"
    facts = {"run_id": record.run_id, "cluster_id": record.cluster_id, "images": record.images}
    return Outcome([f"Run {record.run_id} {would}."], facts)


def _joined(
    config: Config,
    session: Session,
    at_work: RunRecord,
    *,
    stays: bool,
    keep: bool,
    detach: bool,
) -> Outcome:
    """Follow a run that is at work, or leave it to itself."""
    session.note(at_work)
    if keep and not stays:
        session.screen.warn("It was started without --keep-cluster: its cluster ends after it.")
    if detach:
        return detached(at_work, stays=stays)
    session.screen.tell(f"Run {at_work.run_id} is still at work; following it.")
    # Those of a launch, by which its job is told to stop before ListSteps shows it.
    args = ("--output", at_work.output, "--attempt", at_work.launch_id)
    attempt = Attempt(at_work, () if at_work.step_id else args)
    return follow_and_fetch(config, session, attempt, pictures=None, keep=stays)


def resumed_config(
    config: Config, record: RunRecord, flags: Mapping[str, Mapping[str, Any]]
) -> Config:
    """The run's own job options and place, over them the given flags; all else as configured."""
    given = Layer(COMMAND_LINE, {"job": flags.get("job", {})})
    own = Layer(f"run {record.run_id}", {"job": dict(record.job)})
    output = parse_s3_uri(record.output)
    # What is finished is there, even if another bucket is configured by now.
    place = {"bucket": output.bucket, "prefix": output.key.rsplit("runs/", 1)[0].rstrip("/")}
    storage = config.storage.model_copy(update=place)
    return config.model_copy(update={"job": configured([given, own]).job, "storage": storage})
