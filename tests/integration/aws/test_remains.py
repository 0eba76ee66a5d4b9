"""What AWS refuses while things are removed, and what was left half removed."""

import json
from typing import Any

import boto3
import pytest

from fruits_cli.aws.remains import AwsRemains
from fruits_cli.cloud import policies
from fruits_cli.cloud.account import Remnant, RemnantKind
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.errors import AccessDenied, CloudError
from tests.support.stubs import Stubs, refused

ROLE = "fruits-ec2-1"
PROFILE = Remnant(RemnantKind.INSTANCE_PROFILE, ROLE)


@pytest.fixture
def made(aws: Cloud) -> Cloud:
    policy = policies.node_policy(bucket="b", prefix="", region="r", account_id="1")
    aws.rights.create_instance_role(ROLE, trust=policies.ec2_trust_policy(), policy=policy)
    return aws


def test_a_removal_that_is_refused_names_the_thing_and_the_right() -> None:
    stubs = Stubs()
    profile: dict[str, Any] = {
        "Path": "/",
        "InstanceProfileName": ROLE,
        "InstanceProfileId": "AIPA0123456789ABCDEF",
        "Arn": f"arn:aws:iam::123456789012:instance-profile/{ROLE}",
        "CreateDate": "2026-08-23T14:00:00Z",
        "Roles": [],
    }
    stubs.of("iam").add_response("get_instance_profile", {"InstanceProfile": profile})
    text = "User: ada is not authorized to perform: iam:DeleteInstanceProfile on resource: x"
    refused(stubs, "delete_instance_profile", "AccessDenied", text, status=403, service="iam")

    with pytest.raises(AccessDenied, match=f"remove instance profile {ROLE}") as denied:
        AwsRemains(stubs).remove(PROFILE)

    assert denied.value.hint == "The right that is missing is iam:DeleteInstanceProfile."


def test_a_look_that_is_refused_is_not_taken_for_absence() -> None:
    stubs = Stubs()
    refused(stubs, "get_role", "AccessDenied", "no", status=403, service="iam")

    with pytest.raises(AccessDenied) as denied:
        AwsRemains(stubs).remnants(RemnantKind.ROLE, [ROLE])

    assert denied.value.hint == "The right that is missing is iam:GetRole."


def test_a_security_group_in_use_is_left_with_what_ec2_says() -> None:
    stubs = Stubs()
    group = {"GroupId": "sg-1", "GroupName": "fruits-x-ssh"}
    stubs.of("ec2").add_response("describe_security_groups", {"SecurityGroups": [group]})
    text = "resource sg-1 has a dependent object"
    refused(stubs, "delete_security_group", "DependencyViolation", text, service="ec2")

    with pytest.raises(CloudError, match="has a dependent object"):
        AwsRemains(stubs).remove(Remnant(RemnantKind.SECURITY_GROUP, "fruits-x-ssh"))


def test_an_emptied_profile_is_found_again_and_removed(made: Cloud) -> None:
    iam = boto3.client("iam", "eu-west-3")
    iam.remove_role_from_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)

    assert made.remains.remnants(RemnantKind.INSTANCE_PROFILE, [ROLE]) == [PROFILE]
    made.remains.remove(PROFILE)

    assert made.remains.remnants(RemnantKind.INSTANCE_PROFILE, [ROLE]) == []


def test_a_role_that_lost_its_policies_already_is_removed(made: Cloud) -> None:
    boto3.client("iam", "eu-west-3").delete_role_policy(RoleName=ROLE, PolicyName="fruits")
    made.remains.remove(PROFILE)

    made.remains.remove(Remnant(RemnantKind.ROLE, ROLE))

    assert made.remains.remnants(RemnantKind.ROLE, [ROLE]) == []


def test_a_profile_of_our_name_that_somebody_else_made_is_not_ours(aws: Cloud) -> None:
    iam = boto3.client("iam", "eu-west-3")
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(policies.ec2_trust_policy()))
    iam.create_instance_profile(InstanceProfileName=ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)

    assert aws.remains.remnants(RemnantKind.INSTANCE_PROFILE, [ROLE]) == []
    assert aws.remains.remnants(RemnantKind.ROLE, [ROLE]) == []


def test_a_key_pair_without_our_tag_or_name_is_not_ours(aws: Cloud) -> None:
    ec2 = boto3.client("ec2", "eu-west-3")
    tagged = [{"ResourceType": "key-pair", "Tags": [{"Key": "fruits:tool", "Value": "fruits"}]}]
    ec2.create_key_pair(KeyName="fruits-ours", TagSpecifications=tagged)
    ec2.create_key_pair(KeyName="fruits-theirs")
    ec2.create_key_pair(KeyName="theirs", TagSpecifications=tagged)

    assert aws.remains.remnants(RemnantKind.KEY_PAIR, ()) == [
        Remnant(RemnantKind.KEY_PAIR, "fruits-ours")
    ]
