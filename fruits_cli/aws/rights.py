"""Roles, security configurations, security groups and key pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from fruits_cli.aws import arguments as payloads
from fruits_cli.aws.clients import Clients
from fruits_cli.aws.errors import asking, code_of, found, tolerating
from fruits_cli.cloud.account import LinkedRole
from fruits_cli.cloud.clusters import TOOL_TAG

_INLINE_POLICY = "fruits"
_TAGS = {TOOL_TAG: "fruits"}


def has_security_configuration(emr: Any, name: str) -> bool:
    """Whether EMR knows a security configuration of that name."""
    with asking(f"look at security configuration {name}"):
        answer = found(
            lambda: emr.describe_security_configuration(Name=name), "InvalidRequestException"
        )
    return answer is not None


class AwsRights:
    """IAM, EMR's security configurations and EC2's groups as `cloud.Rights` asks for them."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    @property
    def _iam(self) -> Any:
        return self._clients("iam")

    @property
    def _ec2(self) -> Any:
        return self._clients("ec2")

    def has_linked_role(self, role: LinkedRole) -> bool:
        with asking(f"look at role {role.name}"):
            answer = found(lambda: self._iam.get_role(RoleName=role.name), "NoSuchEntity")
        return answer is not None

    def create_linked_role(self, role: LinkedRole) -> None:
        # InvalidInput is how IAM says that a service-linked role is there already.
        with asking(f"create role {role.name}"), tolerating("InvalidInput"):
            self._iam.create_service_linked_role(AWSServiceName=role.service)

    def has_instance_role(self, name: str) -> bool:
        """Whether role, policy and profile are all there: a crash may leave some of them."""
        with asking(f"look at role {name}"):
            if not self._has_policy(name):
                return False
            profile = found(
                lambda: self._iam.get_instance_profile(InstanceProfileName=name), "NoSuchEntity"
            )
        roles = profile["InstanceProfile"]["Roles"] if profile else ()
        return any(role["RoleName"] == name for role in roles)

    def create_instance_role(
        self, name: str, *, trust: Mapping[str, Any], policy: Mapping[str, Any]
    ) -> None:
        with asking(f"create role {name}"):
            self._create_role(name, trust, policy, "What the nodes of a fruits cluster may do")
            with tolerating("EntityAlreadyExists"):
                self._iam.create_instance_profile(
                    InstanceProfileName=name, Tags=payloads.tags_payload(_TAGS)
                )
            # A profile holds one role; a second one is refused, even if it is the same.
            with tolerating("LimitExceeded"):
                self._iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)

    def has_service_role(self, name: str) -> bool:
        with asking(f"look at role {name}"):
            return self._has_policy(name)

    def create_service_role(
        self, name: str, *, trust: Mapping[str, Any], policy: Mapping[str, Any], managed_arn: str
    ) -> None:
        with asking(f"create role {name}"):
            with tolerating("EntityAlreadyExists"):
                self._iam.create_role(
                    **payloads.role_payload(
                        name, trust, description="What EMR may do for fruits", tags=_TAGS
                    )
                )
            self._iam.attach_role_policy(RoleName=name, PolicyArn=managed_arn)
            # Last: its presence says that the role is complete.
            self._put_policy(name, policy)

    def _create_role(
        self, name: str, trust: Mapping[str, Any], policy: Mapping[str, Any], description: str
    ) -> None:
        payload = payloads.role_payload(name, trust, description=description, tags=_TAGS)
        with tolerating("EntityAlreadyExists"):
            self._iam.create_role(**payload)
        self._put_policy(name, policy)

    def _put_policy(self, role: str, policy: Mapping[str, Any]) -> None:
        self._iam.put_role_policy(
            RoleName=role, PolicyName=_INLINE_POLICY, PolicyDocument=json.dumps(policy)
        )

    def _has_policy(self, role: str) -> bool:
        policy = found(
            lambda: self._iam.get_role_policy(RoleName=role, PolicyName=_INLINE_POLICY),
            "NoSuchEntity",
        )
        return policy is not None

    def has_security_configuration(self, name: str) -> bool:
        return has_security_configuration(self._clients("emr"), name)

    def create_security_configuration(
        self, name: str, *, hop_limit: int, kms_key: str | None
    ) -> None:
        payload = payloads.security_configuration_payload(
            name, hop_limit=hop_limit, kms_key=kms_key
        )
        if not self.has_security_configuration(name):
            with asking(f"create security configuration {name}"):
                self._clients("emr").create_security_configuration(**payload)

    def import_key(self, key_name: str, public: bytes) -> bool:
        payload = payloads.import_key_pair_payload(key_name, public, _TAGS)
        with asking(f"import key pair {key_name}", right="ec2:ImportKeyPair"):
            imported = found(
                lambda: self._ec2.import_key_pair(**payload), "InvalidKeyPair.Duplicate"
            )
        return imported is not None

    def create_ssh_group(self, name: str, *, vpc_id: str, tags: Mapping[str, str]) -> str:
        """The id of the group, made without any inbound rule unless it is there already."""
        existing = self._ssh_groups(name, vpc_id)
        if existing:
            return existing[0]
        with asking(f"create security group {name}"):
            answer = self._ec2.create_security_group(
                **payloads.ssh_group_payload(name, vpc_id, tags)
            )
        return str(answer["GroupId"])

    def delete_ssh_group(self, name: str) -> bool:
        for group_id in self._ssh_groups(name):
            with asking(f"delete security group {name}"):
                try:
                    self._ec2.delete_security_group(GroupId=group_id)
                except ClientError as error:
                    if code_of(error) == "DependencyViolation":
                        return False
                    if code_of(error) != "InvalidGroup.NotFound":
                        raise
        return True

    def _ssh_groups(self, name: str, vpc_id: str | None = None) -> list[str]:
        filters = [{"Name": "group-name", "Values": [name]}]
        if vpc_id:
            filters.append({"Name": "vpc-id", "Values": [vpc_id]})
        with asking(f"look for security group {name}"):
            answer = self._ec2.describe_security_groups(Filters=filters)
        return [group["GroupId"] for group in answer["SecurityGroups"]]
