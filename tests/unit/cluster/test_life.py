import os
import signal
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from fruits_cli.cloud.clusters import Cluster, ErrorDetail, StepSpec, StepState
from fruits_cli.cloud.layout import places_of
from fruits_cli.cluster.find import find_cluster
from fruits_cli.cluster.launch import forget_dead_launches
from fruits_cli.cluster.lock import Holder, release_lock, take_lock, this_process
from fruits_cli.commands.cancel import cancel_job
from fruits_cli.commands.create_cluster import create
from fruits_cli.commands.status import all_clusters, cluster_status
from fruits_cli.commands.submit import submit_job
from fruits_cli.commands.terminate import terminate_cluster
from fruits_cli.config import Engine, Target
from fruits_cli.errors import (
    AccessDenied,
    CloudError,
    ClusterNotFound,
    JobFailed,
    Locked,
    MachineError,
    UsageError,
)
from fruits_cli.job.node_python import node_python
from fruits_cli.ledger import Ledger, RunPhase, RunRecord
from fruits_cli.s3uri import S3Uri
from fruits_cli.session import Session
from tests.support.fakes import EPOCH, FakeAws, FakeClusters, Script
from tests.support.scenes import DATASET, put, results, session
from tests.support.worlds import BUCKET, RUN_ID, config

# Larger than Linux and macOS count.
_NO_PROCESS = 2**22 + 1
LOCK = S3Uri(BUCKET, "fruits/locks/fruits")
OTHER_RUN = "20260823-160000-abcd"


def created(aws: FakeAws, tmp_path: Path) -> str:
    outcome = create(config(), session(aws, tmp_path), RUN_ID, yes=True)
    return str(outcome.facts["cluster_id"])


def with_dataset(aws: FakeAws) -> FakeAws:
    put(aws, S3Uri(BUCKET, "fruits/datasets/Test/dataset.json"), DATASET)
    return aws


def test_a_created_cluster_takes_steps_when_the_command_returns(tmp_path: Path) -> None:
    aws = FakeAws()

    outcome = create(config(), session(aws, tmp_path), RUN_ID, yes=True)

    assert outcome.facts["state"] == "WAITING"
    assert aws.live_clusters() == ["fruits-fruits"]


def test_creating_twice_finds_the_first_cluster(tmp_path: Path) -> None:
    aws = FakeAws()
    first = created(aws, tmp_path)

    second = create(config(), session(aws, tmp_path), OTHER_RUN, yes=True)

    assert second.facts["cluster_id"] == first
    assert aws.clusters.starts == 1


def test_another_folder_finds_it_too_and_writes_it_down(tmp_path: Path) -> None:
    aws = FakeAws()
    first = created(aws, tmp_path / "one")
    there = session(aws, tmp_path / "two")

    create(config(), there, OTHER_RUN, yes=True)

    (record,) = there.ledger.records()
    assert record.cluster_id == first


def test_a_launch_in_progress_elsewhere_is_refused_with_its_owner(tmp_path: Path) -> None:
    aws = FakeAws()
    aws.storage.create_bucket(BUCKET)
    take_lock(aws.storage, LOCK, Holder("l9", "grace", "laptop"))

    with pytest.raises(Locked, match="grace on laptop has been launching the same thing"):
        created(aws, tmp_path)

    assert aws.clusters.starts == 0


def test_a_lock_of_ten_minutes_is_dead(tmp_path: Path) -> None:
    aws = FakeAws()
    aws.storage.create_bucket(BUCKET)
    take_lock(aws.storage, LOCK, Holder("l9", "grace", "laptop"))
    aws.clock.sleep(601)

    assert created(aws, tmp_path) == "j-0001"


def test_the_lock_is_gone_after_the_launch(tmp_path: Path) -> None:
    aws = FakeAws()

    created(aws, tmp_path)

    assert (BUCKET, LOCK.key) not in aws.storage.objects


def test_a_lock_is_released_by_its_holder_alone() -> None:
    aws = FakeAws()
    aws.storage.create_bucket(BUCKET)
    take_lock(aws.storage, LOCK, Holder("l1", "ada", "desk"))

    release_lock(aws.storage, LOCK, "l2")
    assert (BUCKET, LOCK.key) in aws.storage.objects

    release_lock(aws.storage, LOCK, "l1")
    assert (BUCKET, LOCK.key) not in aws.storage.objects


