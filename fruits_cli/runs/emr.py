"""Runs the job on a cluster of its own: plan, ship, launch, follow, fetch, end, bill.

What may end the cluster is in cluster/ending.py, and nowhere else.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fruits_cli.cloud.layout import places_of
from fruits_cli.cloud.machines import fast_precisions
from fruits_cli.cluster.ending import ENDS_CLUSTER, RunEnd
from fruits_cli.cluster.foundations import ensure_bucket, observe
from fruits_cli.cluster.launch import launch_once, launch_record, new_launch_id
from fruits_cli.cluster.life import end_cluster
from fruits_cli.cluster.plan import RunPlan, lifetime_min, plan_run
from fruits_cli.cluster.plan_report import plan_facts, plan_lines
from fruits_cli.config import Config
from fruits_cli.dataset.images import bind_dataset, find_images, local_images
from fruits_cli.dataset.listing import Totals, require_pictures
from fruits_cli.dataset.sample import IF_ABSENT
from fruits_cli.dataset.upload import dataset_name, send_pictures
from fruits_cli.errors import ClusterNotFound
from fruits_cli.job.model import obtain_model
from fruits_cli.job.node_python import node_python, ship_python
from fruits_cli.job.results import RUNS_DIR
from fruits_cli.job.shipment import planned_job, shipped_job
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.runs.attempt import Attempt, close_attempt
from fruits_cli.runs.follow import follow, raise_failure
from fruits_cli.runs.results import (
    fetch_manifest,
    fetch_run,
    require_same_pictures,
    run_summary,
)
from fruits_cli.runs.reuse import reuse_on_s3
from fruits_cli.runs.step import begun_model
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
    plan, shown = shown_plan(config, session, run_id, source, shown_as=shown_as, keep=keep)
    if dry_run:
        return shown
    confirm(shown, session, yes=yes)
    with termination_as_interrupt():
        if_absent = IF_ABSENT if sample else ""
        config, launchable, pictures = ship(
            config, session, plan, source, folder, totals, if_absent=if_absent
        )
        record = launch_record(config, launchable, session.cloud.region, images=str(source))
        return launch_and_follow(
            config, session, launchable, record, pictures=pictures, detach=detach
        )


def shown_plan(
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


def confirm(shown: Outcome, session: Session, *, yes: bool) -> None:
    for line in shown.lines:
        session.screen.tell(line)
    session.screen.ask("Start it?", yes=yes)


def _dataset_of(config: Config, session: Session, folder: Path | None, wanted: str | None) -> S3Uri:
    """Where the pictures are, or will be once they are uploaded."""
    places = places_of(config)
    if folder:
        return places.dataset(dataset_name(folder, config.storage.dataset))
    return find_images(wanted, places, session.cloud.storage, config.storage.dataset)


def ship(
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


def launch_and_follow(
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
    attempt = Attempt(replace(record, dataset_digest=digest), job)

    def started(record: RunRecord) -> None:
        attempt.record = record

    try:
        attempt.record = launch_once(plan, attempt.record, session, adopt=False, started=started)
    except BaseException as error:
        close_attempt(attempt, error, session, keep=record.is_kept)
        raise
    if detach:
        return detached(attempt.record, stays=record.is_kept)
    return follow_and_fetch(config, session, attempt, pictures=pictures, keep=record.is_kept)


def follow_and_fetch(
    config: Config, session: Session, attempt: Attempt, *, pictures: int | None, keep: bool
) -> Outcome:
    # What a resumed run was started with, which may be longer than what is configured by now.
    known_min = attempt.record.lifetime_min
    lifetime_s = 60.0 * (known_min or lifetime_min(config.cluster, transient=not keep))
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
    return fetch_and_end(config, session, attempt, pictures=pictures, keep=keep)


def fetch_and_end(
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
    record = session.note(record)
    lines, bill = [], None
    if keep and record.cluster_id:
        if not record.cluster_ended:
            lines = [f"Cluster {record.cluster_id} is kept; fruits terminate ends it."]
    elif ENDS_CLUSTER[RunEnd.COMPLETED] and record.cluster_id:
        # EMR forgets a cluster two months after its end.
        with suppress(ClusterNotFound):
            ended = end_cluster(record.cluster_id, session)
            lines, bill = [f"Cluster: {ended.line}"], ended.bill
    return run_summary(manifest, record=record, output=target, bill=bill, more=lines)


def detached(record: RunRecord, *, stays: bool) -> Outcome:
    """What to say of a run that is left to itself; stays: whether its cluster outlives it."""
    run_id = record.run_id
    end = "which stays until fruits terminate" if stays else "which ends after it"
    lines = [
        f"Run {run_id} continues on cluster {record.cluster_id}, {end}.",
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
