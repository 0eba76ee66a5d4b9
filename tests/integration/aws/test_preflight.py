"""The account before a launch: AWS on moto, and the answers that moto does not give."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

import fruits_cli.aws.preflight
from fruits_cli.aws.preflight import AwsPreflight
from fruits_cli.cloud.account import GroupFacts, OpenRule, PublicAccess, SubnetFacts
from fruits_cli.cloud.clusters import MANAGED_POLICY_TAG
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.errors import AccessDenied, CloudError
from tests.support.fakes import FakeClock
from tests.support.stubs import Stubs, refused

USER = "arn:aws:iam::123456789012:user/ada"


@pytest.fixture
def ec2(aws: Cloud) -> Any:
    return boto3.client("ec2", "eu-west-3")


@pytest.fixture
def stubs() -> Stubs:
    return Stubs()


@pytest.fixture
def stubbed(stubs: Stubs) -> AwsPreflight:
    return AwsPreflight(stubs, FakeClock())


def only(facts: tuple[SubnetFacts, ...]) -> SubnetFacts:
    (one,) = facts
    return one


@pytest.fixture
def vpc_id(ec2: Any) -> str:
    return str(ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"])


@pytest.fixture
def subnet_id(ec2: Any, vpc_id: str) -> str:
    made = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.7.1.0/24", AvailabilityZone="eu-west-3b")
    return str(made["Subnet"]["SubnetId"])


@pytest.fixture
def main_table(ec2: Any, vpc_id: str) -> str:
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])
    return str(tables["RouteTables"][0]["RouteTableId"])


def test_a_subnet_without_a_route_has_no_way_out(aws: Cloud, vpc_id: str, subnet_id: str) -> None:
    found = only(aws.preflight.subnets([subnet_id, "subnet-none"]))

    assert found == SubnetFacts(subnet_id, vpc_id, "eu-west-3b", 251)


def test_without_ids_the_default_vpcs_subnets_are_found(aws: Cloud) -> None:
    found = aws.preflight.subnets(())

    assert {one.zone for one in found} == {"eu-west-3a", "eu-west-3b", "eu-west-3c"}


def test_the_main_tables_gateway_makes_a_subnet_public(
    aws: Cloud, ec2: Any, vpc_id: str, subnet_id: str, main_table: str
) -> None:
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc_id)
    ec2.create_route(RouteTableId=main_table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)

    found = only(aws.preflight.subnets([subnet_id]))

    assert (found.has_internet, found.has_nat) == (True, False)


def test_a_subnets_own_route_table_overrides_the_main_one(
    aws: Cloud, ec2: Any, vpc_id: str, subnet_id: str, main_table: str
) -> None:
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc_id)
    ec2.create_route(RouteTableId=main_table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    own = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=own, SubnetId=subnet_id)
    ec2.create_vpc_endpoint(
        VpcId=vpc_id, ServiceName="com.amazonaws.eu-west-3.s3", RouteTableIds=[own]
    )

    found = only(aws.preflight.subnets([subnet_id]))

    assert (found.has_internet, found.has_nat, found.has_s3) == (False, False, True)


def test_an_s3_endpoint_on_another_route_table_does_not_count(
    aws: Cloud, ec2: Any, vpc_id: str, subnet_id: str
) -> None:
    other = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    ec2.create_vpc_endpoint(
        VpcId=vpc_id, ServiceName="com.amazonaws.eu-west-3.s3", RouteTableIds=[other]
    )

    assert only(aws.preflight.subnets([subnet_id])).has_s3 is False


def test_nat_makes_a_private_subnet_with_a_way_out(
    aws: Cloud, ec2: Any, subnet_id: str, main_table: str
) -> None:
    nat = ec2.create_nat_gateway(SubnetId=subnet_id, ConnectivityType="private")
    nat_id = nat["NatGateway"]["NatGatewayId"]
    ec2.create_route(RouteTableId=main_table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat_id)

    found = only(aws.preflight.subnets([subnet_id]))

    assert (found.has_internet, found.has_nat) == (False, True)


def test_tags_and_dns_settings_are_read(aws: Cloud, ec2: Any, vpc_id: str, subnet_id: str) -> None:
    before = aws.preflight.vpc(vpc_id)
    ec2.create_tags(
        Resources=[subnet_id, vpc_id], Tags=[{"Key": MANAGED_POLICY_TAG, "Value": "true"}]
    )
    ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    after = aws.preflight.vpc(vpc_id)

    assert (before.has_dns_support, before.has_dns_hostnames, before.is_tagged) == (
        True,
        False,
        False,
    )
    assert (after.has_dns_hostnames, after.is_tagged) == (True, True)
    assert only(aws.preflight.subnets([subnet_id])).is_tagged


def test_endpoints_with_private_dns_are_listed(
    aws: Cloud, ec2: Any, vpc_id: str, subnet_id: str
) -> None:
    for name, private in (("execute-api", True), ("ssm", False)):
        ec2.create_vpc_endpoint(
            VpcId=vpc_id,
            VpcEndpointType="Interface",
            ServiceName=f"com.amazonaws.eu-west-3.{name}",
            SubnetIds=[subnet_id],
            PrivateDnsEnabled=private,
        )

    assert aws.preflight.vpc(vpc_id).private_names == {"com.amazonaws.eu-west-3.execute-api"}


def test_rules_for_the_whole_internet_are_found_in_fruits_and_emrs_groups(
    aws: Cloud, ec2: Any, vpc_id: str
) -> None:
    def group(name: str, *permissions: dict[str, Any]) -> str:
        made = ec2.create_security_group(GroupName=name, VpcId=vpc_id, Description="d")["GroupId"]
        ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=list(permissions))
        return str(made)

    def port(number: int, **ranges: Any) -> dict[str, Any]:
        return {"IpProtocol": "tcp", "FromPort": number, "ToPort": number, **ranges}

    everybody, one = [{"CidrIp": "0.0.0.0/0"}], [{"CidrIp": "203.0.113.7/32"}]
    ours = group("fruits-figs-ssh", port(22, IpRanges=everybody), port(9443, IpRanges=one))
    emrs = group("ElasticMapReduce-primary", port(8088, Ipv6Ranges=[{"CidrIpv6": "::/0"}]))
    group("somebody-elses", port(80, IpRanges=everybody))

    tag = {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"}
    ec2.create_tags(Resources=[ours], Tags=[tag])
    four, six = (OpenRule("0.0.0.0/0", 22, 22),), (OpenRule("::/0", 8088, 8088),)

    assert set(aws.preflight.security_groups(vpc_id)) == {
        GroupFacts(ours, "fruits-figs-ssh", is_tagged=True, open_rules=four),
        GroupFacts(emrs, "ElasticMapReduce-primary", is_tagged=False, open_rules=six),
    }


def test_a_key_pair_has_a_fingerprint_or_is_none(aws: Cloud, ec2: Any) -> None:
    shown = ec2.create_key_pair(KeyName="figs")["KeyFingerprint"]

    assert aws.preflight.key_fingerprint("figs") == shown
    assert aws.preflight.key_fingerprint("pears") is None


def test_releases_and_types_are_listed_to_their_last_page(aws: Cloud) -> None:
    assert "emr-7.14.0" in aws.preflight.releases()
    assert "m5.xlarge" in aws.preflight.supported_types("emr-7.14.0")


def test_zones_are_listed_by_instance_type(aws: Cloud) -> None:
    found = aws.preflight.zones(["m5.xlarge", "m9z.xlarge"])

    assert found["m5.xlarge"] == {"eu-west-3a", "eu-west-3b", "eu-west-3c"}
    assert found["m9z.xlarge"] == frozenset()


def test_regions_are_known_without_a_request_or_a_profile(
    stubbed: AwsPreflight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "missing")

    assert {"eu-west-3", "us-east-1", "cn-north-1"} <= stubbed.known_regions()


def test_lists_without_a_paginator_are_read_to_their_last_page(
    stubs: Stubs, stubbed: AwsPreflight
) -> None:
    stubs.of("emr").add_response(
        "list_release_labels", {"ReleaseLabels": ["emr-7.14.0"], "NextToken": "t"}, {}
    )
    stubs.of("emr").add_response(
        "list_release_labels", {"ReleaseLabels": ["emr-6.15.0"]}, {"NextToken": "t"}
    )

    assert stubbed.releases() == ("emr-7.14.0", "emr-6.15.0")


def test_the_applications_of_a_release_are_listed(stubs: Stubs, stubbed: AwsPreflight) -> None:
    told = [{"Name": "Spark", "Version": "3.5.8"}, {"Name": "Livy", "Version": "0.8.0"}]
    stubs.of("emr").add_response("describe_release_label", {"Applications": told})

    assert stubbed.applications("emr-7.14.0") == {"Spark", "Livy"}


def test_the_block_of_public_access_has_ranges_of_one_or_more_ports(
    stubs: Stubs, stubbed: AwsPreflight
) -> None:
    ranges = [{"MinRange": 22}, {"MinRange": 80, "MaxRange": 81}]
    stubs.of("emr").add_response(
        "get_block_public_access_configuration",
        {
            "BlockPublicAccessConfiguration": {
                "BlockPublicSecurityGroupRules": True,
                "PermittedPublicSecurityGroupRuleRanges": ranges,
            },
            "BlockPublicAccessConfigurationMetadata": {
                "CreationDateTime": datetime(2026, 1, 1, tzinfo=UTC),
                "CreatedByArn": USER,
            },
        },
    )

    assert stubbed.public_access() == PublicAccess(True, ((22, 22), (80, 81)))


def caller(stubs: Stubs, arn: str) -> None:
    answer = {"Account": "123456789012", "Arn": arn, "UserId": "AIDA"}
    stubs.of("sts").add_response("get_caller_identity", answer)


def simulation(stubs: Stubs, arn: str, *results: dict[str, Any], context: Any = None) -> None:
    question: dict[str, Any] = {
        "PolicySourceArn": arn,
        "ActionNames": [one["EvalActionName"] for one in results],
        "ResourceArns": ["arn:r"],
    }
    if context:
        question["ContextEntries"] = context
    answer = {"EvaluationResults": list(results), "IsTruncated": False}
    stubs.of("iam").add_response("simulate_principal_policy", answer, question)


def decided(action: str, decision: str, *missing: str) -> dict[str, Any]:
    return {
        "EvalActionName": action,
        "EvalDecision": decision,
        "MissingContextValues": list(missing),
    }


def test_what_a_users_policies_do_not_allow_is_denied(stubs: Stubs, stubbed: AwsPreflight) -> None:
    caller(stubs, USER)
    simulation(
        stubs,
        USER,
        decided("s3:A", "allowed"),
        decided("s3:B", "implicitDeny"),
        decided("s3:C", "explicitDeny"),
        decided("s3:D", "implicitDeny", "aws:RequestTag/x"),
    )

    assert stubbed.denied(["s3:A", "s3:B", "s3:C", "s3:D"], "arn:r") == {"s3:B", "s3:C"}


def test_a_session_is_simulated_as_its_role_with_its_path(
    stubs: Stubs, stubbed: AwsPreflight
) -> None:
    arn = "arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/Admin"
    role = {
        "Path": "/aws-reserved/sso.amazonaws.com/",
        "RoleName": "Admin",
        "RoleId": "AROAAAAAAAAAAAAAAAAAA",
        "Arn": arn,
        "CreateDate": datetime(2026, 1, 1, tzinfo=UTC),
    }
    caller(stubs, "arn:aws:sts::123456789012:assumed-role/Admin/ada@example.org")
    stubs.of("iam").add_response("get_role", {"Role": role}, {"RoleName": "Admin"})
    context = [
        {
            "ContextKeyName": "iam:PassedToService",
            "ContextKeyValues": ["ec2.amazonaws.com"],
            "ContextKeyType": "string",
        }
    ]
    for _ in range(2):
        simulation(stubs, arn, decided("iam:PassRole", "allowed"), context=context)

    # The caller is asked for once.
    for _ in range(2):
        assert not stubbed.denied(["iam:PassRole"], "arn:r", passed_to="ec2.amazonaws.com")


def test_the_root_user_may_do_everything(stubs: Stubs, stubbed: AwsPreflight) -> None:
    caller(stubs, "arn:aws:iam::123456789012:root")

    assert stubbed.denied(["s3:A"], "arn:r") == frozenset()


def test_a_federated_user_cannot_be_simulated(stubs: Stubs, stubbed: AwsPreflight) -> None:
    caller(stubs, "arn:aws:sts::123456789012:federated-user/ada")

    with pytest.raises(CloudError, match="federated user cannot be simulated"):
        stubbed.denied(["s3:A"], "arn:r")


def test_a_simulation_that_is_forbidden_names_its_right(
    stubs: Stubs, stubbed: AwsPreflight
) -> None:
    caller(stubs, USER)
    text = f"User: {USER} is not authorized to perform: iam:SimulatePrincipalPolicy on resource"
    refused(stubs, "simulate_principal_policy", "AccessDenied", text, service="iam", status=403)

    with pytest.raises(AccessDenied) as denied:
        stubbed.denied(["s3:A"], "arn:r")

    assert denied.value.hint == "The right that is missing is iam:SimulatePrincipalPolicy."


def timed(date: str) -> dict[str, Any]:
    return {"HTTPStatusCode": 200, "HTTPHeaders": {"date": date} if date else {}}


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [
        ("Sun, 23 Aug 2026 14:00:00 GMT", 0.0),
        ("Sun, 23 Aug 2026 13:50:00 GMT", 600.0),
        ("Sun, 23 Aug 2026 14:00:05 GMT", -5.0),
        ("", None),
    ],
)
def test_the_clock_is_compared_with_that_of_aws(
    stubs: Stubs, stubbed: AwsPreflight, date: str, ahead_s: float | None
) -> None:
    answer = {"Account": "1", "Arn": USER, "ResponseMetadata": timed(date)}
    stubs.of("sts").add_response("get_caller_identity", answer)

    assert stubbed.clock_ahead_s() == ahead_s


def test_a_refusal_also_gives_the_time(stubs: Stubs, stubbed: AwsPreflight) -> None:
    stubs.of("sts").add_client_error(
        "get_caller_identity",
        "SignatureDoesNotMatch",
        "Signature expired",
        403,
        response_meta=timed("Sun, 23 Aug 2026 15:00:00 GMT"),
    )

    assert stubbed.clock_ahead_s() == -3600


_READS = ("get_", "list_", "describe_", "head_", "simulate_")


def asked_operations() -> Iterator[str]:
    """Every word in the door's source that is an operation of a service it talks to."""
    known = {
        name
        for service in ("sts", "iam", "ec2", "emr")
        for name in boto3.client(service, "eu-west-3").meta.method_to_api_mapping
    }
    tree = ast.parse(Path(fruits_cli.aws.preflight.__file__).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in known:
            yield node.attr
        if isinstance(node, ast.Constant) and node.value in known:
            yield str(node.value)


def test_preflight_calls_only_reading_operations() -> None:
    asked = set(asked_operations())

    assert {"simulate_principal_policy", "list_release_labels", "get_role"} <= asked
    assert {name for name in asked if not name.startswith(_READS)} == set()
