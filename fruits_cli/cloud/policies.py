"""Builds the IAM documents of the caller and of a cluster's two roles; pure.

The caller's document has each right that the commands use, and no other.

Where the API knows no resource of an action, its resource is `*`: EMR's lists and the descriptions
of EC2. STS's GetCallerIdentity needs no right. Source: Service Authorization Reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fruits_cli.cloud.account import CLEANUP_ROLE, SPOT_ROLE, RoleFacts
from fruits_cli.cloud.clusters import LAUNCH_ID_TAG, MANAGED_POLICY_TAG, NAME_TAG, TOOL_TAG
from fruits_cli.errors import ConfigError

_LINKED_ROLES = (CLEANUP_ROLE, SPOT_ROLE)


@dataclass(frozen=True)
class Scope:
    """Where the rights hold; prefix ends in `/`, or is empty for the whole bucket."""

    bucket: str
    prefix: str
    region: str
    account_id: str
    instance_role: str
    service_role: str
    # The first part of every ARN: aws, aws-cn, aws-us-gov.
    partition: str = "aws"

    def principal(self, service: str) -> str:
        """The name by which IAM knows a service. Source: aws-cli, emr create-default-roles."""
        return f"{service}.amazonaws.com{'.cn' if self.partition == 'aws-cn' else ''}"

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}"

    @property
    def service_policy_arn(self) -> str:
        """The managed policy that EMR's own service role is to carry."""
        return f"arn:{self.partition}:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2"

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account_id}:{resource}"

    def iam(self, resource: str) -> str:
        """The ARN of a resource of IAM, which has no regions."""
        return f"arn:{self.partition}:iam::{self.account_id}:{resource}"


def caller_policy(scope: Scope) -> dict[str, Any]:
    """What the caller needs from day to day on this bucket and prefix; it writes nothing to IAM."""
    return document(
        *_storage(scope), *_clusters(scope), *_network(scope), *_passing(scope), *_asked()
    )


def administrator_policy(scope: Scope) -> dict[str, Any]:
    """What creating and removing the roles needs besides: for the first launch, and --purge.

    Whoever may write policies of a role and pass it can do what that role can: for administrators.
    """
    return document(*_roles(scope))


def _storage(scope: Scope) -> list[dict[str, Any]]:
    bucket = scope.bucket_arn
    bucket_actions = (
        "s3:CreateBucket",
        "s3:GetLifecycleConfiguration",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:PutBucketOwnershipControls",
        "s3:PutBucketPublicAccessBlock",
        "s3:PutEncryptionConfiguration",
        "s3:PutLifecycleConfiguration",
    )
    uploads = ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
    objects = (*uploads, "s3:DeleteObject", "s3:GetObject", "s3:PutObject")
    places = [f"{bucket}/{scope.prefix}*", f"{bucket}/jupyter/*"]
    return [_allow("Bucket", bucket_actions, bucket), _allow("Objects", objects, places)]


def _clusters(scope: Scope) -> list[dict[str, Any]]:
    clusters = scope.arn("elasticmapreduce", "cluster/*")
    # status and purge look into all regions.
    anywhere = replace(scope, region="*").arn("elasticmapreduce", "cluster/*")
    launch = {"StringEquals": {f"aws:RequestTag/{MANAGED_POLICY_TAG}": "true"}}
    ours = {"StringLike": {f"elasticmapreduce:ResourceTag/{NAME_TAG}": "*"}}
    # RunJobFlow asks for these beside its own, on a cluster that has no tags yet.
    parts = ("AddTags", "PutAutoTerminationPolicy", "PutManagedScalingPolicy")
    acts = ("AddJobFlowSteps", "CancelSteps", "TerminateJobFlows")
    looks = ("DescribeCluster", "DescribeStep", "ListInstances", "ListSteps")
    return [
        _allow("Launch", _emr("RunJobFlow"), "*", launch),
        _allow("LaunchParts", _emr(*parts, "CreatePersistentAppUI"), clusters),
        _allow("OwnClusters", _emr(*acts), clusters, ours),
        _allow("LookAtClusters", _emr(*looks), anywhere),
        _allow(
            "Emr",
            _emr(
                "CreateSecurityConfiguration",
                "DeleteSecurityConfiguration",
                "DescribePersistentAppUI",
                "DescribeReleaseLabel",
                "DescribeSecurityConfiguration",
                "GetBlockPublicAccessConfiguration",
                "GetPersistentAppUIPresignedURL",
                "ListClusters",
                "ListReleaseLabels",
                "ListSupportedInstanceTypes",
            ),
            "*",
        ),
    ]


def _emr(*names: str) -> list[str]:
    return [f"elasticmapreduce:{name}" for name in names]


