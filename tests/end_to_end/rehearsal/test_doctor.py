"""The questions of `fruits doctor` to the embedded AWS, and what it had to learn for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fruits_cli import rehearsal
from fruits_cli.tunnel.keys import bare_fingerprint, load_fingerprints

FRUITS = Path(sys.executable).with_name("fruits")


@pytest.fixture
def doctor(aws, tmp_path):
    """Runs the command in an empty folder beside the embedded AWS: exit code and findings."""

    def run(*flags):
        environ = rehearsal.environ_beside(aws.rehearsal, os.environ)
        ended = subprocess.run(
            [FRUITS, "doctor", "--weights", "random", "--output", "json", *flags],
            cwd=tmp_path,
            env=environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        found = json.loads(ended.stdout)["findings"]
        return ended.returncode, {one["name"]: one for one in found}, ended.stderr

    return run


def run_init(aws, folder, *flags):
    environ = rehearsal.environ_beside(aws.rehearsal, os.environ)
    return subprocess.run(
        [FRUITS, "init", *flags],
        cwd=folder,
        env=environ | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return str(port)


def test_every_question_is_answered_and_nothing_fails(doctor, free_port):
    code, found, told = doctor("--bucket", "grapes-and-figs", "--port", free_port)

    verdicts = {name: one["verdict"] for name, one in found.items()}
    assert {name: v for name, v in verdicts.items() if v != "ok"} == {"key pair": "not asked"}
    assert (code, told) == (0, "")
    assert len(found) > 30


def test_doctor_makes_nothing(aws, doctor):
    before = [aws.s3.list_buckets()["Buckets"], aws.iam.list_roles()["Roles"]]
    groups = aws.ec2.describe_security_groups()["SecurityGroups"]

    doctor("--bucket", "pears-and-plums")

    assert [aws.s3.list_buckets()["Buckets"], aws.iam.list_roles()["Roles"]] == before
    assert aws.ec2.describe_security_groups()["SecurityGroups"] == groups


def test_what_is_wrong_with_a_configuration_is_exit_1(doctor):
    code, found, _ = doctor(
        *("--bucket", "grapes-and-figs", "--core-type", "m7g.xlarge", "--subnets", "subnet-none"),
        *("--key-name", "nobodys", "--release-label", "emr-7.99.0", "--applications", "Spark"),
    )

    failing = {name for name, one in found.items() if one["verdict"] == "failing"}
    assert code == 1
    assert {"subnets", "key pair", "release", "memory"} <= failing
    assert all(found[name]["fix"] for name in failing)
    assert found["routes"]["verdict"] == "not asked"


def test_a_right_that_is_missing_is_told_and_is_no_failure(aws, doctor, free_port):
    aws.fault(kind="denied", action="DescribeSubnets", times=0)

    code, found, _ = doctor("--bucket", "grapes-and-figs", "--port", free_port)

    assert found["subnets"]["verdict"] == "could not ask"
    assert "ec2:DescribeSubnets" in found["subnets"]["fix"]
    assert found["release"]["verdict"] == "ok"
    assert code == 0


def test_every_action_is_allowed_to_the_user_of_a_rehearsal(aws):
    answer = aws.iam.simulate_principal_policy(
        PolicySourceArn="arn:aws:iam::123456789012:user/ada",
        ActionNames=[f"s3:Action{number}" for number in range(12)],
        ResourceArns=["arn:aws:s3:::a", "arn:aws:s3:::b"],
        ContextEntries=[
            {
                "ContextKeyName": "iam:PassedToService",
                "ContextKeyValues": ["ec2.amazonaws.com"],
                "ContextKeyType": "string",
            }
        ],
    )

    results = answer["EvaluationResults"]
    assert answer["IsTruncated"] is False
    assert [one["EvalActionName"] for one in results[::2]] == [f"s3:Action{n}" for n in range(12)]
    assert {one["EvalResourceName"] for one in results} == {"arn:aws:s3:::a", "arn:aws:s3:::b"}
    assert {one["EvalDecision"] for one in results} == {"allowed"}


def test_the_default_vpc_has_one_way_out(aws):
    def ways():
        tables = aws.ec2.describe_route_tables()["RouteTables"]
        return [
            route["GatewayId"]
            for table in tables
            for route in table["Routes"]
            if route.get("DestinationCidrBlock") == "0.0.0.0/0"
        ]

    first, second = ways(), ways()

    assert len(first) == 1
    assert first[0].startswith("igw-")
    assert second == first


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_a_key_pair_that_is_made_shows_the_print_of_its_file(aws, tmp_path, kind):
    made = aws.ec2.create_key_pair(KeyName=f"made-{kind}", KeyType=kind)
    file = tmp_path / "key.pem"
    file.write_text(made["KeyMaterial"])
    file.chmod(0o600)

    assert bare_fingerprint(made["KeyFingerprint"]) in load_fingerprints(file)


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_a_key_pair_that_is_imported_shows_the_print_of_its_file(aws, doctor, tmp_path, kind):
    private = (
        Ed25519PrivateKey.generate()
        if kind == "ed25519"
        else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    file = tmp_path / "key.pem"
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    file.chmod(0o600)
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    aws.ec2.import_key_pair(KeyName=f"mine-{kind}", PublicKeyMaterial=public)

    key = ("--key-name", f"mine-{kind}", "--key-file", str(file))
    _, found, _ = doctor("--bucket", "grapes-and-figs", *key)

    assert found["key pair"]["said"] == f"mine-{kind}, and the key file is its key"
    assert found["key file"]["verdict"] == "ok"


def test_the_pair_that_init_makes_is_found_again_and_doctor_knows_its_key(aws, doctor, tmp_path):
    given = ("--key", "--bucket", "grapes-and-figs", "--region", "eu-west-3")

    first, second = run_init(aws, tmp_path, *given), run_init(aws, tmp_path, "--key")

    file = tmp_path / ".ssh" / "fruits-fruits.pem"
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines() == [
        f"Key pair fruits-fruits exists in eu-west-3, and {file} is its key.",
        f"{tmp_path / 'fruits.toml'} says so already.",
    ]
    _, found, _ = doctor()
    assert found["key pair"]["said"] == "fruits-fruits, and the key file is its key"
