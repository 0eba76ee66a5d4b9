from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from fruits_cli import rehearsal

pytestmark = pytest.mark.spark

# Tells where it runs, then leaves a grandchild in a process group of its own, as pyspark does.
_STAYS = """
import json, os, subprocess, sys, time
import boto3
bucket, key = sys.argv[1:3]
child = subprocess.Popen(["sleep", "1000"], process_group=0)
told = json.dumps({"pids": [os.getpid(), child.pid, os.getppid()]})
print("still working", flush=True)
boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=told.encode())
time.sleep(1000)
"""
_REPORTS = """
import json, os, sys
import boto3, greeting
told = {"argv": sys.argv[1:], "environ": dict(os.environ), "says": greeting.WORD}
told["model"] = sorted(os.listdir(sys.argv[sys.argv.index("--model") + 1]))
boto3.client("s3").put_object(Bucket=sys.argv[1], Key="told.json", Body=json.dumps(told).encode())
print("to stdout")
"""


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def staying(aws, make_step, wait_until):
    """A kept cluster with a step that does not end by itself, and that step's processes."""
    main = aws.put("stays.py", _STAYS)
    cluster_id = aws.launch(keep_alive=True, Steps=[make_step(main, aws.bucket, "pids.json")])
    wait_until(lambda: aws.keys("pids.json"))
    pids = json.loads(aws.s3.get_object(Bucket=aws.bucket, Key="pids.json")["Body"].read())["pids"]
    assert all(is_alive(pid) for pid in pids)
    yield cluster_id, aws.steps(cluster_id)[0]["Id"], pids
    aws.s3.delete_object(Bucket=aws.bucket, Key="pids.json")
    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])
    aws.await_end(cluster_id)


def test_a_step_runs_for_real_with_its_own_arguments(aws, make_step, monkeypatch):
    main = aws.put("reports.py", _REPORTS)
    package = aws.put_zip("code.zip", greeting="WORD = 'bonjour'\n")
    aws.put("model/graph.xml", "<net/>")
    aws.put("model/model.json", "{}")
    args = [aws.bucket, "--output", "s3://b/runs/", "--model", f"s3://{aws.bucket}/model/"]
    options = ["--deploy-mode", "cluster", "--conf", "spark.pyspark.python=/nowhere/python"]

    cluster_id = aws.launch(Steps=[make_step(*options, "--py-files", package, main, *args)])
    aws.await_end(cluster_id)
    step = aws.steps(cluster_id)[0]
    told = json.loads(aws.s3.get_object(Bucket=aws.bucket, Key="told.json")["Body"].read())

    assert step["Status"]["State"] == "COMPLETED"
    assert told["argv"][:4] == args[:4]
    assert Path(told["argv"][4]).is_absolute()
    assert told["says"] == "bonjour"
    assert told["model"] == ["graph.xml", "model.json"]
    assert told["environ"]["AWS_ENDPOINT_URL"] == aws.rehearsal.endpoint
    assert told["environ"]["AWS_ACCESS_KEY_ID"] != aws.rehearsal.key
    assert told["environ"]["HOME"] != os.environ["HOME"]
    logs = f"logs/{cluster_id}"
    controller = aws.log(f"{logs}/steps/{step['Id']}/controller.gz")
    application = aws.step(cluster_id, step["Id"])["AdditionalInfo"][
        "ResourceManagerApplicationIds"
    ][0]
    container = application.replace("application", "container") + "_01_000001"
    assert f"--model s3://{aws.bucket}/model/ is {told['argv'][4]} here" in controller
    assert "to stdout" in aws.log(f"{logs}/containers/{application}/{container}/stdout.gz")
    assert f"{logs}/steps/{step['Id']}/stderr.gz" in aws.keys(logs)
    assert not Path(told["environ"]["HOME"]).exists()


def test_in_client_mode_the_drivers_output_is_the_steps(aws, make_step):
    main = aws.put("fails.py", "raise ValueError('no such fruit')\n")

    cluster_id = aws.launch(Steps=[make_step(main)])
    aws.await_end(cluster_id)
    step = aws.steps(cluster_id)[0]

    folder = f"logs/{cluster_id}/steps/{step['Id']}"
    output = aws.log(f"{folder}/stdout.gz") + aws.log(f"{folder}/stderr.gz")
    assert step["Status"]["State"] == "FAILED"
    assert "ValueError: no such fruit" in output
    assert "exitCode 1" in aws.log(f"{folder}/controller.gz")


