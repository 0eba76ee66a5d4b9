import json
import re
from dataclasses import replace
from typing import Any

import pytest

from fruits_cli.cloud import policies
from fruits_cli.cloud.account import RoleFacts
from fruits_cli.errors import ConfigError
from fruits_cli.files import templates_dir
from tests.support.rights import allowed_by

ACCOUNT = "123456789012"
SCOPE = policies.Scope("figs", "fruits/", "eu-west-3", ACCOUNT, "fruits-ec2-1", "fruits-emr-1")
NODES, SERVICE = policies.instance_role(SCOPE), policies.service_role(SCOPE)


def test_nodes_reach_their_prefix_and_the_notebooks_alone() -> None:
    listing, objects, ending = NODES.policy["Statement"]

    assert listing["Resource"] == "arn:aws:s3:::figs"
    assert objects["Resource"] == ["arn:aws:s3:::figs/fruits/*", "arn:aws:s3:::figs/jupyter/*"]
    assert ending["Action"] == "elasticmapreduce:TerminateJobFlows"
    assert allowed_by(NODES.policy)


def test_nodes_end_only_clusters_of_fruits() -> None:
    ending = NODES.policy["Statement"][2]

    assert ending["Condition"] == {"StringLike": {"elasticmapreduce:ResourceTag/fruits:name": "*"}}


def test_emr_takes_its_role_for_this_account_alone() -> None:
    (statement,) = SERVICE.trust["Statement"]

    assert statement["Principal"] == {"Service": "elasticmapreduce.amazonaws.com"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:elasticmapreduce:*:{ACCOUNT}:*"},
    }


def test_emr_passes_our_role_to_ec2_alone() -> None:
    (statement,) = SERVICE.policy["Statement"]

    assert statement["Resource"] == f"arn:aws:iam::{ACCOUNT}:role/fruits-ec2-1"
    assert statement["Condition"]["StringLike"] == {"iam:PassedToService": "ec2.amazonaws.com*"}


def test_every_document_is_json_of_the_current_version() -> None:
    documents = [NODES.trust, NODES.policy, SERVICE.trust, SERVICE.policy]

    assert {json.loads(json.dumps(one))["Version"] for one in documents} == {"2012-10-17"}


@pytest.mark.parametrize(
    ("partition", "region", "suffix"),
    [
        ("aws", "eu-west-3", ""),
        ("aws-us-gov", "us-gov-west-1", ""),
        ("aws-cn", "cn-north-1", ".cn"),
    ],
)
def test_all_arns_and_principals_are_of_the_accounts_partition(
    partition: str, region: str, suffix: str
) -> None:
    scope = replace(SCOPE, partition=partition, region=region)
    nodes, service = policies.instance_role(scope), policies.service_role(scope)
    written = json.dumps(
        [
            *(nodes.trust, nodes.policy, service.trust, service.policy, service.managed_arn),
            *(policies.caller_policy(scope), policies.administrator_policy(scope)),
        ]
    )

    assert set(re.findall(r"arn:([a-z-]+):", written)) == {partition}
    assert nodes.principal == f"ec2.amazonaws.com{suffix}"
    assert service.principal == f"elasticmapreduce.amazonaws.com{suffix}"
    assert policies.trusted_services(service.trust) == {service.principal}


def test_nodes_have_only_the_rights_that_arrow_the_aws_command_and_emr_logs_need() -> None:
    reads = {"s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"}
    # Arrow writes larger files in parts, and gives up what it does not finish.
    writes = {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
    parts = {"s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads"}
    ending = {"elasticmapreduce:TerminateJobFlows"}
    assert allowed_by(NODES.policy) == reads | writes | parts | ending
    script = (templates_dir() / "bootstrap.sh").read_text()
    asked = set(re.findall(r"\baws (\w+) ([a-z-]+)", script))
    assert asked == {("s3", "cp"), ("emr", "terminate-clusters")}


def test_trust_may_be_a_list_a_word_or_somebody_else() -> None:
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com", "x"]}},
        {"Effect": "Allow", "Principal": {"Service": "y"}},
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::1:root"}},
        {"Effect": "Allow", "Principal": "*"},
        {"Effect": "Deny", "Principal": {"Service": "z"}},
    ]
    trusted = policies.trusted_services

    assert trusted({"Statement": statements}) == {"ec2.amazonaws.com", "x", "y"}
    assert trusted({"Statement": statements[1]}) == {"y"}
    assert trusted({}) == set()


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"Action": ["a"]}, {"Action": "a"}, True),
        ({"Action": ["a", "b"]}, {"Action": ["b", "a"]}, True),
        ({"Statement": [{"Action": "a"}]}, {"Statement": {"Action": ["a"]}}, True),
        ({"Action": ["a", "b"]}, {"Action": "a"}, False),
        ({"Action": "a"}, {"Action": "a", "Resource": "*"}, False),
        (None, {}, False),
    ],
)
def test_documents_are_compared_by_what_they_say(one: Any, other: Any, is_same: bool) -> None:
    assert policies.same_document(one, other) is is_same


def test_what_lacks_our_tag_is_refused_with_the_command_that_hands_it_over() -> None:
    policies.require_ours("r", RoleFacts({}))
    with pytest.raises(ConfigError, match="The instance profile r was not made by") as refusal:
        policies.require_ours("r", RoleFacts({}, foreign=("instance profile",)))

    assert refusal.value.hint == (
        "Remove it, or hand it over: aws iam tag-instance-profile --instance-profile-name r "
        "--tags Key=fruits:tool,Value=fruits"
    )
