"""Runs the job on a cluster of its own: plan, ship, launch, follow, fetch, end, bill.

What may end the cluster is in cluster/ending.py, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fruits_cli.cloud.clusters import LAUNCH_ID_TAG, Cluster
from fruits_cli.cloud.layout import places_of
from fruits_cli.cloud.machines import fast_precisions
from fruits_cli.cluster.ending import ENDS_CLUSTER, RunEnd
from fruits_cli.cluster.foundations import ensure_bucket, observe
from fruits_cli.cluster.launch import launch_once, launch_record, living, new_launch_id
from fruits_cli.cluster.life import end_cluster
from fruits_cli.cluster.plan import RunPlan, lifetime_min, plan_run
from fruits_cli.cluster.plan_report import plan_facts, plan_lines
from fruits_cli.cluster.steps import submit
from fruits_cli.config import COMMAND_LINE, Config, Layer, configured
from fruits_cli.dataset.images import bind_dataset, find_images, local_images
from fruits_cli.dataset.listing import Totals, require_pictures
from fruits_cli.dataset.sample import IF_ABSENT
from fruits_cli.dataset.upload import dataset_name, send_pictures
from fruits_cli.job.model import obtain_model
from fruits_cli.job.node_python import node_python, ship_python
from fruits_cli.job.results import MANIFEST_FILE, RUNS_DIR
from fruits_cli.job.shipment import planned_job, shipped_job
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.runs.attempt import Attempt, close_attempt, write_record
from fruits_cli.runs.follow import follow, raise_failure, step_of_run
from fruits_cli.runs.results import (
    fetch_manifest,
    fetch_run,
    require_same_pictures,
    run_summary,
)
from fruits_cli.runs.reuse import reuse_on_s3
from fruits_cli.runs.step import begun_model, planned_step
from fruits_cli.s3uri import S3Uri, parse_s3_uri
from fruits_cli.screen import Outcome
from fruits_cli.session import Session
from fruits_cli.signals import termination_as_interrupt

# What follows the job's own deadline: boot, and the end of the step.
_MARGIN_S = 45 * 60.0


def run_on_emr(
    config: Config,
    session: Session,
    run_id: str,
    *,
    images: str | None = None,
    sample: bool = False,
    keep: bool = False,
    detach: bool = False,
    dry_run: bool = False,
    yes: bool = False,
) -> Outcome:
    """A new run: planned once, shown, asked about, and carried out as it was shown.

    Raises JobFailed with the cause, UsageError for what the job refused, CloudError, Declined.
    """
    folder = local_images(images)
    totals = require_pictures(folder, config.job.extensions) if folder else None
    source = _dataset_of(config, session, folder, images)
    shown_as = folder or source
    plan, shown = _shown_plan(config, session, run_id, source, shown_as=shown_as, keep=keep)
    if dry_run:
        return shown
    _confirm(shown, session, yes=yes)
    with termination_as_interrupt():
        if_absent = IF_ABSENT if sample else ""
        config, launchable, pictures = _ship(
            config, session, plan, source, folder, totals, if_absent=if_absent
        )
        record = launch_record(config, launchable, session.cloud.region, images=str(source))
        return _launch_and_follow(
            config, session, launchable, record, pictures=pictures, detach=detach
        )


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

    flags: those of the command; with another option of the job a finished run is fitted again.
    Raises as `run_on_emr` does.
    """
    keep = keep or record.is_kept
    has_new_options = bool(flags.get("job", {}).keys() - {"output_dir"})
    output = parse_s3_uri(record.output)
    cluster = _own_cluster(record, session)
    # Seconds after it was asked to end, EMR may still show cluster and step as they were.
    is_ending = cluster is not None and record.phase.is_final
    with termination_as_interrupt():
        at_work = None
        if cluster and not (dry_run or is_ending):
            at_work = _at_work(record, cluster, session)
        if at_work:
            session.screen.tell(f"Run {record.run_id} is still at work; following it.")
            return _followed(config, session, Attempt(at_work), pictures=None, keep=keep)
        is_done = session.cloud.storage.fetch_bytes(output / MANIFEST_FILE) is not None
        if is_done and not has_new_options and not dry_run:
            session.screen.tell(f"Run {record.run_id} is finished; fetching its results.")
            attempt = Attempt(record, job_ended=True, completed=True)
            return _fetched(config, session, attempt, pictures=None, keep=keep)
    if cluster and record.is_kept:
        return _again_on(cluster, config, session, record, dry_run=dry_run)
    return _again_on_new_cluster(
        config,
        session,
        record,
        ending=cluster if is_ending else None,
        keep=keep,
        detach=detach,
        dry_run=dry_run,
        yes=yes,
    )


