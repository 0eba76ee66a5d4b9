"""What init asks of AWS: the account for its documents, and a key pair."""

import json
import stat
import subprocess
from pathlib import Path

import boto3
import pytest
from fakes import FakeAws
from on_moto import Fruits
from worlds import config

from fruits_cli.errors import UsageError
from fruits_cli.starting import make_key
from fruits_cli.tunnel.keys import load_prints

BUCKET = ("--bucket", "grapes-and-figs")


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
    assert heads == ["caller policy", "service trust", "service policy", "ec2 trust", "ec2 policy"]
    for _, _, body in parts:
        assert json.loads(body[: body.rindex("}") + 1])["Version"] == "2012-10-17"


def test_documents_need_a_bucket(fruits: Fruits) -> None:
    result = fruits("init", "--policies")

    assert result.exit_code == 2
    assert "No bucket is configured." in result.stderr


def test_a_key_pair_is_made_here_and_its_public_half_is_at_aws(
    fruits: Fruits, key_file: Path
) -> None:
    result = fruits("init", "--key")

    assert result.exit_code == 0, result.stderr
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert f'key_file = "{key_file}"' in result.stdout
    (pair,) = boto3.client("ec2").describe_key_pairs()["KeyPairs"]
    assert pair["KeyName"] == "fruits-fruits"
    assert {"Key": "fruits:tool", "Value": "fruits"} in pair["Tags"]


def test_ssh_reads_the_key(fruits: Fruits, key_file: Path) -> None:
    fruits("init", "--key")

    told = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(key_file)], capture_output=True, text=True, check=False
    )

    assert told.stdout.startswith("ssh-ed25519 ")


def test_a_file_without_a_pair_is_what_a_crash_leaves_and_is_imported(
    fruits: Fruits, key_file: Path
) -> None:
    fruits("init", "--key")
    content = key_file.read_bytes()
    boto3.client("ec2").delete_key_pair(KeyName="fruits-fruits")

    result = fruits("init", "--key")

    assert result.exit_code == 0, result.stderr
    assert key_file.read_bytes() == content
    assert len(boto3.client("ec2").describe_key_pairs()["KeyPairs"]) == 1


def test_a_pair_without_its_file_is_said_and_nothing_is_made(
    fruits: Fruits, key_file: Path
) -> None:
    fruits("init", "--key")
    key_file.unlink()

    result = fruits("init", "--key")

    assert result.exit_code == 1
    assert f"Key pair fruits-fruits exists in eu-west-3, but {key_file}" in result.stderr
    assert not key_file.exists()


def test_a_file_that_is_no_key_is_never_overwritten(fruits: Fruits, key_file: Path) -> None:
    key_file.parent.mkdir(parents=True)
    key_file.write_text("dear diary")

    result = fruits("init", "--key")

    assert result.exit_code == 2
    assert f"The key file {key_file} cannot be read" in result.stderr
    assert key_file.read_text() == "dear diary"


def test_purge_removes_the_pair_and_keeps_the_private_key(fruits: Fruits, key_file: Path) -> None:
    fruits("init", "--key")

    result = fruits("terminate", "--purge", *BUCKET, "--yes")

    assert result.exit_code == 0, result.stderr
    assert boto3.client("ec2").describe_key_pairs()["KeyPairs"] == []
    assert key_file.exists()


def test_a_pair_that_is_in_both_places_is_found_again_by_its_fingerprint(tmp_path: Path) -> None:
    aws, environ = FakeAws(), {"HOME": str(tmp_path)}
    make_key(config(), aws.cloud, environ)
    file = tmp_path / ".ssh" / "fruits-fruits.pem"
    (print_here,) = load_prints(file)
    aws.preflight.keys["fruits-fruits"] = f"{print_here}="

    again = make_key(config(), aws.cloud, environ)

    assert again.lines[0] == f"Key pair fruits-fruits is there already, with {file}."


def test_another_key_than_the_pairs_is_refused_and_stays(tmp_path: Path) -> None:
    aws, environ = FakeAws(), {"HOME": str(tmp_path)}
    make_key(config(), aws.cloud, environ)
    aws.preflight.keys["fruits-fruits"] = "another"
    file = tmp_path / ".ssh" / "fruits-fruits.pem"
    content = file.read_bytes()

    with pytest.raises(UsageError, match="is another key than the pair fruits-fruits"):
        make_key(config(), aws.cloud, environ)

    assert file.read_bytes() == content
