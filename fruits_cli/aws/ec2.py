"""One cluster as the tunnel sees it: its primary node, its console, its port 22."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from fruits_cli.aws import arguments as payloads
from fruits_cli.aws.answers import address_ranges, has_tag, is_for_ssh, parse_cluster
from fruits_cli.aws.clients import Clients, Service
from fruits_cli.aws.errors import asking, code_of, tolerating
from fruits_cli.cloud.clusters import LAUNCH_ID_TAG, Cluster, Primary, SshRule, ssh_group_name
from fruits_cli.errors import CloudError, ClusterNotFound

_NO_SSH = (
    "No key and no port lead into a cluster that fruits run makes; create-cluster's have them."
)


class AwsAccess(Service):
    """EMR and EC2 as `cloud.ClusterAccess` asks for them."""

    def __init__(
        self,
        clients: Clients,
        region: str,
        cluster: Cluster,
        *,
        own_addresses: Callable[[], Sequence[str]],
    ) -> None:
        super().__init__(clients)
        self._region, self._cluster = region, cluster
        self._own_addresses = own_addresses
        self._group_id = ""

    @property
    def cluster_id(self) -> str:
        return self._cluster.cluster_id

    def primary(self) -> Primary | None:
        answer = self._live()
        node = self._primary_node(answer) if parse_cluster(answer).state.is_ready else None
        if node is None:
            return None
        subnet = (answer.get("Ec2InstanceAttributes") or {}).get("Ec2SubnetId")
        return Primary(
            cluster_id=self.cluster_id,
            region=self._region,
            instance_id=node["Ec2InstanceId"],
            # A VPC may have no DNS names; an address will do.
            public_name=node.get("PublicDnsName") or node.get("PublicIpAddress") or None,
            private_name=node.get("PrivateDnsName") or node.get("PrivateIpAddress", ""),
            private_address=node.get("PrivateIpAddress", ""),
            networks=self._networks(subnet) if subnet else (),
        )

    def require_live(self) -> None:
        self._live(once=True)

    def _live(self, *, once: bool = False) -> Mapping[str, Any]:
        """The `Cluster` of DescribeCluster. Raises ClusterNotFound where it ends or has ended."""
        with asking(f"look at cluster {self.cluster_id}"):
            emr = self._clients("emr", once=once)
            answer: Mapping[str, Any] = emr.describe_cluster(ClusterId=self.cluster_id)["Cluster"]
        cluster = parse_cluster(answer)
        if not cluster.state.is_live:
            raise ClusterNotFound(_end_of(cluster), hint="fruits create-cluster makes a new one.")
        return answer

    def _primary_node(self, answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
        fleets = answer.get("InstanceCollectionType") == "INSTANCE_FLEET"
        payload = payloads.primary_instances_payload(self.cluster_id, fleets=fleets)
        with asking(f"list the instances of {self.cluster_id}"):
            found = self._emr.list_instances(**payload)["Instances"]
        return next((node for node in found if node.get("Ec2InstanceId")), None)

    def _networks(self, subnet_id: str) -> tuple[str, ...]:
        with asking(f"look at the network of {self.cluster_id}"):
            subnet = self._ec2.describe_subnets(SubnetIds=[subnet_id])["Subnets"][0]
            vpc = self._ec2.describe_vpcs(VpcIds=[subnet["VpcId"]])["Vpcs"][0]
        return tuple(_ranges(vpc))

    def console_output(self, instance_id: str) -> str:
        with asking("read the console output of the primary node"):
            posted = self._ec2.get_console_output(InstanceId=instance_id)
            try:
                latest = self._ec2.get_console_output(InstanceId=instance_id, Latest=True)
            except ClientError as error:
                # Not every type tells more than what was posted after its last start.
                if code_of(error) not in ("UnsupportedOperation", "InvalidParameterCombination"):
                    raise
                latest = {}
        return f"{posted.get('Output', '')}\n{latest.get('Output', '')}".strip()

    def ssh_rules(self) -> list[SshRule]:
        """Only rules for exactly port 22; wider rules are not ours."""
        return [
            SshRule(cidr, note)
            for permission in self._group()["IpPermissions"]
            if is_for_ssh(permission)
            for cidr, note in address_ranges(permission)
        ]

    def add_ssh_rule(self, rule: SshRule) -> None:
        payload = payloads.ssh_ingress_payload(self._ssh_group(), rule.cidr, note=rule.note)
        # Another tunnel may have done the same a moment ago.
        with asking(f"open port 22 to {rule.cidr}"), tolerating("InvalidPermission.Duplicate"):
            self._ec2.authorize_security_group_ingress(**payload)

    def remove_ssh_rule(self, rule: SshRule) -> None:
        payload = payloads.ssh_ingress_payload(self._ssh_group(), rule.cidr)
        # The group goes with its cluster. Asked once: the tunnel closes while its user waits.
        gone = ("InvalidPermission.NotFound", "InvalidGroup.NotFound")
        with asking(f"close port 22 to {rule.cidr}"), tolerating(*gone):
            self._clients("ec2", once=True).revoke_security_group_ingress(**payload)

    def public_key(self) -> str:
        name = (self._live().get("Ec2InstanceAttributes") or {}).get("Ec2KeyName")
        if not name:
            return ""
        with asking(f"read the key pair {name}"):
            found = self._ec2.describe_key_pairs(KeyNames=[name], IncludePublicKey=True)
        return str(next((pair.get("PublicKey", "") for pair in found["KeyPairs"]), ""))

    def _ssh_group(self) -> str:
        return self._group_id or str(self._group()["GroupId"])

    def _group(self) -> Mapping[str, Any]:
        """The cluster's own group, among those that its primary node really has."""
        name = ssh_group_name(self._cluster.name)
        attributes = self._live().get("Ec2InstanceAttributes") or {}
        ids = attributes.get("AdditionalMasterSecurityGroups") or []
        with asking(f"look for security group {name}"):
            found = self._ec2.describe_security_groups(GroupIds=ids) if ids else {}
        for group in found.get("SecurityGroups", ()):
            # Ours by name and tag: a rule in anybody else's would open what is theirs.
            if group["GroupName"] == name and has_tag(group, LAUNCH_ID_TAG):
                self._group_id = group["GroupId"]
                return dict(group)
        raise CloudError(
            f"Cluster {self.cluster_id} has no security group {name} of fruits; port 22 is shut.",
            hint=_NO_SSH,
        )

    def own_addresses(self) -> Sequence[str]:
        return self._own_addresses()


def _end_of(cluster: Cluster) -> str:
    reason = f": {cluster.reason.rstrip('.')}" if cluster.reason else ""
    verb = "has ended" if cluster.state.is_final else "is ending"
    return f"Cluster {cluster.cluster_id} {verb}{reason}."


def _ranges(vpc: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("CidrBlock", "Ipv6CidrBlock"):
        for association in vpc.get(f"{kind}AssociationSet", ()):
            if association[f"{kind}State"]["State"] == "associated":
                yield association[kind]
