"""IAM documents of the cluster's two roles; pure. No wildcard resource where a name is known.

What the user's own identity needs is in caller.py.
"""

from __future__ import annotations

from typing import Any

from fruits_cli.cluster import NAME_TAG

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
