"""Runs the job on this machine, from plan to summary: the same job as on a cluster."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fruits_cli.config import COMMAND_LINE, Config, Layer, Target, configured
from fruits_cli.dataset.images import local_images
from fruits_cli.dataset.listing import require_a_picture
from fruits_cli.dataset.sample import IF_ABSENT, ensure_sample, sample_folder
from fruits_cli.errors import FruitsError, JobFailed, MachineError, UsageError
from fruits_cli.files import expanded, parse_json, read_document, require_writable
from fruits_cli.job.class_archive import made_meanwhile
from fruits_cli.job.java import find_java
from fruits_cli.job.model import obtain_model
from fruits_cli.job.results import PLAN_FILE, RUNS_DIR, load_manifest, planned_model
from fruits_cli.job.spark import LocalPlan, require_named_user, run_job, usable_cores
from fruits_cli.ledger import Ledger, RunPhase, RunRecord, ledger_here, new_run_id
from fruits_cli.runs import results
from fruits_cli.runs.results import run_summary
from fruits_cli.runs.reuse import reuse_here
from fruits_cli.screen import Outcome, Screen
from fruits_cli.signals import termination_as_interrupt


def run_here(
    config: Config,
    screen: Screen,
    flags: Mapping[str, Mapping[str, Any]],
    *,
    images: str | None = None,
    sample: bool = False,
    resume: str | None = None,
    dry_run: bool = False,
) -> Outcome:
    """A run on this machine, planned, shown and carried out; a dry run ends after the plan.

    Raises UsageError for what cannot be read, and what the job reported.
    """
    began_s = time.monotonic()
    ledger, environ = ledger_here(), os.environ
    if resume is not None:
        plan = resumed_run(ledger, resume, flags)
    elif sample:
        plan = new_run(config, sample_folder(environ), run_id=new_run_id())
    elif images is not None:
        folder = local_images(images)
        if folder is None:
            raise UsageError(
                f"A run on this machine reads a folder, not {images}.",
                hint="fruits run --target emr reads a dataset on S3.",
            )
        plan = new_run(config, _absolute(folder), run_id=new_run_id())
    else:
        raise UsageError(
            "Give one of IMAGES, --sample and --resume.",
            hint="fruits run ./pictures, or fruits run --sample for a first look",
        )
    plan = replace(plan, reuse=reuse_here(plan.job.reuse, plan.output, ledger))
    if dry_run:
        return Outcome(plan_lines(plan), plan_facts(plan))
    if images is not None:
        require_a_picture(Path(plan.images), plan.job.extensions)
    with termination_as_interrupt():
        manifest, waits = execute(plan, screen, ledger, environ)
    known_s = sum(waits.values()) + sum(manifest["seconds"].values())
    waits["all else"] = max(0.0, time.monotonic() - began_s - known_s)
    return run_summary(manifest, record=_record(plan), output=plan.output, waits=waits)


def new_run(config: Config, folder: Path, *, run_id: str) -> LocalPlan:
    """The plan of a new run. Raises UsageError where its folders cannot be used."""
    output = _absolute(config.job.output_dir or Path(RUNS_DIR) / run_id)
    if os.path.lexists(output) and not (output.is_dir() and not any(output.iterdir())):
        raise UsageError(
            f"The output folder {output} is not empty.",
            hint=f"Give another, or continue with fruits run --resume {output}",
        )
    for path in (folder, output):
        if not _is_utf8(str(path)):
            raise UsageError(
                f"The name of the folder {path} is not UTF-8.",
                hint="Java cannot use such a name: rename the folder, or link to it.",
            )
    job = config.job.model_copy(update={"weights": _whole_path(config.job.weights)})
    return LocalPlan(run_id, str(folder), output, job, usable_cores())


def _absolute(path: str | Path) -> Path:
    # Without `..`, so that one folder has one name in the ledger.
    return Path(os.path.abspath(path))


def _is_utf8(text: str) -> bool:
    # Python stands in for bytes that are not UTF-8 with lone surrogates.
    return not any("\ud800" <= char <= "\udfff" for char in text)


def resumed_run(ledger: Ledger, wanted: str, flags: Mapping[str, Mapping[str, Any]]) -> LocalPlan:
    """The plan that continues a run: its own options, and over them the given flags.

    wanted: a run id, a unique prefix of one, `last`, or the run's folder. Raises UsageError.
    """
    for key in {"output_dir", "target"} & flags.get("job", {}).keys():
        raise UsageError(
            f"{key} of a resumed run cannot change.",
            hint="Without --resume, a new run takes it.",
        )
    record = _record_of(ledger, wanted)
    layers = [Layer(COMMAND_LINE, flags), Layer(f"run {record.run_id}", {"job": record.job})]
    job = configured(layers).job
    job = job.model_copy(update={"weights": _whole_path(job.weights)})
    output = Path(record.output)
    return LocalPlan(record.run_id, record.images, output, job, usable_cores(), resume=True)


def _record_of(ledger: Ledger, wanted: str) -> RunRecord:
    folder = _absolute(wanted)
    if "/" not in wanted and not (folder / PLAN_FILE).is_file():
        return ledger.find(wanted)
    for record in ledger.records():
        if record.output == str(folder):
            return record
    return _record_in(folder)


def _record_in(folder: Path) -> RunRecord:
    """What a run's folder tells of a run that another working folder started."""
    try:
        facts = parse_json(read_document(folder / PLAN_FILE))
        keys = ("engine", "precision", "image_size", "weights", "extensions")
        job = {key: facts[key] for key in keys}
        return RunRecord(
            folder.name, Target.LOCAL, images=facts["images"], output=str(folder), job=job
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} holds no run that could be continued.",
            hint="fruits status lists the runs of this folder.",
        ) from error


