"""What init asks of AWS: the account for its documents, and a key pair."""

import json
from pathlib import Path

import boto3
import pytest

from tests.support.on_moto import Fruits

BUCKET = ("--bucket", "grapes-and-figs")
GIVEN = (*BUCKET, "--region", "eu-west-3")


@pytest.fixture
def key_file(fruits: Fruits, tmp_path: Path) -> Path:
    return tmp_path / "home" / ".ssh" / "fruits-fruits.pem"


def test_the_documents_carry_account_bucket_and_the_roles_of_a_launch(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")

    result = fruits("init", "--policies", *BUCKET, "--output", "json")

    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    iam = boto3.client("iam")
    made = iam.get_role_policy(RoleName=told["ec2"]["role"], PolicyName="fruits")
    assert made["PolicyDocument"] == told["ec2"]["policy"]
    made = iam.get_role_policy(RoleName=told["service"]["role"], PolicyName="fruits")
    assert made["PolicyDocument"] == told["service"]["policy"]
    assert "123456789012:role/" in json.dumps(told["caller"])


def test_as_text_each_document_is_json_below_its_head(fruits: Fruits) -> None:
    result = fruits("init", "--policies", *BUCKET)

    parts = [part.partition("\n") for part in result.stdout.split("\n# ") if "{" in part]
    heads = [head.removeprefix("# ") for head, _, _ in parts]
    assert heads == [
        "caller policy",
        "administrator policy",
        "service trust",
        "service policy",
        "ec2 trust",
        "ec2 policy",
    ]
    for _, _, body in parts:
        assert json.loads(body[: body.rindex("}") + 1])["Version"] == "2012-10-17"


def test_documents_need_a_bucket(fruits: Fruits) -> None:
    result = fruits("init", "--policies")

    assert result.exit_code == 2
    assert "No bucket is configured." in result.stderr


def test_a_key_file_left_by_a_crash_is_imported(fruits: Fruits, key_file: Path) -> None:
    fruits("init", "--key", *GIVEN)
    content = key_file.read_bytes()
    boto3.client("ec2").delete_key_pair(KeyName="fruits-fruits")

    result = fruits("init", "--key", *GIVEN)

    assert result.exit_code == 0, result.stderr
    assert key_file.read_bytes() == content
    assert len(boto3.client("ec2").describe_key_pairs()["KeyPairs"]) == 1


def test_a_file_that_is_no_key_is_never_overwritten(fruits: Fruits, key_file: Path) -> None:
    key_file.parent.mkdir(parents=True)
    key_file.write_text("dear diary")
    key_file.chmod(0o600)

    result = fruits("init", "--key", *GIVEN)

    assert result.exit_code == 2
    assert f"The file {key_file} is not a private key that fruits can read." in result.stderr
    assert key_file.read_text() == "dear diary"


def test_purge_removes_the_pair_and_keeps_the_private_key(fruits: Fruits, key_file: Path) -> None:
    fruits("init", "--key", *GIVEN)

    result = fruits("terminate", "--purge", *BUCKET, "--yes")

    assert result.exit_code == 0, result.stderr
    assert boto3.client("ec2").describe_key_pairs()["KeyPairs"] == []
    assert key_file.exists()
