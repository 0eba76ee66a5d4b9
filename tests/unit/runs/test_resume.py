"""`fruits run --resume` in the states that a run may be in, and beside other commands."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fruits_cli.cloud.clusters import Step, StepState
from fruits_cli.commands.create_cluster import create
from fruits_cli.commands.submit import submit_job
from fruits_cli.commands.terminate import terminate_cluster
from fruits_cli.config import Config
from fruits_cli.errors import JobFailed, Locked
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.runs.emr import run_on_emr
from fruits_cli.runs.resume import resume_on_emr
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Outcome
from fruits_cli.session import Session
from tests.support.fakes import FakeAws, Script
from tests.support.scenes import DATASET, pictures, put, results, session
from tests.support.worlds import BUCKET, RUN_ID, config

OTHER_RUN = "20260823-160000-abcd"


def settings(tmp_path: Path, **cluster: Any) -> Config:
    job = {"output_dir": str(tmp_path / "out"), "weights": "random"}
    return config(job=job, cluster=cluster)


def record_of(here: Session, run_id: str = RUN_ID) -> RunRecord:
    record = here.ledger.load(run_id)
    assert record is not None
    return record


def started(here: Session, tmp_path: Path, **more: Any) -> Outcome:
    folder = str(pictures(tmp_path / "Test"))
    return run_on_emr(settings(tmp_path), here, RUN_ID, images=folder, yes=True, **more)


def resumed(
    here: Session,
    tmp_path: Path,
    run_id: str = RUN_ID,
    *,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> Outcome:
    record = record_of(here, run_id)
    return resume_on_emr(settings(tmp_path), here, record, flags or {}, yes=True, **more)


def test_a_submitted_run_that_is_at_work_is_followed_and_its_cluster_stays(
    tmp_path: Path,
) -> None:
    aws = FakeAws(script=Script(step_s=600))
    aws.script.on_step_end = results(aws)
    put(aws, S3Uri(BUCKET, "fruits/datasets/Test/dataset.json"), DATASET)
    here = session(aws, tmp_path)
    create(settings(tmp_path), here, RUN_ID, yes=True)
    submit_job(settings(tmp_path), here, OTHER_RUN)
    aws.clock.sleep(200)

    resumed(here, tmp_path, OTHER_RUN)

    assert aws.clusters.starts == 1
    assert aws.live_clusters() == ["fruits-fruits"]
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert record_of(here, OTHER_RUN).phase is RunPhase.DONE


def test_a_followed_run_has_the_lifetime_that_it_was_started_with(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=10 * 3600))
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)
    folder = str(pictures(tmp_path / "Test"))
    long = settings(tmp_path, max_lifetime_min=900)
    run_on_emr(long, here, RUN_ID, images=folder, yes=True, detach=True)

    resumed(here, tmp_path)

    assert record_of(here).phase is RunPhase.DONE


def test_a_failed_run_is_in_the_ledger_with_its_bill_and_its_cluster_ended(
    tmp_path: Path,
) -> None:
    aws = FakeAws(script=Script(step_ends=StepState.FAILED))
    here = session(aws, tmp_path)

    with pytest.raises(JobFailed):
        started(here, tmp_path)

    record = record_of(here)
    assert record.phase is RunPhase.FAILED
    assert record.cluster_ended
    assert record.cost_usd


def test_a_resume_that_finds_the_run_at_work_leaves_its_record_as_it_is(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=600))
    here = session(aws, tmp_path)
    started(here, tmp_path, detach=True)
    before = record_of(here)
    # What the second terminal sees before the first one has launched.
    stale = replace(before, phase=RunPhase.CANCELLED, launch_id="", cluster_id="")

    with pytest.raises(Locked, match="already running on j-0001"):
        resume_on_emr(settings(tmp_path), here, stale, {}, yes=True)

    after = record_of(here)
    assert (after.cluster_id, after.launch_id) == (before.cluster_id, before.launch_id)
    assert after.phase is RunPhase.SUBMITTED


def test_new_options_for_a_run_that_is_at_work_are_said_to_have_no_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)
    started(here, tmp_path, detach=True)

    resumed(here, tmp_path, flags={"job": {"pca_k": 2}})

    assert "the job's new options have no effect" in capsys.readouterr().err


def test_resume_with_detach_leaves_a_run_that_is_at_work(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=600))
    here = session(aws, tmp_path)
    started(here, tmp_path, detach=True)

    outcome = resumed(here, tmp_path, detach=True)

    assert aws.clock.now_s < 60
    assert outcome.facts["cluster_id"] == "j-0001"


@pytest.mark.parametrize("keep", [False, True])
def test_a_detached_run_says_whether_its_cluster_ends(tmp_path: Path, keep: bool) -> None:
    here = session(FakeAws(), tmp_path)

    outcome = started(here, tmp_path, detach=True, keep=keep)

    ends = "which stays until fruits terminate" if keep else "which ends after it"
    assert outcome.lines[0] == f"Run {RUN_ID} continues on cluster j-0001, {ends}."


def test_a_run_that_was_started_without_keep_cluster_does_not_say_that_it_is_kept(
    tmp_path: Path,
) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)
    started(here, tmp_path, detach=True)

    outcome = resumed(here, tmp_path, keep=True)

    assert "is kept" not in "".join(map(str, outcome.lines))
    assert aws.live_clusters() == []


def test_a_finished_run_whose_cluster_was_ended_does_not_say_that_it_is_kept(
    tmp_path: Path,
) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)
    started(here, tmp_path, keep=True)
    terminate_cluster(None, here, yes=True)

    outcome = resumed(here, tmp_path)

    assert "is kept" not in "".join(map(str, outcome.lines))


def test_a_finished_run_is_fetched_even_if_emr_has_forgotten_its_cluster(tmp_path: Path) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)
    started(here, tmp_path)
    (tmp_path / "out" / "pca.csv").unlink()
    aws.clusters._lives.clear()

    resumed(here, tmp_path)

    assert (tmp_path / "out" / "pca.csv").is_file()


def test_a_kept_run_whose_step_is_not_listed_yet_gets_no_second_one(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=600))
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)
    started(here, tmp_path, keep=True, detach=True)
    steps = aws.clusters.steps

    def listed(cluster_id: str) -> list[Step]:
        return steps(cluster_id) if aws.clock.now_s > 90 else []

    aws.clusters.steps = listed  # type: ignore[method-assign]

    resumed(here, tmp_path)

    assert len(steps("j-0001")) == 1
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("passed_s", "would"),
    [
        (0, "is at work on j-0001; it would be followed"),
        (3600, "is finished; its results would be fetched"),
    ],
)
def test_a_dry_run_of_resume_says_what_it_would_do(
    tmp_path: Path, passed_s: float, would: str
) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)
    started(here, tmp_path, detach=True)
    aws.clock.sleep(passed_s)
    aws.clusters.steps("j-0001")
    before = record_of(here)

    outcome = resumed(here, tmp_path, dry_run=True)

    assert outcome.lines == [f"Run {RUN_ID} {would}."]
    assert record_of(here) == before