def _whole_path(weights: str) -> str:
    if weights in ("imagenet", "random"):
        return weights
    return str(_absolute(expanded(weights)))


def plan_lines(plan: LocalPlan) -> list[str]:
    """The plan in one line, and where it leads."""
    job = plan.job
    size = f"{job.image_size} px, weights {Path(job.weights).name}"
    what = f"{job.engine} {job.precision}, {size}, {plan.cores} cores"
    verb = "Continuing run" if plan.resume else "Run"
    return [f"{verb} {plan.run_id} on this machine: {what}.", f"{plan.images} -> {plan.output}"]


def plan_facts(plan: LocalPlan) -> dict[str, Any]:
    """The plan for --output json."""
    return {
        "run_id": plan.run_id,
        "target": Target.LOCAL.value,
        "images": plan.images,
        "output": str(plan.output),
        "resume": plan.resume,
        "cores": plan.cores,
        "job": plan.job.saved(),
    }


def execute(
    plan: LocalPlan, screen: Screen, ledger: Ledger, environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Carry the plan out, with its record in the ledger; the manifest of the finished run, and the
    seconds that its stages do not count.

    Raises what the job reported. Where it wrote a manifest all the same, the summary is shown.
    """
    began_s = time.monotonic()
    for line in plan_lines(plan):
        screen.tell(line)
    _require_machine(plan, ledger, environ)
    sample = plan.images == str(sample_folder(environ))
    if sample:
        ensure_sample(Path(plan.images))
    with made_meanwhile(environ, cores=plan.cores):
        artefact, job = obtain_model(
            plan.job,
            screen,
            environ,
            if_absent=IF_ABSENT if sample else "",
            pictures=plan.images,
            begun=_begun_model(plan),
        )
    obtained_s = time.monotonic()
    plan = replace(plan, job=job)
    before = ledger.load(plan.run_id)
    record = ledger.write(_record(plan))
    try:
        with contextlib.closing(run_job(plan, artefact, environ)) as states:
            screen.follow(states)
        ended_s = time.monotonic()
        results.write_pca_csv(plan.output)
    except BaseException as error:
        with contextlib.suppress(MachineError):
            ledger.write(_ended(record, before, error))
        if isinstance(error, KeyboardInterrupt):
            screen.tell(f"Stopped. fruits run --resume {plan.run_id} continues from here.")
        elif isinstance(error, JobFailed):
            _tell_all(plan, screen)
        raise
    ledger.write(replace(record, phase=RunPhase.DONE))
    manifest = load_manifest(plan.output)
    spark_s = ended_s - obtained_s - sum(manifest["seconds"].values())
    return manifest, {"model": obtained_s - began_s, "Spark's start and end": max(0.0, spark_s)}


def _require_machine(plan: LocalPlan, ledger: Ledger, environ: Mapping[str, str]) -> None:
    """Raise MachineError for what no run here can do without, before a model is made in vain."""
    require_named_user(os.getuid())
    find_java(environ)
    for folder in (ledger.folder, plan.output):
        require_writable(folder)


def _begun_model(plan: LocalPlan) -> str:
    with contextlib.suppress(OSError):
        return planned_model(read_document(plan.output / PLAN_FILE)) if plan.resume else ""
    return ""


def _ended(record: RunRecord, before: RunRecord | None, error: BaseException) -> RunRecord:
    # A refused --resume has run nothing: its options must not become those of the run.
    if isinstance(error, UsageError) and before is not None:
        return before
    interrupted = isinstance(error, KeyboardInterrupt)
    return replace(record, phase=RunPhase.CANCELLED if interrupted else RunPhase.FAILED)


def _tell_all(plan: LocalPlan, screen: Screen) -> None:
    with contextlib.suppress(FruitsError):
        manifest = load_manifest(plan.output)
        for line in run_summary(manifest, record=_record(plan), output=plan.output).lines:
            screen.tell(line)


def _record(plan: LocalPlan) -> RunRecord:
    return RunRecord(
        plan.run_id,
        Target.LOCAL,
        RunPhase.LAUNCHED,
        images=plan.images,
        output=str(plan.output),
        job=plan.job.saved(),
    )
