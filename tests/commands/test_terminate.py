import json

import boto3
from on_moto import Fruits

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
