from dataclasses import replace
from datetime import timedelta

import pytest

from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cluster.plan import plan_cluster
from fruits_cli.cluster.spark_ui import spark_ui_address
from fruits_cli.errors import CloudError, ClusterNotFound
from tests.support.fakes import EPOCH, FakeAws
from tests.support.worlds import PYTHON, RUN_ID, config, observed

SPEC = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON).spec


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


@pytest.fixture
def cluster(aws: FakeAws) -> Cluster:
    return aws.clusters.cluster(aws.clusters.start_cluster(SPEC))


def address_of(cluster: Cluster, aws: FakeAws) -> str:
    return spark_ui_address(cluster, aws.clusters, aws.clock)


def test_the_address_is_asked_for_until_it_is_ready(aws: FakeAws, cluster: Cluster) -> None:
    assert address_of(cluster, aws) == "https://p-1.example.org/?secret"
    assert aws.clock.now_s == 20


def test_a_cluster_that_has_ended_has_one_for_thirty_days(aws: FakeAws, cluster: Cluster) -> None:
    ended = replace(cluster, ended_at=EPOCH - timedelta(days=29))

    assert address_of(ended, aws).startswith("https://")


def test_after_thirty_days_nobody_is_asked(aws: FakeAws, cluster: Cluster) -> None:
    ended = replace(cluster, ended_at=EPOCH - timedelta(days=31))

    with pytest.raises(CloudError, match="j-0001 ended on 2026-07-23; EMR keeps") as refused:
        address_of(ended, aws)

    assert refused.value.hint == "Its logs on S3 are still there: fruits logs"


def test_one_that_is_never_attached_is_given_up_with_its_state(
    aws: FakeAws, cluster: Cluster
) -> None:
    aws.script.spark_ui_s = 1e6

    with pytest.raises(CloudError, match="within 3 minutes: its state is ATTACHING"):
        address_of(cluster, aws)

    assert aws.clock.now_s == 180


def test_an_address_that_is_never_ready_is_given_up(aws: FakeAws, cluster: Cluster) -> None:
    aws.script.spark_ui_address_s = 1e6

    with pytest.raises(CloudError, match="within 3 minutes: its address is not ready"):
        address_of(cluster, aws)


def test_a_cluster_that_emr_does_not_know_is_not_found(aws: FakeAws, cluster: Cluster) -> None:
    gone = replace(cluster, arn=f"{cluster.arn}-gone")

    with pytest.raises(ClusterNotFound):
        address_of(gone, aws)
