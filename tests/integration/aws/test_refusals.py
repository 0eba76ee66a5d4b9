"""What AWS refuses or leaves unanswered, and step states that moto never reaches."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from moto import mock_aws

from fruits_cli.aws import connect
from fruits_cli.aws.account import AwsAccount
from fruits_cli.aws.emr import AwsClusters
from fruits_cli.aws.errors import asking
from fruits_cli.aws.rights import AwsRights
from fruits_cli.aws.s3 import AwsStorage
from fruits_cli.cloud.clusters import ClusterState, Market, Role, StepState
from fruits_cli.cluster.plan import plan_cluster, plan_run
from fruits_cli.config import AwsConfig
from fruits_cli.errors import (
    AccessDenied,
    CloudError,
    ClusterNotFound,
    Forbidden,
    RoleNotReady,
    Unanswered,
)
from fruits_cli.s3uri import S3Uri
from tests.support.fakes import FakeClock
from tests.support.stubs import Stubs, refused
from tests.support.worlds import PYTHON, RUN_ID, config, job, observed

SPEC = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec
STEP = plan_run(config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec.step


@pytest.fixture
def stubs() -> Stubs:
    return Stubs()


@pytest.fixture
def clusters(stubs: Stubs) -> AwsClusters:
    return AwsClusters(stubs, FakeClock())


def test_a_missing_right_is_named(stubs: Stubs, clusters: AwsClusters) -> None:
    text = "User: ada is not authorized to perform: elasticmapreduce:RunJobFlow on resource: *"
    refused(stubs, "run_job_flow", "AccessDeniedException", text)

    with pytest.raises(AccessDenied, match="AWS does not let you start the cluster") as denied:
        clusters.start_cluster(SPEC)

    assert denied.value.hint == "The right that is missing is elasticmapreduce:RunJobFlow."


def test_what_an_organisation_forbids_is_not_a_missing_right(
    stubs: Stubs, clusters: AwsClusters
) -> None:
    text = (
        "User: ada is not authorized to perform: elasticmapreduce:ListClusters on resource: * "
        "with an explicit deny in a service control policy"
    )
    refused(stubs, "list_clusters", "AccessDeniedException", text)

    with pytest.raises(Forbidden, match="A policy of your organisation") as forbidden:
        clusters.find_clusters(live=True)

    assert "another --region" in forbidden.value.hint


def test_an_expired_login_says_how_to_renew_it(stubs: Stubs, clusters: AwsClusters) -> None:
    refused(stubs, "list_clusters", "ExpiredTokenException", "The security token is expired")

    with pytest.raises(CloudError, match="does not accept the credentials") as expired:
        clusters.find_clusters(live=True)

    assert "aws sso login" in expired.value.hint


@mock_aws
def test_a_trace_that_cannot_be_written_any_more_loses_no_cluster(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cloud = connect(AwsConfig(region="eu-west-3", trace=Path("/dev/full")))

    cluster_id = cloud.clusters.start_cluster(SPEC)

    assert [cluster.cluster_id for cluster in cloud.clusters.find_clusters(live=True)] == [
        cluster_id
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "The trace /dev/full ends here: No space left on device."
    ]


def test_a_throttled_launch_is_repeated(stubs: Stubs, clusters: AwsClusters) -> None:
    refused(stubs, "run_job_flow", "ThrottlingException", "Rate exceeded")
    stubs.of("emr").add_response("run_job_flow", {"JobFlowId": "j-1"})

    assert clusters.start_cluster(SPEC) == "j-1"


@pytest.mark.parametrize("status", [500, 503])
def test_a_launch_that_failed_with_500_counts_as_unanswered(
    stubs: Stubs, clusters: AwsClusters, status: int
) -> None:
    refused(stubs, "run_job_flow", "InternalServerError", "oops", status=status)

    with pytest.raises(Unanswered):
        clusters.start_cluster(SPEC)


def test_emrs_own_failure_counts_as_unanswered_whatever_its_status(
    stubs: Stubs, clusters: AwsClusters
) -> None:
    refused(stubs, "run_job_flow", "InternalServerError", "oops", status=400)

    with pytest.raises(Unanswered):
        clusters.start_cluster(SPEC)


def test_a_refused_launch_did_not_happen(stubs: Stubs, clusters: AwsClusters) -> None:
    refused(stubs, "run_job_flow", "ValidationException", "The release label is wrong.")

    with pytest.raises(CloudError, match=r"The release label is wrong \(ValidationExc") as error:
        clusters.start_cluster(SPEC)

    assert not isinstance(error.value, Unanswered)


_DENIED, _INVALID = "AccessDeniedException", "ValidationException"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (_INVALID, "Invalid InstanceProfile: fruits-ec2-1."),
        (_INVALID, "ServiceRole is bad"),
        (_INVALID, "Service-linked role 'AWSServiceRoleForEMRCleanup' for EMR is required."),
        (_DENIED, "Failed to authorize instance profile arn:aws:iam::1:instance-profile/x"),
    ],
)
def test_a_role_that_emr_does_not_see_yet_has_its_own_error(
    stubs: Stubs, clusters: AwsClusters, code: str, text: str
) -> None:
    refused(stubs, "run_job_flow", code, text)

    with pytest.raises(RoleNotReady):
        clusters.start_cluster(SPEC)


def test_a_right_that_is_missing_for_a_role_is_not_waited_for(
    stubs: Stubs, clusters: AwsClusters
) -> None:
    text = "User: ada is not authorized to perform: iam:PassRole on resource: service role x"
    refused(stubs, "run_job_flow", _DENIED, text)

    with pytest.raises(AccessDenied) as denied:
        clusters.start_cluster(SPEC)

    assert denied.value.hint == "The right that is missing is iam:PassRole."


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ReadTimeoutError(endpoint_url="https://x"), Unanswered),
        (ConnectTimeoutError(endpoint_url="https://x"), CloudError),
        (EndpointConnectionError(endpoint_url="https://x"), CloudError),
    ],
    ids=["read", "connect", "endpoint"],
)
def test_a_lost_answer_differs_from_an_unsent_request(
    error: Exception, kind: type[CloudError]
) -> None:
    with pytest.raises(CloudError) as raised, asking("start it", paid=True):
        raise error

    assert type(raised.value) is kind


def test_a_lost_answer_to_a_free_request_is_a_plain_error() -> None:
    with pytest.raises(CloudError) as raised, asking("look"):
        raise ReadTimeoutError(endpoint_url="https://x")

    assert type(raised.value) is CloudError


def test_missing_credentials_come_with_a_hint() -> None:
    with pytest.raises(CloudError, match="No AWS credentials") as raised, asking("look"):
        raise NoCredentialsError

    assert "aws configure" in raised.value.hint


def test_an_unknown_cluster_hints_at_other_regions(stubs: Stubs, clusters: AwsClusters) -> None:
    text = "Cluster id 'j-1' is not valid."
    refused(stubs, "describe_cluster", "InvalidRequestException", text)

    with pytest.raises(ClusterNotFound, match="Cluster id 'j-1' is not valid") as missing:
        clusters.cluster("j-1")

    assert "--all-regions" in missing.value.hint


def step_answer(state: str, **status: Any) -> dict[str, Any]:
    config = {"Jar": "command-runner.jar", "Args": ["spark-submit"]}
    step = {"Id": "s-1", "Name": "fruits-x", "Config": config}
    return {"Step": {**step, "Status": {"State": state, **status}}}


@pytest.mark.parametrize("state", StepState)
def test_every_state_of_a_step_is_read(
    stubs: Stubs, clusters: AwsClusters, state: StepState
) -> None:
    stubs.of("emr").add_response("describe_step", step_answer(state.value))

    assert clusters.step("j-1", "s-1").state is state


def test_a_failed_step_says_why(stubs: Stubs, clusters: AwsClusters) -> None:
    details = {"Reason": "Unknown Error", "Message": "exit 1", "LogFile": "s3n://b/steps/s-1/"}
    started = datetime(2026, 8, 23, 14, 0, tzinfo=UTC)
    answer = step_answer("FAILED", FailureDetails=details, Timeline={"StartDateTime": started})
    stubs.of("emr").add_response("describe_step", answer)

    step = clusters.step("j-1", "s-1")

    assert (step.reason, step.message, step.started_at) == ("Unknown Error", "exit 1", started)


def test_our_states_equal_those_of_emr() -> None:
    model = boto3.client("emr", region_name="eu-west-3").meta.service_model

    assert [state.value for state in StepState] == model.shape_for("StepState").enum
    assert [state.value for state in ClusterState] == model.shape_for("ClusterState").enum


def test_a_failed_cluster_has_its_code_facts_and_log_uri(
    stubs: Stubs, clusters: AwsClusters
) -> None:
    error = {
        "ErrorCode": "BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE",
        "ErrorMessage": "it failed",
        "ErrorData": [{"primary-instance-id": "i-1"}, {"return-code": "7"}],
    }
    status = {
        "State": "TERMINATED_WITH_ERRORS",
        "StateChangeReason": {"Code": "BOOTSTRAP_FAILURE", "Message": "On the primary"},
        "ErrorDetails": [error],
    }
    answer = {"Id": "j-1", "Name": "fruits-x", "Status": status, "LogUri": "s3n://figs-b/logs"}
    stubs.of("emr").add_response("describe_cluster", {"Cluster": answer})

    cluster = clusters.cluster("j-1")

    assert cluster.errors[0].facts == {"primary-instance-id": "i-1", "return-code": "7"}
    assert cluster.reason_code == "BOOTSTRAP_FAILURE"
    assert cluster.log_uri == S3Uri("figs-b", "logs/")


def test_nodes_have_role_market_and_times(stubs: Stubs, clusters: AwsClusters) -> None:
    created = datetime(2026, 8, 23, 14, 0, tzinfo=UTC)
    status = {"State": "RUNNING", "Timeline": {"CreationDateTime": created}}
    spot = {"Ec2InstanceId": "i-2", "InstanceType": "m5.xlarge", "Market": "SPOT", "Status": status}
    primary_node = {**spot, "Market": "ON_DEMAND", "Ec2InstanceId": "i-1"}
    stubs.of("emr").add_response("list_instances", {"Instances": [primary_node]})
    stubs.of("emr").add_response("list_instances", {"Instances": []})
    stubs.of("emr").add_response("list_instances", {"Instances": [spot]})

    primary, task = clusters.nodes("j-1")

    assert (task.role, task.market, task.created_at) == (Role.TASK, Market.SPOT, created)
    assert (primary.role, primary.market) == (Role.PRIMARY, Market.ON_DEMAND)


def test_a_cancellation_that_emr_rejects_is_an_error(stubs: Stubs, clusters: AwsClusters) -> None:
    told = {"StepId": "s-1", "Status": "FAILED", "Reason": "It is over"}
    stubs.of("emr").add_response("cancel_steps", {"CancelStepsInfoList": [told]})

    with pytest.raises(CloudError, match="It is over"):
        clusters.cancel_step("j-1", "s-1")


def test_a_bucket_of_another_account_differs_from_no_bucket(stubs: Stubs) -> None:
    storage = AwsStorage(stubs, "eu-west-3")
    refused(stubs, "head_bucket", "403", "Forbidden", status=403, service="s3")
    refused(stubs, "list_objects_v2", "AccessDenied", "Access Denied", status=403, service="s3")
    refused(stubs, "head_bucket", "403", "Forbidden", status=403, service="s3")
    refused(stubs, "head_bucket", "404", "Not Found", status=404, service="s3")

    with pytest.raises(AccessDenied, match="Bucket figs exists, and you may not use it"):
        storage.bucket_region("figs")
    assert storage.bucket_region("figs") is None


def test_an_accessible_bucket_of_another_account_is_refused(stubs: Stubs) -> None:
    refused(stubs, "head_bucket", "403", "Forbidden", status=403, service="s3")
    refused(stubs, "list_objects_v2", "AccessDenied", "Access Denied", status=403, service="s3")
    anybodys = {"Bucket": "figs", "ExpectedBucketOwner": ""}
    stubs.of("s3").add_response("head_bucket", {}, anybodys)

    with pytest.raises(AccessDenied, match="Bucket figs belongs to another account"):
        AwsStorage(stubs, "eu-west-3").bucket_region("figs")


def test_a_denied_object_may_lie_in_another_accounts_bucket(stubs: Stubs) -> None:
    refused(stubs, "put_object", "AccessDenied", "Access Denied", status=403, service="s3")

    with pytest.raises(AccessDenied) as denied:
        AwsStorage(stubs, "eu-west-3").put_bytes(b"", S3Uri("figs", "x"))

    assert denied.value.hint == (
        "The right s3:PutObject is missing, or the bucket belongs to another account."
    )


def test_a_look_at_an_object_that_is_refused_names_the_right(stubs: Stubs) -> None:
    refused(stubs, "head_object", "403", "Forbidden", status=403, service="s3")

    with pytest.raises(AccessDenied) as denied:
        AwsStorage(stubs, "eu-west-3").stored_sha256(S3Uri("figs", "x"))

    assert "s3:GetObject" in denied.value.hint


def test_a_bucket_name_that_is_taken_is_reported(stubs: Stubs) -> None:
    refused(stubs, "create_bucket", "BucketAlreadyExists", "no", status=409, service="s3")

    with pytest.raises(CloudError, match="figs is taken by another account"):
        AwsStorage(stubs, "eu-west-3").create_bucket("figs")


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_a_lost_race_for_a_key_returns_false(stubs: Stubs, code: str) -> None:
    refused(stubs, "put_object", code, "no", status=412, service="s3")

    assert AwsStorage(stubs, "eu-west-3").put_if_absent(b"", S3Uri("figs", "x")) is False


def test_a_group_in_use_returns_false(stubs: Stubs) -> None:
    groups = {"SecurityGroups": [{"GroupId": "sg-1"}]}
    stubs.of("ec2").add_response("describe_security_groups", groups)
    refused(stubs, "delete_security_group", "DependencyViolation", "in use", service="ec2")

    assert AwsRights(stubs).delete_ssh_group("fruits-x-ssh") is False


def without(stubs: Stubs, *methods: tuple[str, str]) -> AwsAccount:
    for service, method in methods:
        refused(stubs, method, "AccessDeniedException", "no", service=service)
    return AwsAccount(stubs, "eu-west-3", FakeClock())


def test_prices_that_may_not_be_read_come_from_the_table(stubs: Stubs) -> None:
    account = without(stubs, ("pricing", "get_products"), ("ec2", "describe_spot_price_history"))

    prices = account.prices(["m5.xlarge"])

    assert prices.on_demand["m5.xlarge"] > 0.2
    assert "built-in table" in prices.source


def test_a_quota_that_may_not_be_read_is_unknown(stubs: Stubs) -> None:
    account = without(stubs, ("service-quotas", "get_service_quota"))

    assert account.quota(Market.SPOT) is None


def test_a_quota_counts_the_instances_of_its_market(stubs: Stubs) -> None:
    def instance(kind: str, **more: str) -> dict[str, Any]:
        return {
            "InstanceType": kind,
            "CpuOptions": {"CoreCount": 2, "ThreadsPerCore": 2},
            **more,
        }

    running = [
        instance("m5.xlarge"),
        instance("m5.xlarge", InstanceLifecycle="spot"),
        instance("p4d.24xlarge"),
    ]
    reservations = {"Reservations": [{"Instances": running}]}
    stubs.of("ec2").add_response("describe_instances", reservations)
    stubs.of("service-quotas").add_response("get_service_quota", {"Quota": {"Value": 32.0}})

    quota = AwsAccount(stubs, "eu-west-3", FakeClock()).quota(Market.ON_DEMAND)

    assert quota is not None
    assert (quota.limit, quota.used, quota.free) == (32, 4, 28)


@pytest.mark.parametrize(
    ("code", "told", "hint"),
    [
        ("RequestTimeTooSkewed", "the clock of this machine", "Set the clock"),
        ("ExpiredToken", "does not accept the credentials", "Renew them"),
    ],
)
def test_a_refused_head_is_followed_by_a_listing_for_its_reason(
    stubs: Stubs, code: str, told: str, hint: str
) -> None:
    refused(stubs, "head_bucket", "400", "Bad Request", status=400, service="s3")
    refused(stubs, "list_objects_v2", code, "why", status=400, service="s3")

    with pytest.raises(CloudError, match=told) as raised:
        AwsStorage(stubs, "eu-west-3").bucket_region("figs")

    assert hint in raised.value.hint


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("Expecting value: line 1 column 1"),
        PermissionError(13, "Permission denied"),
        EOFError(),
    ],
    ids=["no JSON", "not executable", "a code without a terminal"],
)
def test_whatever_a_credential_helper_raises_is_a_sentence(raised: Exception) -> None:
    with pytest.raises(CloudError, match="AWS could not be asked to look") as told, asking("look"):
        raise raised

    assert "credential helper" in told.value.hint
