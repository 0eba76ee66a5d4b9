"""Roles, profiles and groups: ours by tag, brought up to date, and removed to the end."""

import json
from typing import Any

import boto3
import pytest

from fruits_cli.aws.rights import AwsRights
from fruits_cli.cloud import policies
from fruits_cli.cloud.account import Foundation, Remnant
from fruits_cli.cloud.clusters import LAUNCH_ID_TAG
from fruits_cli.cloud.protocols import Cloud
from fruits_cli.errors import AccessDenied, CloudError, ConfigError, RoleNotReady
from tests.support.stubs import Stubs, refused

ROLE = "fruits-ec2-1"
NODES = Remnant(Foundation.INSTANCE_ROLE, ROLE)
SCOPE = policies.Scope("b", "", "eu-west-3", "123456789012", ROLE, "fruits-emr-1")
SPEC = policies.instance_role(SCOPE)


@pytest.fixture
def made(aws: Cloud) -> Cloud:
    aws.rights.make_role(SPEC)
    return aws


def test_a_refused_removal_names_the_resource_and_the_right() -> None:
    stubs = Stubs()
    profile: dict[str, Any] = {
        "Path": "/",
        "InstanceProfileName": ROLE,
        "InstanceProfileId": "AIPA0123456789ABCDEF",
        "Arn": f"arn:aws:iam::123456789012:instance-profile/{ROLE}",
        "CreateDate": "2026-08-23T14:00:00Z",
        "Roles": [],
        "Tags": [{"Key": "fruits:tool", "Value": "fruits"}],
    }
    for _ in range(2):
        stubs.of("iam").add_response("get_instance_profile", {"InstanceProfile": profile})
    text = "User: ada is not authorized to perform: iam:DeleteInstanceProfile on resource: x"
    refused(stubs, "delete_instance_profile", "AccessDenied", text, status=403, service="iam")

    with pytest.raises(
        AccessDenied, match=f"remove EC2 role and instance profile {ROLE}"
    ) as denied:
        AwsRights(stubs).remove(NODES)

    assert denied.value.hint == "The right that is missing is iam:DeleteInstanceProfile."


def test_a_refused_look_does_not_count_as_absence() -> None:
    stubs = Stubs()
    refused(stubs, "get_role", "AccessDenied", "no", status=403, service="iam")

    with pytest.raises(AccessDenied) as denied:
        AwsRights(stubs).remnants(Foundation.SERVICE_ROLE, [ROLE])

    assert denied.value.hint == "The right that is missing is iam:GetRole."


def test_a_role_that_may_not_be_read_does_not_count_as_absent() -> None:
    stubs = Stubs()
    refused(stubs, "get_role", "AccessDenied", "no", status=403, service="iam")

    with pytest.raises(AccessDenied) as denied:
        AwsRights(stubs).role(SPEC)

    assert denied.value.hint == "The right that is missing is iam:GetRole."


def test_a_security_group_in_use_is_left_with_what_ec2_says() -> None:
    stubs = Stubs()
    group = {"GroupId": "sg-1", "GroupName": "fruits-x-ssh"}
    stubs.of("ec2").add_response("describe_security_groups", {"SecurityGroups": [group]})
    text = "resource sg-1 has a dependent object"
    refused(stubs, "delete_security_group", "DependencyViolation", text, service="ec2")

    with pytest.raises(CloudError, match="has a dependent object"):
        AwsRights(stubs).remove(Remnant(Foundation.SECURITY_GROUP, "fruits-x-ssh"))


def test_an_emptied_profile_is_found_again_and_removed(made: Cloud) -> None:
    iam = boto3.client("iam", "eu-west-3")
    iam.remove_role_from_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)

    iam.delete_role_policy(RoleName=ROLE, PolicyName="fruits")
    iam.delete_role(RoleName=ROLE)

    assert made.rights.remnants(Foundation.INSTANCE_ROLE, [ROLE]) == [NODES]
    made.rights.remove(NODES)

    assert made.rights.remnants(Foundation.INSTANCE_ROLE, [ROLE]) == []


