import pytest

from fruits_cli.cloud.clusters import Cluster, ClusterState, ErrorDetail, Step, StepState
from fruits_cli.cluster.diagnosis import Evidence, diagnose, hint_for, last_traceback, report_lines

SPARK_LOG = """\
26/08/23 14:20:01 INFO TaskSetManager: Starting task 0.0
26/08/23 14:20:02 ERROR Executor: Exception in task 0.0 in stage 1.0 (TID 1)
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/mnt/yarn/spark_job/features.py", line 10, in one
    first()
ValueError: the first one

26/08/23 14:20:03 WARN TaskSetManager: Lost task
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/mnt/yarn/spark_job/features.py", line 90, in embed_chunk
    images.decoded(content)
OSError: picture 'Fig/12.jpg' broke the decoder

\tat org.apache.spark.api.python.BasePythonRunner
26/08/23 14:20:04 INFO Done
"""
RUNNING = Cluster("j-1", "fruits-x", ClusterState.RUNNING)


def dead(code: str, message: str = "", **facts: str) -> Cluster:
    named = {name.replace("_", "-"): value for name, value in facts.items()}
    return Cluster(
        "j-1",
        "fruits-x",
        ClusterState.TERMINATED_WITH_ERRORS,
        errors=(ErrorDetail(code, message, named),),
    )


def test_the_last_traceback_ends_with_its_exception() -> None:
    assert last_traceback(SPARK_LOG) == (
        "Traceback (most recent call last):",
        '  File "/mnt/yarn/spark_job/features.py", line 90, in embed_chunk',
        "    images.decoded(content)",
        "OSError: picture 'Fig/12.jpg' broke the decoder",
    )


def test_a_log_without_a_traceback_has_none() -> None:
    assert last_traceback("all is well\n") == ()


def test_a_traceback_that_is_cut_off_is_taken_as_far_as_it_goes() -> None:
    assert last_traceback("Traceback (most recent call last):\n  File x") == (
        "Traceback (most recent call last):",
        "  File x",
    )


def test_the_jobs_own_error_comes_first() -> None:
    error = {"exit_code": 4, "message": "Too many rejected.", "hint": "Look at rejected/."}

    found = diagnose(
        Evidence(cluster=RUNNING, stage="features", job_error=error, logs={"x": SPARK_LOG})
    )

    assert (found.stage, found.cause) == ("features", "Too many rejected.")
    assert found.hint == "Look at rejected/."


def test_without_a_job_error_the_traceback_and_picture_are_the_cause() -> None:
    found = diagnose(Evidence(cluster=RUNNING, logs={"driver": "", "worker": SPARK_LOG}))

    assert found.cause == "OSError: picture 'Fig/12.jpg' broke the decoder"
    assert found.picture == "Fig/12.jpg"
    assert found.source == "worker"


def test_without_any_log_emr_is_quoted() -> None:
    step = Step("s-1", "n", StepState.FAILED, reason="Unknown Error", message="exit 1")

    assert diagnose(Evidence(cluster=RUNNING, step=step)).cause == "Unknown Error. exit 1"


def test_a_failed_bootstrap_names_action_and_return_code() -> None:
    cluster = dead(
        "BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE",
        "The primary failed",
        bootstrap_action="1",
        return_code="9",
    )
    logs = {"node/i-1/bootstrap-actions/1/stderr": "wheel is broken\n"}

    found = diagnose(Evidence(cluster=cluster, logs=logs))

    assert found.stage == "bootstrap"
    assert found.cause == "wheel is broken (bootstrap-action 1, return-code 9)"
    assert found.excerpt == ("wheel is broken",)


def test_the_report_says_cause_then_hint_then_log() -> None:
    lines = report_lines(diagnose(Evidence(cluster=RUNNING, logs={"w": SPARK_LOG})))

    assert lines[0].startswith("Failed in stage job: OSError")
    assert lines[1] == "Picture: Fig/12.jpg"
    assert lines[-1] == "  OSError: picture 'Fig/12.jpg' broke the decoder"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("ModuleNotFoundError: No module named 'openvino'", "lacks a package"),
        ("Container killed on request. Exit code: 137", "out of memory"),
        ("Container is running beyond physical memory limits", "out of memory"),
        ("An error occurred (AccessDenied) when calling GetObject", "lacks a right"),
        ("You have exceeded your vCPU limit: VcpuLimitExceeded", "quota"),
        ("EC2 QUOTA EXCEEDED", "quota"),
        ("INTERNAL_ERROR_SPOT_NO_CAPACITY_PRIMARY", "no such machines"),
        ("INSTANCE_FLEET_TIMEOUT", "no such machines"),
        ("VALIDATION_ERROR_INSTANCE_TYPE_NOT_SUPPORTED", "lacks the instance type"),
        ("BOOTSTRAP_FAILURE_FILE_NOT_FOUND_PRIMARY", "not in the bucket"),
        ("OSError: [Errno 28] No space left on device", "disk"),
        ("Exit status: -100. Diagnostics: Container released on a lost node", "Spot"),
        ("Python in worker has different version 3.9 than that in driver 3.11", "different Python"),
        ("VALIDATION_ERROR_INVALID_SSH_KEY_NAME", "key pair"),
        ("503 Slow Down", "slow down"),
        ("bootstrap.sh: the wheel fig-1.0.whl is broken: its sha256", "which sends them"),
        ("bootstrap.sh: s3://b/wheels/1/lock.txt is not in the bucket.", "which sends them"),
        ("bootstrap.sh: python3.11 is not on this node.", "--release-label"),
        ("bootstrap.sh: pip failed: No space left on the disk of /opt", "--root-volume-gib"),
    ],
)
def test_known_failures_have_a_hint(text: str, word: str) -> None:
    assert word in hint_for(text)


def test_an_unknown_failure_gets_no_guess() -> None:
    assert hint_for("the moon was full") == ""


def test_a_launch_that_was_refused_is_not_called_the_job() -> None:
    found = diagnose(Evidence(cluster=dead("VALIDATION_ERROR", "The subnet is gone.")))

    assert (found.stage, found.cause) == ("launch", "The subnet is gone.")


def test_a_cluster_that_was_stopped_did_not_run_out_of_memory() -> None:
    stopped = Cluster(
        "j-1",
        "fruits-x",
        ClusterState.TERMINATED,
        reason_code="USER_REQUEST",
        reason="Terminated by user request",
    )
    step = Step("s-1", "fruits-x", StepState.CANCELLED)

    found = diagnose(Evidence(cluster=stopped, step=step, logs={"stderr": "exit code 137"}))

    assert found.cause.startswith("The cluster was ended on request: by you")
    assert "memory" not in found.hint
    assert "fruits run --resume" in found.hint


@pytest.mark.parametrize("ended", [StepState.CANCELLED, StepState.INTERRUPTED])
def test_a_cluster_that_lost_its_nodes_did_not_run_out_of_memory(ended: StepState) -> None:
    lost = Cluster(
        "j-1",
        "fruits-x",
        ClusterState.TERMINATED_WITH_ERRORS,
        reason_code="INSTANCE_FAILURE",
        reason="All slaves in the job flow were terminated due to Spot",
    )
    step = Step("s-1", "fruits-x", ended)

    found = diagnose(Evidence(cluster=lost, step=step, logs={"stderr": "exit code 137"}))

    assert found.cause == lost.reason
    assert "memory" not in found.hint
    assert "fruits run --resume" in found.hint
