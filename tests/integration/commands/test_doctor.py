import json
import socket
from pathlib import Path

import pytest

from tests.support.on_moto import Fruits

LOCAL = ("doctor", "--weights", "random")


@pytest.fixture
def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def test_without_a_bucket_this_machine_alone_is_examined(fruits: Fruits, free_port: str) -> None:
    result = fruits(*LOCAL, "--port", free_port)

    assert (result.exit_code, result.stderr) == (0, "")
    first, *_, last = result.stdout.splitlines()
    assert first.startswith("not asked  AWS ")
    assert last == "8 ok, 1 not asked."


def test_something_that_fails_is_exit_1_with_its_fix(
    fruits: Fruits, free_port: str, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    key.chmod(0o644)

    result = fruits(*LOCAL, "--port", free_port, "--key-file", str(key))

    assert result.exit_code == 1
    assert "is open to other users (mode 0644)." in result.stdout
    assert f"fix: chmod 600 {key}" in result.stdout


def test_json_has_a_finding_for_each_question(fruits: Fruits, free_port: str) -> None:
    result = fruits(*LOCAL, "--port", free_port, "--output", "json")

    value = json.loads(result.stdout)
    assert value["counts"] == {
        "ok": 8,
        "warning": 0,
        "failing": 0,
        "could not ask": 0,
        "not asked": 1,
    }
    assert {frozenset(one) for one in value["findings"]} == {
        frozenset({"name", "verdict", "said", "fix"})
    }


def test_an_unknown_region_is_exit_1(fruits: Fruits, free_port: str) -> None:
    result = fruits(*LOCAL, "--port", free_port, "--bucket", "figs", "--region", "eu-west-33")

    assert result.exit_code == 1
    assert "fix: Give --region eu-west-3." in result.stdout


def test_an_unknown_profile_is_exit_1(fruits: Fruits, free_port: str) -> None:
    result = fruits(*LOCAL, "--port", free_port, "--profile", "nobody")

    assert result.exit_code == 1
    assert "failing  profile and region" in result.stdout
    assert "aws configure list-profiles" in result.stdout
