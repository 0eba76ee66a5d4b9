from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fruits_cli.cloud.account import SubnetFacts, VpcFacts
from fruits_cli.doctor import network
from fruits_cli.doctor.findings import Verdict
from fruits_cli.errors import AccessDenied
from tests.support.fakes import FakeAws
from tests.support.questions import ask_of

OK, FAILING = Verdict.OK, Verdict.FAILING
PUBLIC = SubnetFacts("subnet-a", "vpc-1", "eu-west-3a", 4091, has_internet=True)
PRIVATE = SubnetFacts("subnet-b", "vpc-1", "eu-west-3b", 4091)
VPC = VpcFacts("vpc-1", has_dns_support=True, has_dns_hostnames=True)


def but(facts: SubnetFacts, **changes: Any) -> SubnetFacts:
    return replace(facts, **changes)


def with_network(*found: SubnetFacts, vpc: VpcFacts = VPC) -> FakeAws:
    aws = FakeAws()
    aws.preflight.networks, aws.preflight.dns = found, vpc
    return aws


@pytest.mark.parametrize(
    ("wanted", "found", "verdict", "words"),
    [
        ((), [PUBLIC], OK, "vpc-1: subnet-a (eu-west-3a)"),
        ((), [], FAILING, "There is no default VPC in this region."),
        (("subnet-x",), [], FAILING, "subnet-x is not in this region."),
        ((), [PUBLIC, but(PRIVATE, vpc_id="vpc-2")], FAILING, "more than one VPC: vpc-1, vpc-2"),
        ((), [but(PUBLIC, free_addresses=3)], FAILING, "no subnet has as many free addresses"),
        ((), [but(PUBLIC, free_addresses=4)], OK, "subnet-a"),
        ((), [but(PUBLIC, is_available=False)], FAILING, "no subnet has as many"),
        ((), [but(PUBLIC, free_addresses=3), PRIVATE], OK, "vpc-1: subnet-b (eu-west-3b)"),
    ],
    ids=["public", "none", "unknown", "two VPCs", "full", "just enough", "pending", "one is full"],
)
def test_subnets_exist_and_have_room(
    wanted: tuple[str, ...], found: list[SubnetFacts], verdict: Verdict, words: str
) -> None:
    answer = network.subnets(ask_of(with_network(*found), cluster={"subnets": wanted}))

    assert answer.verdict is verdict
    assert words in answer.said


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        ([PUBLIC], OK, "public: an internet gateway"),
        ([but(PRIVATE, has_nat=True)], OK, "the tunnel cannot reach such a cluster"),
        ([but(PRIVATE, has_s3=True)], OK, "private"),
        ([PRIVATE], FAILING, "subnet-b has no route to an internet gateway, no NAT and no S3"),
        ([PUBLIC, but(PRIVATE, has_nat=True)], FAILING, "subnet-b has no internet gateway"),
    ],
    ids=["public", "NAT", "S3 endpoint", "shut", "mixed"],
)
def test_nodes_need_a_way_to_s3(found: list[SubnetFacts], verdict: Verdict, words: str) -> None:
    answer = network.routes(ask_of(with_network(*found)))

    assert answer.verdict is verdict
    assert words in answer.said


def test_the_fix_of_a_shut_subnet_names_vpc_and_service() -> None:
    fix = network.routes(ask_of(with_network(PRIVATE))).fix

    assert "--vpc-id vpc-1 --service-name com.amazonaws.eu-west-3.s3" in fix


@pytest.mark.parametrize(
    ("support", "hostnames", "fixes"),
    [
        (True, True, []),
        (True, False, ["--enable-dns-hostnames"]),
        (False, False, ["--enable-dns-support", "--enable-dns-hostnames"]),
    ],
)
def test_dns_is_on_or_has_a_command_for_each_switch(
    support: bool, hostnames: bool, fixes: list[str]
) -> None:
    vpc = VpcFacts("vpc-1", support, hostnames)
    answer = network.dns(ask_of(with_network(PUBLIC, vpc=vpc)))

    assert [line.rpartition(" ")[2] for line in answer.fix.splitlines()] == fixes
    assert answer.verdict is (FAILING if fixes else OK)


@pytest.mark.parametrize(
    ("subnet_tagged", "vpc_tagged", "may", "verdict", "words"),
    [
        (True, True, True, OK, "is on subnets and VPC"),
        (False, True, True, OK, "will be set on subnet-a"),
        (True, False, None, OK, "vpc-1; whether you may set it could not be checked"),
        (False, False, False, FAILING, "subnet-a, vpc-1 lacks the tag"),
    ],
)
def test_the_tag_of_emrs_policy_is_there_or_may_be_set(
    subnet_tagged: bool, vpc_tagged: bool, may: bool | None, verdict: Verdict, words: str
) -> None:
    vpc = replace(VPC, is_tagged=vpc_tagged)
    aws = with_network(but(PUBLIC, is_tagged=subnet_tagged), vpc=vpc)
    if may is None:
        aws.preflight.refusals["denied"] = AccessDenied("no")
    aws.preflight.forbidden = frozenset({"ec2:CreateTags"} if may is False else ())

    answer = network.tags(ask_of(aws))

    assert answer.verdict is verdict
    assert words in answer.said


def test_an_api_gateway_endpoint_with_private_dns_keeps_idle_clusters_running() -> None:
    trapped = replace(VPC, private_names=frozenset({"com.amazonaws.eu-west-3.execute-api"}))
    other = replace(VPC, private_names=frozenset({"com.amazonaws.eu-west-3.ssm"}))

    assert network.idle_end(ask_of(with_network(PUBLIC, vpc=trapped))).verdict is FAILING
    assert network.idle_end(ask_of(with_network(PUBLIC, vpc=other))).verdict is OK


def test_a_subnet_without_a_way_out_ends_no_idle_cluster() -> None:
    shut, open_ = but(PRIVATE, has_s3=True), but(PRIVATE, has_nat=True)

    assert network.idle_end(ask_of(with_network(shut))).verdict is Verdict.WARNING
    assert network.idle_end(ask_of(with_network(open_))).verdict is OK
