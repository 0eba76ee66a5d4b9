import gzip
import hashlib
import json
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from fruits_cli.cloud.account import Quota
from fruits_cli.cloud.clusters import Cluster, ClusterSpec, ErrorDetail, Market, StepState
from fruits_cli.cloud.layout import places_of
from fruits_cli.config import Config, Engine, Target
from fruits_cli.errors import (
    AccessDenied,
    BucketElsewhere,
    CloudError,
    FruitsError,
    JobFailed,
    MachineError,
    QuotaTooSmall,
    Unanswered,
    UsageError,
)
from fruits_cli.job.node_python import node_python
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.runs.emr import run_on_emr
from fruits_cli.runs.resume import resume_on_emr, resumed_config
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Outcome
from fruits_cli.session import Session
from fruits_cli.signals import TerminalClosed
from tests.support.fakes import FakeAws, Script
from tests.support.scenes import DATASET, pictures, put, results, session
from tests.support.worlds import BUCKET, RUN_ID, config

OUTPUT = S3Uri(BUCKET, f"fruits/runs/{RUN_ID}/")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures(tmp_path / "Test")


def settings(tmp_path: Path) -> Config:
    return config(job={"output_dir": str(tmp_path / "out"), "weights": "random"})


def run(
    settings: Config,
    here: Session,
    folder: Path | None,
    *,
    run_id: str = RUN_ID,
    resume: RunRecord | None = None,
    yes: bool = True,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    **more: bool,
) -> Outcome:
    if resume:
        return resume_on_emr(settings, here, resume, flags or {}, yes=yes, **more)
    images = str(folder) if folder else None
    return run_on_emr(settings, here, run_id, images=images, yes=yes, **more)


def test_a_run_ends_with_results_on_disk_a_bill_and_no_cluster(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)

    outcome = run(settings(tmp_path), session(aws, tmp_path), folder)

    assert aws.live_clusters() == []
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert (tmp_path / "out" / "pca.csv").read_text().startswith("path,label,pc_1,pc_2\n")
    # With the markers a run on this machine can copy its features.
    assert (tmp_path / "out" / "_chunks" / "0.json").is_file()
    assert outcome.facts["cost_usd"] > 0
    assert outcome.facts["counts"]["pictures"] == 6
    assert any("about $" in line for line in outcome.lines)


def test_a_run_is_in_the_ledger_as_done_with_its_cluster_ended(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)

    run(settings(tmp_path), here, folder)

    record = here.ledger.load(RUN_ID)
    assert record is not None
    assert record.phase is RunPhase.DONE
    assert record.cluster_ended
    assert record.cost_usd is not None
    assert record.cost_usd > 0
    assert " primary m5.xlarge" in record.cluster_shape
    assert record.output == str(OUTPUT)
    assert record.images == f"s3://{BUCKET}/fruits/datasets/Test/"


def test_pictures_code_and_model_are_in_the_bucket_before_the_launch(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)

    run(settings(tmp_path), session(aws, tmp_path), folder)

    keys = [key for key in aws.storage.puts if key.startswith("fruits/")]
    assert "fruits/datasets/Test/dataset.json" in keys
    assert any(re.fullmatch(r"fruits/models/f00d/[0-9a-f]+/graph.bin", key) for key in keys)
    assert any(key.startswith("fruits/code/") and key.endswith("/main.py") for key in keys)
    assert any(key.startswith("fruits/wheels/") and key.endswith(".whl") for key in keys)
    lock = keys.index(f"fruits/locks/{RUN_ID}")
    assert all(keys.index(key) < lock for key in keys if key.startswith("fruits/models/"))
    assert (BUCKET, f"fruits/locks/{RUN_ID}") not in aws.storage.objects


