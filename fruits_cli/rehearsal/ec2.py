"""Gets a cluster's instances from EC2, after the checks that EMR makes before.

Sources: ManagementGuide, emr-instance-fleet, emr-iam-role, the index of error codes; emr-facts.md,
sections 3, 5, 7 and 11. EMR's own sentences may read otherwise.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from fruits_cli.cloud.clusters import MANAGED_POLICY_TAG
from fruits_cli.rehearsal.catalogue import supported_types, vcpus_of
from fruits_cli.rehearsal.host import Clients, Host
from fruits_cli.rehearsal.world import Cluster, ClusterEnds, Ending, Fleet, Node

_POLICY_V2 = "AmazonEMRServicePolicy_v2"
_POLICY_TAG = {"Key": MANAGED_POLICY_TAG, "Value": "true"}
_MANAGED_GROUPS = {
    "EmrManagedMasterSecurityGroup": "ElasticMapReduce-primary",
    "EmrManagedSlaveSecurityGroup": "ElasticMapReduce-core",
}
_DEFAULT_VPC = [{"Name": "is-default", "Values": ["true"]}]
_DEFAULT_SUBNETS = [{"Name": "default-for-az", "Values": ["true"]}]
_IMAGE = "ami-12c6146b"


def not_valid(message: str, error_code: str = "") -> ClusterEnds:
    """A refusal that shows as VALIDATION_ERROR once the cluster was accepted."""
    return ClusterEnds(Ending("VALIDATION_ERROR", message, True, error_code))


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


class Provisioner:
    """What EMR asks of EC2 and IAM for one cluster."""

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self._cluster, self._world, self._quota_vcpus = cluster, host.world, host.quota_vcpus
        self._ec2 = host.clients.client("ec2", cluster.region)
        self._iam = host.clients.client("iam", cluster.region)

    def prepare(self) -> None:
        """Choose the subnet and the security groups. Raises ClusterEnds."""
        instances = self._cluster.request["Instances"]
        self._require_types()
        self._require_key(instances.get("Ec2KeyName"))
        subnet = self._subnet(instances)
        self._require_tags(subnet)
        groups = {
            member: instances.get(member) or self._managed_group(name, subnet["VpcId"])
            for member, name in _MANAGED_GROUPS.items()
        }
        with self._cluster.changed:
            self._cluster.subnet_id = subnet["SubnetId"]
            self._cluster.zone = subnet["AvailabilityZone"]
            self._cluster.security_groups = groups

    def _require_types(self) -> None:
        label = self._cluster.request["ReleaseLabel"]
        known = {entry["Type"] for entry in supported_types(label, self._cluster.region)}
        for fleet in self._cluster.fleets:
            for config in fleet.request["InstanceTypeConfigs"]:
                if config["InstanceType"] not in known:
                    raise not_valid(
                        f"Instance type '{config['InstanceType']}' is not supported.",
                        "VALIDATION_ERROR_INSTANCE_TYPE_NOT_SUPPORTED",
                    )

    def _require_key(self, key_name: str | None) -> None:
        if not key_name:
            return
        try:
            self._ec2.describe_key_pairs(KeyNames=[key_name])
        except ClientError:
            raise not_valid(
                f"The key pair {key_name} does not exist.", "VALIDATION_ERROR_INVALID_SSH_KEY_NAME"
            ) from None

    def _subnet(self, instances: dict[str, Any]) -> dict[str, Any]:
        """One zone for the whole cluster; without a subnet the default VPC's first."""
        single = instances.get("Ec2SubnetId")
        wanted = instances.get("Ec2SubnetIds") or ([single] if single else [])
        try:
            found = self._ec2.describe_subnets(
                **({"SubnetIds": wanted} if wanted else {"Filters": _DEFAULT_SUBNETS})
            )["Subnets"]
        except ClientError as error:
            raise not_valid(f"The subnet is not valid: {error}") from None
        if not found:
            raise not_valid("There is no default VPC; specify a subnet.")
        if len({subnet["VpcId"] for subnet in found}) > 1:
            raise not_valid(
                "The subnets are not of one VPC.", "VALIDATION_ERROR_SUBNET_NOT_FROM_ONE_VPC"
            )
        chosen: dict[str, Any] = sorted(found, key=lambda subnet: subnet["AvailabilityZone"])[0]
        return chosen

    def _require_tags(self, subnet: dict[str, Any]) -> None:
        """The v2 policy acts on tagged things only. Source: ManagementGuide, emr-iam-role."""
        role = self._cluster.request["ServiceRole"].rpartition("/")[2]
        attached = self._iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        if all(policy["PolicyName"] != _POLICY_V2 for policy in attached):
            return
        vpc = self._ec2.describe_vpcs(VpcIds=[subnet["VpcId"]])["Vpcs"][0]
        tagged = {
            "the cluster": [{"Key": k, "Value": v} for k, v in self._cluster.tags.items()],
            subnet["SubnetId"]: subnet.get("Tags", []),
            vpc["VpcId"]: vpc.get("Tags", []),
        }
        for what, tags in tagged.items():
            if _POLICY_TAG not in tags:
                raise not_valid(
                    f"Service role {role} has insufficient EC2 permissions: {what} lacks the tag "
                    f"{_POLICY_TAG['Key']}."
                )

    def _managed_group(self, name: str, vpc_id: str) -> str:
        """EMR's own group of a VPC, made when first used and never removed."""
        found = self._ec2.describe_security_groups(
            Filters=[
                {"Name": "vpc-id", "Values": [vpc_id]},
                {"Name": "group-name", "Values": [name]},
            ]
        )["SecurityGroups"]
        if found:
            return str(found[0]["GroupId"])
        made = self._ec2.create_security_group(
            GroupName=name,
            VpcId=vpc_id,
            Description="made by the rehearsal's EMR",
            TagSpecifications=[{"ResourceType": "security-group", "Tags": [_POLICY_TAG]}],
        )
        return str(made["GroupId"])

    def require_quota(self) -> None:
        """Refuse more vCPUs than the account may run. Raises ClusterEnds."""
        for market in ("ON_DEMAND", "SPOT"):
            running = sum(
                vcpus_of(node.instance_type)
                for cluster in self._world.clusters()
                if cluster.region == self._cluster.region
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
        """Run the instances of every fleet, and add their nodes to the cluster."""
        for fleet in self._cluster.fleets:
            for demand in demands(fleet):
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
            SecurityGroupIds=self.groups_of(demand.fleet.role),
            TagSpecifications=[
                {
                    "ResourceType": "instance",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ],
            **extra,
        )["Instances"]
        return found

    def groups_of(self, role: str) -> list[str]:
        """The security groups of a node."""
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

    def terminate(self, nodes: list[Node], reason: dict[str, str]) -> None:
        """Terminate the instances; their time ends now."""
        if nodes:
            self._ec2.terminate_instances(InstanceIds=[node.instance_id for node in nodes])
        with self._cluster.changed:
            for node in nodes:
                node.state, node.reason, node.timeline.ended = "TERMINATED", reason, time.time()


class InternetGateways:
    """Adds the internet gateway that moto's default VPC lacks, once its routes are asked for.

    Source: VPC user guide, default VPC components: a gateway, and a route to it in the main table.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients, self._lock = clients, threading.Lock()
        self._regions: set[str] = set()

    def ensure(self, region: str) -> None:
        """Make sure that the region's default VPC has an internet gateway."""
        with self._lock:
            if region not in self._regions:
                self._regions.add(region)
                ec2 = self._clients.client("ec2", region)
                for vpc in ec2.describe_vpcs(Filters=_DEFAULT_VPC)["Vpcs"]:
                    _add_gateway(vpc["VpcId"], ec2)


def _add_gateway(vpc_id: str, ec2: Any) -> None:
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc_id)
    main = [
        {"Name": "vpc-id", "Values": [vpc_id]},
        {"Name": "association.main", "Values": ["true"]},
    ]
    (table,) = ec2.describe_route_tables(Filters=main)["RouteTables"]
    ec2.create_route(
        RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway
    )
