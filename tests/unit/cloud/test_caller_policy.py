"""The caller's document against the calls that the code can make, both ways."""

import json
from pathlib import Path
from typing import Any

import pytest

import fruits_cli.aws
from fruits_cli.cloud.policies import Scope, administrator_policy, caller_policy
from tests.support.rights import allowed_by, called_in, rights_of
from tests.support.verdicts import allows, context_of

SCOPE = Scope("figs", "fruits/", "eu-west-3", "123456789012", "fruits-ec2-1", "fruits-emr-1")
DAILY, ONCE = caller_policy(SCOPE), administrator_policy(SCOPE)
POLICY = {"Statement": [*DAILY["Statement"], *ONCE["Statement"]]}
AWS = Path(fruits_cli.aws.__file__).parent


def test_every_call_of_the_code_is_allowed() -> None:
    wanted = {right for call in called_in(AWS) for right in rights_of(*call)}

    missing = sorted(wanted - allowed_by(POLICY))
    assert not missing, f"add to caller_policy: {missing}"


def test_no_right_is_allowed_that_no_call_asks_for() -> None:
    wanted = {right for call in called_in(AWS) for right in rights_of(*call)}

    spare = sorted(allowed_by(POLICY) - wanted)
    assert not spare, f"remove from caller_policy: {spare}"


def test_statement_ids_are_unique_and_the_document_fits_a_managed_policy() -> None:
    names = [statement["Sid"] for statement in POLICY["Statement"]]

    assert len(set(names)) == len(names)
    # IAM counts no white space. Source: IAM User Guide, quotas.
    assert all(len(json.dumps(one, separators=(",", ":"))) <= 6144 for one in (DAILY, ONCE))


def test_whoever_runs_fruits_day_by_day_writes_nothing_into_iam() -> None:
    actions = {right for right in allowed_by(DAILY) if right.startswith("iam:")}

    assert {right for right in actions if not right.startswith(("iam:Get", "iam:List"))} == {
        "iam:PassRole",
        "iam:SimulatePrincipalPolicy",
    }


@pytest.mark.parametrize(
    ("action", "resources"),
    [
        ("s3:PutObject", ["arn:aws:s3:::figs/fruits/*", "arn:aws:s3:::figs/jupyter/*"]),
        ("s3:ListBucket", ["arn:aws:s3:::figs"]),
        ("iam:DeleteInstanceProfile", ["arn:aws:iam::123456789012:instance-profile/fruits-ec2-1"]),
        ("ec2:ImportKeyPair", ["arn:aws:ec2:eu-west-3:123456789012:key-pair/fruits-*"]),
    ],
)
def test_a_right_holds_for_what_is_ours_alone(action: str, resources: list[str]) -> None:
    (found,) = [one["Resource"] for one in POLICY["Statement"] if action in one["Action"]]

    assert ([found] if isinstance(found, str) else found) == resources


@pytest.mark.parametrize(
    ("action", "condition"),
    [
        (
            "elasticmapreduce:TerminateJobFlows",
            {"StringLike": {"elasticmapreduce:ResourceTag/fruits:name": "*"}},
        ),
        (
            "ec2:AuthorizeSecurityGroupIngress",
            {"StringLike": {"ec2:ResourceTag/fruits:launch-id": "*"}},
        ),
        (
            "elasticmapreduce:RunJobFlow",
            {"StringEquals": {"aws:RequestTag/for-use-with-amazon-emr-managed-policies": "true"}},
        ),
        ("ec2:DeleteKeyPair", {"StringLike": {"ec2:ResourceTag/fruits:tool": "*"}}),
        ("ec2:GetConsoleOutput", {"StringLike": {"ec2:ResourceTag/fruits:launch-id": "*"}}),
    ],
)
def test_what_ends_or_opens_something_is_bound_to_our_tags(
    action: str, condition: dict[str, dict[str, str]]
) -> None:
    (found,) = [one for one in POLICY["Statement"] if action in one["Action"]]

    assert found["Condition"] == condition


