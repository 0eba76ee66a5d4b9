"""How a real job ends when its time, disk or source does; and that it goes on afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fruits_cli.job.bundle import job_bundle
from spark_job import schema
from tests.support.pictures import draw_folder
from tests.support.spark_settings import spark_environ, spark_options

pytestmark = [
    pytest.mark.spark,
    pytest.mark.xdist_group("submit"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in") / "fruit"
    draw_folder(folder, [f"kind {n % 3}/{n}.jpg" for n in range(150)])
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def submit(images: Path, output: Path, model: Path, scratch: Path, *more: str) -> int:
    scratch.mkdir(exist_ok=True)
    bundle, settings = job_bundle(scratch), spark_environ(scratch)
    command = [f"{settings['SPARK_HOME']}/bin/spark-submit", "--py-files", str(bundle.zip)]
    for key, value in spark_options(scratch, "local[2]").items():
        command += ["--conf", f"{key}={value}"]
    places = ["--images", str(images), "--output", str(output), "--model", str(model)]
    return subprocess.run(
        [*command, str(bundle.main), *places, "--run-id", "test", *more],
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    ).returncode


def told(output: Path) -> str:
    return str(json.loads((output / "progress.json").read_text())["error"]["message"])


def test_a_job_ends_at_its_deadline_and_resumes_without_one(
    images: Path, artefact_folder: Path, tmp_path: Path
) -> None:
    output, scratch = tmp_path / "run", tmp_path / "scratch"

    code = submit(images, output, artefact_folder, scratch, "--deadline-min", "0.0001")

    assert code == 1
    assert "ended after its 0.0001 minutes" in told(output)
    assert submit(images, output, artefact_folder, scratch, "--resume") == 0
    assert json.loads((output / "manifest.json").read_text())["counts"]["features"] == 150


def test_a_job_that_is_asked_to_stop_does_so_and_resumes(
    images: Path, artefact_folder: Path, tmp_path: Path
) -> None:
    output, scratch = tmp_path / "run", tmp_path / "scratch"
    asked = output / schema.stop_file("a1")
    asked.parent.mkdir(parents=True)
    asked.touch()

    code = submit(images, output, artefact_folder, scratch, "--attempt", "a1")

    assert code == 1
    assert json.loads((output / "progress.json").read_text())["stage"] == "stopped"
    assert not asked.exists()
    assert submit(images, output, artefact_folder, scratch, "--attempt", "a2", "--resume") == 0
    assert json.loads((output / "manifest.json").read_text())["counts"]["features"] == 150


def test_a_full_disk_ends_in_a_sentence_and_the_run_resumes_with_space(
    images: Path, artefact_folder: Path, small_disk: Path, tmp_path: Path
) -> None:
    output, scratch = small_disk / "run", tmp_path / "scratch"

    code = submit(images, output, artefact_folder, scratch)

    assert code == 1
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert not (output / "manifest.json").exists()
    assert submit(images, output, artefact_folder, scratch, "--resume") == 0
    assert json.loads((output / "manifest.json").read_text())["counts"]["features"] == 150
    assert not list(output.rglob("._writing-*"))


def test_a_run_whose_source_vanished_resumes_once_it_is_back(
    images: Path, artefact_folder: Path, tmp_path: Path
) -> None:
    source, output, scratch = tmp_path / "fruit", tmp_path / "run", tmp_path / "scratch"
    shutil.copytree(images, source)
    assert submit(source, output, artefact_folder, scratch, "--pca-k", "2") == 0
    for made in ("features/0000000.parquet", "_chunks/0.json"):
        (output / made).unlink()
    shutil.move(source, tmp_path / "away")

    code = submit(source, output, artefact_folder, scratch, "--pca-k", "2", "--resume")

    assert code == 1
    assert told(output) == f"The images folder {source} is gone."
    shutil.move(tmp_path / "away", source)
    assert submit(source, output, artefact_folder, scratch, "--pca-k", "2", "--resume") == 0
    assert json.loads((output / "manifest.json").read_text())["counts"]["inferences"] < 150
