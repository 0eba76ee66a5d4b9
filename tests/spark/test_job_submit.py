from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest

from fruits_cli.job.bundle import job_bundle
from tests.support.pictures import draw_folder, jpeg
from tests.support.results import Results
from tests.support.spark_settings import spark_environ, spark_options

pytestmark = [
    pytest.mark.spark,
    pytest.mark.xdist_group("submit"),
    pytest.mark.filterwarnings("ignore"),
]

KEYS = [
    "kind 1/with space.jpg",
    "kind 1/pêche à l'été.jpg",
    "kind 1/a+b=c&d?e.jpg",
    "kind 1/100%.jpg",
    "kind 1/%41.jpg",
    "kind 1/#*[]\\:.jpg",
    "kind 1/quotes'\".jpg",
    "kind 1/桃.JPG",
    "top.jpg",
]


def submit(
    *argv: str, scratch: Path, master: str = "local[2]", environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The job as a user's machine or a cluster starts it: main file, zip, arguments."""
    scratch.mkdir(parents=True, exist_ok=True)
    bundle = job_bundle(scratch)
    settings = spark_environ(scratch)
    command = [f"{settings['SPARK_HOME']}/bin/spark-submit", "--py-files", str(bundle.zip)]
    for key, value in spark_options(scratch, master).items():
        command += ["--conf", f"{key}={value}"]
    return subprocess.run(
        [*command, str(bundle.main), *argv],
        env={**os.environ, **settings, **(environ or {})},
        cwd=scratch,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in") / "fruit"
    draw_folder(folder, [f"kind {n % 3}/{n}.jpg" for n in range(97)])
    (folder / "empty.jpg").touch()
    return folder


def places(images: object, output: object, model: object) -> list[str]:
    words = ["--images", str(images), "--output", str(output), "--model", str(model)]
    return [*words, "--run-id", "test"]


def test_two_executors_give_the_rows_of_two_threads(
    images: Path, artefact_folder: Path, tmp_path: Path
) -> None:
    masters = {"threads": "local[2]", "executors": "local-cluster[2,1,1024]"}
    for name, master in masters.items():
        argv = [*places(images, tmp_path / name, artefact_folder), "--pca-k", "4"]
        ended = submit(*argv, scratch=tmp_path / f"of {name}", master=master)
        assert ended.returncode == 0, ended.stderr

    threads, executors = (Results(tmp_path / name) for name in masters)

    assert threads.rows("features") == executors.rows("features")
    assert threads.rows("rejected") == executors.rows("rejected")
    assert len(threads.paths("features")) == 97
    projected = [results.array("pca", "pca_features") for results in (threads, executors)]
    assert np.abs(projected[0] - projected[1]).max() < 1e-4
    assert executors.counts["inferences"] == 97
    assert executors.json("manifest.json")["slots"] == 2


def test_the_exit_code_of_the_job_is_that_of_spark_submit(
    artefact_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()

    argv = places(tmp_path / "in", tmp_path / "run", artefact_folder)
    ended = submit(*argv, scratch=tmp_path / "scratch")

    assert ended.returncode == 2
    sentence = f"There are no pictures in {tmp_path}/in."
    assert f"Error: {sentence}\n" in ended.stdout
    assert Results(tmp_path / "run").error["message"] == sentence


def test_a_damaged_artefact_is_one_sentence(
    images: Path, artefact_folder: Path, tmp_path: Path
) -> None:
    for name in ("model.json", "graph.xml"):
        (tmp_path / name).write_bytes((artefact_folder / name).read_bytes())
    (tmp_path / "graph.bin").write_bytes(b"0")

    argv = places(images, tmp_path / "run", tmp_path)
    ended = submit(*argv, scratch=tmp_path / "scratch")

    assert ended.returncode == 2
    assert f"graph.bin of the model artefact {tmp_path} is not what" in ended.stdout
    assert not (tmp_path / "run" / "features").exists()


def put(s3: pafs.S3FileSystem, key: str, content: bytes) -> None:
    with s3.open_output_stream(key) as stream:
        stream.write(content)


def test_the_same_job_reads_and_writes_s3(
    artefact_folder: Path,
    tmp_path: Path,
    s3_environ: dict[str, str],
    bucket: tuple[pafs.S3FileSystem, str],
) -> None:
    s3, name = bucket
    for number, key in enumerate(KEYS):
        put(s3, f"{name}/images/fruit/{key}", jpeg(number))
    put(s3, f"{name}/images/fruit/kind 1/empty.jpg", b"")
    put(s3, f"{name}/images/fruit/kind 1/._x.jpg", jpeg())
    put(s3, f"{name}/images/fruit/notes.txt", b"notes")
    s3.create_dir(f"{name}/images/fruit/empty")
    pafs.copy_files(
        str(artefact_folder),
        f"{name}/model",
        source_filesystem=pafs.LocalFileSystem(),
        destination_filesystem=s3,
    )
    argv = places(f"s3://{name}/images/fruit/", f"s3://{name}/runs/r1", f"s3://{name}/model")

    first = submit(*argv, scratch=tmp_path / "scratch", environ=s3_environ)
    again = submit(*argv, "--resume", "--pca-k", "2", scratch=tmp_path / "2", environ=s3_environ)

    assert first.returncode == 0, first.stderr
    assert again.returncode == 0, again.stderr
    pafs.copy_files(f"{name}/runs/r1", str(tmp_path / "run"), source_filesystem=s3)
    results = Results(tmp_path / "run")
    assert results.paths("features") == sorted(KEYS)
    labels = {row["path"]: row["label"] for row in results.rows("features")}
    assert labels["top.jpg"] == "fruit"
    assert labels["kind 1/100%.jpg"] == "kind 1"
    assert results.reasons() == {"kind 1/empty.jpg": "empty"}
    assert results.array("pca", "pca_features").shape == (len(KEYS), 2)
    assert results.counts["inferences"] == 0
    assert results.json("progress.json")["stage"] == "done"