def test_of_two_who_find_a_dead_lock_one_wins() -> None:
    aws = FakeAws()
    aws.storage.create_bucket(BUCKET)
    take_lock(aws.storage, LOCK, Holder("l1", "ada", "desk"))
    aws.clock.sleep(601)
    take_lock(aws.storage, LOCK, Holder("l2", "ada", "desk"))

    with pytest.raises(Locked):
        take_lock(aws.storage, LOCK, Holder("l3", "bob", "sofa"))


class Crash(BaseException):
    """The machine goes off."""


def crash_at_launch(aws: FakeAws, tmp_path: Path, *, after_the_act: bool) -> None:
    start = aws.clusters.start_cluster

    def dying(spec: object) -> str:
        if after_the_act:
            start(spec)  # type: ignore[arg-type]
        raise Crash

    delete = aws.storage.delete_object
    aws.clusters.start_cluster = dying  # type: ignore[method-assign]
    aws.storage.delete_object = lambda uri: None  # type: ignore[method-assign]
    with pytest.raises(Crash):
        created(aws, tmp_path)
    aws.clusters.start_cluster = start  # type: ignore[method-assign]
    aws.storage.delete_object = delete  # type: ignore[method-assign]


def test_a_crash_after_the_launch_is_found_by_its_launch_id(tmp_path: Path) -> None:
    aws = FakeAws()
    crash_at_launch(aws, tmp_path, after_the_act=True)
    here = session(aws, tmp_path)

    found = find_cluster(None, aws.clusters, here.ledger, region="eu-west-3")

    assert found.cluster_id == "j-0001"
    assert created(aws, tmp_path) == "j-0001"
    assert aws.clusters.starts == 1


def leave_lock(aws: FakeAws, *, pid: int) -> None:
    aws.storage.create_bucket(BUCKET)
    take_lock(aws.storage, LOCK, replace(this_process("l0"), pid=pid))


def test_the_lock_of_a_process_that_died_is_taken_over(tmp_path: Path) -> None:
    aws = FakeAws()
    leave_lock(aws, pid=_NO_PROCESS)

    assert created(aws, tmp_path) == "j-0001"
    assert aws.clusters.starts == 1


def test_the_lock_of_a_living_process_is_not(tmp_path: Path) -> None:
    aws = FakeAws()
    leave_lock(aws, pid=os.getpid())

    with pytest.raises(Locked, match="has been launching the same thing"):
        created(aws, tmp_path)

    assert aws.clusters.starts == 0


def test_a_wrong_clock_does_not_make_a_lock_stale(tmp_path: Path) -> None:
    aws = FakeAws()
    leave_lock(aws, pid=0)
    aws.clock.now = lambda: EPOCH + timedelta(hours=1)  # type: ignore[method-assign]
    aws.storage.served_at = EPOCH

    with pytest.raises(Locked):
        created(aws, tmp_path)


def test_a_ledger_that_cannot_be_written_starts_nothing(tmp_path: Path) -> None:
    aws = FakeAws()
    (tmp_path / "ledger").write_text("in the way")

    with pytest.raises(MachineError, match="cannot be written"):
        created(aws, tmp_path)

    assert aws.clusters.starts == 0


def test_a_cluster_that_does_not_boot_is_told_with_its_cause(tmp_path: Path) -> None:
    error = ErrorDetail("INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ", "No capacity")
    aws = FakeAws(script=Script(boot_error=error))
    here = session(aws, tmp_path)

    with pytest.raises(CloudError, match="stage launch: No capacity") as failed:
        create(config(), here, RUN_ID, yes=True)

    assert "--subnets in several zones" in failed.value.hint