def test_a_role_that_lost_its_policies_already_is_removed(made: Cloud) -> None:
    boto3.client("iam", "eu-west-3").delete_role_policy(RoleName=ROLE, PolicyName="fruits")
    for _ in range(2):
        made.rights.remove(NODES)

    assert made.rights.remnants(Foundation.INSTANCE_ROLE, [ROLE]) == []


def make_foreign(*, role: bool = True) -> Any:
    """A role and a profile of our names of somebody else; `role` False: the profile alone."""
    iam = boto3.client("iam", "eu-west-3")
    iam.create_instance_profile(InstanceProfileName=ROLE)
    if role:
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(dict(SPEC.trust)))
        iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)
    return iam


def _role(name: str) -> dict[str, Any]:
    return {
        "Path": "/",
        "RoleName": name,
        "RoleId": "AROA0123456789ABCDEF",
        "Arn": f"arn:aws:iam::123456789012:role/{name}",
        "CreateDate": "2026-08-23T14:00:00Z",
        "Tags": [{"Key": "fruits:tool", "Value": "fruits"}],
    }


def test_a_removal_whose_answer_got_lost_goes_on_to_the_end() -> None:
    stubs, service = Stubs(), Remnant(Foundation.SERVICE_ROLE, "fruits-emr-1")
    iam = stubs.of("iam")
    iam.add_response("get_role", {"Role": _role(service.name)})
    iam.add_response("list_role_policies", {"PolicyNames": ["fruits"]})
    refused(stubs, "delete_role_policy", "NoSuchEntity", "gone", status=404, service="iam")
    iam.add_response("list_attached_role_policies", {"AttachedPolicies": []})
    iam.add_response("delete_role", {}, {"RoleName": service.name})

    AwsRights(stubs).remove(service)

    iam.assert_no_pending_responses()


def test_a_role_that_iam_does_not_see_yet_has_its_own_error() -> None:
    stubs = Stubs()
    refused(stubs, "get_role", "NoSuchEntity", "no", status=404, service="iam")
    stubs.of("iam").add_response("create_role", {"Role": _role(ROLE)})
    text = f"The role with name {ROLE} cannot be found."
    refused(stubs, "put_role_policy", "NoSuchEntity", text, status=404, service="iam")

    with pytest.raises(RoleNotReady, match="cannot be found"):
        AwsRights(stubs).make_role(SPEC)


def test_a_group_whose_answer_got_lost_is_taken() -> None:
    stubs = Stubs()
    group = {
        "GroupId": "sg-1",
        "GroupName": "fruits-x-ssh",
        "Tags": [{"Key": LAUNCH_ID_TAG, "Value": "l1"}],
        "IpPermissions": [],
    }
    stubs.of("ec2").add_response("describe_security_groups", {"SecurityGroups": []})
    refused(stubs, "create_security_group", "InvalidGroup.Duplicate", "exists", service="ec2")
    stubs.of("ec2").add_response("describe_security_groups", {"SecurityGroups": [group]})

    made = AwsRights(stubs).create_ssh_group(
        "fruits-x-ssh", vpc_id="vpc-1", tags={LAUNCH_ID_TAG: "l1"}
    )

    assert made == "sg-1"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_security_configuration_whose_answer_got_lost_is_taken(is_there: bool) -> None:
    stubs, code = Stubs(), "InvalidRequestException"
    refused(stubs, "describe_security_configuration", code, "does not exist")
    refused(stubs, "create_security_configuration", code, "already exists")
    if is_there:
        found = {"Name": "imds", "SecurityConfiguration": "{}"}
        stubs.of("emr").add_response("describe_security_configuration", found)
        AwsRights(stubs).create_security_configuration("imds", hop_limit=1, kms_key=None)
        return
    refused(stubs, "describe_security_configuration", code, "does not exist")
    with pytest.raises(CloudError, match="refused to create security configuration"):
        AwsRights(stubs).create_security_configuration("imds", hop_limit=1, kms_key=None)


