"""The tunnel's questions to a cluster of fleets, as the embedded AWS answers them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from fruits_cli.aws.answers import parse_cluster
from fruits_cli.aws.ec2 import AwsAccess
from fruits_cli.cloud.clusters import SshRule
from fruits_cli.commands.tunnel import open_tunnel
from fruits_cli.config import load_config
from fruits_cli.errors import ClusterNotFound, TunnelError
from fruits_cli.screen import Screen
from fruits_cli.tunnel.cluster_access import SshPort
from fruits_cli.tunnel.goal import Request


def access_to(aws, cluster_id):
    def clients(service, *, region=None, once=False):
        return aws.client(service)

    cluster = parse_cluster(aws.cluster(cluster_id))
    return AwsAccess(clients, "eu-west-3", cluster, own_addresses=lambda: ("127.0.0.1",))


@pytest.fixture
def cluster_id(aws):
    """A standing cluster with a security group for SSH, as create-cluster makes it."""
    name = f"pears-{uuid.uuid4().hex[:8]}"
    (vpc,) = aws.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    group = aws.ec2.create_security_group(
        GroupName=f"fruits-{name}-ssh", Description="SSH", VpcId=vpc["VpcId"]
    )
    request = aws.request(keep_alive=True, Name=f"fruits-{name}")
    request["Tags"] = [{"Key": "fruits:name", "Value": name}]
    request["Instances"]["AdditionalMasterSecurityGroups"] = [group["GroupId"]]
    made = aws.emr.run_job_flow(**request)["JobFlowId"]
    aws.await_state(made, "WAITING")
    return made


def test_the_primary_of_a_fleet_is_the_instance_that_ec2_knows(aws, cluster_id):
    primary = access_to(aws, cluster_id).primary()

    (reservation,) = aws.ec2.describe_instances(InstanceIds=[primary.instance_id])["Reservations"]
    (instance,) = reservation["Instances"]
    assert primary.public_name == instance["PublicDnsName"]
    assert primary.private_name == instance["PrivateDnsName"]
    assert primary.private_address == instance["PrivateIpAddress"]
    assert primary.networks == ("172.31.0.0/16",)


def test_port_22_follows_the_machine_in_the_clusters_group(aws, cluster_id):
    access = access_to(aws, cluster_id)
    access.add_ssh_rule(SshRule("198.51.100.0/24", "office"))
    access.add_ssh_rule(SshRule("203.0.113.9/32", "mine"))

    SshPort(access, source=None, note="mine", tell=lambda line: None).open()

    assert sorted(access.ssh_rules(), key=lambda rule: rule.cidr) == [
        SshRule("127.0.0.1/32", "mine"),
        SshRule("198.51.100.0/24", "office"),
    ]


def test_a_cluster_that_was_terminated_is_gone(aws, cluster_id):
    access = access_to(aws, cluster_id)
    access.require_live()
    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])

    with pytest.raises(ClusterNotFound, match=f"Cluster {cluster_id} (is ending|has ended)"):
        access.require_live()


def test_no_tunnel_leads_to_a_rehearsed_cluster(aws, cluster_id, monkeypatch):
    for name, value in {**aws.rehearsal.environ, "AWS_REGION": "eu-west-3"}.items():
        monkeypatch.setenv(name, value)
    config = load_config({}, environ={}, folder=Path("/nonexistent"))

    with pytest.raises(TunnelError, match=f"Cluster {cluster_id} is rehearsed"):
        open_tunnel(config, Request(cluster=cluster_id), Screen(verbosity=-1))
