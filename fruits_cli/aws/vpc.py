"""EC2's route tables and endpoints as values of ours; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fruits_cli.cloud.account import SubnetFacts

Answer = Mapping[str, Any]
_ANYWHERE = "0.0.0.0/0"


def parse_subnets(
    subnets: Sequence[Answer], tables: Sequence[Answer], endpoints: Sequence[Answer], *, tag: str
) -> Iterator[SubnetFacts]:
    """`Subnets` with what `RouteTables` and `VpcEndpoints` of their VPCs say of them.

    A subnet without a table of its own uses the main one of its VPC. Source: VPC user guide,
    subnet route tables.
    """
    for subnet in subnets:
        table = _table(subnet, tables)
        gateway = _way_out(table)
        tags = {one["Key"]: one["Value"] for one in subnet.get("Tags", ())}
        yield SubnetFacts(
            subnet["SubnetId"],
            subnet["VpcId"],
            subnet["AvailabilityZone"],
            int(subnet["AvailableIpAddressCount"]),
            is_available=subnet["State"] == "available",
            is_tagged=tags.get(tag) == "true",
            has_internet=gateway.startswith("igw-"),
            has_nat=bool(gateway) and not gateway.startswith("igw-"),
            has_s3=any(_leads_to_s3(one, subnet, table) for one in endpoints),
        )


def _table(subnet: Answer, tables: Sequence[Answer]) -> Answer:
    main: Answer = {}
    for table in tables:
        for association in table.get("Associations", ()):
            if association.get("SubnetId") == subnet["SubnetId"]:
                return table
            if association.get("Main") and table["VpcId"] == subnet["VpcId"]:
                main = table
    return main


def _way_out(table: Answer) -> str:
    """What the route to everywhere leads to: a gateway, a NAT, an interface; empty without one."""
    targets = ("GatewayId", "NatGatewayId", "TransitGatewayId", "InstanceId", "NetworkInterfaceId")
    for route in table.get("Routes", ()):
        # The target of a blackhole is gone.
        if route.get("DestinationCidrBlock") == _ANYWHERE and route.get("State") == "active":
            return next((str(route[one]) for one in targets if route.get(one)), "")
    return ""


def _leads_to_s3(endpoint: Answer, subnet: Answer, table: Answer) -> bool:
    if not endpoint["ServiceName"].endswith(".s3") or endpoint["VpcId"] != subnet["VpcId"]:
        return False
    if str(endpoint.get("State", "")).lower() != "available":
        return False
    if endpoint.get("VpcEndpointType") == "Interface":
        # Without private names the nodes' requests would not take this way.
        return bool(endpoint.get("PrivateDnsEnabled"))
    return table.get("RouteTableId") in endpoint.get("RouteTableIds", ())


def private_names(endpoints: Sequence[Answer]) -> Iterator[str]:
    """Services whose public names lead to an endpoint inside of the VPC."""
    for endpoint in endpoints:
        if endpoint.get("VpcEndpointType") == "Interface" and endpoint.get("PrivateDnsEnabled"):
            yield endpoint["ServiceName"]