def test_terminating_shows_the_bill_and_removes_the_security_group(tmp_path: Path) -> None:
    aws = FakeAws()
    created(aws, tmp_path)
    aws.rights.in_use = 3
    aws.clock.sleep(3600)

    outcome = terminate_cluster(None, session(aws, tmp_path), yes=True)

    assert outcome.facts["state"] == "TERMINATED"
    assert outcome.facts["cost_usd"] == pytest.approx(1.09 * 3780 / 3600, rel=0.05)
    assert "about $" in outcome.lines[0]
    assert aws.rights.groups == {}


def test_terminating_twice_is_no_error(tmp_path: Path) -> None:
    aws = FakeAws()
    cluster_id = created(aws, tmp_path)
    terminate_cluster(None, session(aws, tmp_path), yes=True)

    again = terminate_cluster(cluster_id, session(aws, tmp_path))
    nameless = terminate_cluster(None, session(aws, tmp_path))
    by_name = terminate_cluster("fruits", session(aws, tmp_path))

    assert again.facts["state"] == "TERMINATED"
    assert nameless.facts["state"] == "TERMINATED"
    assert by_name.lines == ["There is no cluster to end."]


def test_an_unknown_id_is_not_taken_for_a_cluster_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ClusterNotFound):
        terminate_cluster("j-NOSUCH", session(FakeAws(), tmp_path))


def test_a_dry_run_of_terminate_ends_nothing(tmp_path: Path) -> None:
    aws = FakeAws()
    created(aws, tmp_path)

    outcome = terminate_cluster(None, session(aws, tmp_path), dry_run=True)

    assert aws.live_clusters() == ["fruits-fruits"]
    assert "it ran" in outcome.lines[0]


def test_terminate_asks_first(tmp_path: Path) -> None:
    aws = FakeAws()
    created(aws, tmp_path)

    with pytest.raises(UsageError, match="no terminal"):
        terminate_cluster(None, session(aws, tmp_path))

    assert aws.live_clusters() == ["fruits-fruits"]


def test_a_submitted_job_is_a_step_and_a_record(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws())
    created(aws, tmp_path)
    here = session(aws, tmp_path)

    outcome = submit_job(config(), here, OTHER_RUN)

    record = here.ledger.load(OTHER_RUN)
    assert record is not None
    assert record.phase is RunPhase.SUBMITTED
    assert record.step_id == outcome.facts["step_id"]
    assert outcome.facts["images"] == f"s3://{BUCKET}/fruits/datasets/Test/"


def test_a_submitted_job_runs_on_the_python_that_the_cluster_was_made_with(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws())
    cluster_id = created(aws, tmp_path)

    submit_job(config(), session(aws, tmp_path), OTHER_RUN)

    (step,) = aws.clusters.steps(cluster_id)
    python = node_python(Engine.OPENVINO).interpreter
    assert f"spark.pyspark.python={python}" in step.args
    assert f"spark.yarn.appMasterEnv.PYSPARK_PYTHON={python}" in step.args


def test_a_job_for_tensorflow_is_refused_by_a_cluster_without_it(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws())
    created(aws, tmp_path)
    before = list(aws.storage.puts)

    with pytest.raises(UsageError, match="its Python has no TensorFlow"):
        submit_job(config(job={"engine": "tensorflow"}), session(aws, tmp_path), OTHER_RUN)

    assert aws.storage.puts == before


def test_a_cluster_made_for_tensorflow_has_both_layers_of_wheels(tmp_path: Path) -> None:
    aws = FakeAws()

    create(config(job={"engine": "tensorflow"}), session(aws, tmp_path), RUN_ID, yes=True)

    base, more = node_python(Engine.TENSORFLOW).locks
    keys = set(aws.storage.puts)
    assert f"fruits/wheels/{base.digest}/lock.txt" in keys
    assert f"fruits/wheels/{more.digest}/lock.txt" in keys
    assert any(key.startswith(f"fruits/wheels/{more.digest}/tensorflow-") for key in keys)


def test_what_the_nodes_need_is_sent_before_the_launch_and_only_once(tmp_path: Path) -> None:
    aws = FakeAws()
    created(aws, tmp_path)
    first = list(aws.storage.puts)
    (lock,) = node_python(Engine.OPENVINO).locks

    sent = [key for key in first if key.startswith(("fruits/wheels/", "fruits/bootstrap/"))]
    assert len(sent) == len(lock.pins) + 2
    assert max(map(first.index, sent)) < first.index(LOCK.key)

    create(config(cluster={"name": "pears"}), session(aws, tmp_path), OTHER_RUN, yes=True)

    again = aws.storage.puts[len(first) :]
    assert not [key for key in again if key.startswith(("fruits/wheels/", "fruits/bootstrap/"))]


