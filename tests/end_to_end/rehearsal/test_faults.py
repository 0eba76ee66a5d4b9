from __future__ import annotations

import pytest
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "throttle"}, "ThrottlingException"),
        ({"kind": "error"}, "InternalError"),
        ({"kind": "error", "status": 400, "code": "ValidationException"}, "ValidationException"),
        ({"kind": "denied"}, "AccessDeniedException"),
    ],
)
def test_an_emr_request_meets_its_fault_once(aws, refusal, fault, code):
    aws.fault(action="ListClusters", **fault)

    assert refusal(aws.emr.list_clusters)[0] == code
    assert "Clusters" in aws.emr.list_clusters()


@pytest.mark.parametrize(
    ("service", "ask", "kind", "code"),
    [
        ("s3", lambda aws: aws.s3.list_objects_v2(Bucket=aws.bucket), "slow-down", "SlowDown"),
        ("s3", lambda aws: aws.s3.list_objects_v2(Bucket=aws.bucket), "denied", "AccessDenied"),
        ("ec2", lambda aws: aws.ec2.describe_vpcs(), "denied", "UnauthorizedOperation"),
        ("ec2", lambda aws: aws.ec2.describe_vpcs(), "throttle", "RequestLimitExceeded"),
        ("iam", lambda aws: aws.iam.list_roles(), "denied", "AccessDenied"),
        ("iam", lambda aws: aws.iam.list_roles(), "throttle", "ThrottlingException"),
    ],
)
def test_every_protocol_spells_its_refusal(aws, refusal, service, ask, kind, code):
    aws.fault(kind=kind, service=service)

    assert refusal(lambda: ask(aws))[0] == code


def test_botocores_own_retries_get_past_a_throttle(aws):
    aws.fault(kind="throttle", action="ListClusters", times=2)
    patient = aws.client("emr", retries={"total_max_attempts": 3, "mode": "standard"})

    assert "Clusters" in patient.list_clusters()


def test_a_fault_may_let_requests_through_first(aws, refusal):
    aws.fault(kind="error", service="s3", action="PutObject", skip=1, status=500)

    aws.put("first", b"1")

    assert refusal(lambda: aws.put("second", b"2"))[0] == "InternalError"


def test_a_lost_answer_leaves_a_cluster_behind(aws):
    request = aws.request()
    aws.fault(kind="lost-answer", action="RunJobFlow")

    with pytest.raises(ConnectionClosedError):
        aws.emr.run_job_flow(**request)

    names = [cluster["Name"] for cluster in aws.emr.list_clusters()["Clusters"]]
    assert names.count(request["Name"]) == 1


def test_an_answer_that_never_comes_is_the_callers_timeout(aws):
    aws.fault(kind="hung-answer", service="s3", action="PutObject")
    impatient = aws.client("s3", read_timeout=1)

    with pytest.raises(ReadTimeoutError):
        impatient.put_object(Bucket=aws.bucket, Key="acted", Body=b"x")

    assert aws.keys("acted") == ["acted"]


@pytest.mark.parametrize("members", [{"kind": "flood"}, {"kind": "error", "colour": "red"}])
def test_an_unknown_fault_is_refused(aws, members):
    with pytest.raises(ValueError, match=r"kind is one of|colour"):
        aws.fault(**members)


def test_without_capacity_on_demand_the_launch_fails(aws):
    aws.fault(kind="capacity", role="CORE", market="ON_DEMAND", cluster="no-capacity")

    status = aws.await_end(aws.launch(Name="no-capacity"))["Status"]

    assert status["State"] == "TERMINATED_WITH_ERRORS"
    assert status["StateChangeReason"]["Code"] == "INTERNAL_ERROR"
    assert status["ErrorDetails"][0]["ErrorCode"] == "INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ"


