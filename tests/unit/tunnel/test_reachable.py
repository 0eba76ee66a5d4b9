from __future__ import annotations

from ipaddress import ip_network

import pytest

from fruits_cli.tunnel.reachable import (
    Reachable,
    canonical_host,
    internal_suffix,
    reachable_from_host,
    region_of_public_name,
)

OWN = Reachable(
    names=frozenset(
        {
            "ec2-203-0-113-7.eu-west-3.compute.amazonaws.com",
            "ip-10-0-1-7.eu-west-3.compute.internal",
            "10.0.1.7",
        }
    ),
    suffixes=frozenset({"eu-west-3.compute.internal"}),
    networks=(ip_network("10.0.0.0/16"),),
)
ANY = Reachable(names=OWN.names, suffixes=OWN.suffixes, networks=OWN.networks, any_host=True)


@pytest.mark.parametrize(
    "host",
    [
        "ec2-203-0-113-7.eu-west-3.compute.amazonaws.com",
        "EC2-203-0-113-7.EU-WEST-3.compute.amazonaws.com.",
        "ip-10-0-44-2.eu-west-3.compute.internal",
        "i-0123456789abcdef0.eu-west-3.compute.internal",
        "10.0.200.9",
        "localhost",
        "127.0.0.1",
        "::1",
        "[::ffff:10.0.1.7]",
    ],
)
def test_the_clusters_own_hosts_are_reachable(host: str) -> None:
    assert OWN.allows(host, 8088)


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "ec2-203-0-113-8.eu-west-3.compute.amazonaws.com",
        "ip-10-9-0-1.eu-west-3.compute.internal",
        "ip-10-0-1-7.us-west-2.compute.internal",
        "ip-10-0-1-7.eu-west-3.compute.internal.evil.example",
        "evil.eu-west-3.compute.internal",
        "10.1.0.1",
        "192.168.1.1",
        "",
    ],
)
def test_other_hosts_are_not(host: str) -> None:
    assert not OWN.allows(host, 8088)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.43518",
        "0xA9FEA9FE",
        "2852039166",
        "0251.0376.0251.0376",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "instance-data",
        "instance-data.eu-west-3.compute.internal",
        "ip-169-254-169-254.eu-west-3.compute.internal",
    ],
)
def test_the_instances_credentials_are_never_reachable_however_written(host: str) -> None:
    assert not OWN.allows(host, 80)
    assert not ANY.allows(host, 80)


def test_any_host_opens_the_rest() -> None:
    assert ANY.allows("example.org", 443)
    assert ANY.allows("10.0.1.7", 8998)


def test_livy_is_not_reachable_by_default() -> None:
    assert not OWN.allows("10.0.1.7", 8998)


def test_a_foreign_host_reaches_itself_alone() -> None:
    own = reachable_from_host("203.0.113.7", any_host=False)

    assert own.allows("203.0.113.7", 80)
    assert own.allows("localhost", 80)
    assert not own.allows("10.0.0.1", 80)
    assert not own.allows("203.0.113.8", 80)


def test_an_instance_by_its_public_name_reaches_its_neighbours() -> None:
    own = reachable_from_host("ec2-203-0-113-7.compute-1.amazonaws.com", any_host=False)

    assert own.allows("ip-172-31-0-9.ec2.internal", 8042)
    assert not own.allows("ip-8-8-8-8.ec2.internal", 8042)


def test_regions_and_their_suffixes() -> None:
    assert internal_suffix("us-east-1") == "ec2.internal"
    assert internal_suffix("eu-west-3") == "eu-west-3.compute.internal"
    assert region_of_public_name("ec2-1-2-3-4.eu-west-3.compute.amazonaws.com") == "eu-west-3"
    assert region_of_public_name("example.org") is None


def test_a_name_that_looks_like_a_number_stays_a_name_when_it_is_none() -> None:
    assert canonical_host("999.999.999.999") == "999.999.999.999"