def _network(scope: Scope) -> list[dict[str, Any]]:
    group, vpc = scope.arn("ec2", "security-group/*"), scope.arn("ec2", "vpc/*")
    subnet, keys = scope.arn("ec2", "subnet/*"), scope.arn("ec2", "key-pair/fruits-*")
    rules = ("AuthorizeSecurityGroupIngress", "DeleteSecurityGroup", "RevokeSecurityGroupIngress")
    ours = {"StringLike": {f"ec2:ResourceTag/{LAUNCH_ID_TAG}": "*"}}
    own_keys = {"StringLike": {f"ec2:ResourceTag/{TOOL_TAG}": "*"}}
    named = {"StringLike": {f"aws:RequestTag/{LAUNCH_ID_TAG}": "*"}}
    # Whoever could put our tags on a group of others could then open it.
    at_birth = {"StringEquals": {"ec2:CreateAction": ["CreateSecurityGroup", "ImportKeyPair"]}}
    one_tag = {
        "StringEquals": {f"aws:RequestTag/{MANAGED_POLICY_TAG}": "true"},
        "ForAllValues:StringEquals": {"aws:TagKeys": [MANAGED_POLICY_TAG]},
    }
    return [
        _allow("NewTags", _ec2("CreateTags"), [group, keys], at_birth),
        _allow("NetworkTag", _ec2("CreateTags"), [subnet, vpc], one_tag),
        _allow("NewGroup", _ec2("CreateSecurityGroup"), group, named),
        _allow("NewGroupIn", _ec2("CreateSecurityGroup"), vpc),
        _allow("OwnGroups", _ec2(*rules), group, ours),
        _allow("NewKey", _ec2("ImportKeyPair"), keys),
        _allow("OwnKeys", _ec2("DeleteKeyPair"), keys, own_keys),
        _allow("HostKeys", _ec2("GetConsoleOutput"), scope.arn("ec2", "instance/*"), ours),
    ]


def _ec2(*names: str) -> list[str]:
    return [f"ec2:{name}" for name in names]


def _passing(scope: Scope) -> list[dict[str, Any]]:
    roles = [scope.iam(f"role/{name}") for name in (scope.instance_role, scope.service_role)]
    profile = scope.iam(f"instance-profile/{scope.instance_role}")
    looks = _iam("GetRolePolicy", "ListAttachedRolePolicies", "ListRolePolicies")
    people = [scope.iam("role/*"), scope.iam("user/*")]
    return [
        _allow("OwnRoles", looks, roles),
        _allow("OwnProfile", _iam("GetInstanceProfile"), profile),
        _allow("PassToNodes", _iam("PassRole"), roles[0], _passed_to("ec2")),
        _allow("PassToEmr", _iam("PassRole"), roles[1], _passed_to("elasticmapreduce")),
        _allow("LookAtRights", _iam("GetRole", "SimulatePrincipalPolicy"), people),
    ]


def _roles(scope: Scope) -> list[dict[str, Any]]:
    roles = [scope.iam(f"role/{name}") for name in (scope.instance_role, scope.service_role)]
    profile = scope.iam(f"instance-profile/{scope.instance_role}")
    role_actions = (
        "CreateRole",
        "DeleteRole",
        "DeleteRolePolicy",
        "PutRolePolicy",
        "TagRole",
        "UpdateAssumeRolePolicy",
    )
    profile_actions = (
        "AddRoleToInstanceProfile",
        "CreateInstanceProfile",
        "DeleteInstanceProfile",
        "RemoveRoleFromInstanceProfile",
        "TagInstanceProfile",
    )
    return [
        _allow("MakeRoles", _iam(*role_actions), roles),
        _allow("MakeProfile", _iam(*profile_actions), profile),
        _allow(
            "ManagedPolicy",
            _iam("AttachRolePolicy", "DetachRolePolicy"),
            roles[1],
            {"ArnEquals": {"iam:PolicyARN": scope.service_policy_arn}},
        ),
        _allow(
            "LinkedRoles",
            _iam("CreateServiceLinkedRole"),
            [scope.iam(f"role/{role.path}") for role in _LINKED_ROLES],
            {"StringEquals": {"iam:AWSServiceName": [role.service for role in _LINKED_ROLES]}},
        ),
    ]


def _passed_to(service: str) -> dict[str, Any]:
    return {"StringLike": {"iam:PassedToService": f"{service}.amazonaws.com*"}}


def _iam(*names: str) -> list[str]:
    return [f"iam:{name}" for name in names]


def _asked() -> list[dict[str, Any]]:
    looks = _ec2(
        "DescribeInstanceTypeOfferings",
        "DescribeInstanceTypes",
        "DescribeInstances",
        "DescribeKeyPairs",
        "DescribeRegions",
        "DescribeRouteTables",
        "DescribeSecurityGroups",
        "DescribeSpotPriceHistory",
        "DescribeSubnets",
        "DescribeVpcAttribute",
        "DescribeVpcEndpoints",
        "DescribeVpcs",
    )
    # One statement: each costs some of the 6144 characters that a managed policy holds.
    return [_allow("Ask", [*looks, "pricing:GetProducts", "servicequotas:GetServiceQuota"], "*")]


