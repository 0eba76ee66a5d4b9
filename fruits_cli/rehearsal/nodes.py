"""EC2's side of a cluster: capacity, quota, instances.

Sources: ManagementGuide, emr-instance-fleet and the index of error codes; emr-facts.md, sections 3,
7 and 11. Sentences are guesses.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from fruits_cli.rehearsal.catalogue import vcpus_of
from fruits_cli.rehearsal.inside import Inside
from fruits_cli.rehearsal.network import Site, not_valid
from fruits_cli.rehearsal.world import Cluster, Fleet, Node, Region, World

_IMAGE = "ami-12c6146b"


@dataclass(frozen=True)
class Demand:
    """Nodes that a fleet asks of one market."""

    fleet: Fleet
    instance_type: str
    market: str
    count: int


def demands(fleet: Fleet) -> list[Demand]:
    """What a fleet asks for, of the first type that it lists (its allocation is a guess)."""
    request = fleet.request
    first = request["InstanceTypeConfigs"][0]
    weight = first.get("WeightedCapacity", 1)
    targets = {
        "ON_DEMAND": request.get("TargetOnDemandCapacity", 0),
        "SPOT": request.get("TargetSpotCapacity", 0),
    }
    return [
        Demand(fleet, first["InstanceType"], market, math.ceil(units / weight))
        for market, units in targets.items()
        if units
    ]


class Ec2Side:
    """What EMR asks of EC2 and IAM for one cluster."""

    def __init__(
        self, cluster: Cluster, region: Region, world: World, quota_vcpus: int, inside: Inside
    ) -> None:
        self._cluster, self._region, self._world = cluster, region, world
        self._quota_vcpus = quota_vcpus
        self._ec2 = inside.client("ec2", region.name)
        self.site = Site(cluster, region, self._ec2, inside.client("iam", region.name))

    def require_quota(self) -> None:
        """Refuse more vCPUs than the account may run. Raises CannotProvision."""
        for market in ("ON_DEMAND", "SPOT"):
            running = sum(
                vcpus_of(node.instance_type)
                for cluster in self._world.clusters()
                if cluster.region == self._region.name
                for node in cluster.live_nodes()
                if node.market == market
            )
            wanted = sum(
                vcpus_of(demand.instance_type) * demand.count
                for fleet in self._cluster.fleets
                for demand in demands(fleet)
                if demand.market == market
            )
            if wanted and running + wanted > self._quota_vcpus:
                raise not_valid(
                    f"EC2 QUOTA EXCEEDED: {wanted} vCPUs were requested in market {market} and "
                    f"{running} are running, of {self._quota_vcpus} (VcpuLimitExceeded)."
                )

    def provision(self) -> None:
        """Launch every fleet."""
        for fleet in self._cluster.fleets:
            for demand in demands(fleet):
                self._launch(demand)

    def _launch(self, demand: Demand) -> None:
        """Run the instances, tagged as EMR tags them, and add their nodes to the cluster."""
        nodes = [self._node(demand, found) for found in self._run(demand)]
        with self._cluster.changed:
            self._cluster.nodes += nodes

    def _run(self, demand: Demand) -> list[dict[str, Any]]:
        instances = self._cluster.request["Instances"]
        tags = self._cluster.tags | {
            "aws:elasticmapreduce:job-flow-id": self._cluster.cluster_id,
            "aws:elasticmapreduce:instance-group-role": demand.fleet.role,
        }
        extra: dict[str, Any] = {"KeyName": k} if (k := instances.get("Ec2KeyName")) else {}
        if demand.market == "SPOT":
            extra["InstanceMarketOptions"] = {"MarketType": "spot"}
        found: list[dict[str, Any]] = self._ec2.run_instances(
            ImageId=_IMAGE,
            MinCount=demand.count,
            MaxCount=demand.count,
            InstanceType=demand.instance_type,
            SubnetId=self._cluster.subnet_id,
            SecurityGroupIds=self._groups_of(demand.fleet.role),
            TagSpecifications=[
                {
                    "ResourceType": "instance",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ],
            **extra,
        )["Instances"]
        return found

    def _groups_of(self, role: str) -> list[str]:
        instances, own = self._cluster.request["Instances"], self._cluster.security_groups
        if role == "MASTER":
            added = instances.get("AdditionalMasterSecurityGroups", [])
            return [own["EmrManagedMasterSecurityGroup"], *added]
        added = instances.get("AdditionalSlaveSecurityGroups", [])
        return [own["EmrManagedSlaveSecurityGroup"], *added]

    def _node(self, demand: Demand, found: dict[str, Any]) -> Node:
        return Node(
            instance_id=found["InstanceId"],
            fleet_id=demand.fleet.fleet_id,
            role=demand.fleet.role,
            market=demand.market,
            instance_type=demand.instance_type,
            private_dns=found.get("PrivateDnsName", ""),
            private_ip=found.get("PrivateIpAddress", ""),
            public_dns=found.get("PublicDnsName", ""),
            public_ip=found.get("PublicIpAddress", ""),
            volumes=tuple(
                {"Device": device["DeviceName"], "VolumeId": device["Ebs"]["VolumeId"]}
                for device in found.get("BlockDeviceMappings", [])
            ),
        )

    def release(self, nodes: list[Node], reason: dict[str, str]) -> None:
        """Terminate the instances; their time ends now."""
        if nodes:
            self._ec2.terminate_instances(InstanceIds=[node.instance_id for node in nodes])
        with self._cluster.changed:
            for node in nodes:
                node.state, node.reason, node.timeline.ended = "TERMINATED", reason, time.time()
