"""Whether an IAM document allows a request: by action, by resource and by condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from fruits_cli.cloud.account import CLEANUP_ROLE, SPOT_ROLE

_OF_BUCKETS = ("HeadBucket", "List", "CreateBucket", "PutBucket", "PutPublicAccessBlock")
_TAGS = ("fruits:name", "fruits:launch-id", "fruits:tool")


def allows(
    policy: Mapping[str, Any], action: str, resource: str, context: Mapping[str, Any]
) -> bool:
    """Whether some statement allows the action; conditions as IAM reads them."""
    return any(
        action in one["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in _listed(one["Resource"]))
        and all(
            _holds(operator, wanted, context.get(key))
            for operator, keys in one.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
        for one in policy["Statement"]
    )


def _holds(operator: str, wanted: str | list[str], found: Any) -> bool:
    if operator.startswith("ForAllValues:"):
        return set(found or ()) <= set(_listed(wanted))
    return found is not None and any(fnmatchcase(found, one) for one in _listed(wanted))


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def context_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """What IAM knows of a request. What it is about was made by fruits, and has its tags."""
    known: dict[str, Any] = {
        f"{service}:ResourceTag/{tag}": "x"
        for service in ("elasticmapreduce", "ec2")
        for tag in _TAGS
    }
    tags = [*params.get("Tags", ()), *_born_with(params)]
    known |= {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags}
    known["aws:TagKeys"] = [tag["Key"] for tag in tags]
    known["iam:PolicyARN"] = params.get("PolicyArn")
    known["iam:AWSServiceName"] = params.get("AWSServiceName")
    return known


def _born_with(params: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    for one in params.get("TagSpecifications", ()):
        yield from one["Tags"]


def resources_of(
    service: str, operation: str, params: Mapping[str, Any], *, region: str, account_id: str
) -> list[str]:
    """The ARNs that a request is about; `*` where the service knows none."""
    here = f"{region}:{account_id}"
    if service == "s3":
        key = "" if operation.startswith(_OF_BUCKETS) else f"/{params['Key']}"
        return [f"arn:aws:s3:::{params['Bucket']}{key}"]
    if service == "iam":
        return [f"arn:aws:iam::{account_id}:{_of_iam(operation, params)}"]
    if service == "emr":
        ids = [params.get("ClusterId") or params.get("JobFlowId"), *params.get("JobFlowIds", ())]
        found = [f"arn:aws:elasticmapreduce:{here}:cluster/{one}" for one in ids if one]
        return found or ["*"]
    if service == "ec2":
        return [f"arn:aws:ec2:{here}:{one}" for one in _of_ec2(operation, params)] or ["*"]
    return ["*"]


def _of_iam(operation: str, params: Mapping[str, Any]) -> str:
    for role in (CLEANUP_ROLE, SPOT_ROLE):
        if role.service == params.get("AWSServiceName") or role.name == params.get("RoleName"):
            return f"role/{role.path}"
    if "InstanceProfileName" in params:
        return f"instance-profile/{params['InstanceProfileName']}"
    return f"role/{params['RoleName']}"


def _of_ec2(operation: str, params: Mapping[str, Any]) -> list[str]:
    if operation.startswith("Describe"):
        return []
    if operation == "CreateSecurityGroup":
        return ["security-group/new", f"vpc/{params['VpcId']}"]
    if operation == "CreateTags":
        return [f"{one.partition('-')[0]}/{one}" for one in params["Resources"]]
    if "KeyName" in params:
        return [f"key-pair/{params['KeyName']}"]
    return [f"security-group/{params['GroupId']}"]