def test_an_s3_on_this_machine_gets_script_and_lock_but_no_wheels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()

    create(config(), replace(session(aws, tmp_path), fetch_wheels=None), RUN_ID, yes=True)

    keys = [key for key in aws.storage.puts if key.startswith("fruits/wheels/")]
    assert [key.rpartition("/")[2] for key in keys] == ["lock.txt"]
    assert "the nodes' wheels are not sent" in capsys.readouterr().err


class _LateLog(FakeAws):
    """An EMR that copies the bootstrap's log five minutes after the cluster's birth."""

    def __init__(self, error: ErrorDetail) -> None:
        super().__init__(script=Script(boot_error=error))
        sleep = self.clock.sleep

        def copying(seconds: float) -> None:
            sleep(seconds)
            if self.clock.now_s >= 300:
                uri = S3Uri(BUCKET, "fruits/logs/emr/j-0001/node/i-1/bootstrap-actions/1/stderr.gz")
                self.storage.put_bytes(b"bootstrap.sh: python3.11 is not on this node.\n", uri)

        self.clock.sleep = copying  # type: ignore[method-assign]


def test_the_bootstraps_last_line_is_waited_for_and_is_the_cause(tmp_path: Path) -> None:
    facts = {"primary-instance-id": "i-1", "bootstrap-action": "1", "return-code": "1"}
    aws = _LateLog(ErrorDetail("BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE", "It failed", facts))

    with pytest.raises(CloudError) as failed:
        created(aws, tmp_path)

    assert str(failed.value) == (
        "Cluster j-0001 ended in stage bootstrap: bootstrap.sh: python3.11 is not on this node. "
        "(bootstrap-action 1, return-code 1)"
    )
    assert "--release-label" in failed.value.hint


def test_wheels_that_cannot_be_fetched_leave_no_cluster(tmp_path: Path) -> None:
    aws = FakeAws()

    def unreachable(lock: object, *, environ: object) -> NoReturn:
        raise MachineError("The package index does not answer.")

    with pytest.raises(MachineError, match="does not answer"):
        create(
            config(), replace(session(aws, tmp_path), fetch_wheels=unreachable), RUN_ID, yes=True
        )

    assert aws.clusters.starts == 0
    assert aws.rights.made == set()


def test_waiting_for_a_job_that_fails_is_exit_4_and_keeps_the_cluster(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws(script=Script(step_ends=StepState.FAILED)))
    created(aws, tmp_path)
    error = {"exit_code": 4, "message": "Everything was rejected.", "hint": ""}
    output = S3Uri(BUCKET, f"fruits/runs/{OTHER_RUN}/")
    aws.script.on_step_end = lambda step: put(
        aws, output / "progress.json", {"stage": "failed", "error": error}
    )
    here = session(aws, tmp_path)

    with pytest.raises(JobFailed, match="Everything was rejected"):
        submit_job(config(), here, OTHER_RUN, wait=True)

    assert aws.live_clusters() == ["fruits-fruits"]
    record = here.ledger.load(OTHER_RUN)
    assert record is not None
    assert record.phase is RunPhase.FAILED


def test_waiting_for_a_job_that_completes_is_exit_0(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws())
    aws.script.on_step_end = results(aws)
    created(aws, tmp_path)

    outcome = submit_job(config(), session(aws, tmp_path), OTHER_RUN, wait=True)

    assert outcome.facts["run_id"] == OTHER_RUN
    assert outcome.facts["counts"]["pictures"] == 6
    assert outcome.lines[0].startswith("Pictures: 6, ")


def test_submitting_without_a_cluster_names_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No cluster of fruits is live in eu-west-3") as refused:
        submit_job(config(), session(with_dataset(FakeAws()), tmp_path), OTHER_RUN)

    assert "create-cluster" in refused.value.hint