def test_in_cluster_mode_what_failed_is_in_the_containers_log(aws, make_step):
    main = aws.put("fails.py", "raise ValueError('no such fruit')\n")

    step = make_step("--deploy-mode", "cluster", main, on_failure="TERMINATE_CLUSTER")
    cluster_id = aws.launch(Steps=[step])
    status = aws.await_end(cluster_id)["Status"]
    step = aws.steps(cluster_id)[0]

    container = aws.keys(f"logs/{cluster_id}/containers/")
    assert status["StateChangeReason"]["Code"] == "STEP_FAILURE"
    assert status["State"] == "TERMINATED_WITH_ERRORS"
    assert step["Status"]["State"] == "FAILED"
    assert step["Status"]["FailureDetails"]["LogFile"].endswith("/stderr.gz")
    assert "exit code 1" in step["Status"]["FailureDetails"]["Message"]
    assert all("_000001/std" in key for key in container)
    assert "ValueError: no such fruit" in "".join(map(aws.log, container))


@pytest.mark.parametrize("main", ["bash", "missing"])
def test_what_cannot_be_run_is_a_failed_step(aws, make_step, main):
    step = make_step(f"s3://{aws.bucket}/missing.py")
    if main == "bash":
        step["HadoopJarStep"]["Args"] = ["bash", "-c", "exit 0"]

    cluster_id = aws.launch(Steps=[step])
    aws.await_end(cluster_id)

    assert aws.steps(cluster_id)[0]["Status"]["State"] == "FAILED"


@pytest.mark.parametrize(
    ("on_failure", "next_state", "cluster_state"),
    [
        ("CONTINUE", "FAILED", "WAITING"),
        ("CANCEL_AND_WAIT", "CANCELLED", "WAITING"),
        ("TERMINATE_CLUSTER", "CANCELLED", "TERMINATED_WITH_ERRORS"),
    ],
)
def test_action_on_failure_is_honoured(aws, make_step, on_failure, next_state, cluster_state):
    nothing = f"s3://{aws.bucket}/missing.py"
    steps = [make_step(nothing, on_failure=on_failure), make_step(nothing)]

    cluster_id = aws.launch(keep_alive=True, Steps=steps)
    aws.await_state(cluster_id, cluster_state)

    assert [step["Status"]["State"] for step in aws.steps(cluster_id)] == ["FAILED", next_state]
    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])


@pytest.mark.parametrize("option", ["SEND_INTERRUPT", "TERMINATE_PROCESS"])
def test_cancelling_ends_every_process_of_the_step_and_keeps_the_cluster(aws, staying, option):
    cluster_id, step_id, pids = staying

    answer = aws.emr.cancel_steps(
        ClusterId=cluster_id, StepIds=[step_id], StepCancellationOption=option
    )
    aws.await_step(cluster_id, step_id, "CANCELLED")

    assert answer["CancelStepsInfoList"][0]["Status"] == "SUBMITTED"
    assert [pid for pid in pids if is_alive(pid)] == []
    aws.await_state(cluster_id, "WAITING")
    again = aws.emr.cancel_steps(ClusterId=cluster_id, StepIds=[step_id])
    assert again["CancelStepsInfoList"][0]["Status"] == "FAILED"


def test_terminating_ends_the_running_step_and_drops_the_next(aws, staying, make_step):
    cluster_id, _, pids = staying
    added = aws.emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=[make_step("s3://b-1/m.py")])

    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])
    aws.await_end(cluster_id)

    assert [pid for pid in pids if is_alive(pid)] == []
    states = [step["Status"]["State"] for step in aws.steps(cluster_id)]
    assert states == ["INTERRUPTED", "CANCELLED"]
    assert added["StepIds"] == [aws.steps(cluster_id)[1]["Id"]]


def test_a_pending_step_is_cancelled_at_once(aws, staying, make_step):
    cluster_id, _, _ = staying
    added = aws.emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=[make_step("s3://b-1/m.py")])

    aws.emr.cancel_steps(ClusterId=cluster_id, StepIds=added["StepIds"])

    step = aws.step(cluster_id, added["StepIds"][0])
    assert step["Status"]["State"] == "CANCELLED"


def test_logs_of_a_running_step_arrive_before_its_end(aws, staying, wait_until):
    cluster_id, step_id, _ = staying
    key = f"logs/{cluster_id}/steps/{step_id}/stdout.gz"

    wait_until(lambda: aws.keys(key) and "still working" in aws.log(key))

    assert aws.step(cluster_id, step_id)["Status"]["State"] == "RUNNING"


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_no_process_of_a_step_survives_the_server(tmp_path, account_at, make_step, wait_until, how):
    aws = account_at(tmp_path, minutes_per_second=600)
    main = aws.put("stays.py", _STAYS)
    aws.launch(Steps=[make_step(main, aws.bucket, "pids.json")])
    wait_until(lambda: aws.keys("pids.json"))
    pids = json.loads(aws.s3.get_object(Bucket=aws.bucket, Key="pids.json")["Body"].read())["pids"]

    if how == "stopped":
        rehearsal.stop(tmp_path)
    else:
        os.kill(aws.rehearsal.pid, signal.SIGKILL)

    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    # The step hears of the server's end while the last of the server's threads may still go.
    wait_until(lambda: rehearsal.find(tmp_path) is None)