def _allow(
    sid: str,
    actions: Sequence[str],
    resource: str | list[str],
    condition: dict[str, Any] | None = None,
) -> dict[str, Any]:
    statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


_VERSION = "2012-10-17"


@dataclass(frozen=True)
class RoleSpec:
    """An IAM role as a launch wants it; has_profile: with an instance profile of its name."""

    name: str
    principal: str
    trust: Mapping[str, Any]
    policy: Mapping[str, Any]
    managed_arn: str = ""
    has_profile: bool = False

    def lacks(self, facts: RoleFacts) -> list[str]:
        """Parts that are missing and that every cluster needs."""
        missing = {
            "trust policy": self.principal in trusted_services(facts.trust),
            "own policy": facts.policy is not None,
            "managed policy": not self.managed_arn or self.managed_arn in facts.attached,
            "instance profile": not self.has_profile or facts.profile == (self.name,),
        }
        return [part for part, is_there in missing.items() if not is_there]

    def differs(self, facts: RoleFacts) -> list[str]:
        """Parts that are not as this version of fruits writes them."""
        parts = {
            "trust policy": same_document(facts.trust, self.trust),
            "own policy": facts.policy is None or same_document(facts.policy, self.policy),
        }
        lacking = self.lacks(facts)
        return [part for part, is_same in parts.items() if not is_same and part not in lacking]


def require_ours(name: str, facts: RoleFacts) -> None:
    """Raises ConfigError where role or instance profile lack fruits' tag: a name is no proof."""
    for kind in facts.foreign:
        word = kind.replace(" ", "-")
        flag = "--role-name" if kind == "role" else "--instance-profile-name"
        raise ConfigError(
            f"The {kind} {name} was not made by fruits: it lacks the tag {TOOL_TAG}.",
            hint=f"Remove it, or hand it over: aws iam tag-{word} {flag} {name} "
            f"--tags Key={TOOL_TAG},Value=fruits",
        )


def trusted_services(trust: Mapping[str, Any]) -> set[str]:
    """The services that a trust policy lets take the role; IAM writes one or a list of each."""
    found: set[str] = set()
    for statement in _listed(trust.get("Statement")):
        principal = statement.get("Principal")
        if statement.get("Effect") == "Allow" and isinstance(principal, Mapping):
            found.update(_listed(principal.get("Service")))
    return found


def same_document(document: Any, other: Any) -> bool:
    """Whether two policies say the same: IAM takes a list of one for that one, in any order."""
    return bool(_plain(document) == _plain(other))


def _plain(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {key: _plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        plain = sorted((_plain(item) for item in part), key=repr)
        return plain[0] if len(plain) == 1 else plain
    return part


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def instance_role(scope: Scope) -> RoleSpec:
    """The nodes' role: EC2 takes it, and each node has the rights of `node_policy`."""
    principal = scope.principal("ec2")
    trust = document({**_TAKE, "Principal": {"Service": principal}})
    policy = node_policy(scope)
    return RoleSpec(scope.instance_role, principal, trust, policy, has_profile=True)


def service_role(scope: Scope) -> RoleSpec:
    """EMR's own role: EMR takes it for this account alone, and hands EC2 the nodes' role.

    The managed policy passes EMR_EC2_DefaultRole alone. Source: EMR Management Guide, service role.
    """
    principal = scope.principal("elasticmapreduce")
    anywhere = replace(scope, region="*")
    condition = {
        "StringEquals": {"aws:SourceAccount": scope.account_id},
        "ArnLike": {"aws:SourceArn": anywhere.arn("elasticmapreduce", "*")},
    }
    trust = document({**_TAKE, "Principal": {"Service": principal}, "Condition": condition})
    role = scope.iam(f"role/{scope.instance_role}")
    passing = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role}
    policy = document({**passing, "Condition": _passed_to("ec2")})
    return RoleSpec(scope.service_role, principal, trust, policy, scope.service_policy_arn)


_TAKE = {"Effect": "Allow", "Action": "sts:AssumeRole"}


def node_policy(scope: Scope) -> dict[str, Any]:
    """What the nodes may do: their place in the bucket, notebooks, and to end their own cluster.

    `jupyter/` is where EMR keeps notebooks.
    """
    arn = scope.bucket_arn
    places = [f"{arn}/{scope.prefix}*", f"{arn}/jupyter/*"]
    return document(
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
            "Resource": arn,
        },
        {
            "Effect": "Allow",
            "Action": [
                "s3:GetObject",
                "s3:PutObject",
                "s3:DeleteObject",
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
            ],
            "Resource": places,
        },
        {
            "Effect": "Allow",
            "Action": "elasticmapreduce:TerminateJobFlows",
            "Resource": scope.arn("elasticmapreduce", "cluster/*"),
            "Condition": {"StringLike": {f"elasticmapreduce:ResourceTag/{NAME_TAG}": "*"}},
        },
    )


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    """A policy of these statements."""
    return {"Version": _VERSION, "Statement": list(statements)}
