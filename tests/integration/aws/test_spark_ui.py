"""The Spark UI's three calls: moto has none of them, so their answers are written beforehand."""

import pytest

from fruits_cli.aws.emr import AwsClusters
from fruits_cli.errors import AccessDenied, CloudError
from tests.support.fakes import FakeClock
from tests.support.stubs import Stubs, refused

ARN = "arn:aws:elasticmapreduce:eu-west-3:123456789012:cluster/j-1"


@pytest.fixture
def stubs() -> Stubs:
    return Stubs()


@pytest.fixture
def clusters(stubs: Stubs) -> AwsClusters:
    return AwsClusters(stubs, FakeClock())


def test_a_spark_ui_is_made_for_the_cluster(stubs: Stubs, clusters: AwsClusters) -> None:
    asked = {"TargetResourceArn": ARN, "ProfilerType": "SHS"}
    answer = {"PersistentAppUIId": "p-1"}
    stubs.of("emr").add_response("create_persistent_app_ui", answer, asked)

    assert clusters.create_spark_ui(ARN) == "p-1"


@pytest.mark.parametrize(
    ("state", "is_attached"), [("ATTACHED", True), ("ATTACHING", False), ("", False)]
)
def test_only_the_state_attached_counts_as_attached(
    stubs: Stubs, clusters: AwsClusters, state: str, is_attached: bool
) -> None:
    answer = {"PersistentAppUIId": "p-1", "LastStateChangeReason": "why"}
    answer |= {"PersistentAppUIStatus": state} if state else {}
    stubs.of("emr").add_response("describe_persistent_app_ui", {"PersistentAppUI": answer})

    seen = clusters.spark_ui("p-1")

    assert (seen.is_attached, seen.state, seen.reason) == (is_attached, state, "why")


@pytest.mark.parametrize(
    ("answer", "address"),
    [
        ({"PresignedURLReady": True, "PresignedURL": "https://x/?s"}, "https://x/?s"),
        ({"PresignedURLReady": False, "PresignedURL": "https://x/?s"}, None),
        ({"PresignedURLReady": True}, None),
        ({}, None),
    ],
    ids=["ready", "not ready", "no address", "nothing"],
)
def test_an_address_counts_once_it_is_ready(
    stubs: Stubs, clusters: AwsClusters, answer: dict[str, object], address: str | None
) -> None:
    asked = {"PersistentAppUIId": "p-1", "PersistentAppUIType": "SHS"}
    stubs.of("emr").add_response("get_persistent_app_ui_presigned_url", answer, asked)

    assert clusters.spark_ui_address("p-1") == address


def test_a_refusal_without_a_right_is_completed_with_its_name(
    stubs: Stubs, clusters: AwsClusters
) -> None:
    refused(stubs, "create_persistent_app_ui", "AccessDeniedException", "Not for you")

    with pytest.raises(AccessDenied, match="AWS does not let you open the cluster's Spark UI: Not"):
        clusters.create_spark_ui(ARN)

    refused(stubs, "get_persistent_app_ui_presigned_url", "AccessDeniedException", "")
    with pytest.raises(AccessDenied) as denied:
        clusters.spark_ui_address("p-1")
    right = "elasticmapreduce:GetPersistentAppUIPresignedURL"
    assert denied.value.hint == f"The right that is missing is {right}."


def test_emrs_reason_is_repeated(stubs: Stubs, clusters: AwsClusters) -> None:
    refused(stubs, "create_persistent_app_ui", "InvalidRequestException", "No event logs.")

    with pytest.raises(CloudError, match="refused to open the cluster's Spark UI: No event logs"):
        clusters.create_spark_ui(ARN)
