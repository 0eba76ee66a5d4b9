"""Two commands at once on one run, one folder, one account."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fruits_cli.cloud.clusters import Cluster, StepSpec, StepState
from fruits_cli.cluster.find import find_cluster
from fruits_cli.commands.cancel import cancel_job
from fruits_cli.commands.create_cluster import create
from fruits_cli.commands.status import cluster_status
from fruits_cli.commands.submit import submit_job
from fruits_cli.commands.terminate import terminate_cluster
from fruits_cli.errors import CloudError, FruitsError, JobCancelled, UsageError
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.runs.emr import run_on_emr
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Screen
from fruits_cli.session import Session
from tests.support.fakes import FakeAws, Script
from tests.support.scenes import DATASET, pictures, put, results, session
from tests.support.worlds import BUCKET, RUN_ID, config

OTHER_RUN = "20260823-160000-abcd"
SETTINGS = config(job={"weights": "random"})


def meanwhile(aws: FakeAws, at_s: float, act: Callable[[], object]) -> None:
    """What another terminal does once the clock reaches `at_s`."""
    sleep = aws.clock.sleep

    def slept(seconds: float) -> None:
        sleep(seconds)
        nonlocal at_s
        if aws.clock.now_s >= at_s:
            at_s = float("inf")
            act()

    aws.clock.sleep = slept  # type: ignore[method-assign]


def record_of(here: Session, run_id: str) -> RunRecord:
    record = here.ledger.load(run_id)
    assert record is not None
    return record


def with_cluster(aws: FakeAws, here: Session) -> None:
    put(aws, S3Uri(BUCKET, "fruits/datasets/Test/dataset.json"), DATASET)
    create(SETTINGS, here, RUN_ID, yes=True)


def test_a_job_that_another_terminal_cancels_is_cancelled_in_the_ledger(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=3600))
    here = session(aws, tmp_path)
    with_cluster(aws, here)
    meanwhile(aws, 300, lambda: cancel_job(None, here, yes=True))

    with pytest.raises(JobCancelled):
        submit_job(SETTINGS, here, OTHER_RUN, wait=True)

    assert record_of(here, OTHER_RUN).phase is RunPhase.CANCELLED


def test_a_run_that_another_terminal_cancels_is_cancelled_in_the_ledger(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=3600))
    here = session(aws, tmp_path)
    seen = []

    def cancelled() -> None:
        cancel_job(None, here, yes=True)
        seen.append(record_of(here, RUN_ID).phase)

    meanwhile(aws, 300, cancelled)
    folder = str(pictures(tmp_path / "Test"))

    with pytest.raises(JobCancelled):
        run_on_emr(SETTINGS, here, RUN_ID, images=folder, keep=True, yes=True)

    assert seen == [RunPhase.CANCELLED]
    assert record_of(here, RUN_ID).phase is RunPhase.CANCELLED
    assert aws.live_clusters() == [f"fruits-{RUN_ID}"]


def test_cancelling_the_only_job_of_a_cluster_that_ends_with_it_is_no_error(
    tmp_path: Path,
) -> None:
    aws = FakeAws(script=Script(step_s=3600))
    here = session(aws, tmp_path)
    folder = str(pictures(tmp_path / "Test"))
    run_on_emr(SETTINGS, here, RUN_ID, images=folder, detach=True, yes=True)
    aws.clock.sleep(200)
    cluster, add = aws.clusters.cluster, aws.clusters.add_step

    def ends_now(cluster_id: str, step: object) -> str:
        aws.clusters.cluster = cluster  # type: ignore[method-assign]
        return add(cluster_id, step)  # type: ignore[arg-type]

    before = cluster("j-0001")
    # EMR ends the cluster between our look and our step.
    aws.clusters.cluster = lambda cluster_id: before  # type: ignore[method-assign]
    aws.clusters.add_step = ends_now  # type: ignore[method-assign]

    outcome = cancel_job(None, here, yes=True)

    assert "was asked to stop" in outcome.lines[0]
    assert record_of(here, RUN_ID).phase is RunPhase.CANCELLED


def test_a_job_that_could_be_told_in_no_way_to_stop_is_an_error(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=3600))
    here = session(aws, tmp_path)
    with_cluster(aws, here)
    submit_job(SETTINGS, here, OTHER_RUN)
    aws.clock.sleep(200)

    def refused(*_: object, **__: object) -> str:
        raise CloudError("AWS refused.")

    aws.clusters.add_step = aws.storage.put_bytes = refused  # type: ignore

    with pytest.raises(CloudError, match="refused"):
        cancel_job(None, here, yes=True)


def test_a_cluster_that_was_made_since_is_meant_by_the_name_of_one_that_is_ending(
    tmp_path: Path,
) -> None:
    aws = FakeAws(script=Script(end_s=900))
    here = session(aws, tmp_path)
    with_cluster(aws, here)
    aws.clusters.stop_cluster("j-0001")
    create(SETTINGS, here, OTHER_RUN, yes=True)

    found = find_cluster("fruits", aws.clusters, here.ledger, region="eu-west-3")

    assert found.cluster_id == "j-0002"


def test_a_job_that_stopped_by_its_file_is_not_told_as_a_failure_of_the_node(
    tmp_path: Path,
) -> None:
    aws = FakeAws(script=Script(step_ends=StepState.FAILED))
    here = session(aws, tmp_path)
    with_cluster(aws, here)
    output = S3Uri(BUCKET, f"fruits/runs/{OTHER_RUN}/")
    aws.script.on_step_end = lambda step: put(aws, output / "progress.json", {"stage": "stopped"})
    submit_job(SETTINGS, here, OTHER_RUN)
    aws.clock.sleep(3600)

    outcome = cluster_status(aws.clusters.cluster("j-0001"), here)

    assert outcome.lines[1] == (
        "Failed in stage job: The job was stopped on request, as fruits cancel does."
    )


def test_a_job_is_submitted_to_the_cluster_that_stays_not_to_that_of_a_run(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=3600))
    here = session(aws, tmp_path)
    put(aws, S3Uri(BUCKET, "fruits/datasets/Test/dataset.json"), DATASET)
    create(SETTINGS, here, RUN_ID, yes=True)
    folder = str(pictures(tmp_path / "Other"))
    run_on_emr(SETTINGS, here, OTHER_RUN, images=folder, detach=True, yes=True)

    outcome = submit_job(SETTINGS, here, "20260823-170000-efgh", images="Test")

    assert outcome.facts["cluster_id"] == "j-0001"
    with pytest.raises(UsageError, match="j-0002 ends after its own run"):
        submit_job(SETTINGS, here, "20260823-180000-ijkl", images="Test", cluster="j-0002")


def test_a_job_that_completes_while_cancel_asks_is_not_cancelled(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=100))
    here = session(aws, tmp_path)
    with_cluster(aws, here)
    submit_job(SETTINGS, here, OTHER_RUN)
    aws.clock.sleep(50)

    class Slow(Screen):
        def ask(self, question: str, *, yes: bool) -> None:
            aws.clock.sleep(3600)

    outcome = cancel_job(None, replace(here, screen=Slow()))

    assert outcome.lines == [f"fruits-{OTHER_RUN} has ended meanwhile: COMPLETED."]
    assert record_of(here, OTHER_RUN).phase is RunPhase.SUBMITTED


def test_a_cluster_that_has_ended_is_looked_at_once_for_all_its_jobs(tmp_path: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    with_cluster(aws, here)
    for minute in range(3):
        submit_job(SETTINGS, here, f"20260823-17{minute:02}00-efgh")
    aws.clusters.stop_cluster("j-0001")
    aws.clock.sleep(3600)
    cluster, asked = aws.clusters.cluster, []

    def looked(cluster_id: str) -> Cluster:
        asked.append(cluster_id)
        return cluster(cluster_id)

    aws.clusters.find_clusters = lambda **_: []  # type: ignore
    aws.clusters.cluster = looked  # type: ignore[method-assign]

    with pytest.raises(UsageError, match="No cluster of fruits is live"):
        find_cluster(None, aws.clusters, here.ledger, region="eu-west-3")

    assert asked == ["j-0001"]


def test_a_cluster_that_another_terminal_ends_while_it_boots_keeps_its_bill(
    tmp_path: Path,
) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    meanwhile(aws, 40, lambda: terminate_cluster(None, here, yes=True))

    with pytest.raises(CloudError, match="ended in stage"):
        create(SETTINGS, here, RUN_ID, yes=True)

    record = record_of(here, RUN_ID)
    assert record.cluster_ended
    assert record.cost_usd


def test_a_kept_cluster_that_another_terminal_ends_keeps_its_bill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    write = results(aws)

    def completed(step: StepSpec) -> None:
        write(step)
        here.ledger.update(record_of(here, RUN_ID), cluster_ended=True, cost_usd=1.25)

    aws.script.on_step_end = completed
    settings = config(job={"output_dir": str(tmp_path / "out"), "weights": "random"})
    folder = pictures(tmp_path / "Test")

    outcome = run_on_emr(settings, here, RUN_ID, images=str(folder), keep=True, yes=True)

    known = record_of(here, RUN_ID)
    assert (known.phase, known.cluster_ended, known.cost_usd) == (RunPhase.DONE, True, 1.25)
    assert "is kept" not in "".join(map(str, outcome.lines))


def test_a_run_whose_kept_cluster_another_terminal_ended_keeps_its_bill(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=3600))
    here = session(aws, tmp_path)
    meanwhile(aws, 300, lambda: terminate_cluster(None, here, yes=True))
    folder = pictures(tmp_path / "Test")

    with pytest.raises(FruitsError):
        run_on_emr(SETTINGS, here, RUN_ID, images=str(folder), keep=True, yes=True)

    known = record_of(here, RUN_ID)
    assert known.cluster_ended
    assert known.cost_usd


def test_a_job_that_is_not_listed_yet_is_not_said_to_be_none(tmp_path: Path) -> None:
    aws = FakeAws(script=Script(step_s=3600))
    here = session(aws, tmp_path)
    with_cluster(aws, here)
    submit_job(SETTINGS, here, OTHER_RUN)
    aws.clusters.steps = lambda cluster_id: []  # type: ignore[method-assign]

    with pytest.raises(CloudError, match=f"does not show the job of run {OTHER_RUN} yet"):
        cancel_job(None, here, yes=True)