def _shown_plan(
    config: Config,
    session: Session,
    run_id: str,
    source: S3Uri,
    *,
    shown_as: object,
    keep: bool,
    resume: bool = False,
) -> tuple[RunPlan, Outcome]:
    """The plan and its outcome; code, model and dataset get their digests when they are sent."""
    observed = observe(config, session.cloud, keep_alive=keep)
    job = planned_job(places_of(config), images=source, run_id=run_id, resume=resume)
    plan = plan_run(
        config,
        observed,
        job,
        run_id=run_id,
        launch_id=new_launch_id(),
        python=node_python(config.job.engine),
        keep=keep,
    )
    lines = plan_lines(config, plan, observed, images=str(shown_as))
    facts = plan_facts(plan, observed, images=str(shown_as))
    return plan, Outcome(lines, facts)


def _confirm(shown: Outcome, session: Session, *, yes: bool) -> None:
    for line in shown.lines:
        session.screen.tell(line)
    session.screen.ask("Start it?", yes=yes)


def _dataset_of(config: Config, session: Session, folder: Path | None, wanted: str | None) -> S3Uri:
    """Where the pictures are, or will be once they are uploaded."""
    places = places_of(config)
    if folder:
        return places.dataset(dataset_name(folder, config.storage.dataset))
    return find_images(wanted, places, session.cloud.storage, config.storage.dataset)


def _ship(
    config: Config,
    session: Session,
    plan: RunPlan,
    source: S3Uri,
    folder: Path | None,
    totals: Totals | None,
    *,
    dataset: str = "",
    if_absent: str = "",
) -> tuple[Config, RunPlan, int | None]:
    """Send what the step reads; configuration and plan with its digests, and how many pictures."""
    resume = "--resume" in (plan.spec.step.args if plan.spec.step else ())
    artefact, job_config = obtain_model(
        config.job,
        session.screen,
        session.environ,
        if_absent=if_absent,
        pictures=str(folder.absolute()) if folder else "",
        begun=begun_model(plan.run_id, config, session) if resume else "",
        fast=fast_precisions((config.cluster.core_type, config.cluster.task_type)),
        load_model=session.load_model,
    )
    config = config.model_copy(update={"job": job_config})
    places, python = places_of(config), node_python(config.job.engine)
    ensure_bucket(places.bucket, session, yes=True)
    ship_python(python, places, session)
    pictures: int | None = None
    if folder and totals:
        tally = send_pictures(config, folder, totals, source, session)
        dataset, pictures = tally.digest, tally.pictures
        session.screen.tell(f"{pictures} pictures in {source}, {tally.files_sent} files sent.")
    elif not dataset:
        dataset, pictures = bind_dataset(source, session.cloud.storage)
    job = shipped_job(
        places,
        artefact,
        session.cloud.storage,
        images=source,
        run_id=plan.run_id,
        dataset=dataset,
        python=python.digest,
        reuse=reuse_on_s3(config.job.reuse, places, session.ledger),
        resume=resume,
    )
    plan = replace(plan, step=replace(plan.step, config=job_config) if plan.step else None)
    return config, plan.with_job(job), pictures


def _launch_and_follow(
    config: Config,
    session: Session,
    plan: RunPlan,
    record: RunRecord,
    *,
    pictures: int | None,
    detach: bool,
) -> Outcome:
    job = plan.spec.step.args if plan.spec.step else ()
    digest = job[job.index("--dataset-digest") + 1] if "--dataset-digest" in job else ""
    attempt = Attempt(replace(record, dataset_digest=digest))

    def started(record: RunRecord) -> None:
        attempt.record = record

    try:
        attempt.record = launch_once(plan, attempt.record, session, adopt=False, started=started)
    except BaseException as error:
        close_attempt(attempt, error, session, keep=record.is_kept)
        raise
    if detach:
        return _detached(attempt.record)
    return _followed(config, session, attempt, pictures=pictures, keep=record.is_kept)


