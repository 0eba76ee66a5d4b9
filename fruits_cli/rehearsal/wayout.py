"""The internet gateway that the default VPC of a real account has, and moto's has not.

Source: VPC user guide, default VPC components: a gateway, and a route to it in the main table.
"""

from __future__ import annotations

import threading
from typing import Any

from fruits_cli.rehearsal.inside import Inside

_DEFAULT = [{"Name": "is-default", "Values": ["true"]}]


class WaysOut:
    """The default VPCs' gateways, each made when somebody first looks at a region's routes."""

    def __init__(self, inside: Inside) -> None:
        self._inside, self._lock = inside, threading.Lock()
        self._open: set[str] = set()

    def open(self, region: str) -> None:
        """See to it that the region's default VPC has a way out."""
        with self._lock:
            if region not in self._open:
                self._open.add(region)
                for vpc in self._ec2(region).describe_vpcs(Filters=_DEFAULT)["Vpcs"]:
                    self._open_vpc(vpc["VpcId"], self._ec2(region))

    def _ec2(self, region: str) -> Any:
        return self._inside.client("ec2", region)

    @staticmethod
    def _open_vpc(vpc_id: str, ec2: Any) -> None:
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc_id)
        main = [
            {"Name": "vpc-id", "Values": [vpc_id]},
            {"Name": "association.main", "Values": ["true"]},
        ]
        (table,) = ec2.describe_route_tables(Filters=main)["RouteTables"]
        ec2.create_route(
            RouteTableId=table["RouteTableId"],
            DestinationCidrBlock="0.0.0.0/0",
            GatewayId=gateway,
        )