def test_a_dry_run_changes_nothing_and_tells_its_plan_once(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()

    outcome = run(settings(tmp_path), session(aws, tmp_path), folder, dry_run=True)

    assert aws.storage.puts == []
    assert aws.clusters.starts == 0
    assert aws.rights.made == set()
    assert capsys.readouterr().err == ""
    assert outcome.facts["price_usd_h"] > 0
    assert any(line.startswith("Price: $") for line in outcome.lines)
    python = node_python(Engine.OPENVINO)
    assert outcome.facts["python"] == python.interpreter
    assert f"Python of the nodes: {python.interpreter}, made by s3://{BUCKET}/" in "".join(
        outcome.lines
    )
    assert not (tmp_path / "wheels").exists()
    assert f"Will be made first: bucket {BUCKET}." in outcome.lines
    assert not (tmp_path / "ledger").exists()


def test_without_a_terminal_and_without_yes_nothing_is_started(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws()

    with pytest.raises(UsageError, match="no terminal"):
        run(settings(tmp_path), session(aws, tmp_path), folder, yes=False)

    assert aws.storage.puts == []
    assert aws.clusters.starts == 0


def test_a_failed_job_is_exit_4_with_its_own_words_and_no_cluster(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws(script=Script(step_ends=StepState.FAILED))
    error = {"exit_code": 4, "message": "Too many pictures were rejected.", "hint": "Look."}
    aws.script.on_step_end = lambda step: put(
        aws, OUTPUT / "progress.json", {"stage": "failed", "error": error}
    )

    with pytest.raises(JobFailed, match="Too many pictures were rejected") as failed:
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert failed.value.exit_code == 4
    assert failed.value.hint == "Look."
    assert aws.live_clusters() == []


def test_options_that_the_job_refuses_are_exit_2(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws(script=Script(step_ends=StepState.FAILED))
    error = {"exit_code": 2, "message": "pca_k is 50, and there are 6 pictures.", "hint": ""}
    aws.script.on_step_end = lambda step: put(
        aws, OUTPUT / "progress.json", {"stage": "failed", "error": error}
    )

    with pytest.raises(UsageError, match="pca_k is 50"):
        run(settings(tmp_path), session(aws, tmp_path), folder)


def test_a_job_that_died_without_a_report_is_explained_by_its_logs(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws(script=Script(step_ends=StepState.FAILED))
    text = "Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module named 'y'"
    logs = S3Uri(BUCKET, "fruits/logs/emr/j-0001/")
    aws.script.on_step_end = lambda step: aws.storage.put_bytes(
        text.encode(), logs / "containers/application_1_0001/container_1_0001_01_000001/stderr"
    )

    with pytest.raises(JobFailed, match="ModuleNotFoundError") as failed:
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert "lacks a package" in failed.value.hint
    assert "Traceback (most recent call last):" in capsys.readouterr().err
    assert aws.live_clusters() == []


def test_what_the_bootstrap_said_last_is_the_cause(tmp_path: Path, folder: Path) -> None:
    facts = {"primary-instance-id": "i-1", "bootstrap-action": "1", "return-code": "1"}
    code = "BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE"
    aws = FakeAws(script=Script(boot_error=ErrorDetail(code, "It failed", facts)))
    log = "fruits/logs/emr/j-0001/node/i-1/bootstrap-actions/1/stderr.gz"
    aws.storage.create_bucket(BUCKET)
    aws.storage.put_bytes(
        gzip.compress(b"bootstrap.sh: the wheel of fig==1.0 is not in s3://b/wheels/1.\n"),
        S3Uri(BUCKET, log),
    )

    with pytest.raises(CloudError) as failed:
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert str(failed.value) == (
        "The cluster did not come up: bootstrap.sh: the wheel of fig==1.0 is not in "
        "s3://b/wheels/1. (bootstrap-action 1, return-code 1)"
    )
    assert "which sends them" in failed.value.hint


def test_a_bootstrap_that_fails_is_exit_1_with_its_return_code(
    tmp_path: Path, folder: Path
) -> None:
    facts = {"primary-instance-id": "i-1", "bootstrap-action": "1", "return-code": "3"}
    code = "BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE"
    error = ErrorDetail(code, "The primary failed its bootstrap action", facts)
    aws = FakeAws(script=Script(boot_error=error))

    with pytest.raises(CloudError, match=r"bootstrap-action 1, return-code 3") as failed:
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert failed.value.exit_code == 1
    assert aws.live_clusters() == []


_SIGNALS = {KeyboardInterrupt: signal.SIGINT, TerminalClosed: signal.SIGHUP}


class _Interrupting(FakeAws):
    """A user who presses Ctrl-C when the clock reaches `at_s`."""

    def __init__(self, at_s: float, kind: type[KeyboardInterrupt] = KeyboardInterrupt) -> None:
        super().__init__()
        sleep = self.clock.sleep

        def interrupted(seconds: float) -> None:
            sleep(seconds)
            nonlocal at_s
            if self.clock.now_s >= at_s:
                at_s = float("inf")
                # The handler of the command raises, and lets later ones wait.
                signal.raise_signal(_SIGNALS[kind])

        self.clock.sleep = interrupted  # type: ignore[method-assign]


def locks_of(aws: FakeAws) -> list[str]:
    return [key for _, key in aws.storage.objects if "/locks/" in key]


def test_ctrl_c_while_the_lock_is_taken_leaves_no_lock(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws()
    put = aws.storage.put_if_absent

    def interrupted(content: bytes, uri: S3Uri) -> bool:
        taken = put(content, uri)
        if "/locks/" in uri.key:
            raise KeyboardInterrupt
        return taken

    aws.storage.put_if_absent = interrupted  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert aws.clusters.starts == 0
    assert locks_of(aws) == []


def test_ctrl_c_twice_while_the_lock_is_released_leaves_no_lock(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws()
    delete, stop = aws.storage.delete_object, aws.clusters.stop_cluster

    def interrupted(uri: S3Uri) -> None:
        aws.storage.delete_object = delete  # type: ignore[method-assign]
        signal.raise_signal(signal.SIGINT)

    def stopped(cluster_id: str) -> None:
        stop(cluster_id)
        signal.raise_signal(signal.SIGINT)

    aws.storage.delete_object = interrupted  # type: ignore[method-assign]
    aws.clusters.stop_cluster = stopped  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert not aws.clusters.cluster("j-0001").state.is_live
    assert locks_of(aws) == []


def test_a_run_resumed_while_its_cluster_ends_gets_another(tmp_path: Path, folder: Path) -> None:
    aws = _Interrupting(150)
    aws.script.on_step_end, aws.script.end_unseen_s = results(aws), 20
    here = session(aws, tmp_path)
    stop = aws.clusters.stop_cluster

    def stopped(cluster_id: str) -> None:
        stop(cluster_id)
        signal.raise_signal(signal.SIGINT)

    aws.clusters.stop_cluster = stopped  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), here, folder)
    aws.clusters.stop_cluster = stop  # type: ignore[method-assign]

    run(settings(tmp_path), here, None, resume=here.ledger.load(RUN_ID))

    assert aws.clusters.starts == 2
    assert aws.live_clusters() == []
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.parametrize("at_s", [1, 70, 150], ids=["starting", "booting", "running"])
def test_ctrl_c_ends_the_cluster_and_says_how_to_continue(
    tmp_path: Path, folder: Path, at_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = _Interrupting(at_s)
    here = session(aws, tmp_path)

    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), here, folder)

    assert aws.live_clusters() == []
    record = here.ledger.load(RUN_ID)
    assert record is not None
    assert record.phase is RunPhase.CANCELLED
    assert f"fruits run --resume {RUN_ID}" in capsys.readouterr().err


def test_ctrl_c_while_the_launch_is_under_way_still_finds_its_cluster(
    tmp_path: Path, folder: Path
) -> None:
    aws = _Interrupting(1)
    aws.script.lost_after = 1
    aws.script.unseen_s = 10

    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert aws.clusters.starts == 1
    assert aws.live_clusters() == []


def test_a_refused_launch_leaves_no_cluster_and_no_lock(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws()
    aws.script.refusals = [AccessDenied("no")]

    with pytest.raises(AccessDenied):
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert aws.live_clusters() == []
    assert (BUCKET, f"fruits/locks/{RUN_ID}") not in aws.storage.objects


def test_a_kept_cluster_stays(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)

    run(settings(tmp_path), session(aws, tmp_path), folder, keep=True)

    assert aws.live_clusters() == [f"fruits-{RUN_ID}"]


def failed_kept_run(tmp_path: Path, folder: Path) -> tuple[FakeAws, Session, RunRecord]:
    aws = FakeAws()
    here = session(aws, tmp_path)
    aws.script.step_ends = StepState.FAILED
    with pytest.raises(JobFailed):
        run(settings(tmp_path), here, folder, keep=True)
    record = here.ledger.load(RUN_ID)
    assert record is not None
    return aws, here, record


def test_a_failed_kept_run_resumes_with_new_options_on_its_cluster(
    tmp_path: Path, folder: Path
) -> None:
    aws, here, record = failed_kept_run(tmp_path, folder)
    aws.script.step_ends = StepState.COMPLETED
    aws.script.on_step_end = results(aws)
    other = settings(tmp_path).job.model_copy(update={"pca_k": 2})

    resumed = settings(tmp_path).model_copy(update={"job": other})
    run(resumed, here, None, resume=record, flags={"job": {"pca_k": 2}})

    assert aws.clusters.starts == 1
    assert aws.live_clusters() == [f"fruits-{RUN_ID}"]
    newest = aws.clusters.steps(record.cluster_id)[0]
    assert newest.args[newest.args.index("--pca-k") + 1] == "2"
    assert "--resume" in newest.args
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_a_second_run_of_the_same_pictures_sends_none_of_them(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    run(settings(tmp_path), session(aws, tmp_path), folder)
    aws.storage.puts.clear()
    again = config(job={"output_dir": str(tmp_path / "again"), "weights": "random"})

    run(again, session(aws, tmp_path), folder, run_id="20260823-150000-zzzz")

    sent = [key for key in aws.storage.puts if key.startswith(("fruits/data", "fruits/mod"))]
    assert sent == []


def test_without_images_the_newest_dataset_is_taken(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    for name in ("old", "new"):
        put(aws, S3Uri(BUCKET, f"fruits/datasets/{name}/dataset.json"), DATASET)
        aws.clock.sleep(10)

    outcome = run(settings(tmp_path), session(aws, tmp_path), None)

    assert outcome.facts["images"] == f"s3://{BUCKET}/fruits/datasets/new/"


def test_without_any_pictures_there_is_no_run(tmp_path: Path) -> None:
    aws = FakeAws()
    aws.storage.create_bucket(BUCKET)

    with pytest.raises(UsageError, match="There is no dataset below"):
        run(settings(tmp_path), session(aws, tmp_path), None)


def test_a_folder_without_pictures_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match="There are no pictures in"):
        run(settings(tmp_path), session(FakeAws(), tmp_path), tmp_path / "empty")


def test_a_bucket_in_another_region_is_refused_with_the_reason(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws()
    aws.storage.buckets[BUCKET] = "us-east-1"

    with pytest.raises(BucketElsewhere, match="lies in us-east-1") as refused:
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert "--region us-east-1" in refused.value.hint


def test_a_quota_too_small_is_said_before_anything_is_uploaded(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws()
    aws.account.quotas[Market.ON_DEMAND] = Quota(5, 0)

    with pytest.raises(QuotaTooSmall):
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert aws.storage.puts == []


def interrupted_run(tmp_path: Path, folder: Path) -> FakeAws:
    aws = _Interrupting(150)
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), session(aws, tmp_path), folder)
    return aws


def test_a_resumed_run_continues_on_a_new_cluster(tmp_path: Path, folder: Path) -> None:
    aws = interrupted_run(tmp_path, folder)
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)
    record = here.ledger.load(RUN_ID)

    run(settings(tmp_path), here, None, resume=record)

    assert aws.clusters.starts == 2
    (step,) = aws.clusters.steps("j-0002")
    assert "--resume" in step.args
    assert step.args[step.args.index("--output") + 1] == str(OUTPUT)
    assert aws.live_clusters() == []


def test_resuming_a_run_that_is_still_at_work_follows_it(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws(script=Script(step_s=600))
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)

    class Gone(Exception):
        """The laptop's battery."""

    def dies(seconds: float) -> None:
        raise Gone

    aws.clock.sleep, sleep = dies, aws.clock.sleep  # type: ignore[method-assign]
    aws.clusters.stop_cluster, stop = dies, aws.clusters.stop_cluster  # type: ignore
    with pytest.raises(Gone):
        run(settings(tmp_path), here, folder)
    aws.clock.sleep, aws.clusters.stop_cluster = sleep, stop  # type: ignore[method-assign]
    record = here.ledger.load(RUN_ID)

    run(settings(tmp_path), here, None, resume=record)

    assert aws.clusters.starts == 1
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_a_resumed_run_keeps_its_folder_and_options_except_given_flags() -> None:
    output = f"s3://melons/a/runs/b/runs/{RUN_ID}/"
    record = RunRecord(RUN_ID, Target.EMR, output=output, job={"image_size": 128, "pca_k": 20})

    resumed = resumed_config(config(job={"image_size": 96}), record, {"job": {"pca_k": 5}})

    assert resumed.job.image_size == 128
    assert resumed.job.pca_k == 5
    assert str(places_of(resumed).run(RUN_ID)) == output


def test_run_never_ends_a_cluster_that_it_did_not_make(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    aws.script.on_step_end = results(aws)
    run(settings(tmp_path), here, folder, keep=True)
    second = config(job={"output_dir": str(tmp_path / "second"), "weights": "random"})

    with pytest.raises(FruitsError, match="already running"):
        run(second, session(aws, tmp_path / "elsewhere"), folder)

    assert aws.live_clusters() == [f"fruits-{RUN_ID}"]


def test_the_plan_as_json_has_stable_keys(tmp_path: Path, folder: Path) -> None:
    outcome = run(settings(tmp_path), session(FakeAws(), tmp_path), folder, dry_run=True)

    assert set(json.loads(json.dumps(outcome.facts))) == {
        "run_id", "target", "region", "cluster", "release_label", "nodes", "price_usd_h",
        "price_at_most_usd_h", "price_source", "to_be_made", "to_be_updated", "notes",
        "lifetime_min", "images",
        "output", "step", "python", "bootstrap", "cost_at_most_usd",
    }  # fmt: skip


def blind(aws: FakeAws, from_s: float, until_s: float, error: FruitsError) -> None:
    """AWS cannot be asked for anything about clusters between two moments."""
    cluster = aws.clusters.cluster

    def asked(cluster_id: str) -> Cluster:
        if from_s <= aws.clock.now_s < until_s:
            raise error
        return cluster(cluster_id)

    aws.clusters.cluster = asked  # type: ignore[method-assign]


def test_a_run_is_fetched_after_twenty_minutes_without_answers(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws(script=Script(step_s=3000))
    aws.script.on_step_end = results(aws)
    blind(aws, 200, 1400, CloudError("The credentials have expired."))

    run(settings(tmp_path), session(aws, tmp_path), folder)

    assert (tmp_path / "out" / "manifest.json").is_file()
    told = capsys.readouterr().err
    assert "The credentials have expired. The cluster keeps running; asking again." in told
    assert "AWS answers again, after 2" in told


def test_results_that_do_not_fit_on_the_disk_end_no_cluster(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    stops: list[str] = []
    aws.clusters.stop_cluster = stops.append  # type: ignore[method-assign]

    def full(uri: S3Uri, path: Path) -> None:
        raise MachineError(f"{path} cannot be written: No space left on device.")

    aws.storage.fetch_file = full  # type: ignore[method-assign]
    here = session(aws, tmp_path)

    with pytest.raises(MachineError, match="No space left"):
        run(settings(tmp_path), here, folder)

    assert stops == []
    assert f"fruits run --resume {RUN_ID} continues from there" in capsys.readouterr().err


def test_a_closed_terminal_leaves_the_cluster_at_work(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = _Interrupting(150, TerminalClosed)

    with pytest.raises(TerminalClosed):
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert aws.live_clusters() == [f"fruits-{RUN_ID}"]
    assert "keeps running (the terminal was closed)" in capsys.readouterr().err


def test_a_detached_run_leaves_its_cluster_and_is_fetched_later(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)

    left = run(settings(tmp_path), here, folder, detach=True)
    assert aws.live_clusters() == [f"fruits-{RUN_ID}"]
    aws.clock.sleep(3600)
    aws.clusters.steps("j-0001")
    run(settings(tmp_path), here, None, resume=here.ledger.load(RUN_ID))

    assert left.facts["cluster_id"] == "j-0001"
    assert aws.clusters.starts == 1
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_new_options_run_a_finished_run_again(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)
    run(settings(tmp_path), here, folder)

    run(
        settings(tmp_path), here, None, resume=here.ledger.load(RUN_ID), flags={"job": {"pca_k": 2}}
    )

    assert aws.clusters.starts == 2


def test_ctrl_c_ends_the_cluster_before_any_message(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = _Interrupting(150)
    stop, said_before = aws.clusters.stop_cluster, []

    def stopped(cluster_id: str) -> None:
        said_before.append(capsys.readouterr().err)
        stop(cluster_id)

    aws.clusters.stop_cluster = stopped  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), session(aws, tmp_path), folder)

    assert "Ending" not in said_before[0]


def test_a_run_is_bound_to_the_dataset_that_it_sent(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws)
    here = session(aws, tmp_path)

    run(settings(tmp_path), here, folder)

    (step,) = aws.clusters.steps("j-0001")
    digest = step.args[step.args.index("--dataset-digest") + 1]
    manifest = aws.storage.fetch_bytes(
        S3Uri(BUCKET, f"fruits/datasets/Test/manifests/{digest}.json")
    )
    record = here.ledger.load(RUN_ID)
    assert manifest is not None
    assert hashlib.sha256(manifest.content).hexdigest() == digest
    assert record is not None
    assert record.dataset_digest == digest


def test_results_of_other_pictures_are_refused(tmp_path: Path, folder: Path) -> None:
    aws = FakeAws()
    aws.script.on_step_end = results(aws, pictures=27)

    with pytest.raises(FruitsError, match="6 pictures were sent, and 27 were computed"):
        run(settings(tmp_path), session(aws, tmp_path), folder)


def stop_files(aws: FakeAws) -> list[str]:
    return [key for _, key in aws.storage.objects if "/_plan/stop-" in key]


def test_ctrl_c_stops_the_job_of_a_kept_cluster_that_is_not_listed_yet(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = _Interrupting(1)
    here = session(aws, tmp_path)
    aws.clusters.steps = lambda cluster_id: []  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), here, folder, keep=True)

    record = here.ledger.load(RUN_ID)
    assert record is not None
    assert stop_files(aws) == [f"{OUTPUT.key}_plan/stop-{record.launch_id}"]
    assert record.phase is RunPhase.CANCELLED
    assert "it stops by itself once it has begun" in capsys.readouterr().err


def test_ctrl_c_that_could_not_stop_the_job_leaves_it_at_work_in_the_ledger(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = _Interrupting(150)
    here = session(aws, tmp_path)

    def refused(cluster_id: str, step_id: str, *, force: bool = False) -> None:
        raise AccessDenied("You may not cancel.")

    aws.clusters.cancel_step = refused  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), here, folder, keep=True)

    record = here.ledger.load(RUN_ID)
    assert record is not None
    assert record.phase is RunPhase.SUBMITTED
    assert "fruits cancel --cluster j-0001 stops it" in capsys.readouterr().err


def test_ctrl_c_on_a_resumed_run_stops_its_new_step_and_takes_no_older_one_for_it(
    tmp_path: Path, folder: Path
) -> None:
    aws, here, record = failed_kept_run(tmp_path, folder)
    listed = aws.clusters.steps
    aws.clusters.steps = lambda cluster_id: listed(cluster_id)[-1:]  # type: ignore[method-assign]
    aws.clock.sleep = lambda seconds: signal.raise_signal(signal.SIGINT)  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), here, None, resume=record)

    (file,) = stop_files(aws)
    step = listed(record.cluster_id)[0]
    assert file.endswith(step.args[step.args.index("--attempt") + 1])


def test_a_launch_that_nobody_could_look_for_is_followed_once_aws_can_be_seen(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    aws.script.on_step_end = results(aws)
    start, find = aws.clusters.start_cluster, aws.clusters.find_clusters

    def unseen(**_: object) -> NoReturn:
        raise CloudError("AWS cannot be reached.")

    def started(spec: ClusterSpec) -> str:
        start(spec)
        aws.clusters.find_clusters = unseen  # type: ignore[method-assign]
        raise Unanswered("AWS did not answer.")

    aws.clusters.start_cluster = started  # type: ignore[method-assign]
    with pytest.raises(CloudError):
        run(settings(tmp_path), here, folder)
    aws.clusters.find_clusters = find  # type: ignore[method-assign]
    record = here.ledger.load(RUN_ID)
    assert record is not None

    run(settings(tmp_path), here, None, resume=record)

    assert record.phase is RunPhase.PLANNED
    assert f"fruits terminate --cluster {RUN_ID}" in capsys.readouterr().err
    assert (aws.clusters.starts, aws.live_clusters()) == (1, [])


def test_a_kept_cluster_whose_launch_told_no_id_is_known_once_its_run_is_fetched(
    tmp_path: Path, folder: Path
) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    aws.script.on_step_end = results(aws)
    run(settings(tmp_path), here, folder, keep=True)
    record = here.ledger.load(RUN_ID)
    assert record is not None
    lost = replace(record, phase=RunPhase.PLANNED, cluster_id="", step_id="")
    here.ledger.write(lost)

    outcome = run(settings(tmp_path), here, None, resume=lost)

    known = here.ledger.load(RUN_ID)
    assert known is not None
    assert (known.phase, known.cluster_id) == (RunPhase.DONE, record.cluster_id)
    assert f"Cluster {record.cluster_id} is kept; fruits terminate ends it." in outcome.lines
