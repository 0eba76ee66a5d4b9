"""`terminate --purge` against the embedded AWS: what a launch made goes, the data stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fruits_cli import rehearsal

FRUITS = Path(sys.executable).with_name("fruits")


@pytest.fixture
def aws(account_at, tmp_path):
    """An account of its own: the shared one's clusters end of idleness while a command looks on."""
    return account_at(tmp_path / "aws", minutes_per_second=600)


@pytest.fixture
def fruits(aws, tmp_path):
    """Runs one command in an empty folder beside the embedded AWS."""

    def run(*words):
        environ = rehearsal.environ_beside(aws.rehearsal, os.environ)
        return subprocess.run(
            [FRUITS, *words, "--yes", "--output", "json"],
            cwd=tmp_path,
            env=environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_purge_leaves_the_data_and_a_second_one_finds_nothing(aws, fruits):
    aws.put("fruits/runs/r1/manifest.json", "{}")
    bucket = ("--bucket", aws.bucket)
    made = fruits("create-cluster", *bucket)
    assert made.returncode == 0, made.stderr

    first = fruits("terminate", "--purge", *bucket)
    second = fruits("terminate", "--purge", *bucket)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    kinds = {one.rpartition(" ")[0] for one in json.loads(first.stdout)["removed"]}
    assert {"EC2 role and instance profile", "EMR service role", "security configuration"} <= kinds
    assert json.loads(second.stdout)["removed"] == []
    roles = [one["RoleName"] for one in aws.iam.list_roles()["Roles"]]
    assert not [name for name in roles if name.startswith("fruits-")]
    assert aws.keys("fruits/runs/") == ["fruits/runs/r1/manifest.json"]
