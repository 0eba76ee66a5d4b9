"""Which rights AWS asks for: of operations of boto3, and of an IAM document."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name

_PREFIXES = {
    "ec2": "ec2",
    "emr": "elasticmapreduce",
    "iam": "iam",
    "pricing": "pricing",
    "service-quotas": "servicequotas",
}
# S3's rights have other names than its operations. Source: S3 User Guide, required permissions.
_S3 = {
    "AbortMultipartUpload": ["s3:AbortMultipartUpload"],
    "CompleteMultipartUpload": ["s3:PutObject"],
    "CreateBucket": ["s3:CreateBucket", "s3:PutBucketOwnershipControls"],
    "CreateMultipartUpload": ["s3:PutObject"],
    "DeleteObject": ["s3:DeleteObject"],
    "GetObject": ["s3:GetObject"],
    "HeadBucket": ["s3:ListBucket"],
    "HeadObject": ["s3:GetObject"],
    "ListMultipartUploads": ["s3:ListBucketMultipartUploads"],
    "ListObjectsV2": ["s3:ListBucket"],
    "ListParts": ["s3:ListMultipartUploadParts"],
    "PutBucketEncryption": ["s3:PutEncryptionConfiguration"],
    "GetBucketLifecycleConfiguration": ["s3:GetLifecycleConfiguration"],
    "PutBucketLifecycleConfiguration": ["s3:PutLifecycleConfiguration"],
    "PutObject": ["s3:PutObject"],
    "PutPublicAccessBlock": ["s3:PutBucketPublicAccessBlock"],
    "UploadPart": ["s3:PutObject"],
}
# Rights that an operation asks for beside its own, because of what we give it.
_BESIDE = {
    ("emr", "RunJobFlow"): [
        "elasticmapreduce:AddTags",
        "elasticmapreduce:PutAutoTerminationPolicy",
        "elasticmapreduce:PutManagedScalingPolicy",
        "iam:PassRole",
    ],
    ("iam", "AddRoleToInstanceProfile"): ["iam:PassRole"],
    ("iam", "CreateInstanceProfile"): ["iam:TagInstanceProfile"],
    ("iam", "CreateRole"): ["iam:TagRole"],
    ("ec2", "CreateSecurityGroup"): ["ec2:CreateTags"],
    ("ec2", "ImportKeyPair"): ["ec2:CreateTags"],
}
# boto3's transfer manager sends files, in parts where they are large.
_TRANSFERS = {
    "upload_file": ("PutObject", "CreateMultipartUpload", "AbortMultipartUpload"),
    "download_file": ("HeadObject", "GetObject"),
}


def rights_of(service: str, operation: str) -> list[str]:
    """The rights that one operation asks for."""
    if service == "sts":
        return []
    if service == "s3":
        return _S3[operation]
    own = f"{_PREFIXES[service]}:{operation}"
    return [own, *_BESIDE.get((service, operation), [])]


def called_in(folder: Path) -> set[tuple[str, str]]:
    """Service and operation of whatever boto3 call is written below `folder`."""
    known = _known_operations()
    return {
        call
        for file in folder.rglob("*.py")
        for word in _words(ast.parse(file.read_text()))
        for call in known.get(word, ())
    }


def _words(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Paginators are asked for by name.
            yield node.value


def _known_operations() -> dict[str, list[tuple[str, str]]]:
    session = botocore.session.Session()
    known: dict[str, list[tuple[str, str]]] = {}
    for service in ("s3", "sts", *_PREFIXES):
        for operation in session.get_service_model(service).operation_names:
            known.setdefault(xform_name(operation), []).append((service, operation))
    for word, operations in _TRANSFERS.items():
        known[word] = [("s3", operation) for operation in operations]
    return known


def allowed_by(policy: Mapping[str, Any]) -> set[str]:
    """Every action that a document allows; fails on a wildcard."""
    actions = set()
    for statement in policy["Statement"]:
        named = statement["Action"]
        actions |= {named} if isinstance(named, str) else set(named)
    assert not [one for one in actions if "*" in one]
    return actions
