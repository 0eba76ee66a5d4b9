"""`fruits cancel` where EMR does not end the job: it ends itself, as the file in its run asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fruits_cli import rehearsal
from fruits_cli.rehearsal import Rehearsal
from tests.support.faults import SERVER
from tests.support.paths import ROOT
from tests.support.pictures import draw_folder
from tests.support.rehearsed import Account, until

pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("spark")]

FRUITS = [sys.executable, str(ROOT / "tests" / "support" / "quick_fruits.py")]
BUCKET = "melons-and-figs"


@pytest.fixture
def found(java: None, tmp_path: Path) -> Iterator[Rehearsal]:
    yield rehearsal.start(tmp_path / "aws", minutes_per_second=600, module=SERVER)
    rehearsal.stop(tmp_path / "aws")


def test_a_running_job_that_emr_does_not_end_stops_by_its_file_and_keeps_its_chunks(
    found: Rehearsal, machine_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "fruits.toml").write_text(
        f"[storage]\nbucket = '{BUCKET}'\n[job]\nweights = 'random'\nimage_size = 96\n"
    )
    draw_folder(tmp_path / "pictures", [f"kind {n % 2}/{n}.jpg" for n in range(48)])
    environ = rehearsal.environ_beside(found, os.environ)
    environ |= {"XDG_CACHE_HOME": str(machine_cache), "HOME": str(tmp_path)}

    def start(*words: str) -> subprocess.Popen[str]:
        command = [*FRUITS, *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=tmp_path, env=environ, stdout=pipe, stderr=pipe, text=True
        )

    def keys() -> list[str]:
        with suppress(aws.s3.exceptions.NoSuchBucket):
            return aws.keys("fruits/runs/")
        return []

    aws = Account(found)
    aws.bucket = BUCKET
    # One chunk becomes whole; those after it hang at their markers, and the job with them.
    aws.fault(kind="stuck", action="PutObject", path="/_chunks/", skip=1, times=0)
    aws.fault(kind="unheeded", action="CancelSteps")
    waiting = start("run", "pictures", "--target", "emr", "--keep-cluster", "--yes", "--no-report")
    try:
        until(lambda: any("/_chunks/" in key for key in keys()))
        cancel = start("cancel", "--yes")
        _, cancelled = cancel.communicate(timeout=60)
        _, story = waiting.communicate(timeout=60)
    finally:
        waiting.kill()
    (run,) = {key.split("/")[2] for key in keys()}

    assert cancel.returncode == 0, cancelled
    assert waiting.returncode == 1, story
    assert "Error: The job was cancelled." in story
    assert "Traceback" not in story
    assert len([key for key in keys() if "/_chunks/" in key]) == 1
    assert not [key for key in keys() if key.endswith("manifest.json") or "/stop-" in key]
    progress = aws.s3.get_object(Bucket=BUCKET, Key=f"fruits/runs/{run}/progress.json")
    assert json.loads(progress["Body"].read())["stage"] == "stopped"
    record = json.loads((tmp_path / ".fruits" / "runs" / f"{run}.json").read_text())
    assert record["phase"] == "cancelled"
    (cluster,) = aws.emr.list_clusters(ClusterStates=["RUNNING", "WAITING"])["Clusters"]
    # By EMR's own account the job failed: it ended before EMR did anything.
    (job, _) = aws.steps(cluster["Id"])
    assert job["Status"]["State"] == "FAILED"
