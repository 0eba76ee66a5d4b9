"""A cluster as the tunnel sees it: on moto where moto has it, on written answers elsewhere."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest

from fruits_cli.aws import cluster_access
from fruits_cli.aws.addresses import fetch_own_addresses
from fruits_cli.aws.ec2 import AwsAccess
from fruits_cli.cloud.clusters import Cluster, ClusterState, Primary, SshRule
from fruits_cli.cloud.protocols import Cloud, ClusterAccess
from fruits_cli.config import AwsConfig
from fruits_cli.errors import AccessDenied, CloudError, ClusterNotFound
from tests.support.stubs import Stubs, refused

REGION = "eu-west-3"
CONFIG = AwsConfig(profile=None, region=REGION)
MINE = SshRule("203.0.113.9/32", "fruits tunnel of ada@laptop")
MINE_V6 = SshRule("2001:db8::9/128", "fruits tunnel of ada@laptop")


def ec2() -> Any:
    return boto3.client("ec2", region_name=REGION)


def default_subnet() -> dict[str, Any]:
    subnet: dict[str, Any] = ec2().describe_subnets()["Subnets"][0]
    return subnet


def a_cluster(cloud: Cloud, *, name: str = "pears", group: str = "fruits-pears-ssh") -> Cluster:
    """A cluster of instance groups on moto, with two groups added to its primary node."""
    subnet = default_subnet()
    ids = [
        cloud.rights.create_ssh_group(one, vpc_id=subnet["VpcId"], tags={"fruits:launch-id": "l1"})
        for one in ("an-office", group)
    ]
    made = boto3.client("emr", region_name=REGION).run_job_flow(
        Name=f"fruits-{name}",
        ReleaseLabel="emr-7.14.0",
        JobFlowRole="EMR_EC2_DefaultRole",
        ServiceRole="EMR_DefaultRole",
        Tags=[{"Key": "fruits:name", "Value": name}],
        Instances={
            "InstanceGroups": [
                {"InstanceRole": role, "InstanceType": "m5.xlarge", "InstanceCount": 1}
                for role in ("MASTER", "CORE")
            ],
            "KeepJobFlowAliveWhenNoSteps": True,
            "Ec2SubnetId": subnet["SubnetId"],
            "AdditionalMasterSecurityGroups": ids,
        },
    )
    return cloud.clusters.cluster(made["JobFlowId"])


@pytest.fixture
def access(aws: Cloud) -> ClusterAccess:
    return cluster_access(CONFIG, a_cluster(aws), environ={})


def rules_of(group: str) -> list[dict[str, Any]]:
    filters = [{"Name": "group-name", "Values": [group]}]
    (found,) = ec2().describe_security_groups(Filters=filters)["SecurityGroups"]
    permissions: list[dict[str, Any]] = found["IpPermissions"]
    return permissions


def test_the_primary_node_has_its_names_addresses_and_network(access: ClusterAccess) -> None:
    primary = access.primary()

    assert primary is not None
    (instance,) = (
        one
        for reservation in ec2().describe_instances()["Reservations"]
        for one in reservation["Instances"]
        if one["InstanceId"] == primary.instance_id
    )
    assert primary == Primary(
        cluster_id=access.cluster_id,
        region=REGION,
        instance_id=instance["InstanceId"],
        public_name=instance["PublicDnsName"],
        private_name=instance["PrivateDnsName"],
        private_address=instance["PrivateIpAddress"],
        networks=("172.31.0.0/16",),
    )


def test_rules_are_added_found_and_removed_in_the_clusters_own_group(
    access: ClusterAccess,
) -> None:
    before = list(access.ssh_rules())
    for rule in (MINE, MINE, MINE_V6):
        access.add_ssh_rule(rule)
    added = list(access.ssh_rules())
    for rule in (MINE, MINE):
        access.remove_ssh_rule(rule)

    assert before == []
    assert added == [MINE, MINE_V6]
    assert list(access.ssh_rules()) == [MINE_V6]
    assert rules_of("an-office") == []


def test_rules_for_other_ports_are_ignored_and_kept(access: ClusterAccess) -> None:
    access.add_ssh_rule(MINE)
    group = {"Name": "group-name", "Values": ["fruits-pears-ssh"]}
    (found,) = ec2().describe_security_groups(Filters=[group])["SecurityGroups"]
    others = [
        {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443},
        {"IpProtocol": "udp", "FromPort": 22, "ToPort": 22},
        {"IpProtocol": "-1"},
    ]
    for one in others:
        ranges = [{"CidrIp": "198.51.100.0/24"}]
        permission = {**one, "IpRanges": ranges}
        ec2().authorize_security_group_ingress(GroupId=found["GroupId"], IpPermissions=[permission])

    assert list(access.ssh_rules()) == [MINE]
    access.remove_ssh_rule(MINE)
    assert len(rules_of("fruits-pears-ssh")) == len(others)


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0"])
def test_no_rule_opens_the_port_to_the_world(access: ClusterAccess, cidr: str) -> None:
    with pytest.raises(ValueError, match="never opened"):
        access.add_ssh_rule(SshRule(cidr, "mine"))

    assert list(access.ssh_rules()) == []


def test_a_cluster_without_its_own_group_is_reported(aws: Cloud) -> None:
    access = cluster_access(CONFIG, a_cluster(aws, group="fruits-figs-ssh"), environ={})

    with pytest.raises(
        CloudError, match="has no security group fruits-pears-ssh of fruits"
    ) as missing:
        access.ssh_rules()

    assert "create-cluster" in missing.value.hint


def test_a_group_with_our_name_but_not_our_tag_is_never_opened(aws: Cloud) -> None:
    access = cluster_access(CONFIG, a_cluster(aws), environ={})
    (group,) = (
        one["GroupId"]
        for one in ec2().describe_security_groups()["SecurityGroups"]
        if one["GroupName"] == "fruits-pears-ssh"
    )
    ec2().delete_tags(Resources=[group], Tags=[{"Key": "fruits:launch-id"}])

    with pytest.raises(CloudError, match="has no security group fruits-pears-ssh of fruits"):
        access.add_ssh_rule(MINE)


def test_a_cluster_that_was_ended_is_gone(aws: Cloud, access: ClusterAccess) -> None:
    access.require_live()
    aws.clusters.stop_cluster(access.cluster_id)

    for question in (access.primary, access.require_live):
        with pytest.raises(ClusterNotFound, match=f"Cluster {access.cluster_id} has ended"):
            question()


def test_the_console_is_read(access: ClusterAccess) -> None:
    primary = access.primary()

    assert primary is not None
    assert access.console_output(primary.instance_id)


def described(state: str, **more: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"State": state, "StateChangeReason": more.pop("reason", {})}
    attributes = {"Ec2SubnetId": "subnet-1", "AdditionalMasterSecurityGroups": ["sg-1"]}
    return {
        "Cluster": {
            "Id": "j-1",
            "Name": "fruits-pears",
            "Status": status,
            "InstanceCollectionType": "INSTANCE_FLEET",
            "Ec2InstanceAttributes": attributes,
            **more,
        }
    }


@pytest.fixture
def stubs() -> Stubs:
    return Stubs()


@pytest.fixture
def stubbed(stubs: Stubs) -> AwsAccess:
    cluster = Cluster("j-1", "fruits-pears", ClusterState.WAITING)
    return AwsAccess(stubs, REGION, cluster, own_addresses=lambda: ())


def answers(stubs: Stubs, service: str, method: str, answer: dict[str, Any], **asked: Any) -> None:
    stubs.of(service).add_response(method, answer, asked or None)


def has_primary(stubs: Stubs, **node: str) -> None:
    """The answers to `primary` on a cluster of fleets with that node."""
    answers(stubs, "emr", "describe_cluster", described("WAITING"))
    answers(
        stubs,
        "emr",
        "list_instances",
        {"Instances": [node]},
        ClusterId="j-1",
        InstanceStates=["RUNNING"],
        InstanceFleetType="MASTER",
    )
    answers(stubs, "ec2", "describe_subnets", {"Subnets": [{"VpcId": "vpc-1"}]})
    ranges = [
        {"CidrBlock": "10.0.0.0/16", "CidrBlockState": {"State": "associated"}},
        {"CidrBlock": "10.9.0.0/16", "CidrBlockState": {"State": "disassociated"}},
    ]
    wide = [{"Ipv6CidrBlock": "2001:db8::/56", "Ipv6CidrBlockState": {"State": "associated"}}]
    vpc = {"CidrBlockAssociationSet": ranges, "Ipv6CidrBlockAssociationSet": wide}
    answers(stubs, "ec2", "describe_vpcs", {"Vpcs": [vpc]}, VpcIds=["vpc-1"])


def test_a_fleets_primary_is_found_with_all_ranges_of_its_network(
    stubs: Stubs, stubbed: AwsAccess
) -> None:
    has_primary(
        stubs,
        Ec2InstanceId="i-1",
        PublicDnsName="ec2-203-0-113-7.eu-west-3.compute.amazonaws.com",
        PrivateDnsName="ip-10-0-0-7.eu-west-3.compute.internal",
        PrivateIpAddress="10.0.0.7",
    )

    assert stubbed.primary() == Primary(
        "j-1",
        REGION,
        "i-1",
        "ec2-203-0-113-7.eu-west-3.compute.amazonaws.com",
        "ip-10-0-0-7.eu-west-3.compute.internal",
        "10.0.0.7",
        ("10.0.0.0/16", "2001:db8::/56"),
    )


def test_a_primary_without_public_names_is_reached_by_address_or_not_at_all(
    stubs: Stubs, stubbed: AwsAccess
) -> None:
    node = {"Ec2InstanceId": "i-1", "PrivateIpAddress": "10.0.0.7", "PublicDnsName": ""}
    has_primary(stubs, **node, PublicIpAddress="203.0.113.7")
    has_primary(stubs, **node)

    by_address, private = stubbed.primary(), stubbed.primary()

    assert by_address is not None
    assert private is not None
    assert (by_address.public_name, by_address.private_name) == ("203.0.113.7", "10.0.0.7")
    assert private.public_name is None


@pytest.mark.parametrize("state", ["STARTING", "BOOTSTRAPPING"])
def test_a_starting_cluster_has_no_primary_yet(
    stubs: Stubs, stubbed: AwsAccess, state: str
) -> None:
    answers(stubs, "emr", "describe_cluster", described(state))

    assert stubbed.primary() is None


def test_a_ready_cluster_whose_primary_is_not_listed_is_waited_for(
    stubs: Stubs, stubbed: AwsAccess
) -> None:
    answers(stubs, "emr", "describe_cluster", described("RUNNING"))
    answers(stubs, "emr", "list_instances", {"Instances": []})

    assert stubbed.primary() is None


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("TERMINATING", "Cluster j-1 is ending: User request."),
        ("TERMINATED", "Cluster j-1 has ended: User request."),
        ("TERMINATED_WITH_ERRORS", "Cluster j-1 has ended: User request."),
    ],
)
def test_a_cluster_that_ends_is_gone_with_its_reason(
    stubs: Stubs, stubbed: AwsAccess, state: str, sentence: str
) -> None:
    answers(stubs, "emr", "describe_cluster", described(state, reason={"Message": "User request."}))

    with pytest.raises(ClusterNotFound) as gone:
        stubbed.primary()

    assert str(gone.value) == sentence


def test_a_console_without_latest_output_falls_back_to_the_posted_one(
    stubs: Stubs, stubbed: AwsAccess
) -> None:
    answers(stubs, "ec2", "get_console_output", {"Output": "posted"})
    refused(stubs, "get_console_output", "UnsupportedOperation", "not this type", service="ec2")

    assert stubbed.console_output("i-1") == "posted"


def test_a_silent_console_is_empty(stubs: Stubs, stubbed: AwsAccess) -> None:
    for _ in range(2):
        answers(stubs, "ec2", "get_console_output", {"InstanceId": "i-1"})

    assert stubbed.console_output("i-1") == ""


def test_a_missing_right_to_open_the_port_is_named(stubs: Stubs, stubbed: AwsAccess) -> None:
    answers(stubs, "emr", "describe_cluster", described("WAITING"))
    tags = [{"Key": "fruits:launch-id", "Value": "l1"}]
    group = {"GroupId": "sg-1", "GroupName": "fruits-pears-ssh", "IpPermissions": [], "Tags": tags}
    answers(stubs, "ec2", "describe_security_groups", {"SecurityGroups": [group]})
    text = "You are not authorized to perform: ec2:AuthorizeSecurityGroupIngress"
    refused(
        stubs,
        "authorize_security_group_ingress",
        "UnauthorizedOperation",
        text,
        service="ec2",
    )

    with pytest.raises(AccessDenied, match=r"open port 22 to 203\.0\.113\.9/32") as denied:
        stubbed.add_ssh_rule(MINE)

    assert denied.value.hint == ("The right that is missing is ec2:AuthorizeSecurityGroupIngress.")


@contextmanager
def witness(said: bytes, *, status: int = 200) -> Iterator[str]:
    """An HTTP server that says `said` to everyone."""

    class Saying(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Saying) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_own_addresses_come_from_the_servers_without_duplicates() -> None:
    with witness(b"203.0.113.9\n") as first, witness(b"2001:DB8::9") as second:
        found = fetch_own_addresses([first, second, first])

    assert found == ("203.0.113.9", "2001:db8::9")


@pytest.mark.parametrize(
    "said", [b"<html>Sign in to the hotel</html>", b"", b"\xff\xfe", b"0.0.0.0/0", b"9" * 1000]
)
def test_a_server_that_answers_no_address_is_left_out(said: bytes) -> None:
    with witness(said) as url:
        assert fetch_own_addresses([url]) == ()


def test_a_server_that_fails_is_left_out() -> None:
    with witness(b"203.0.113.9", status=503) as failing:
        assert fetch_own_addresses([failing]) == ()
    assert fetch_own_addresses([failing]) == ()


def test_against_a_stand_in_aws_this_machine_is_the_loopback(aws: Cloud) -> None:
    cluster = Cluster("j-1", "fruits-pears", ClusterState.WAITING)

    access = cluster_access(CONFIG, cluster, environ={"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"})

    assert access.own_addresses() == ("127.0.0.1",)
