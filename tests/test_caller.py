"""The caller's document against the calls that the code can make, both ways."""

import json
from pathlib import Path

import pytest
from rights import allowed_by, called_in, rights_of

import fruits_cli.aws
from fruits_cli.caller import Scope, caller_policy

SCOPE = Scope("figs", "fruits/", "eu-west-3", "123456789012", "fruits-ec2-1", "fruits-emr-1")
POLICY = caller_policy(SCOPE)
AWS = Path(fruits_cli.aws.__file__).parent


def test_every_call_of_the_code_is_allowed() -> None:
    wanted = {right for call in called_in(AWS) for right in rights_of(*call)}

    missing = sorted(wanted - allowed_by(POLICY))
    assert not missing, f"add to caller_policy: {missing}"


def test_no_right_is_allowed_that_no_call_asks_for() -> None:
    wanted = {right for call in called_in(AWS) for right in rights_of(*call)}

    spare = sorted(allowed_by(POLICY) - wanted)
    assert not spare, f"remove from caller_policy: {spare}"


def test_statements_have_names_of_their_own_and_the_document_fits_a_managed_policy() -> None:
    names = [statement["Sid"] for statement in POLICY["Statement"]]

    assert len(set(names)) == len(names)
    # IAM counts no white space. Source: IAM User Guide, quotas.
    assert len(json.dumps(POLICY, separators=(",", ":"))) <= 6144


@pytest.mark.parametrize(
    ("action", "resources"),
    [
        ("s3:PutObject", ["arn:aws:s3:::figs/fruits/*", "arn:aws:s3:::figs/jupyter/*"]),
        ("s3:ListBucket", ["arn:aws:s3:::figs"]),
        (
            "iam:PassRole",
            [
                "arn:aws:iam::123456789012:role/fruits-ec2-1",
                "arn:aws:iam::123456789012:role/fruits-emr-1",
            ],
        ),
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
    ],
)
def test_what_ends_or_opens_something_is_bound_to_our_tags(
    action: str, condition: dict[str, dict[str, str]]
) -> None:
    (found,) = [one for one in POLICY["Statement"] if action in one["Action"]]

    assert found["Condition"] == condition


def test_only_what_has_no_resource_of_its_own_is_allowed_everywhere() -> None:
    everywhere = {one["Sid"] for one in POLICY["Statement"] if one["Resource"] == "*"}

    assert everywhere == {"Launch", "Emr", "LookAtEc2", "Prices"}
