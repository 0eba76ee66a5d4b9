"""The job on a cluster of its own: upload, plan, launch, follow, fetch, end, bill.

Whatever happens in between, the cluster ends: EMR ends it after its step, and we end it before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fruits_cli.cloud.account import Observed
from fruits_cli.cloud.clusters import LAUNCH_ID_TAG
from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.foundations import ensure_bucket, observe
from fruits_cli.cluster.launch import launch_once, living, look_for, new_launch_id
from fruits_cli.cluster.life import Ended, end_cluster
from fruits_cli.cluster.plan import RunPlan, lifetime_min, plan_run
from fruits_cli.cluster.plan_report import plan_facts, plan_lines
from fruits_cli.cluster.steps import cancel
from fruits_cli.config import Config, Layer, Target, configured
from fruits_cli.dataset.images import find_images, local_images
from fruits_cli.dataset.listing import count_pictures
from fruits_cli.dataset.sample import IF_ABSENT
from fruits_cli.dataset.upload import dataset_name, send_pictures
from fruits_cli.errors import FruitsError, UsageError
from fruits_cli.job.arguments import Job
from fruits_cli.job.model import obtain_model
from fruits_cli.job.node_python import node_python, ship_python
from fruits_cli.job.shipment import planned_job, shipped_job
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.runs import results
from fruits_cli.runs.follow import follow, raise_failure, step_of_run
from fruits_cli.runs.results import RUNS_DIR, fetch_manifest, fetch_run
from fruits_cli.s3uri import S3Uri, parse_s3_uri
from fruits_cli.screen import Outcome
from fruits_cli.session import Session
from fruits_cli.signals import termination_as_interrupt

# What follows the job's own deadline: boot, and the end of the step.
_MARGIN_S = 45 * 60.0
_LOOK_FOR_S = 30.0


@dataclass(frozen=True)
class CloudRun:
    """What the user asked of `fruits run` on EMR; `images` is a folder, an address, or None."""

    run_id: str
    images: str | None = None
    resume: RunRecord | None = None
    sample: bool = False
    yes: bool = False
    dry_run: bool = False
    keep: bool = False


def run_in_cloud(config: Config, asked: CloudRun, session: Session) -> Outcome:
    """The whole story of a cloud run; a dry run ends after the plan.

    Raises JobFailed with the cause, UsageError for what the job refused, CloudError, Declined.
    Ctrl-C, SIGTERM and a closed terminal end the cluster first.
    """
    with termination_as_interrupt():
        if not asked.dry_run and (record := _at_work(asked, session)):
            session.screen.tell(f"Run {asked.run_id} is still at work; following it.")
            return _ended_well(config, asked, record, session)
        folder = None if asked.resume else local_images(asked.images)
        if folder and not count_pictures(folder, config.job.extensions).pictures:
            raise UsageError(f"There is no picture in {folder}.")
        observed = observe(config, session.cloud, keep_alive=asked.keep)
        images = _images(config, asked, folder, session)
        plan = _first_plan(config, asked, images, observed)
        lines = plan_lines(config, plan, observed, images=str(folder or images))
        if asked.dry_run:
            return Outcome(lines, plan_facts(plan, observed, images=str(folder or images)))
        for line in lines:
            session.screen.tell(line)
        session.screen.ask("Start it?", yes=asked.yes)
        return _carried_out(config, asked, session, observed=observed, folder=folder, images=images)


def _at_work(asked: CloudRun, session: Session) -> RunRecord | None:
    """The run to resume, if its cluster is still there."""
    if asked.resume is None:
        return None
    cluster = living(asked.run_id, session.cloud)
    if cluster is None or cluster.tags.get(LAUNCH_ID_TAG) != asked.resume.launch_id:
        return None
    step = step_of_run(asked.run_id, cluster.cluster_id, session)
    if step is None:
        return None
    record = replace(asked.resume, cluster_id=cluster.cluster_id, step_id=step.step_id)
    return session.ledger.write(replace(record, phase=RunPhase.SUBMITTED))


def _images(config: Config, asked: CloudRun, folder: Path | None, session: Session) -> S3Uri:
    """Where the pictures are, or will be once they are uploaded."""
    if asked.resume:
        return parse_s3_uri(asked.resume.images)
    places = places_of(config)
    if folder:
        return places.dataset(dataset_name(folder, config.storage.dataset))
    return find_images(asked.images, places, session.cloud.storage, config.storage.dataset)


def _first_plan(config: Config, asked: CloudRun, images: S3Uri, observed: Observed) -> RunPlan:
    resume = asked.resume is not None
    job = planned_job(places_of(config), images=images, run_id=asked.run_id, resume=resume)
    return _plan(config, asked, job, observed)


def _plan(config: Config, asked: CloudRun, job: Job, observed: Observed) -> RunPlan:
    return plan_run(
        config,
        observed,
        job,
        run_id=asked.run_id,
        launch_id=new_launch_id(),
        python=node_python(config.job.engine),
        keep=asked.keep,
    )


def _carried_out(
    config: Config,
    asked: CloudRun,
    session: Session,
    *,
    observed: Observed,
    folder: Path | None,
    images: S3Uri,
) -> Outcome:
    artefact, job_config = obtain_model(
        config.job,
        session.screen,
        session.environ,
        if_absent=IF_ABSENT if asked.sample and asked.resume is None else "",
        load_model=session.load_model,
    )
    config = config.model_copy(update={"job": job_config})
    ensure_bucket(places_of(config).bucket, session, yes=True)
    ship_python(node_python(config.job.engine), places_of(config), session)
    if folder:
        tally = send_pictures(config, folder, images, session)
        session.screen.tell(
            f"{tally.pictures} pictures in {images}, {tally.files_sent} files sent."
        )
    job = shipped_job(
        places_of(config),
        artefact,
        session.cloud.storage,
        images=images,
        run_id=asked.run_id,
        resume=asked.resume is not None,
    )
    plan = _plan(config, asked, job, observed)
    record = run_record(config, plan, images=str(images), region=session.cloud.region)
    if asked.resume:
        record = replace(record, created_at=asked.resume.created_at)
    try:
        record = launch_once(plan, record, session, adopt=False)
        session.screen.tell(f"Cluster {record.cluster_id} was started for run {plan.run_id}.")
    except BaseException as error:
        _end_after(error, asked, session)
        raise
    return _ended_well(config, asked, record, session)


def _ended_well(config: Config, asked: CloudRun, record: RunRecord, session: Session) -> Outcome:
    """Follow the run, fetch its results, end its cluster; the summary."""
    lifetime_s = 60.0 * lifetime_min(config.cluster, transient=not asked.keep)
    target = output_folder(config, asked.run_id)
    try:
        state = follow(record, session, timeout_s=lifetime_s + _MARGIN_S)
        raise_failure(state, session)
        record = session.ledger.write(
            replace(_latest(record, session), phase=RunPhase.DONE, folder=str(target))
        )
        session.screen.follow(fetch_run(session.cloud.storage, parse_s3_uri(record.output), target))
    except BaseException as error:
        _end_after(error, asked, session)
        raise
    manifest = fetch_manifest(session.cloud.storage, parse_s3_uri(record.output))
    ended = None if asked.keep else end_cluster(record.cluster_id, session)
    return _outcome(record, manifest, target, ended)


def _latest(record: RunRecord, session: Session) -> RunRecord:
    return session.ledger.load(record.run_id) or record


def _end_after(error: BaseException, asked: CloudRun, session: Session) -> None:
    """End what the run started, and write down how it ended."""
    record = session.ledger.load(asked.run_id)
    if record is None:
        return
    interrupted = isinstance(error, KeyboardInterrupt)
    if not record.phase.is_final:
        phase = RunPhase.CANCELLED if interrupted else RunPhase.FAILED
        record = session.ledger.write(replace(record, phase=phase))
    started = True
    try:
        started = _end_or_keep(record, asked, session, interrupted=interrupted)
    except FruitsError as second:
        session.screen.warn(f"{second} End it with: fruits terminate --cluster {asked.run_id}")
    if started:
        again = f"fruits run --resume {asked.run_id}"
        session.screen.tell(f"What is finished stays in {record.output}: {again} goes on there.")


def _end_or_keep(
    record: RunRecord, asked: CloudRun, session: Session, *, interrupted: bool
) -> bool:
    """Whether there was a cluster of this run."""
    cluster_id = record.cluster_id or _launched_unseen(record, session, interrupted=interrupted)
    if not cluster_id:
        session.screen.tell("No cluster was started.")
        return False
    cluster = session.cloud.clusters.cluster(cluster_id)
    if cluster.tags.get(LAUNCH_ID_TAG) != record.launch_id:
        # Not the cluster that this run made: it is not ours to end.
        session.screen.warn(f"Cluster {cluster_id} was not made by this run; it stays.")
        return False
    elif asked.keep:
        if interrupted and record.step_id and cluster.state.is_live:
            cancel(record, session.cloud.clusters)
        session.screen.tell(f"Cluster {cluster_id} stays, as --keep-cluster asked.")
    else:
        session.screen.tell(f"Ending cluster {cluster_id}.")
        session.screen.tell(f"It ran {end_cluster(cluster_id, session).line}.")
    return True


def _launched_unseen(record: RunRecord, session: Session, *, interrupted: bool) -> str:
    """The cluster of a launch whose answer never came; an interrupted one may still appear."""
    found = look_for(
        f"fruits-{record.cluster_name}",
        record.launch_id,
        session.cloud.clusters,
        session.clock,
        for_s=_LOOK_FOR_S if interrupted else 0.0,
    )
    if found is None:
        return ""
    session.ledger.write(replace(record, cluster_id=found.cluster_id))
    return found.cluster_id


def run_record(config: Config, plan: RunPlan, *, images: str, region: str) -> RunRecord:
    """The record of a run that is about to be launched."""
    return RunRecord(
        plan.run_id,
        Target.EMR,
        images=images,
        output=str(plan.places.run(plan.run_id)),
        region=region,
        cluster_name=plan.name,
        launch_id=plan.spec.launch_id,
        job=config.job.saved(),
    )


def resumed_config(
    config: Config, record: RunRecord, flags: Mapping[str, Mapping[str, Any]]
) -> Config:
    """The run's own job options and place, over them the given flags; all else as configured."""
    given = Layer("command line", {"job": flags.get("job", {})})
    own = Layer(f"run {record.run_id}", {"job": dict(record.job)})
    output = parse_s3_uri(record.output)
    # What is finished lies there, whatever bucket is configured by now.
    place = {"bucket": output.bucket, "prefix": output.key.rsplit("runs/", 1)[0].rstrip("/")}
    storage = config.storage.model_copy(update=place)
    return config.model_copy(update={"job": configured([given, own]).job, "storage": storage})


def output_folder(config: Config, run_id: str) -> Path:
    """Where the results go on this machine."""
    return (config.job.output_dir or Path(RUNS_DIR) / run_id).absolute()


def _outcome(
    record: RunRecord, manifest: Mapping[str, Any], target: Path, ended: Ended | None
) -> Outcome:
    bill = ended.bill if ended else None
    facts = {
        "run_id": record.run_id,
        "target": Target.EMR.value,
        "cluster_id": record.cluster_id,
        "images": record.images,
        "output": str(target),
        "s3_output": record.output,
        "cost_usd": round(bill.usd, 4) if bill else None,
        "cluster_seconds": round(bill.seconds) if bill else None,
        "manifest": dict(manifest),
    }
    lines = [*results.manifest_lines(manifest), f"Results: {target} and {record.output}"]
    lines.append(f"Cluster: {ended.line}" if ended else f"Cluster {record.cluster_id} is kept.")
    return Outcome(lines, facts)