def statements(action: str) -> dict[str, dict[str, Any]]:
    """Resource to condition, for each statement that allows the action."""
    return {
        resource.rpartition(":")[2]: one.get("Condition", {})
        for one in POLICY["Statement"]
        if action in one["Action"]
        for resource in ([one["Resource"]] if isinstance(one["Resource"], str) else one["Resource"])
    }


def test_each_role_is_passed_to_its_own_service_alone() -> None:
    assert statements("iam:PassRole") == {
        "role/fruits-ec2-1": {"StringLike": {"iam:PassedToService": "ec2.amazonaws.com*"}},
        "role/fruits-emr-1": {
            "StringLike": {"iam:PassedToService": "elasticmapreduce.amazonaws.com*"}
        },
    }


def test_nobody_can_put_our_tags_on_what_others_made() -> None:
    at_birth = {"StringEquals": {"ec2:CreateAction": ["CreateSecurityGroup", "ImportKeyPair"]}}
    tag = "for-use-with-amazon-emr-managed-policies"
    this_one = {
        "StringEquals": {f"aws:RequestTag/{tag}": "true"},
        "ForAllValues:StringEquals": {"aws:TagKeys": [tag]},
    }

    assert statements("ec2:CreateTags") == {
        "security-group/*": at_birth,
        "key-pair/fruits-*": at_birth,
        "subnet/*": this_one,
        "vpc/*": this_one,
    }


def test_the_document_fits_whatever_the_names_are() -> None:
    scope = Scope("b" * 63, "fruits/", "ap-southeast-3", "1" * 12, "r" * 19, "s" * 19)

    assert len(json.dumps(caller_policy(scope), separators=(",", ":"))) <= 6144
    assert len(json.dumps(administrator_policy(scope), separators=(",", ":"))) <= 6144


def test_only_what_has_no_resource_of_its_own_is_allowed_everywhere() -> None:
    everywhere = {one["Sid"] for one in POLICY["Statement"] if one["Resource"] == "*"}

    assert everywhere == {"Launch", "Emr", "Ask"}


HERE = "eu-west-3:123456789012"
GROUP = f"arn:aws:ec2:{HERE}:security-group/sg-1"


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("s3:GetObject", "arn:aws:s3:::figs/salaries.csv", {}),
        ("s3:ListBucket", "arn:aws:s3:::figs-of-others", {}),
        (
            "elasticmapreduce:TerminateJobFlows",
            f"arn:aws:elasticmapreduce:{HERE}:cluster/j-1",
            {"elasticmapreduce:ResourceTag/team": "reports"},
        ),
        ("elasticmapreduce:RunJobFlow", "*", {"aws:RequestTag/team": "reports"}),
        ("ec2:AuthorizeSecurityGroupIngress", GROUP, {}),
        ("ec2:CreateTags", GROUP, context_of({"Tags": [{"Key": "fruits:name", "Value": "x"}]})),
        (
            "ec2:CreateTags",
            f"arn:aws:ec2:{HERE}:subnet/subnet-1",
            context_of({"Tags": [{"Key": "fruits:name", "Value": "x"}]}),
        ),
        ("iam:PutRolePolicy", "arn:aws:iam::123456789012:role/admin", {}),
        (
            "iam:AttachRolePolicy",
            "arn:aws:iam::123456789012:role/fruits-emr-1",
            {"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess"},
        ),
        (
            "iam:PassRole",
            "arn:aws:iam::123456789012:role/fruits-ec2-1",
            {"iam:PassedToService": "lambda.amazonaws.com"},
        ),
    ],
)
def test_what_is_not_ours_is_out_of_reach(
    action: str, resource: str, context: dict[str, Any]
) -> None:
    assert action in allowed_by(POLICY)
    assert not allows(POLICY, action, resource, context)
