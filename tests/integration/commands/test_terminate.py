import json
from dataclasses import replace

import boto3
import pytest
from botocore.exceptions import ClientError

from fruits_cli.ledger import RunPhase, ledger_here
from tests.support.on_moto import Fruits

BUCKET = ("--bucket", "grapes-and-figs")


def test_terminate_ends_the_cluster_and_its_group_and_prints_the_bill(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")

    result = fruits("terminate", "--yes", "--output", "json")

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["state"] == "TERMINATED"
    groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    assert [one["GroupName"] for one in groups if one["GroupName"].startswith("fruits")] == []


def test_terminating_what_is_gone_is_exit_0(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")
    fruits("terminate", "--yes")

    again = fruits("terminate")
    by_name = fruits("terminate", "--cluster", "fruits")

    assert again.exit_code == by_name.exit_code == 0, again.stderr + by_name.stderr
    assert by_name.stdout == "There is no cluster to end.\n"


def test_terminating_nothing_is_exit_0(fruits: Fruits) -> None:
    result = fruits("terminate")

    assert (result.exit_code, result.stdout) == (0, "There is no cluster to end.\n")


def test_terminate_without_consent_ends_nothing(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")

    result = fruits("terminate")

    assert result.exit_code == 2
    (cluster,) = boto3.client("emr").list_clusters()["Clusters"]
    assert cluster["Status"]["State"] == "WAITING"


def roles() -> list[str]:
    found = boto3.client("iam").list_roles()["Roles"]
    return sorted(one["RoleName"] for one in found if one["RoleName"].startswith("fruits"))


def test_purge_removes_all_that_was_made_and_leaves_the_data(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")
    boto3.client("s3").put_object(Bucket=BUCKET[1], Key="fruits/runs/x", Body=b"x")
    assert len(roles()) == 2

    result = fruits("terminate", "--purge", *BUCKET, "--yes")

    assert result.exit_code == 0, result.stderr
    assert roles() == []
    assert boto3.client("iam").list_instance_profiles()["InstanceProfiles"] == []
    with pytest.raises(ClientError, match="does not exist"):
        boto3.client("emr").describe_security_configuration(Name="fruits-imdsv2-hop2")
    assert "The bucket with its data" in result.stdout
    assert boto3.client("s3").get_object(Bucket=BUCKET[1], Key="fruits/runs/x")["Body"].read()

    again = fruits("terminate", "--purge", *BUCKET, "--yes")
    assert again.exit_code == 0, again.stderr
    assert "Nothing is left to remove." in again.stdout


@pytest.mark.slow
def test_a_dry_run_of_purge_names_all_and_removes_nothing(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")

    result = fruits("terminate", "--purge", *BUCKET, "--dry-run")

    assert result.exit_code == 0, result.stderr
    assert f"To be removed: EC2 role and instance profile {roles()[0]}." in result.stdout
    (cluster,) = boto3.client("emr").list_clusters()["Clusters"]
    assert cluster["Status"]["State"] == "WAITING"


@pytest.mark.slow
def test_purge_refuses_while_another_cluster_lives_and_ends_none(fruits: Fruits) -> None:
    for name in ("apples", "pears"):
        made = fruits("create-cluster", *BUCKET, "--yes", "--name", name)
        assert made.exit_code == 0, made.stderr

    result = fruits("terminate", "--purge", *BUCKET, "--cluster", "pears", "--yes")

    assert result.exit_code == 1
    assert "Cluster fruits-apples" in result.stderr
    assert "may use what --purge removes; nothing was done." in result.stderr
    states = [one["Status"]["State"] for one in boto3.client("emr").list_clusters()["Clusters"]]
    assert states == ["WAITING", "WAITING"]
    assert len(roles()) == 2


@pytest.mark.slow
def test_roles_that_somebody_else_made_under_our_name_stay(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")
    (ours, _) = roles()
    boto3.client("iam").untag_role(RoleName=ours, TagKeys=["fruits:tool"])

    fruits("terminate", "--purge", *BUCKET, "--yes")

    assert roles() == [ours]


@pytest.mark.slow
def test_purge_without_consent_removes_nothing(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")
    fruits("terminate", "--yes")

    result = fruits("terminate", "--purge", *BUCKET)

    assert result.exit_code == 2
    assert "Give --yes." in result.stderr
    assert len(roles()) == 2


def test_a_launch_that_was_killed_is_ended_by_its_id_where_others_live(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")
    ledger = ledger_here()
    (record,) = ledger.records()
    # Killed when RunJobFlow was done, and before it was written down.
    ledger.write(replace(record, phase=RunPhase.PLANNED, cluster_id=""))
    boto3.client("emr").run_job_flow(
        Name="fruits-pears",
        Instances={"KeepJobFlowAliveWhenNoSteps": True},
        Tags=[{"Key": "fruits:launch-id", "Value": "a colleague's"}],
    )

    result = fruits("terminate", *BUCKET, "--yes", "--output", "json")

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["cluster_id"] == record.cluster_id
    assert [known.phase for known in ledger.records()] == [RunPhase.CANCELLED]
