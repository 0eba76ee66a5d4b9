"""Reads what a launch depends on, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from botocore.regions import EndpointResolver

from fruits_cli.aws.answers import address_ranges, is_for_emr, parse_subnets, private_names
from fruits_cli.aws.arguments import filters_payload
from fruits_cli.aws.clients import Clients, Service
from fruits_cli.aws.errors import asking
from fruits_cli.cloud.account import (
    GroupFacts,
    OpenRule,
    PublicAccess,
    SubnetFacts,
    VpcFacts,
)
from fruits_cli.cloud.clusters import ssh_group_name
from fruits_cli.cloud.protocols import Clock
from fruits_cli.errors import CloudError

_EVERYBODY = ("0.0.0.0/0", "::/0")
# Our own groups, and those that EMR makes in a VPC and uses for all of its clusters.
_GROUPS = (ssh_group_name("*"), "ElasticMapReduce*")


class AwsPreflight(Service):
    """STS, IAM, EC2 and EMR as `cloud.Preflight` asks for them."""

    def __init__(self, clients: Clients, clock: Clock) -> None:
        super().__init__(clients)
        self._clock = clock
        self._principal = ""

    def known_regions(self) -> frozenset[str]:
        # botocore's own table: a session would want the profile of AWS_PROFILE, which --profile
        # stands in for.
        endpoints = EndpointResolver(create_loader().load_data("endpoints"))
        return frozenset(
            region
            for partition in endpoints.get_available_partitions()
            for region in endpoints.get_available_endpoints("elasticmapreduce", partition)
        )

    def clock_ahead_s(self) -> float | None:
        with asking("tell the time"):
            try:
                answer: Any = self._clients("sts").get_caller_identity()
            except ClientError as error:
                # A refusal tells the time, too; a wrong clock may be its very cause.
                answer = error.response
        told = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        if not told:
            return None
        return (self._clock.now() - parsedate_to_datetime(told)).total_seconds()

    def denied(
        self, actions: Sequence[str], resource: str, *, passed_to: str = ""
    ) -> frozenset[str]:
        """Policies of the organisation and of the session are not in it, nor is a bucket's own.

        Source: IAM API reference, SimulatePrincipalPolicy.
        """
        principal = self._caller()
        if principal.endswith(":root"):
            # The root user has no policies that could be simulated, and may do everything.
            return frozenset()
        question: dict[str, Any] = {
            "PolicySourceArn": principal,
            "ActionNames": list(actions),
            "ResourceArns": [resource],
        }
        if passed_to:
            service = {"ContextKeyName": "iam:PassedToService", "ContextKeyType": "string"}
            question["ContextEntries"] = [{**service, "ContextKeyValues": [passed_to]}]
        with asking("simulate what you may do"):
            pages = self._iam.get_paginator("simulate_principal_policy").paginate(**question)
            found = [result for page in pages for result in page["EvaluationResults"]]
        return frozenset(
            result["EvalActionName"]
            for result in found
            # A policy that looks at what the simulation does not know decides nothing here.
            if result["EvalDecision"] != "allowed" and not result.get("MissingContextValues")
        )

    def _caller(self) -> str:
        """The ARN of the user or role whose policies decide."""
        if not self._principal:
            with asking("tell who you are"):
                arn = str(self._clients("sts").get_caller_identity()["Arn"])
            kind, _, rest = arn.rpartition(":")[2].partition("/")
            if kind == "federated-user":
                raise CloudError("The rights of a federated user cannot be simulated.")
            if kind == "assumed-role":
                # The role's path is not in the session's ARN.
                name = rest.partition("/")[0]
                with asking(f"look at role {name}"):
                    arn = str(self._iam.get_role(RoleName=name)["Role"]["Arn"])
            self._principal = arn
        return self._principal

    def key_fingerprint(self, key_name: str) -> str | None:
        with asking(f"look at key pair {key_name}"):
            # A filter finds nothing where a name would be refused.
            answer = self._ec2.describe_key_pairs(Filters=filters_payload({"key-name": key_name}))
        return next((str(pair["KeyFingerprint"]) for pair in answer["KeyPairs"]), None)

    def subnets(self, ids: Sequence[str]) -> tuple[SubnetFacts, ...]:
        which = {"subnet-id": ids} if ids else {"default-for-az": ("true",)}
        with asking("look at the subnets"):
            found = self._ec2.describe_subnets(Filters=filters_payload(which))["Subnets"]
        if not found:
            return ()
        vpcs = filters_payload({"vpc-id": sorted({subnet["VpcId"] for subnet in found})})
        with asking("look at the route tables"):
            tables = self._ec2.describe_route_tables(Filters=vpcs)["RouteTables"]
        with asking("look at the VPC endpoints"):
            endpoints = self._ec2.describe_vpc_endpoints(Filters=vpcs)["VpcEndpoints"]
        return tuple(parse_subnets(found, tables, endpoints))

    def vpc(self, vpc_id: str) -> VpcFacts:
        with asking(f"look at {vpc_id}"):
            vpc = self._ec2.describe_vpcs(VpcIds=[vpc_id])["Vpcs"][0]
            here = filters_payload({"vpc-id": vpc_id})
            endpoints = self._ec2.describe_vpc_endpoints(Filters=here)["VpcEndpoints"]
        return VpcFacts(
            vpc_id,
            has_dns_support=self._switch(vpc_id, "enableDnsSupport"),
            has_dns_hostnames=self._switch(vpc_id, "enableDnsHostnames"),
            is_tagged=is_for_emr(vpc),
            private_names=frozenset(private_names(endpoints)),
        )

    def _switch(self, vpc_id: str, attribute: str) -> bool:
        with asking(f"look at {attribute} of {vpc_id}"):
            answer = self._ec2.describe_vpc_attribute(VpcId=vpc_id, Attribute=attribute)
        return bool(answer[f"{attribute[0].upper()}{attribute[1:]}"]["Value"])

    def security_groups(self, vpc_id: str) -> tuple[GroupFacts, ...]:
        which = filters_payload({"vpc-id": vpc_id, "group-name": _GROUPS})
        with asking("look at the security groups"):
            pages = self._ec2.get_paginator("describe_security_groups").paginate(Filters=which)
            groups = [group for page in pages for group in page["SecurityGroups"]]
        return tuple(
            GroupFacts(
                group["GroupId"], group["GroupName"], is_for_emr(group), tuple(_open_rules(group))
            )
            for group in groups
        )

    def public_access(self) -> PublicAccess:
        with asking("look at the block of public access"):
            answer = self._emr.get_block_public_access_configuration()
        found = answer["BlockPublicAccessConfiguration"]
        return PublicAccess(
            bool(found["BlockPublicSecurityGroupRules"]),
            tuple(
                (ports["MinRange"], ports.get("MaxRange", ports["MinRange"]))
                for ports in found.get("PermittedPublicSecurityGroupRuleRanges") or ()
            ),
        )

    def releases(self) -> tuple[str, ...]:
        with asking("list the EMR releases"):
            return tuple(self._paged("list_release_labels", "ReleaseLabels", "NextToken"))

    def applications(self, release_label: str) -> frozenset[str]:
        with asking(f"look at release {release_label}"):
            answer = self._emr.describe_release_label(ReleaseLabel=release_label)
        return frozenset(application["Name"] for application in answer.get("Applications", ()))

    def supported_types(self, release_label: str) -> frozenset[str]:
        with asking(f"list the instance types of {release_label}"):
            found = self._paged(
                "list_supported_instance_types",
                "SupportedInstanceTypes",
                "Marker",
                ReleaseLabel=release_label,
            )
            return frozenset(supported["Type"] for supported in found)

    def _paged(self, operation: str, members: str, token: str, **question: Any) -> Iterator[Any]:
        """botocore has no paginator for these lists."""
        while True:
            answer = getattr(self._emr, operation)(**question)
            yield from answer.get(members) or ()
            if not answer.get(token):
                return
            question[token] = answer[token]

    def zones(self, types: Sequence[str]) -> Mapping[str, frozenset[str]]:
        question = {
            "LocationType": "availability-zone",
            "Filters": filters_payload({"instance-type": types}),
        }
        with asking("look at where the instance types are offered"):
            pages = self._ec2.get_paginator("describe_instance_type_offerings").paginate(**question)
            found = [offering for page in pages for offering in page["InstanceTypeOfferings"]]
        return {
            kind: frozenset(
                offering["Location"] for offering in found if offering["InstanceType"] == kind
            )
            for kind in types
        }


def _open_rules(group: Mapping[str, Any]) -> Iterator[OpenRule]:
    for permission in group["IpPermissions"]:
        for cidr, _ in address_ranges(permission):
            if cidr in _EVERYBODY:
                # A rule for all protocols names no ports.
                first, last = permission.get("FromPort", 0), permission.get("ToPort", 65535)
                yield OpenRule(cidr, first, last)
