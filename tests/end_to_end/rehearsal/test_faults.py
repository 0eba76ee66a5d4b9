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