@pytest.mark.parametrize(
    ("action", "state"),
    [("SWITCH_TO_ON_DEMAND", "WAITING"), ("TERMINATE_CLUSTER", "TERMINATED_WITH_ERRORS")],
)
def test_without_spot_capacity_the_fleet_does_as_it_says(aws, make_fleet, action, state):
    spot = {"SpotSpecification": {"TimeoutDurationMinutes": 5, "TimeoutAction": action}}
    request = aws.request(keep_alive=True)
    request["Instances"]["InstanceFleets"].append(
        make_fleet("TASK", 0, 1, LaunchSpecifications=spot)
    )
    aws.fault(kind="capacity", market="SPOT", cluster=request["Name"])

    cluster_id = aws.emr.run_job_flow(**request)["JobFlowId"]
    aws.await_state(cluster_id, state)

    nodes = aws.emr.list_instances(ClusterId=cluster_id, InstanceFleetType="TASK")["Instances"]
    reason = aws.cluster(cluster_id)["Status"]["StateChangeReason"]
    assert [node["Market"] for node in nodes] == (["ON_DEMAND"] if state == "WAITING" else [])
    assert reason.get("Code") == (None if state == "WAITING" else "INSTANCE_FLEET_TIMEOUT")
    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])


def test_a_quota_that_is_too_small_ends_the_launch(aws):
    aws.fault(kind="quota", status=5)

    quota = aws.client("service-quotas").get_service_quota(
        ServiceCode="ec2", QuotaCode="L-1216C47A"
    )
    status = aws.await_end(aws.launch())["Status"]

    assert quota["Quota"]["Value"] == 5
    assert "EC2 QUOTA EXCEEDED" in status["StateChangeReason"]["Message"]


def test_a_failing_bootstrap_action_leaves_its_log(aws):
    script = aws.put("fine.sh", "#!/bin/bash\n")
    aws.fault(kind="bootstrap", action="1", status=17, message="pip: no space", cluster="full")

    cluster_id = aws.launch(
        Name="full", BootstrapActions=[{"Name": "b", "ScriptBootstrapAction": {"Path": script}}]
    )
    status = aws.await_end(cluster_id)["Status"]

    data = status["ErrorDetails"][0]["ErrorData"][0]
    node = f"logs/{cluster_id}/node/{data['primary-instance-id']}/bootstrap-actions/1"
    assert status["StateChangeReason"]["Code"] == "BOOTSTRAP_FAILURE"
    assert data["return-code"] == "17"
    assert aws.log(f"{node}/stderr.gz") == "pip: no space\n"


def test_a_lost_spot_node_is_replaced(aws, make_fleet, wait_until):
    request = aws.request(keep_alive=True)
    request["Instances"]["InstanceFleets"].append(make_fleet("TASK", 0, 1))
    cluster_id = aws.emr.run_job_flow(**request)["JobFlowId"]
    aws.await_state(cluster_id, "WAITING")

    def states():
        found = aws.emr.list_instances(ClusterId=cluster_id, InstanceFleetType="TASK")
        return [node["Status"]["State"] for node in found["Instances"]]

    aws.fault(kind="spot-loss", role="TASK", cluster=cluster_id)

    wait_until(lambda: states() == ["TERMINATED", "RUNNING"])
    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])


def test_a_lost_spot_primary_ends_the_cluster(aws, make_fleet):
    request = aws.request(keep_alive=True)
    request["Instances"]["InstanceFleets"] = [make_fleet("MASTER", 0, 1)]
    cluster_id = aws.emr.run_job_flow(**request)["JobFlowId"]
    aws.await_state(cluster_id, "WAITING")

    aws.fault(kind="spot-loss", cluster=cluster_id)
    status = aws.await_end(cluster_id)["Status"]

    assert status["ErrorDetails"][0]["ErrorCode"] == "INTERNAL_ERROR_SPOT_PRICE_INCREASE_PRIMARY"


def test_a_step_fails_as_asked_with_its_traceback_in_the_containers_log(aws, make_step):
    main = aws.put("main.py", "print('never runs')\n")
    aws.fault(kind="step", cluster="step-fails")

    step = make_step("--deploy-mode", "cluster", main, on_failure="TERMINATE_CLUSTER")
    cluster_id = aws.launch(Name="step-fails", Steps=[step])
    status = aws.await_end(cluster_id)["Status"]
    step = aws.steps(cluster_id)[0]

    container = [key for key in aws.keys(f"logs/{cluster_id}/containers/") if "stderr" in key]
    assert status["StateChangeReason"]["Code"] == "STEP_FAILURE"
    assert status["State"] == "TERMINATED_WITH_ERRORS"
    assert step["Status"]["State"] == "FAILED"
    assert step["Status"]["FailureDetails"]["LogFile"].endswith("/stderr.gz")
    assert "_000001/stderr.gz" in container[0]
    assert "Traceback (most recent call last)" in aws.log(container[0])