def _followed(
    config: Config, session: Session, attempt: Attempt, *, pictures: int | None, keep: bool
) -> Outcome:
    lifetime_s = 60.0 * lifetime_min(config.cluster, transient=not keep)
    try:
        state = follow(attempt.record, session, timeout_s=lifetime_s + _MARGIN_S)
        attempt.job_ended = True
        if state.step and not attempt.record.step_id:
            attempt.record = replace(attempt.record, step_id=state.step.step_id)
        raise_failure(state, session)
        attempt.completed = True
    except BaseException as error:
        close_attempt(attempt, error, session, keep=keep)
        raise
    return _fetched(config, session, attempt, pictures=pictures, keep=keep)


def _fetched(
    config: Config, session: Session, attempt: Attempt, *, pictures: int | None, keep: bool
) -> Outcome:
    target = (config.job.output_dir or Path(RUNS_DIR) / attempt.record.run_id).absolute()
    storage, output = session.cloud.storage, parse_s3_uri(attempt.record.output)
    try:
        manifest = fetch_manifest(storage, output)
        require_same_pictures(attempt.record, manifest, pictures)
        session.screen.follow(fetch_run(storage, output, target))
    except BaseException as error:
        close_attempt(attempt, error, session, keep=keep)
        raise
    record = replace(attempt.record, phase=RunPhase.DONE, folder=str(target))
    write_record(record, session)
    line, bill = f"Cluster {record.cluster_id} is kept; fruits terminate ends it.", None
    if ENDS_CLUSTER[RunEnd.COMPLETED] and record.cluster_id and not keep:
        ended = end_cluster(record.cluster_id, session)
        line, bill = f"Cluster: {ended.line}", ended.bill
    return run_summary(manifest, record=record, output=target, bill=bill, more=[line])


def _detached(record: RunRecord) -> Outcome:
    run_id = record.run_id
    lines = [
        f"Run {run_id} continues on cluster {record.cluster_id}, which ends after it.",
        f"fruits status --watch shows it, fruits run --resume {run_id} fetches its results.",
    ]
    facts = {
        "schema": 1,
        "run_id": run_id,
        "target": "emr",
        "cluster_id": record.cluster_id,
        "images": record.images,
        "s3_output": record.output,
    }
    return Outcome(lines, facts)


def _again_on(
    cluster: Cluster, config: Config, session: Session, record: RunRecord, *, dry_run: bool
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
        again = replace(record, phase=RunPhase.LAUNCHED, cluster_id=own, step_id="", job=job)
        attempt = Attempt(submit(step, again, session))
        return _followed(config, session, attempt, pictures=None, keep=True)


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
    plan, shown = _shown_plan(
        config, session, record.run_id, source, shown_as=source, keep=keep, resume=True
    )
    if dry_run:
        return shown
    _confirm(shown, session, yes=yes)
    with termination_as_interrupt():
        if ending:
            session.screen.tell(f"Cluster {ending.cluster_id} of the attempt before is ending.")
            end_cluster(ending.cluster_id, session)
        config, launchable, pictures = _ship(
            config, session, plan, source, None, None, dataset=record.dataset_digest
        )
        again = launch_record(config, launchable, session.cloud.region, images=record.images)
        again = replace(again, created_at=record.created_at)
        return _launch_and_follow(
            config, session, launchable, again, pictures=pictures, detach=detach
        )


def _own_cluster(record: RunRecord, session: Session) -> Cluster | None:
    """The live cluster that this run launched, and no other of its name."""
    cluster = living(record.run_id, session.cloud)
    if cluster is None or cluster.tags.get(LAUNCH_ID_TAG) != record.launch_id:
        return None
    return cluster


def _at_work(record: RunRecord, cluster: Cluster, session: Session) -> RunRecord | None:
    """The run to resume, if its cluster has a step of it that is not at its end."""
    step = step_of_run(record.run_id, cluster.cluster_id, session)
    if step is None or step.state.is_final:
        return None
    record = replace(record, cluster_id=cluster.cluster_id, step_id=step.step_id)
    return write_record(replace(record, phase=RunPhase.SUBMITTED), session)


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
