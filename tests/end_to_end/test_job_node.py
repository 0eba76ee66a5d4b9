"""The nodes' real Python: real wheels, the real aws command, and the job on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.config import Config

from fruits_cli import rehearsal
from fruits_cli.aws.s3 import AwsStorage
from fruits_cli.cloud.layout import Places
from fruits_cli.cloud.protocols import SystemClock
from fruits_cli.config import Engine
from fruits_cli.job.bundle import job_bundle
from fruits_cli.job.model import model_artefact
from fruits_cli.job.node_python import (
    bootstrap_action,
    fetched_wheels,
    node_python,
    script_place,
    ship_python,
)
from fruits_cli.ledger import Ledger
from fruits_cli.rehearsal import Rehearsal
from fruits_cli.screen import Screen
from fruits_cli.session import Session
from tests.support.fakes import FakeAws
from tests.support.node_folder import NodeFolder
from tests.support.pictures import draw_folder
from tests.support.results import Results
from tests.support.spark_settings import spark_environ, spark_options

BUCKET = "grapes-and-figs"
AWS = os.environ.get("NODE_AWS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.spark,
    pytest.mark.xdist_group("submit"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(AWS is None, reason="fetches 800 MB: .ci/node gives it the aws command"),
]


def python_311() -> Path:
    """A Python 3.11 that is no venv's."""
    names = [getattr(sys, "_base_executable", ""), shutil.which("python3.11") or ""]
    asking = "import sys; print(sys._base_executable, *sys.version_info[:2])"
    for name in filter(None, names):
        said = subprocess.run([name, "-c", asking], capture_output=True, text=True, check=False)
        base, *version = said.stdout.split()
        if version == ["3", "11"]:
            return Path(base)
    pytest.fail("Python 3.11 is not on this machine")


def run_job(python: Path, images: Path, model: Path, output: Path, engine: Engine) -> Results:
    """The job under spark-submit, driver and workers on that interpreter alone."""
    scratch = output.with_suffix(".scratch")
    scratch.mkdir()
    bundle = job_bundle(scratch)
    environ = spark_environ(scratch) | {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "PYSPARK_PYTHON": str(python),
        "PYSPARK_DRIVER_PYTHON": str(python),
    }
    command = [f"{environ['SPARK_HOME']}/bin/spark-submit", "--py-files", str(bundle.zip)]
    for key, value in spark_options(scratch, "local[2]").items():
        command += ["--conf", f"{key}={value}"]
    command += [str(bundle.main), "--images", str(images), "--output", str(output)]
    command += ["--model", str(model), "--run-id", "test", "--pca-k", "4"]
    command += ["--engine", engine]
    ended = subprocess.run(
        command, env=environ, cwd=scratch, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return Results(output)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """An embedded AWS with a bucket."""
    folder = tmp_path_factory.mktemp("aws")
    living = rehearsal.start(folder)
    s3_of(living).create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"}
    )
    yield living
    rehearsal.stop(folder)


def s3_of(living: Rehearsal) -> Any:
    return boto3.session.Session(
        aws_access_key_id=living.key, aws_secret_access_key="rehearsal", region_name=living.region
    ).client("s3", endpoint_url=living.endpoint, config=Config(proxies={}))


@pytest.mark.parametrize("engine", Engine)
def test_a_node_made_of_the_real_wheels_runs_the_job(
    aws: Rehearsal, tmp_path: Path, artefact_folder: Path, engine: Engine
) -> None:
    python, places = node_python(engine), Places(BUCKET, "fruits")
    s3 = s3_of(aws)
    cloud = replace(FakeAws().cloud, storage=AwsStorage(lambda *_, **__: s3, "eu-west-3"))
    session = Session(
        Screen(),
        Ledger(tmp_path / "ledger"),
        cloud,
        SystemClock(),
        os.environ,
        load_model=model_artefact,
        fetch_wheels=fetched_wheels,
    )
    ship_python(python, places, session)
    action = bootstrap_action(python, places, region="eu-west-3", lifetime_min=240)
    node = NodeFolder(tmp_path / "node", aws.environ, aws=AWS)
    node.has_python(python_311())
    script = node.root / "bootstrap.sh"
    fetched = node.run("aws", "s3", "cp", str(script_place(python, places)), str(script))
    assert fetched.returncode == 0, fetched.stderr
    script.chmod(0o755)

    booted = node.run(str(script), *action.args)

    assert (booted.returncode, booted.stderr) == (0, ""), booted.stdout
    made = node.root / python.interpreter.lstrip("/")
    images = tmp_path / "fruit"
    draw_folder(images, [f"kind {n % 2}/{n}.jpg" for n in range(9)])
    there = run_job(made, images, artefact_folder, tmp_path / "there", engine)
    here = run_job(Path(sys.executable), images, artefact_folder, tmp_path / "here", engine)
    assert there.paths("features") == here.paths("features")
    features = [results.array("features", "features") for results in (there, here)]
    assert np.abs(features[0] - features[1]).max() < 1e-3
    assert there.json("manifest.json")["versions"] == here.json("manifest.json")["versions"]

    again = node.run(str(script), *action.args)

    assert again.stdout == f"{made.parent.parent} is there already.\n"


def test_the_real_aws_command_says_what_is_not_there_as_the_script_expects(
    aws: Rehearsal, tmp_path: Path
) -> None:
    node = NodeFolder(tmp_path / "node", aws.environ, aws=AWS)
    folder = f"s3://{BUCKET}/nowhere"

    ended = node.boot("--digest", "0" * 32, "--wheels", folder, "--region", "eu-west-3")

    assert (ended.returncode, ended.stderr) == (
        1,
        f"bootstrap.sh: {folder}/lock.txt is not in the bucket.\n",
    )