def test_a_role_with_our_name_but_not_our_tag_is_neither_used_nor_removed(aws: Cloud) -> None:
    iam = make_foreign()

    with pytest.raises(ConfigError, match=f"The role {ROLE} was not made by fruits") as refusal:
        aws.rights.make_role(SPEC)
    aws.rights.remove(NODES)

    assert "aws iam tag-role --role-name" in refusal.value.hint
    assert aws.rights.remnants(Foundation.INSTANCE_ROLE, [ROLE]) == []
    assert iam.get_role(RoleName=ROLE)
    assert iam.list_role_policies(RoleName=ROLE)["PolicyNames"] == []


def test_a_profile_with_our_name_but_not_our_tag_is_refused(aws: Cloud) -> None:
    make_foreign(role=False)

    with pytest.raises(ConfigError, match=f"The instance profile {ROLE} was not made by fruits"):
        aws.rights.make_role(SPEC)


def test_only_the_differing_parts_of_a_role_are_updated(made: Cloud) -> None:
    iam = boto3.client("iam", "eu-west-3")
    reading = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    policy = json.dumps(policies.document(reading))
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    others = policies.document({**trust, "Principal": {"Service": "lambda.amazonaws.com"}})
    iam.put_role_policy(RoleName=ROLE, PolicyName="fruits", PolicyDocument=policy)
    iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(others))
    iam.remove_role_from_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)
    iam.create_role(RoleName="other", AssumeRolePolicyDocument=json.dumps(dict(SPEC.trust)))
    iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName="other")
    before = made.rights.role(SPEC)

    made.rights.make_role(SPEC)

    after = made.rights.role(SPEC)
    assert before is not None
    assert after is not None
    assert SPEC.lacks(before) == ["trust policy", "instance profile"]
    assert SPEC.differs(before) == ["own policy"]
    assert (SPEC.lacks(after), SPEC.differs(after)) == ([], [])


def ssh_group(aws: Cloud, tags: dict[str, str]) -> str:
    network = aws.account.network(())
    assert network is not None
    return aws.rights.create_ssh_group("fruits-x-ssh", vpc_id=network.vpc_id, tags=tags)


def test_a_group_with_our_name_but_not_our_tag_is_neither_used_nor_removed(
    aws: Cloud,
) -> None:
    group = ssh_group(aws, {})

    with pytest.raises(ConfigError, match=rf"fruits-x-ssh \({group}\) was not made by fruits"):
        ssh_group(aws, {LAUNCH_ID_TAG: "l1"})
    aws.rights.remove(Remnant(Foundation.SECURITY_GROUP, "fruits-x-ssh"))

    assert aws.rights.delete_ssh_group("fruits-x-ssh") is True
    assert boto3.client("ec2", "eu-west-3").describe_security_groups(GroupIds=[group])


def test_reusing_a_group_removes_rules_wider_than_a_tunnels(aws: Cloud) -> None:
    ec2 = boto3.client("ec2", "eu-west-3")
    group = ssh_group(aws, {LAUNCH_ID_TAG: "l1"})
    mine = {"IpRanges": [{"CidrIp": "203.0.113.9/32"}]}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    wide = [
        {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 443, **mine},
        {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]},
        {**ssh, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
    ]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=wide)
    again = ssh_group(aws, {LAUNCH_ID_TAG: "l2"})
    none = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{**ssh, **mine}])
    ssh_group(aws, {LAUNCH_ID_TAG: "l3"})
    (kept,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]

    assert again == group
    assert none == []
    assert kept["IpRanges"] == mine["IpRanges"]


def test_a_key_pair_without_our_tag_or_name_is_not_ours(aws: Cloud) -> None:
    ec2 = boto3.client("ec2", "eu-west-3")
    tagged = [{"ResourceType": "key-pair", "Tags": [{"Key": "fruits:tool", "Value": "fruits"}]}]
    ec2.create_key_pair(KeyName="fruits-ours", TagSpecifications=tagged)
    ec2.create_key_pair(KeyName="fruits-theirs")
    ec2.create_key_pair(KeyName="theirs", TagSpecifications=tagged)

    assert aws.rights.remnants(Foundation.KEY_PAIR, ()) == [
        Remnant(Foundation.KEY_PAIR, "fruits-ours")
    ]
