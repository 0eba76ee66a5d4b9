import json
from typing import Any

import boto3
import pytest

from tests.support.on_moto import Fruits

BUCKET = ("--bucket", "grapes-and-figs")


def test_a_dry_run_shows_nodes_price_and_what_would_be_made(fruits: Fruits) -> None:
    result = fruits("create-cluster", *BUCKET, "--dry-run")

    assert result.exit_code == 0, result.stderr
    assert "2 core m5.xlarge on-demand, 1 task m5.xlarge spot" in result.stdout
    assert "Price: $" in result.stdout
    assert "Will be made first: bucket grapes-and-figs." in result.stdout
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def test_a_cluster_is_made_once_for_its_name(fruits: Fruits) -> None:
    first = fruits("create-cluster", *BUCKET, "--yes", "--output", "json")
    second = fruits("create-cluster", *BUCKET, "--yes", "--output", "json")

    assert first.exit_code == second.exit_code == 0, first.stderr + second.stderr
    assert json.loads(first.stdout)["cluster_id"] == json.loads(second.stdout)["cluster_id"]
    assert len(boto3.client("emr").list_clusters()["Clusters"]) == 1


def test_without_consent_nothing_is_made(fruits: Fruits) -> None:
    result = fruits("create-cluster", *BUCKET)

    assert result.exit_code == 2
    assert "Give --yes." in result.stderr
    assert boto3.client("emr").list_clusters()["Clusters"] == []


def test_an_arm_type_is_exit_2(fruits: Fruits) -> None:
    result = fruits("create-cluster", *BUCKET, "--core-type", "m7g.xlarge", "--dry-run")

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: m7g.xlarge has an Arm processor")


def test_without_a_region_the_flag_is_named(
    fruits: Fruits, monkeypatch: pytest.MonkeyPatch
) -> None:

    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)

    result = fruits("create-cluster", *BUCKET, "--dry-run")

    assert result.exit_code == 2
    assert "No AWS region is configured." in result.stderr
    assert "fruits init" in result.stderr


def test_the_cluster_has_a_notebook_for_its_runs(fruits: Fruits) -> None:
    s3 = boto3.client("s3")
    made = fruits("create-cluster", *BUCKET, "--yes")
    (key,) = keys_below(s3, "jupyter/jovyan/")
    notebook = json.loads(s3.get_object(Bucket=BUCKET[1], Key=key)["Body"].read())

    assert made.exit_code == 0, made.stderr
    told = f"A notebook that reads the bucket's runs is at s3://grapes-and-figs/{key}."
    assert told in made.stderr
    (code,) = keys_below(s3, "fruits/code/")
    source = "".join("".join(cell["source"]) for cell in notebook["cells"])
    assert f"CODE = 's3://grapes-and-figs/{code}'" in source
    assert "RUNS = 's3://grapes-and-figs/fruits/runs/'" in source


def test_a_cluster_without_jupyterhub_has_no_notebook(fruits: Fruits) -> None:
    made = fruits("create-cluster", *BUCKET, "--yes", "--applications", "Hadoop,Spark")

    assert made.exit_code == 0, made.stderr
    assert keys_below(boto3.client("s3"), "jupyter/") == []


def keys_below(s3: Any, prefix: str) -> list[str]:
    """The keys of the bucket below a prefix."""
    found = s3.list_objects_v2(Bucket=BUCKET[1], Prefix=prefix)
    return [one["Key"] for one in found.get("Contents", ())]
