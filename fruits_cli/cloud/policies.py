"""The IAM document of whoever runs fruits: each right that its commands use, and no other; pure.

Where the API knows no resource of an action, its resource is `*`: EMR's lists and the descriptions
of EC2. STS's GetCallerIdentity needs no right. Source: Service Authorization Reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fruits_cli.cloud.account import CLEANUP_ROLE, EC2_SERVICE, EMR_SERVICE, SPOT_ROLE
from fruits_cli.cloud.clusters import LAUNCH_ID_TAG, MANAGED_POLICY_TAG, NAME_TAG, TOOL_TAG

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

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource in this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"

    def iam(self, resource: str) -> str:
        """The ARN of a resource of IAM, which has no regions."""
        return f"arn:aws:iam::{self.account_id}:{resource}"


def caller_policy(scope: Scope) -> dict[str, Any]:
    """What an identity needs day by day, on this bucket and prefix: it writes nothing into IAM."""
    return document(
        *_storage(scope), *_clusters(scope), *_network(scope), *_passing(scope), *_asked()
    )


def administrator_policy(scope: Scope) -> dict[str, Any]:
    """What making and removing the roles takes besides: the first launch, and --purge.

    Whoever may write policies of a role and pass it can do what that role can: for administrators.
    """
    return document(*_roles(scope))


def _storage(scope: Scope) -> list[dict[str, Any]]:
    bucket = f"arn:aws:s3:::{scope.bucket}"
    bucket_actions = (
        "s3:CreateBucket",
        "s3:ListBucket",
        "s3:PutBucketOwnershipControls",
        "s3:PutBucketPublicAccessBlock",
        "s3:PutEncryptionConfiguration",
        "s3:PutLifecycleConfiguration",
    )
    objects = ("s3:DeleteObject", "s3:GetObject", "s3:PutObject")
    places = [f"{bucket}/{scope.prefix}*", f"{bucket}/jupyter/*"]
    return [_allow("Bucket", bucket_actions, bucket), _allow("Objects", objects, places)]


def _clusters(scope: Scope) -> list[dict[str, Any]]:
    clusters = scope.arn("elasticmapreduce", "cluster/*")
    # status and purge look into all regions.
    anywhere = f"arn:aws:elasticmapreduce:*:{scope.account_id}:cluster/*"
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
        _allow("PassToNodes", _iam("PassRole"), roles[0], _passed_to(EC2_SERVICE)),
        _allow("PassToEmr", _iam("PassRole"), roles[1], _passed_to(EMR_SERVICE)),
        _allow("LookAtRights", _iam("GetRole", "SimulatePrincipalPolicy"), people),
    ]


def _roles(scope: Scope) -> list[dict[str, Any]]:
    roles = [scope.iam(f"role/{name}") for name in (scope.instance_role, scope.service_role)]
    profile = scope.iam(f"instance-profile/{scope.instance_role}")
    role_actions = ("CreateRole", "DeleteRole", "DeleteRolePolicy", "PutRolePolicy", "TagRole")
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
            {"ArnEquals": {"iam:PolicyARN": SERVICE_POLICY_ARN}},
        ),
        _allow(
            "LinkedRoles",
            _iam("CreateServiceLinkedRole"),
            [scope.iam(f"role/{role.path}") for role in _LINKED_ROLES],
            {"StringEquals": {"iam:AWSServiceName": [role.service for role in _LINKED_ROLES]}},
        ),
    ]


def _passed_to(service: str) -> dict[str, Any]:
    return {"StringLike": {"iam:PassedToService": f"{service}*"}}


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
# The managed policy that EMR's own service role is to carry.
SERVICE_POLICY_ARN = "arn:aws:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2"


def ec2_trust_policy() -> dict[str, Any]:
    """Who may take the nodes' role: EC2."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    )


def emr_trust_policy(account_id: str) -> dict[str, Any]:
    """Who may take EMR's role: EMR, for this account alone.

    Source: EMR Management Guide, service role for Amazon EMR.
    """
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "elasticmapreduce.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": account_id},
                "ArnLike": {"aws:SourceArn": f"arn:aws:elasticmapreduce:*:{account_id}:*"},
            },
        }
    )


def pass_role_policy(account_id: str, role: str) -> dict[str, Any]:
    """Lets EMR's role hand `role` to EC2: the managed policy passes EMR_EC2_DefaultRole alone."""
    return document(
        {
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": f"arn:aws:iam::{account_id}:role/{role}",
            "Condition": {"StringLike": {"iam:PassedToService": "ec2.amazonaws.com*"}},
        }
    )


def node_policy(*, bucket: str, prefix: str, region: str, account_id: str) -> dict[str, Any]:
    """What the nodes may do: their place in the bucket, notebooks, and to end their own cluster.

    prefix: ends in `/`, or is empty for the whole bucket. `jupyter/` is where EMR keeps notebooks.
    """
    arn = f"arn:aws:s3:::{bucket}"
    places = [f"{arn}/{prefix}*", f"{arn}/jupyter/*"]
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
            "Resource": f"arn:aws:elasticmapreduce:{region}:{account_id}:cluster/*",
            "Condition": {"StringLike": {f"elasticmapreduce:ResourceTag/{NAME_TAG}": "*"}},
        },
    )


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    """A policy of these statements."""
    return {"Version": _VERSION, "Statement": list(statements)}
