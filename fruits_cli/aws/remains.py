"""What fruits made beside clusters and data: found again by its names and tags, and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fruits_cli.aws.clients import Clients
from fruits_cli.aws.errors import asking, found, tolerating
from fruits_cli.aws.rights import has_security_configuration
from fruits_cli.cloud.account import Remnant, RemnantKind
from fruits_cli.cloud.clusters import LAUNCH_ID_TAG, TOOL_TAG

_GROUPS, _KEYS = "fruits-*-ssh", "fruits-*"


class AwsRemains:
    """IAM, EMR's security configurations and EC2 as `cloud.Remains` asks for them."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._finders: Mapping[RemnantKind, Callable[[Sequence[str]], Iterable[str]]] = {
            RemnantKind.INSTANCE_PROFILE: lambda names: filter(self._is_our_profile, names),
            RemnantKind.ROLE: lambda names: filter(self._is_our_role, names),
            RemnantKind.SECURITY_CONFIGURATION: lambda names: (
                name for name in names if has_security_configuration(clients("emr"), name)
            ),
            RemnantKind.KEY_PAIR: lambda _: self._keys(),
            RemnantKind.SECURITY_GROUP: lambda _: self._groups(),
        }
        self._removers: Mapping[RemnantKind, Callable[[str], None]] = {
            RemnantKind.INSTANCE_PROFILE: self._remove_profile,
            RemnantKind.ROLE: self._remove_role,
            RemnantKind.SECURITY_CONFIGURATION: self._remove_configuration,
            RemnantKind.KEY_PAIR: self._remove_key,
            RemnantKind.SECURITY_GROUP: self._remove_group,
        }

    @property
    def _iam(self) -> Any:
        return self._clients("iam")

    @property
    def _ec2(self) -> Any:
        return self._clients("ec2")

    def remnants(self, kind: RemnantKind, names: Sequence[str]) -> list[Remnant]:
        return [Remnant(kind, name) for name in self._finders[kind](names)]

    def remove(self, remnant: Remnant) -> None:
        with asking(f"remove {remnant.kind} {remnant.name}"):
            self._removers[remnant.kind](remnant.name)

    def _profile(self, name: str) -> Mapping[str, Any]:
        """Empty where there is none."""
        with asking(f"look at instance profile {name}", right="iam:GetInstanceProfile"):
            answer = found(
                lambda: self._iam.get_instance_profile(InstanceProfileName=name), "NoSuchEntity"
            )
        return dict(answer["InstanceProfile"]) if answer else {}

    def _is_our_profile(self, name: str) -> bool:
        return _is_ours(self._profile(name))

    def _is_our_role(self, name: str) -> bool:
        with asking(f"look at role {name}", right="iam:GetRole"):
            answer = found(lambda: self._iam.get_role(RoleName=name), "NoSuchEntity")
        return answer is not None and _is_ours(answer["Role"])

    def _keys(self) -> list[str]:
        filters = [
            {"Name": "tag-key", "Values": [TOOL_TAG]},
            {"Name": "key-name", "Values": [_KEYS]},
        ]
        with asking("list the key pairs"):
            answer = self._ec2.describe_key_pairs(Filters=filters)
        return [one["KeyName"] for one in answer["KeyPairs"]]

    def _groups(self) -> list[str]:
        with asking("list the security groups"):
            answer = self._ec2.describe_security_groups(Filters=_ours(_GROUPS))
        return sorted({one["GroupName"] for one in answer["SecurityGroups"]})

    def _remove_profile(self, name: str) -> None:
        for role in self._profile(name).get("Roles", ()):
            with tolerating("NoSuchEntity"):
                self._iam.remove_role_from_instance_profile(
                    InstanceProfileName=name, RoleName=role["RoleName"]
                )
        with tolerating("NoSuchEntity"):
            self._iam.delete_instance_profile(InstanceProfileName=name)

    def _remove_role(self, name: str) -> None:
        """Its policies first: IAM deletes no role that has any. Interrupted, it can be repeated."""
        with tolerating("NoSuchEntity"):
            for policy in self._iam.list_role_policies(RoleName=name)["PolicyNames"]:
                self._iam.delete_role_policy(RoleName=name, PolicyName=policy)
            attached = self._iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
            for policy in attached:
                self._iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
            self._iam.delete_role(RoleName=name)

    def _remove_configuration(self, name: str) -> None:
        with tolerating("InvalidRequestException"):
            self._clients("emr").delete_security_configuration(Name=name)

    def _remove_key(self, name: str) -> None:
        self._ec2.delete_key_pair(KeyName=name)

    def _remove_group(self, name: str) -> None:
        for group in self._ec2.describe_security_groups(Filters=_ours(name))["SecurityGroups"]:
            with tolerating("InvalidGroup.NotFound"):
                self._ec2.delete_security_group(GroupId=group["GroupId"])


def _is_ours(entity: Mapping[str, Any]) -> bool:
    return any(tag["Key"] == TOOL_TAG for tag in entity.get("Tags", ()))


def _ours(group_name: str) -> list[dict[str, Any]]:
    return [
        {"Name": "group-name", "Values": [group_name]},
        {"Name": "tag-key", "Values": [LAUNCH_ID_TAG]},
    ]
