"""Roles, security configurations, security groups and key pairs: found, made, removed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from botocore.exceptions import ClientError

from fruits_cli.aws import arguments as payloads
from fruits_cli.aws.answers import address_ranges, has_tag, is_for_ssh
from fruits_cli.aws.clients import Service
from fruits_cli.aws.errors import asking, code_of, found, tolerating
from fruits_cli.cloud.account import Foundation, LinkedRole, Remnant, RoleFacts
from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, LAUNCH_ID_TAG, TOOL_TAG, ssh_group_name
from fruits_cli.cloud.policies import RoleSpec, require_ours, same_document
from fruits_cli.errors import ConfigError

_INLINE_POLICY = "fruits"
_TAGS = {TOOL_TAG: "fruits"}
_GROUPS, _KEYS = ssh_group_name("*"), f"{EMR_NAME_PREFIX}*"


class AwsRights(Service):
    """IAM, EMR's security configurations and EC2's groups as `cloud.Rights` asks for them."""

    def has_linked_role(self, role: LinkedRole) -> bool:
        with asking(f"look at role {role.name}"):
            answer = found(lambda: self._iam.get_role(RoleName=role.name), "NoSuchEntity")
        return answer is not None

    def create_linked_role(self, role: LinkedRole) -> None:
        # InvalidInput is how IAM says that a service-linked role is there already.
        with asking(f"create role {role.name}"), tolerating("InvalidInput"):
            self._iam.create_service_linked_role(AWSServiceName=role.service)

    def role(self, spec: RoleSpec) -> RoleFacts | None:
        name = spec.name
        with asking(f"look at role {name}", right="iam:GetRole"):
            answer = found(lambda: self._iam.get_role(RoleName=name), "NoSuchEntity")
            if answer is None:
                return None
            attached = self._iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
            policy = found(
                lambda: self._iam.get_role_policy(RoleName=name, PolicyName=_INLINE_POLICY),
                "NoSuchEntity",
            )
        profile = self._profile(name) if spec.has_profile else None
        foreign = {
            "role": not has_tag(answer["Role"], TOOL_TAG),
            "instance profile": profile is not None and not has_tag(profile, TOOL_TAG),
        }
        return RoleFacts(
            trust=answer["Role"].get("AssumeRolePolicyDocument") or {},
            policy=policy["PolicyDocument"] if policy else None,
            attached=frozenset(managed["PolicyArn"] for managed in attached),
            profile=None if profile is None else _roles_in(profile),
            foreign=tuple(kind for kind, is_so in foreign.items() if is_so),
        )

    def _profile(self, name: str) -> Mapping[str, Any] | None:
        with asking(f"look at instance profile {name}", right="iam:GetInstanceProfile"):
            answer = found(
                lambda: self._iam.get_instance_profile(InstanceProfileName=name), "NoSuchEntity"
            )
        return dict(answer["InstanceProfile"]) if answer else None

    def make_role(self, spec: RoleSpec) -> None:
        facts = self.role(spec)
        if facts:
            require_ours(spec.name, facts)
        with asking(f"make role {spec.name}"):
            if facts is None:
                payload = payloads.role_payload(spec.name, spec.trust, tags=_TAGS)
                with tolerating("EntityAlreadyExists"):
                    self._iam.create_role(**payload)
                facts = RoleFacts(spec.trust)
            if not same_document(facts.trust, spec.trust):
                self._iam.update_assume_role_policy(
                    RoleName=spec.name, PolicyDocument=json.dumps(spec.trust)
                )
            if spec.managed_arn and spec.managed_arn not in facts.attached:
                self._iam.attach_role_policy(RoleName=spec.name, PolicyArn=spec.managed_arn)
            if not same_document(facts.policy, spec.policy):
                self._iam.put_role_policy(
                    RoleName=spec.name,
                    PolicyName=_INLINE_POLICY,
                    PolicyDocument=json.dumps(spec.policy),
                )
            if spec.has_profile:
                self._make_profile(spec.name)

    def _make_profile(self, name: str) -> None:
        profile = self._profile(name)
        if profile is None:
            with tolerating("EntityAlreadyExists"):
                self._iam.create_instance_profile(
                    InstanceProfileName=name, Tags=payloads.tags_payload(_TAGS)
                )
            profile = {"Tags": payloads.tags_payload(_TAGS)}
        if not has_tag(profile, TOOL_TAG):
            require_ours(name, RoleFacts({}, foreign=("instance profile",)))
        # A profile holds one role, and EMR wants both of one name.
        for other in {*_roles_in(profile)} - {name}:
            self._iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=other)
        if name not in _roles_in(profile):
            with tolerating("LimitExceeded"):
                self._iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)

    def has_security_configuration(self, name: str) -> bool:
        with asking(f"look at security configuration {name}"):
            answer = found(
                lambda: self._emr.describe_security_configuration(Name=name),
                "InvalidRequestException",
            )
        return answer is not None

    def create_security_configuration(
        self, name: str, *, hop_limit: int, kms_key: str | None
    ) -> None:
        payload = payloads.security_configuration_payload(
            name, hop_limit=hop_limit, kms_key=kms_key
        )
        if self.has_security_configuration(name):
            return
        with asking(f"create security configuration {name}"):
            try:
                self._emr.create_security_configuration(**payload)
            except ClientError:
                # Another launch made it, or our own first attempt, whose answer got lost.
                if not self.has_security_configuration(name):
                    raise

    def import_key(self, key_name: str, public: bytes) -> bool:
        payload = payloads.import_key_pair_payload(key_name, public, _TAGS)
        with asking(f"import key pair {key_name}", right="ec2:ImportKeyPair"):
            imported = found(
                lambda: self._ec2.import_key_pair(**payload), "InvalidKeyPair.Duplicate"
            )
        return imported is not None

    def create_ssh_group(self, name: str, *, vpc_id: str, tags: Mapping[str, str]) -> str:
        """The id of the group: made without an inbound rule, or ours that is there already.

        Of that one, rules are taken away that are wider than a tunnel's.
        """
        if group_id := self._reused_group(name, vpc_id):
            return group_id
        payload = payloads.ssh_group_payload(name, vpc_id, tags)
        with asking(f"create security group {name}"):
            try:
                return str(self._ec2.create_security_group(**payload)["GroupId"])
            except ClientError as error:
                # A first attempt, whose answer got lost, made it.
                if code_of(error) == "InvalidGroup.Duplicate" and (
                    group_id := self._reused_group(name, vpc_id)
                ):
                    return group_id
                raise

    def _reused_group(self, name: str, vpc_id: str) -> str:
        for group in self._groups(name, {"vpc-id": vpc_id}):
            if not has_tag(group, LAUNCH_ID_TAG):
                raise ConfigError(
                    f"The security group {name} ({group['GroupId']}) was not made by fruits: it "
                    f"lacks the tag {LAUNCH_ID_TAG}.",
                    hint="Remove it, or give another --name.",
                )
            for permission in filter(_is_wide, group["IpPermissions"]):
                with asking(f"close a rule of {name}"), tolerating("InvalidPermission.NotFound"):
                    self._ec2.revoke_security_group_ingress(
                        GroupId=group["GroupId"], IpPermissions=[permission]
                    )
            return str(group["GroupId"])
        return ""

    def delete_ssh_group(self, name: str) -> bool:
        try:
            self._remove_group(name)
        except ClientError as error:
            if code_of(error) == "DependencyViolation":
                return False
            with asking(f"delete security group {name}"):
                raise
        return True

    def _remove_group(self, name: str) -> None:
        for group in self._groups(name, {"tag-key": LAUNCH_ID_TAG}):
            with tolerating("InvalidGroup.NotFound"):
                self._ec2.delete_security_group(GroupId=group["GroupId"])

    def _groups(self, name: str, also: Mapping[str, str]) -> list[Any]:
        filters = payloads.filters_payload({"group-name": name, **also})
        with asking(f"look for security group {name}"):
            answer = self._ec2.describe_security_groups(Filters=filters)
        return list(answer["SecurityGroups"])

    def remnants(self, kind: Foundation, names: Sequence[str]) -> list[Remnant]:
        if kind is Foundation.INSTANCE_ROLE:
            names = [
                name for name in names if self._is_our_role(name) or self._is_our_profile(name)
            ]
        elif kind is Foundation.SERVICE_ROLE:
            names = [name for name in names if self._is_our_role(name)]
        elif kind is Foundation.SECURITY_CONFIGURATION:
            names = [name for name in names if self.has_security_configuration(name)]
        elif kind is Foundation.KEY_PAIR:
            filters = payloads.filters_payload({"tag-key": TOOL_TAG, "key-name": _KEYS})
            with asking("list the key pairs"):
                pairs = self._ec2.describe_key_pairs(Filters=filters)["KeyPairs"]
            names = [pair["KeyName"] for pair in pairs]
        else:
            groups = self._groups(_GROUPS, {"tag-key": LAUNCH_ID_TAG})
            names = sorted({group["GroupName"] for group in groups})
        return [Remnant(kind, name) for name in names]

    def _is_our_role(self, name: str) -> bool:
        with asking(f"look at role {name}", right="iam:GetRole"):
            answer = found(lambda: self._iam.get_role(RoleName=name), "NoSuchEntity")
        return answer is not None and has_tag(answer["Role"], TOOL_TAG)

    def _is_our_profile(self, name: str) -> bool:
        return has_tag(self._profile(name) or {}, TOOL_TAG)

    def remove(self, remnant: Remnant) -> None:
        name = remnant.name
        with asking(f"remove {remnant.kind} {name}"):
            if remnant.kind is Foundation.INSTANCE_ROLE:
                self._remove_profile(name)
                self._remove_role(name)
            elif remnant.kind is Foundation.SERVICE_ROLE:
                self._remove_role(name)
            elif remnant.kind is Foundation.SECURITY_CONFIGURATION:
                with tolerating("InvalidRequestException"):
                    self._emr.delete_security_configuration(Name=name)
            elif remnant.kind is Foundation.KEY_PAIR:
                self._ec2.delete_key_pair(KeyName=name)
            else:
                self._remove_group(name)

    def _remove_profile(self, name: str) -> None:
        if not self._is_our_profile(name):
            return
        for role in _roles_in(self._profile(name) or {}):
            with tolerating("NoSuchEntity"):
                self._iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role)
        with tolerating("NoSuchEntity"):
            self._iam.delete_instance_profile(InstanceProfileName=name)

    def _remove_role(self, name: str) -> None:
        """Its policies first: IAM deletes no role that has any. Interrupted, it can be repeated.

        Each act may find nothing left: botocore repeats one whose answer got lost.
        """
        if not self._is_our_role(name):
            return
        for policy in self._iam.list_role_policies(RoleName=name)["PolicyNames"]:
            with tolerating("NoSuchEntity"):
                self._iam.delete_role_policy(RoleName=name, PolicyName=policy)
        for policy in self._iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            with tolerating("NoSuchEntity"):
                self._iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
        with tolerating("NoSuchEntity"):
            self._iam.delete_role(RoleName=name)


def _roles_in(profile: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(role["RoleName"] for role in profile.get("Roles", ()))


def _is_wide(permission: Mapping[str, Any]) -> bool:
    """True if it opens more than a tunnel does, which is port 22 to some addresses."""
    ranges = [cidr for cidr, _ in address_ranges(permission)]
    is_wide = not ranges or any(ip_network(cidr).prefixlen == 0 for cidr in ranges)
    return is_wide or not is_for_ssh(permission)
