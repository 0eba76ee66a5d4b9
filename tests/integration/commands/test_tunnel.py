import shlex
from typing import Any

import boto3
import pytest

from tests.support.on_moto import Fruits


@pytest.fixture
def cluster_id(fruits: Fruits) -> str:
    """A cluster of instance groups: moto starts no instances for fleets."""
    ec2 = boto3.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(
        GroupName="fruits-pears-ssh", Description="SSH", VpcId=subnet["VpcId"]
    )
    instances: Any = {
        "InstanceGroups": [
            {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}
        ],
        "KeepJobFlowAliveWhenNoSteps": True,
        "Ec2SubnetId": subnet["SubnetId"],
        "AdditionalMasterSecurityGroups": [group["GroupId"]],
    }
    made = boto3.client("emr").run_job_flow(
        Name="fruits-pears",
        ReleaseLabel="emr-7.14.0",
        JobFlowRole="EMR_EC2_DefaultRole",
        ServiceRole="EMR_DefaultRole",
        Tags=[{"Key": "fruits:name", "Value": "pears"}],
        Instances=instances,
    )
    return made["JobFlowId"]


@pytest.mark.parametrize("words", [(), ("--cluster", "pears")])
def test_the_tunnel_leads_to_the_primary_node_of_the_cluster_that_is_meant(
    fruits: Fruits, cluster_id: str, words: tuple[str, ...]
) -> None:
    printed = fruits("tunnel", *words, "--print-command")

    assert printed.exit_code == 0, printed.stderr
    (reservation,) = boto3.client("ec2").describe_instances()["Reservations"]
    (instance,) = reservation["Instances"]
    line = shlex.split(printed.stdout)
    assert line[-1] == f"hadoop@{instance['PublicDnsName']}"
    assert f"HostKeyAlias={cluster_id}" in line
    assert f"127.0.0.1:9443:{instance['PrivateDnsName']}:9443" in line
    assert printed.stderr == f"Cluster fruits-pears ({cluster_id})\n"


def test_without_a_cluster_there_is_no_tunnel(fruits: Fruits) -> None:
    refused = fruits("tunnel")

    assert refused.exit_code == 2
    assert refused.stderr == (
        "Error: No cluster of fruits is live in eu-west-3.\n"
        "Hint: fruits create-cluster makes one.\n"
    )


def test_an_ended_cluster_is_reported(fruits: Fruits, cluster_id: str) -> None:
    boto3.client("emr").terminate_job_flows(JobFlowIds=[cluster_id])

    gone = fruits("tunnel", "--cluster", cluster_id)

    assert gone.exit_code == 1
    assert f"Error: Cluster {cluster_id} has ended" in gone.stderr


def test_an_unset_password_is_reported(fruits: Fruits, cluster_id: str) -> None:
    unknown = fruits("tunnel", "--password")

    assert unknown.exit_code == 1
    assert "No tunnel of this machine" in unknown.stderr
    assert unknown.stdout == ""


def test_an_unknown_page_is_reported_before_aws_is_asked(fruits: Fruits) -> None:
    refused = fruits("tunnel", "--open", "hue")

    assert refused.exit_code == 2
    assert refused.stderr.startswith("Error: 'hue' is not a page.")
