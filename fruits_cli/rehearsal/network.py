"""The subnet and groups of a cluster, and what EMR checks before it asks EC2 for an instance.

Sources: ManagementGuide, emr-instance-fleet, emr-iam-role, the index of error codes; emr-facts.md,
sections 3, 5 and 11. EMR's own sentences may read otherwise.
"""

from __future__ import annotations

import threading
from typing import Any

from botocore.exceptions import ClientError

from fruits_cli.rehearsal.catalogue import supported_types
from fruits_cli.rehearsal.inside import Inside
from fruits_cli.rehearsal.world import Cluster, Ending, Region

_POLICY_V2 = "AmazonEMRServicePolicy_v2"
_POLICY_TAG = {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"}
_MANAGED_GROUPS = {
    "EmrManagedMasterSecurityGroup": "ElasticMapReduce-primary",
    "EmrManagedSlaveSecurityGroup": "ElasticMapReduce-core",
}
_DEFAULT_VPC = [{"Name": "is-default", "Values": ["true"]}]
_DEFAULT_SUBNETS = [{"Name": "default-for-az", "Values": ["true"]}]


class CannotProvision(Exception):
    """EC2's side refuses; `ending` is what becomes of the cluster."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


def not_valid(message: str, error_code: str = "") -> CannotProvision:
    """A refusal that shows as VALIDATION_ERROR once the cluster was accepted."""
    return CannotProvision(Ending("VALIDATION_ERROR", message, True, error_code))


class Site:
    """Subnet, zone and security groups of one cluster, chosen and checked."""

    def __init__(self, cluster: Cluster, region: Region, ec2: Any, iam: Any) -> None:
        self._cluster, self._region, self._ec2, self._iam = cluster, region, ec2, iam

    def settle(self) -> None:
        """Choose the subnet and the security groups. Raises CannotProvision."""
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
        known = {entry["Type"] for entry in supported_types(label, self._region.name)}
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
            GroupName=name, VpcId=vpc_id, Description="made by the rehearsal's EMR"
        )
        return str(made["GroupId"])


class WaysOut:
    """Adds the internet gateway that moto's default VPC lacks, once its routes are asked for.

    Source: VPC user guide, default VPC components: a gateway, and a route to it in the main table.
    """

    def __init__(self, inside: Inside) -> None:
        self._inside, self._lock = inside, threading.Lock()
        self._open: set[str] = set()

    def open(self, region: str) -> None:
        """See to it that the region's default VPC has a way out."""
        with self._lock:
            if region not in self._open:
                self._open.add(region)
                for vpc in self._ec2(region).describe_vpcs(Filters=_DEFAULT_VPC)["Vpcs"]:
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