def with_running_job(aws: FakeAws, tmp_path: Path) -> Session:
    created(aws, tmp_path)
    here = session(aws, tmp_path)
    submit_job(config(), here, OTHER_RUN)
    aws.clock.sleep(200)
    return here


def test_cancelling_keeps_the_cluster(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws(script=Script(step_s=3600)))
    here = with_running_job(aws, tmp_path)

    outcome = cancel_job(None, here, yes=True)

    assert outcome.facts["run_id"] == OTHER_RUN
    assert aws.live_clusters() == ["fruits-fruits"]
    record = here.ledger.load(OTHER_RUN)
    assert record is not None
    assert record.phase is RunPhase.CANCELLED


def test_cancelling_a_job_that_is_ending_is_no_error(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws(script=Script(step_s=3600)))
    here = with_running_job(aws, tmp_path)
    cancel = aws.clusters.cancel_step

    def refused(cluster_id: str, step_id: str, *, force: bool = False) -> None:
        cancel(cluster_id, step_id)
        raise CloudError(f"EMR did not cancel {step_id}.")

    aws.clusters.cancel_step = refused  # type: ignore[method-assign]

    outcome = cancel_job(None, here, yes=True)

    assert "was asked to stop" in outcome.lines[0]


def test_a_dry_run_of_cancel_names_the_job_and_leaves_it(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws(script=Script(step_s=3600)))
    here = with_running_job(aws, tmp_path)

    outcome = cancel_job(None, here, dry_run=True)

    assert outcome.lines[0].startswith(f"Would cancel fruits-{OTHER_RUN}")
    record = here.ledger.load(OTHER_RUN)
    assert record is not None
    assert record.phase is RunPhase.SUBMITTED


def test_cancelling_without_a_job_is_no_error(tmp_path: Path) -> None:
    aws = FakeAws()
    created(aws, tmp_path)

    outcome = cancel_job(None, session(aws, tmp_path), yes=True)

    assert outcome.facts["step_id"] is None


def test_two_live_clusters_want_a_name(tmp_path: Path) -> None:
    aws = FakeAws()
    created(aws, tmp_path / "one")
    pears = config(cluster={"name": "pears"})
    create(pears, session(aws, tmp_path / "two"), OTHER_RUN, yes=True)
    empty = session(aws, tmp_path / "three").ledger

    with pytest.raises(UsageError, match="There are 2 live clusters") as refused:
        find_cluster(None, aws.clusters, empty, region="eu-west-3")

    assert "fruits (j-0001, WAITING), pears (j-0002, WAITING)" in refused.value.hint
    found = find_cluster("pears", aws.clusters, empty, region="eu-west-3")
    assert found.cluster_id == "j-0002"


def test_this_folders_cluster_comes_before_others(tmp_path: Path) -> None:
    aws = FakeAws()
    created(aws, tmp_path / "one")
    pears = config(cluster={"name": "pears"})
    here = session(aws, tmp_path / "two")
    create(pears, here, OTHER_RUN, yes=True)

    found = find_cluster(None, aws.clusters, here.ledger, region="eu-west-3")

    assert found.name == "pears"


def test_status_tells_cost_steps_and_progress(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws(script=Script(step_s=3600)))
    created(aws, tmp_path)
    here = session(aws, tmp_path)
    submit_job(config(), here, OTHER_RUN)
    progress = S3Uri(BUCKET, f"fruits/runs/{OTHER_RUN}/progress.json")
    put(
        aws,
        progress,
        {"stage": "features", "pictures_done": 5, "pictures": 9, "images_per_s": 2.0},
    )
    aws.clock.sleep(300)

    outcome = cluster_status(aws.clusters.cluster("j-0001"), here)

    assert outcome.facts["cost_usd"] > 0
    assert outcome.facts["steps"][0]["state"] == "RUNNING"
    assert "Progress: features, 5 of 9 pictures, 2 images/s" in outcome.lines
    assert any(line.startswith("Cost so far: ") for line in outcome.lines)


