import json
import re

from fruits_cli.cloud import policies
from fruits_cli.files import templates_dir
from tests.support.rights import allowed_by

ACCOUNT = "123456789012"


def test_nodes_reach_their_prefix_and_the_notebooks_alone() -> None:
    policy = policies.node_policy(
        bucket="figs", prefix="fruits/", region="eu-west-3", account_id=ACCOUNT
    )

    listing, objects, ending = policy["Statement"]
    assert listing["Resource"] == "arn:aws:s3:::figs"
    assert objects["Resource"] == ["arn:aws:s3:::figs/fruits/*", "arn:aws:s3:::figs/jupyter/*"]
    assert ending["Action"] == "elasticmapreduce:TerminateJobFlows"
    assert "*" not in {
        action
        for statement in policy["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    }


def test_nodes_end_only_clusters_of_fruits() -> None:
    policy = policies.node_policy(bucket="b", prefix="", region="r", account_id=ACCOUNT)

    ending = policy["Statement"][2]
    assert ending["Condition"] == {"StringLike": {"elasticmapreduce:ResourceTag/fruits:name": "*"}}


def test_emr_takes_its_role_for_this_account_alone() -> None:
    (statement,) = policies.emr_trust_policy(ACCOUNT)["Statement"]

    assert statement["Principal"] == {"Service": "elasticmapreduce.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}


def test_emr_passes_our_role_to_ec2_alone() -> None:
    (statement,) = policies.pass_role_policy(ACCOUNT, "fruits-ec2-1")["Statement"]

    assert statement["Resource"] == f"arn:aws:iam::{ACCOUNT}:role/fruits-ec2-1"
    assert statement["Condition"]["StringLike"] == {"iam:PassedToService": "ec2.amazonaws.com*"}


def test_every_document_is_json_of_the_current_version() -> None:
    documents = [
        policies.ec2_trust_policy(),
        policies.emr_trust_policy(ACCOUNT),
        policies.pass_role_policy(ACCOUNT, "r"),
        policies.node_policy(bucket="b", prefix="", region="r", account_id=ACCOUNT),
    ]

    assert {json.loads(json.dumps(one))["Version"] for one in documents} == {"2012-10-17"}


def test_nodes_have_the_rights_of_arrow_the_aws_command_and_emrs_logs_and_no_other() -> None:
    policy = policies.node_policy(bucket="b", prefix="p/", region="r", account_id=ACCOUNT)

    reads = {"s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"}
    # Arrow writes larger files in parts, and gives up what it does not finish.
    writes = {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
    parts = {"s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads"}
    ending = {"elasticmapreduce:TerminateJobFlows"}
    assert allowed_by(policy) == reads | writes | parts | ending
    script = (templates_dir() / "bootstrap.sh").read_text()
    asked = set(re.findall(r"\baws (\w+) ([a-z-]+)", script))
    assert asked == {("s3", "cp"), ("emr", "terminate-clusters")}