def test_status_of_a_failed_job_has_the_cause_first(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws(script=Script(step_ends=StepState.FAILED)))
    created(aws, tmp_path)
    here = session(aws, tmp_path)
    logs = S3Uri(BUCKET, "fruits/logs/emr/j-0001/containers/application_1_1/")
    submit_job(config(), here, OTHER_RUN)
    text = b"Container killed by YARN, exit code 137"
    aws.storage.put_bytes(text, logs / "container_1_1_01_000001/stderr")
    aws.clock.sleep(600)

    outcome = cluster_status(aws.clusters.cluster("j-0001"), here)

    assert outcome.lines[1].startswith("Failed in stage job")
    assert "ran out of memory" in outcome.lines[2]


def test_all_clusters_are_listed_with_what_they_cost(tmp_path: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    created(aws, tmp_path)

    outcome = all_clusters([aws.cloud], here.screen, aws.clock)

    (cluster,) = outcome.facts["clusters"]
    assert cluster["region"] == "eu-west-3"
    assert cluster["cost_usd"] > 0


class _Denied(FakeClusters):
    def find_clusters(
        self, *, live: bool, emr_name: str | None = None, since: datetime | None = None
    ) -> list[Cluster]:
        raise AccessDenied("An organisation's policy forbids the region.")


def test_a_region_that_does_not_answer_is_not_taken_for_one_without_clusters(
    tmp_path: Path,
) -> None:
    aws = FakeAws()
    here, shut = session(aws, tmp_path), replace(aws.cloud, clusters=_Denied(aws.clock))

    outcome = all_clusters([shut, aws.cloud], here.screen, aws.clock)

    assert outcome.lines == ["No cluster of fruits is live in the regions that answered."]
    assert outcome.facts["not_seen"] == ["eu-west-3"]
    with pytest.raises(AccessDenied):
        all_clusters([shut], here.screen, aws.clock)


def test_settings_that_a_running_cluster_ignores_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()
    created(aws, tmp_path)
    key = "arn:aws:kms:eu-west-3:123456789012:key/k"
    wishes = config(
        cluster={"core_type": "m6i.2xlarge", "core_count": 3, "key_name": "mine", "kms_key": key}
    )

    create(wishes, session(aws, tmp_path), OTHER_RUN, yes=True)

    told = capsys.readouterr().err
    assert "is already running" in told
    assert "Its core nodes are 2 m5.xlarge; 3 m6i.2xlarge has no effect." in told
    assert "It has no key pair; mine has no effect." in told
    assert "Its disks are not encrypted with the KMS key; kms_key has no effect." in told


def test_a_cluster_without_a_key_pair_is_said_to_have_no_tunnel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    created(FakeAws(), tmp_path)

    assert "Without a key pair no tunnel can be opened: fruits init" in capsys.readouterr().err


def test_ctrl_c_while_a_cluster_boots_names_it_and_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()

    def pressed(seconds: float) -> None:
        raise KeyboardInterrupt

    aws.clock.sleep = pressed  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        created(aws, tmp_path)

    assert "fruits terminate --cluster j-0001 ends it" in capsys.readouterr().err
    assert (BUCKET, LOCK.key) not in aws.storage.objects


def test_cancelling_takes_the_job_that_runs_not_the_one_that_waits(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws(script=Script(step_s=3600)))
    created(aws, tmp_path)
    here = session(aws, tmp_path)
    submit_job(config(), here, OTHER_RUN)
    aws.clock.sleep(200)
    submit_job(config(), here, "20260823-170000-efgh")

    outcome = cancel_job(None, here, yes=True)

    assert outcome.facts["run_id"] == OTHER_RUN


def test_the_lock_of_a_launch_that_died_goes_with_the_next_terminate(tmp_path: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    leave_lock(aws, pid=_NO_PROCESS)
    here.ledger.write(RunRecord(RUN_ID, Target.EMR, cluster_name="fruits", launch_id="l0"))

    forget_dead_launches(places_of(config()), here)

    assert (BUCKET, LOCK.key) not in aws.storage.objects
    (record,) = here.ledger.records()
    assert record.phase is RunPhase.CANCELLED


def test_the_lock_of_a_launch_that_is_under_way_stays(tmp_path: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    leave_lock(aws, pid=os.getpid())
    here.ledger.write(RunRecord(RUN_ID, Target.EMR, cluster_name="fruits", launch_id="l0"))

    forget_dead_launches(places_of(config()), here)

    assert (BUCKET, LOCK.key) in aws.storage.objects


def test_the_lock_of_a_launch_that_died_goes_even_if_its_cluster_lived(tmp_path: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    leave_lock(aws, pid=_NO_PROCESS)
    launched = RunRecord(RUN_ID, Target.EMR, RunPhase.LAUNCHED, cluster_id="j-1", launch_id="l0")
    here.ledger.write(launched)

    forget_dead_launches(places_of(config()), here)

    assert (BUCKET, LOCK.key) not in aws.storage.objects


def test_the_locks_of_others_stay(tmp_path: Path) -> None:
    aws = FakeAws()
    here = session(aws, tmp_path)
    leave_lock(aws, pid=_NO_PROCESS)
    here.ledger.write(RunRecord(RUN_ID, Target.EMR, RunPhase.LAUNCHED, launch_id="another"))

    forget_dead_launches(places_of(config()), here)

    assert (BUCKET, LOCK.key) in aws.storage.objects


def test_ctrl_c_while_a_cluster_ends_says_that_it_ends_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()
    cluster_id = created(aws, tmp_path)

    def interrupted(seconds: float) -> NoReturn:
        raise KeyboardInterrupt

    aws.clock.sleep = interrupted  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        terminate_cluster(None, session(aws, tmp_path), yes=True)

    assert not aws.clusters.cluster(cluster_id).state.is_live
    told = capsys.readouterr().err
    assert f"EMR goes on ending cluster {cluster_id}; fruits status --cluster {cluster_id}" in told


def test_ctrl_c_while_emr_is_asked_to_end_a_cluster_says_that_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()
    cluster_id, stop = created(aws, tmp_path), aws.clusters.stop_cluster

    def stopped(cluster_id: str) -> None:
        signal.raise_signal(signal.SIGINT)
        stop(cluster_id)

    aws.clusters.stop_cluster = stopped  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        terminate_cluster(None, session(aws, tmp_path), yes=True)

    assert f"EMR goes on ending cluster {cluster_id}" in capsys.readouterr().err


@dataclass(frozen=True)
class _OnFullDisk(Ledger):
    """A ledger whose disk is full once `full` holds anything."""

    full: list[StepSpec | None] = field(default_factory=list)

    def write(self, record: RunRecord, *, now: datetime | None = None) -> RunRecord:
        if self.full:
            raise MachineError("The ledger cannot be written.")
        return super().write(record, now=now)


def test_a_full_disk_hides_neither_the_end_nor_the_bill_of_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = FakeAws()
    cluster_id, here = created(aws, tmp_path), session(aws, tmp_path)
    here = replace(here, ledger=_OnFullDisk(here.ledger.folder, [None]))

    outcome = terminate_cluster(None, here, yes=True)

    assert not aws.clusters.cluster(cluster_id).state.is_live
    assert outcome.facts["cost_usd"]
    assert "The ledger cannot be written." in capsys.readouterr().err


def test_a_full_disk_does_not_hide_how_a_job_ended(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws(script=Script(step_ends=StepState.FAILED)))
    created(aws, tmp_path)
    here = session(aws, tmp_path)
    disk = _OnFullDisk(here.ledger.folder)
    aws.script.on_step_end = disk.full.append

    with pytest.raises(JobFailed):
        submit_job(
            config(job={"weights": "random"}), replace(here, ledger=disk), OTHER_RUN, wait=True
        )

    assert disk.full


def test_a_job_that_was_cancelled_on_a_full_disk_is_said_to_be(tmp_path: Path) -> None:
    aws = with_dataset(FakeAws(script=Script(step_s=3600)))
    created(aws, tmp_path)
    here = session(aws, tmp_path)
    submit_job(config(job={"weights": "random"}), here, OTHER_RUN)

    outcome = cancel_job(
        None, replace(here, ledger=_OnFullDisk(here.ledger.folder, [None])), yes=True
    )

    assert outcome.facts["run_id"] == OTHER_RUN
